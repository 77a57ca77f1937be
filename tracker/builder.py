"""Turn configuration, weight files and exported graphs into trackers.

torch is imported where a tracker runs in it, and only then.
"""

import logging
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from tracker.certainty import Certainty
from tracker.config import Config, parse
from tracker.decode import ResponsePyramid
from tracker.exported import RUNTIMES, read_card, read_claims
from tracker.localisers import Localiser, OnlineLocaliser, ScaleSearchLocaliser
from tracker.recovery import Recovery
from tracker.refinement import Refinement
from tracker.rpn_localiser import RPNLocaliser
from tracker.runtime import Runtime
from tracker.runtime_graphs import Engine, GraphRuntime, OnnxEngine, OpenVinoEngine
from tracker.siamese_tracker import SiameseTracker
from tracker.zoo import find_graphs, find_weights, is_folder, read_model_card

if TYPE_CHECKING:
    from tracker.models.siamese import SiameseNetwork

RuntimeName = Literal["auto", "torch", "onnx", "openvino"]

_log = logging.getLogger(__name__)
_MODULES = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}


class Loaded(NamedTuple):
    """Hold a network that is ready to run, and what its file says."""

    runtime: Runtime
    config: Config
    metrics: Mapping[str, float]


def load_tracker(
    name_or_path: str | Path | None = None,
    device: str = "auto",
    overrides: Sequence[str] = (),
    runtime: RuntimeName = "auto",
    threads: int | None = None,
) -> SiameseTracker:
    """Return a tracker with a zoo model (see `zoo`), a weight file or a folder of exported graphs.

    device: "auto" (CUDA where torch sees one), or what torch calls a device, such as "cpu" or "cuda:1". overrides:
    settings to change, each "a.b=value". runtime: what computes the network; "auto" takes torch for a GPU, else the
    first of OpenVINO, ONNX Runtime and torch that is installed and has the model's graphs. threads: of the network on
    the CPU; None: one in OpenVINO and ONNX Runtime, and what torch is set to. Raises ValueError naming an unknown
    model, file, device, setting or runtime, or what has to be installed.
    """
    loaded = load_runtime(name_or_path, device, overrides, runtime, threads)
    return assemble(loaded.runtime, loaded.config)


def load_runtime(
    name_or_path: str | Path | None, device: str, overrides: Sequence[str], runtime: RuntimeName, threads: int | None
) -> Loaded:
    """Return a model's network, its configuration and its metrics, see `load_tracker`."""
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    graphs = find_graphs(name_or_path)
    chosen = choose_runtime(name_or_path, device, runtime)
    if chosen == "torch":
        return _load_in_torch(name_or_path, device, overrides, threads)
    if graphs is None:
        raise ValueError(
            f"{chosen} needs exported graphs, and {str(name_or_path)!r} has none: siamtrack export makes them"
        )
    otherwise = "the weights it was exported from" if is_folder(name_or_path) else "--runtime torch"
    if device not in ("auto", "cpu"):
        raise ValueError(f"{chosen} runs on the CPU, not on {device!r}; use {otherwise}")
    return _load_graphs(graphs, chosen, overrides, threads or 1, otherwise)


def choose_runtime(name_or_path: str | Path | None, device: str, runtime: RuntimeName) -> str:
    """Return the runtime that `load_tracker` takes: the one asked for, or what "auto" stands for.

    Raises ValueError for one that is unknown, and for one that does not run the graphs of a folder.
    """
    if runtime not in get_args(RuntimeName):
        raise ValueError(f"unknown runtime {runtime!r}; use one of {', '.join(get_args(RuntimeName))}")
    graphs = find_graphs(name_or_path)
    if graphs is None or not is_folder(name_or_path):
        return runtime if runtime != "auto" else _choose(graphs, device)
    able = RUNTIMES[read_claims(graphs).kind]
    if not able:
        raise ValueError(f"{graphs} holds programs of torch for other programs; use the weights it was exported from")
    if runtime == "auto":
        return _installed(able) or able[0]
    if runtime not in able:
        raise ValueError(f"{graphs} holds exported graphs, which {runtime} does not run; use {' or '.join(able)}")
    return runtime


def build_tracker(network: "SiameseNetwork", config: Config) -> SiameseTracker:
    """Return a tracker that runs a network in torch, in evaluation mode, as a configuration says."""
    from tracker.runtime_torch import TorchRuntime

    return assemble(TorchRuntime(network, config.corrects_boxes), config)


def _load_in_torch(
    name_or_path: str | Path | None, device: str, overrides: Sequence[str], threads: int | None
) -> Loaded:
    weights = find_weights(name_or_path)  # an unknown model is that, whatever is installed
    if find_spec("torch") is None:
        raise ValueError("torch is not installed: pip install 'siamtrack[torch]', or choose a model with graphs")
    import torch

    from tracker.network_builder import load_network
    from tracker.runtime_torch import TorchRuntime

    if threads is not None:
        torch.set_num_threads(threads)
    network, config = load_network(name_or_path, device, overrides)
    dtype = str(next(network.backbone.parameters()).dtype).removeprefix("torch.")
    _log.info("%s: torch on %s, %s", config.description, network.mean.device, dtype)
    runtime = TorchRuntime(network, config.corrects_boxes)
    return Loaded(runtime, config, read_model_card(weights).metrics)


