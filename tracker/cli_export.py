"""`siamtrack export`: write a model as graphs that run without torch."""

from pathlib import Path
from typing import Annotated

import typer


def export_command(
    model: Annotated[str, typer.Argument(help="Model name (see `siamtrack models`) or weight file.")],
    out: Annotated[Path, typer.Option(help="Folder for the graphs; `--model` takes it.")],
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
    """Write a model as ONNX graphs for ONNX Runtime and OpenVINO, and check that they see what torch does."""
    from importlib.util import find_spec
    from tempfile import TemporaryDirectory

    if find_spec("torch") is None:
        raise ValueError("exporting needs torch: pip install 'siamtrack[export]'")
    import torch

    from tracker import checkpoint
    from tracker.export import export
    from tracker.exported import read_card
    from tracker.network_builder import load_network
    from tracker.quantise import quantise
    from tracker.toml_tree import to_toml
    from tracker.zoo import find_weights

    network, config = load_network(model, "cpu", overrides or (), torch.float32)
    loaded = checkpoint.load(find_weights(model))
    if int8 is None:
        export(network, to_toml(config), out, loaded.provenance, loaded.metrics, half)
    else:
        with TemporaryDirectory() as whole:
            export(network, to_toml(config), Path(whole), loaded.provenance, loaded.metrics, half)
            quantise(Path(whole), int8, out)
    exported = read_card(out)
    size = sum(exported.path(out, graph).stat().st_size for graph in exported.outputs)
    typer.echo(f"{', '.join(exported.outputs)}: {size / 1e6:.1f} MB in {out}", err=True)
