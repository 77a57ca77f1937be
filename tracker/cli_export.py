"""`siamtrack export`: write a model as graphs that run without the code that built it."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tracker.config import Config
    from tracker.models.siamese import SiameseNetwork


class Kind(str, Enum):
    """How graphs are written; see `exported.ENDINGS`."""

    ONNX = "onnx"
    OPENVINO = "openvino"
    TORCH = "torch"


def export_command(
    model: Annotated[str, typer.Argument(help="Model name (see `siamtrack models`) or weight file.")],
    out: Annotated[Path, typer.Option(help="Folder for the graphs; `--model` takes it, but not those for torch.")],
    to: Annotated[
        Kind,
        typer.Option(
            help="onnx: for ONNX Runtime and OpenVINO. openvino: its own files. torch: programs of torch.export, the "
            "successor of TorchScript."
        ),
    ] = Kind.ONNX,
    int8: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Quantise to 8 bits, with ranges seen on the tracks of DATA/tracks.jsonl."),
    ] = None,
    half: Annotated[
        bool,
        typer.Option("--half", help="Store the weights in half precision; with --int8, those of the other graphs."),
    ] = False,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: a.b=value")] = None,
) -> None:
    """Write a model as graphs, and check that they see what torch does."""
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise ValueError("exporting needs torch: pip install 'siamtrack[export]'")
    if int8 is not None and to is Kind.TORCH:
        raise ValueError("--int8 is for --to onnx and --to openvino")
    if to is Kind.OPENVINO and find_spec("openvino") is None:
        raise ValueError("OpenVINO is not installed: pip install 'siamtrack[openvino]'")
    import torch

    from tracker.exported import read_card
    from tracker.network_builder import load_network

    _write(model, load_network(model, "cpu", overrides or (), torch.float32), out, to, int8, half)
    exported = read_card(out)
    size = sum(path.stat().st_size for graph in exported.outputs for path in exported.files(out, graph))
    typer.echo(f"{', '.join(exported.outputs)}: {size / 1e6:.1f} MB in {out}", err=True)


def _write(
    model: str, loaded: "tuple[SiameseNetwork, Config]", out: Path, to: Kind, int8: Path | None, half: bool
) -> None:
    from tempfile import TemporaryDirectory

    from tracker import checkpoint
    from tracker.config import parse
    from tracker.export import examples, export
    from tracker.openvino_files import to_openvino
    from tracker.quantise import quantise
    from tracker.toml_tree import to_toml
    from tracker.zoo import find_weights

    network, config = loaded
    file = checkpoint.load(find_weights(model))
    with TemporaryDirectory() as temporary:
        steps = [Path(temporary) / "whole", Path(temporary) / "int8"]  # what another step goes on from
        whole = out if int8 is None and to is not Kind.OPENVINO else steps[0]
        facts = file.provenance, file.metrics
        text = file.config if parse(file.config) == config else to_toml(config)  # its comments say what it is
        export(network, text, whole, *facts, half, "torch" if to is Kind.TORCH else "onnx")
        if int8 is not None:
            quantise(whole, int8, out if to is not Kind.OPENVINO else steps[1])
        if to is Kind.OPENVINO:
            to_openvino(whole if int8 is None else steps[1], out, half, examples(network, config))