def _load_graphs(folder: Path, engine_name: str, overrides: Sequence[str], threads: int, otherwise: str) -> Loaded:
    """Return a network that runs as graphs. otherwise: how the model runs with settings that they do not bear."""
    exported = read_card(folder)
    whole, config = parse(exported.config), parse(exported.config, overrides)
    if config.online is not None and config.fine_weight != exported.fine_weight:
        raise ValueError(
            f"the graphs in {folder} join features with online.fine_weight = {exported.fine_weight}, "
            f"not {config.fine_weight}; use {otherwise}, or export the model with that setting"
        )
    if config.corrects_boxes and not whole.corrects_boxes:
        raise ValueError(
            f"the graphs in {folder} do not hand on the fine features that online.box reads; use {otherwise}, or "
            "export the model with that table"
        )
    for name, asked, made in (
        ("model", config.model, whole.model),
        ("crop.template_size", config.crop and config.crop.template_size, whole.crop and whole.crop.template_size),
    ):
        if asked != made:
            raise ValueError(f"the graphs in {folder} were made for {name} = {made}, not {asked}; use {otherwise}")
    engine: Engine = (OnnxEngine if engine_name == "onnx" else OpenVinoEngine)(folder, exported, threads)
    counted = f"{threads} thread{'s' if threads > 1 else ''}"
    _log.info("%s: %s, %s, %s", config.description, engine_name, engine.precision, counted)
    return Loaded(GraphRuntime(engine, exported), config, exported.metrics)


def _choose(graphs: Path | None, device: str) -> str:
    """Return the runtime that "auto" stands for, where there are weights."""
    if graphs is None or device not in ("auto", "cpu"):
        return "torch"
    if device == "auto" and _sees_cuda():
        return "torch"
    return _installed(RUNTIMES["onnx"]) or "torch"


def _installed(runtimes: Sequence[str]) -> str | None:
    return next((name for name in runtimes if find_spec(_MODULES[name]) is not None), None)


def _sees_cuda() -> bool:
    """Return whether torch sees a GPU, without importing torch where there can be none."""
    device_files = [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("dxg"), *Path("C:/").glob("Windows")]
    if find_spec("torch") is None or not device_files:
        return False
    import torch

    return torch.cuda.is_available()


def assemble(runtime: Runtime, config: Config) -> SiameseTracker:
    """Return a tracker that sees with a runtime, as a configuration says."""
    localiser = build_localiser(runtime, config)
    _check_near(runtime, config)
    if config.recovery is None:
        return SiameseTracker(localiser, config.lost, look_again=config.look_again, near=config.near)
    if not isinstance(localiser, RPNLocaliser) or config.score is None:
        raise ValueError(
            "the table [recovery] needs an rpn head and the table [score]: places are taken by their chance"
        )
    recovery = Recovery(localiser, config.recovery)
    return SiameseTracker(localiser, config.lost, recovery, config.look_again, config.near)


def _check_near(runtime: Runtime, config: Config) -> None:
    """Raise ValueError where a smaller square would hold no object, or its cells lie between those of the large one."""
    if config.near is None:
        return
    size, whole, stride = config.near.size, config.search_size, runtime.stride
    least = config.crop.template_size if config.crop else 1
    if not least <= size < whole or (whole - size) % stride:
        raise ValueError(
            f"near.size must be {least} or more, and the search's {whole} less a multiple of {stride}, got {size}"
        )


def build_localiser(runtime: Runtime, config: Config) -> Localiser:
    """Return what finds targets: the scale search or the proposals of a head, or else the online filter alone."""
    if config.model.head == "none":
        if config.online is None:
            raise ValueError("a model without a head needs an [online] table to find anything")
        if config.refine is not None:
            raise ValueError("the table [refine] corrects the boxes of a head, and this model has none")
        return OnlineLocaliser(runtime, config.online)
    refinement = None if config.refine is None else Refinement(runtime, config.refine)
    if config.model.head == "siamfc":
        if config.scale_search is None or config.crop is None:
            raise ValueError("the siamfc head needs the tables [crop] and [scale_search]")
        decoder = ResponsePyramid(config.scale_search, runtime.stride)
        return ScaleSearchLocaliser(runtime, decoder, config.crop, config.online, refinement)
    if config.crop is None or config.rpn is None:
        raise ValueError(f"the {config.model.head} head needs the tables [crop] and [rpn]")
    certainty = None if config.score is None else Certainty(runtime, config.score)
    return RPNLocaliser(runtime, config.crop, config.online, config.rpn, certainty, refinement)
