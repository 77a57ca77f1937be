"""Export a model as graphs that run without the code that built it, and check that they see what torch does."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from tracker import __version__
from tracker.config import Config, parse
from tracker.exported import BACKBONE, CODE, EMBEDDING, HEAD, REFINER, Exported, begin, digest, write_card
from tracker.models.embedding import EmbeddingHead
from tracker.models.graphs import BackboneGraph, CodeGraph, EmbeddingGraph, HeadGraph, RefinerGraph
from tracker.models.siamese import SiameseNetwork
from tracker.models.windows import REFINER_CELLS
from tracker.pooling import POOLED_CELLS
from tracker.runtime_graphs import Engine, OnnxEngine, difference
from tracker.runtime_programs import ProgramEngine

_TOLERANCE = 1e-4  # of the largest answer: the graphs sum in another order, layer after layer
_HALF_TOLERANCE = 1e-2  # the same where weights are rounded to 11 bits
_LARGE = 1024  # numbers in a tensor that is worth storing in half precision
_SIZE_WH = (60.0, 40.0)  # of an object, crop pixels; the graphs hold for any
_CROPS = 2  # of the example: with 1 the exporter would take the number of crops for fixed


def export(
    network: SiameseNetwork,
    text: str,
    out: Path,
    provenance: Mapping[str, str],
    metrics: Mapping[str, float],
    half: bool = False,
    kind: Literal["onnx", "torch"] = "onnx",
) -> Exported:
    """Write the graphs of a network in evaluation mode, BatchNorm folded in, float32, and their card into a folder.

    text: the configuration as TOML. provenance, metrics: those of the weight file. half: store the weights in half
    precision; the graphs compute as before. kind: as ONNX, or as programs of `torch.export`. Raises ValueError where a
    graph does not see what the network sees in torch, where what exports is not installed, and for programs in half
    precision.
    """
    if half and kind == "torch":
        raise ValueError("programs of torch keep their weights as they are: --half is for onnx and openvino")
    config = parse(text)
    if kind == "onnx":
        _check_exporter()
    parts = _parts(network, config, config.search_size)
    begin(out)  # only now: what was there is gone
    exported = Exported(
        config=text,
        stride=network.stride,
        fine_weight=network.fine_weight,
        bears_bfloat16=network.bears_bfloat16,
        outputs={},
        provenance={**provenance, "siamtrack": __version__, "torch": torch.__version__},
        sha256={},
        metrics=dict(metrics),
        kind=kind,
    )
    for name, module, inputs in parts:
        _write(module, inputs, exported.path(out, name), half)
    hashes = {name: digest(exported.path(out, name)) for name, *_ in parts}
    exported = replace(exported, outputs={name: module.outputs for name, module, _ in parts}, sha256=hashes)
    engine = OnnxEngine(out, exported, threads=1) if kind == "onnx" else ProgramEngine(out, exported)
    near = [] if config.near is None else _parts(network, config, config.near.size)
    for name, module, inputs in (*parts, *(part for part in near if part[0] in (BACKBONE, HEAD))):
        _compare(engine, name, (module, inputs), _HALF_TOLERANCE if half else _TOLERANCE)
    write_card(out, exported)  # last: without it the folder is no model
    return exported


def examples(network: SiameseNetwork, config: Config) -> dict[str, dict[str, np.ndarray]]:
    """Return inputs of each graph of a network."""
    parts = _parts(network, config, config.search_size)
    return {name: {key: value.numpy() for key, value in inputs.items()} for name, _, inputs in parts}


Graph = BackboneGraph | CodeGraph | HeadGraph | EmbeddingGraph | RefinerGraph
Part = tuple[str, Graph, dict[str, Tensor]]


@torch.inference_mode()
def _parts(network: SiameseNetwork, config: Config, search_size: int) -> list[Part]:
    """Return each graph's name, module and an example of its inputs, of searches of that size."""
    backbone = BackboneGraph(network).eval()
    crop = config.crop
    if network.head is None or crop is None:
        if config.online is None:
            raise ValueError("a model without a head and without the table [online] tracks nothing: it is not exported")
        return [(BACKBONE, backbone, {"images": _pictures(search_size)}), *_embedding_part(network)]
    code, head = CodeGraph(network).eval(), HeadGraph(network).eval()
    size_wh = torch.tensor([_SIZE_WH]).repeat(_CROPS, 1)
    template = {"deep": backbone(_pictures(crop.template_size))[-2], "object_wh": size_wh}
    images = _pictures(search_size)
    *_, deep, fine = backbone(images)
    codes = dict(zip(code.outputs, code(*template.values()), strict=True))
    return [
        (BACKBONE, backbone, {"images": images}),
        (CODE, code, template),
        (HEAD, head, {"deep": deep, "fine": fine, **codes}),
        *_embedding_part(network),
        *_refiner_part(network),
    ]


def _embedding_part(network: SiameseNetwork) -> list[Part]:
    if not isinstance(network.embedding, EmbeddingHead):
        return []
    size = (_CROPS, network.embedding.channels, POOLED_CELLS, POOLED_CELLS)
    pooled = np.random.default_rng(0).random(size, dtype=np.float32)
    return [(EMBEDDING, EmbeddingGraph(network.embedding).eval(), {"pooled": torch.from_numpy(pooled)})]


def _refiner_part(network: SiameseNetwork) -> list[Part]:
    if network.refiner is None:
        return []
    size = (_CROPS, network.refiner.channels, REFINER_CELLS, REFINER_CELLS)
    rng = np.random.default_rng(0)
    inputs = {name: torch.from_numpy(rng.random(size, dtype=np.float32)) for name in ("template", "window")}
    return [(REFINER, RefinerGraph(network.refiner).eval(), inputs)]


def _pictures(side: int) -> Tensor:
    pixels = np.random.default_rng(side).integers(0, 256, (_CROPS, side, side, 3), dtype=np.uint8)
    return torch.from_numpy(pixels)


def _write(module: Graph, inputs: dict[str, Tensor], path: Path, half: bool) -> None:
    """Write a graph as the ending of its file says."""
    dynamic = torch.export.Dim.DYNAMIC
    axes: list[object] = [{0: dynamic, 1: dynamic, 2: dynamic} if name == "images" else {0: dynamic} for name in inputs]
    if isinstance(module, HeadGraph):  # of crops of any size; its code is a variable number of inputs
        axes = [*[{0: dynamic, 2: dynamic, 3: dynamic}] * 2, tuple(axes[2:])]
    given = tuple(value.clone() for value in inputs.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters' own making
        if path.suffix == ".pt2":
            program = torch.export.export(module, given, dynamic_shapes=tuple(axes), strict=True)
            for node in program.graph.nodes:
                node.meta.pop("stack_trace", None)  # it names files of this machine
            program.example_inputs = None
            torch.export.save(program, path)
            return
        _write_onnx(module, (given, list(inputs)), tuple(axes), path)
    _forget_sources(path)
    if half:
        _halve(path)


def _check_exporter() -> None:
    try:
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise ValueError("the exporter is not installed: pip install 'siamtrack[export]'") from error


def _write_onnx(
    module: Graph, inputs: tuple[tuple[Tensor, ...], list[str]], axes: tuple[object, ...], path: Path
) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    given, names = inputs
    torch.onnx.export(
        module,
        given,
        str(path),
        dynamo=True,
        external_data=False,
        verbose=False,
        dynamic_shapes=axes,
        input_names=names,
        output_names=list(module.outputs),
    )


def _forget_sources(path: Path) -> None:
    """Leave out the exporter's notes on where in which file of this machine each part of a graph was written."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, path)


def _halve(path: Path) -> None:
    """Store the large tensors of a graph in half precision, each with a cast back, which runtimes do once."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _LARGE:
            continue
        name, stored = tensor.name, f"{tensor.name}_half"
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)


@torch.inference_mode()
def _compare(engine: Engine, name: str, part: "tuple[nn.Module, dict[str, Tensor]]", tolerance: float) -> None:
    module, inputs = part
    found = engine.run(name, {key: value.numpy() for key, value in inputs.items()})
    wanted: Sequence[Tensor] = module(*inputs.values())
    for ours, theirs in zip(found, wanted, strict=True):
        if not (error := difference(ours, theirs.numpy())) <= tolerance:
            raise ValueError(f"the graph {name} differs from torch by {error:.1e} of its largest answer")
