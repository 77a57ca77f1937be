"""Quantise an exported backbone to int8: its convolutions, or most, compute in 8 bits, with ranges seen on real crops.

A range goes from the mean of the crops' smallest values to the mean of their largest. What the more extreme crops
reach is cut off, so that the steps are fine where most values are: the features of ResNet-18 then differ by .08 of
their norm from those in float32, with the extremes of all crops by .13 (benchmarks/experiments.md).
The head stays as it is: its maps are small differences of large sums, and in 8 bits siamrpn_resnet18 lost .09 of its
success AUC on the OTB seven for half a millisecond (benchmarks/experiments.md).
"""

import hashlib
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tracker.builder import assemble
from tracker.config import ModelConfig, parse
from tracker.data.tracks import ObjectTrack, read_tracks
from tracker.evaluation import read_frame
from tracker.exported import BACKBONE, begin, digest, read_card, write_card
from tracker.geometry import Box
from tracker.runtime import Array
from tracker.runtime_graphs import GraphRuntime, Inputs, OnnxEngine

# Convolutions that stay as they are, by the beginning of their names in the backbone. The errors of the first residual
# block go through all that follow: with it in 8 bits the places of siamrpn_resnet18 part from torch's by twice as much.
# The second one of siamfc_alexnet, the largest, brings 1.01 px down to .96.
_STAY = {("resnet18", "rpn"): ("layer1.0.",), ("siamfc_alexnet", "siamfc"): ("layers.4.",)}
_NARROW = (".refiner.", ".filter_neck.")  # what others read is mixed there: few numbers, and all of them count
_BEARS_NONE = ("mobilenetv3_small",)  # beside another backbone it stays as it is (benchmarks/experiments.md)
_TRACKS = 48  # of different videos, from whose first frames ranges are read
_FEWEST = 16  # with less the ranges are those of a few things
_CROPS = 288  # spread over all that were seen


def quantise(folder: Path, data: Path, out: Path) -> None:
    """Write the graphs of a folder into another one, the backbone in int8; its card says so.

    data: a folder with tracks.jsonl, of whose objects the tracker learns the first frames: the crops that the backbone
    is given then set the ranges. Raises ValueError for too few tracks, or where what quantises is not installed.
    """
    try:
        import onnx
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise ValueError("the quantiser is not installed: pip install 'siamtrack[export]'") from error
    exported = read_card(folder)
    model = parse(exported.config).model
    crops = _watch(folder, _spread(read_tracks(data / "tracks.jsonl")))
    begin(out, folder)
    for graph in exported.outputs:
        source, target = exported.path(folder, graph), exported.path(out, graph)
        if graph != BACKBONE:
            shutil.copyfile(source, target)
            continue
        with TemporaryDirectory() as temporary, _quiet():
            ready = Path(temporary) / "graph.onnx"
            quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
            # A weight is named as in the network; what is prepared may have another order.
            convolutions = {node.name: node.input[1] for node in onnx.load(ready).graph.node if node.op_type == "Conv"}
            quantize_static(
                str(ready),
                str(target),
                _Reader(crops),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=_in_float(model, convolutions),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={"CalibMovingAverage": True},  # the mean of the crops' extremes, see above
            )
    hashes = {graph: digest(exported.path(out, graph)) for graph in exported.outputs}
    index = hashlib.sha256((data / "tracks.jsonl").read_bytes()).hexdigest()
    facts = {**exported.provenance, "ranges": f"{len(crops)} crops of tracks.jsonl, sha256 {index}"}
    write_card(out, replace(exported, precision="int8", provenance=facts, sha256=hashes))


def _in_float(model: ModelConfig, convolutions: Mapping[str, str]) -> list[str]:
    """Return which convolutions, each with the name of its weight, stay as they are."""
    first, other = _STAY.get((model.backbone, model.head), ()), model.second
    stay = [f".backbone.{name}" for name in first]
    if other is not None:
        second = ("",) if other.backbone in _BEARS_NONE else _STAY.get((other.backbone, other.head), ())
        stay = [f".members.{number}.{name}" for number, names in enumerate((first, second)) for name in names]
    return [node for node, weight in convolutions.items() if any(name in weight for name in (*stay, *_NARROW))]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the root logger, on which the quantiser warns of what was just done, to errors."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)


def _spread(tracks: Sequence[ObjectTrack]) -> list[ObjectTrack]:
    """Return tracks of different videos, evenly from all. Raises ValueError for too few."""
    first = list({track.video: track for track in reversed(tracks)}.values())[::-1]
    if len(first) < _FEWEST:
        raise ValueError(f"quantising needs tracks of {_FEWEST} videos or more to see ranges on, got {len(first)}")
    picked = np.linspace(0, len(first) - 1, min(_TRACKS, len(first))).round().astype(int)
    return [first[at] for at in picked]


def _watch(folder: Path, tracks: Sequence[ObjectTrack]) -> list[Inputs]:
    """Return what the backbone is given while a tracker learns the tracks' first frames and sees their last."""
    exported = read_card(folder)
    engine = _Recorder(OnnxEngine(folder, exported, threads=1))
    config = parse(exported.config)
    tracker = assemble(GraphRuntime(engine, exported), replace(config, recovery=None))
    for track in tracks:
        for at, shown in enumerate((track.frames[0], track.frames[-1])):
            frame = read_frame(shown.image)
            if at == 0:
                tracker.init(frame, Box.from_xywh(*shown.box_xywh))
            else:
                tracker.update(frame)
    crops = [image for images in engine.given for image in images]
    picked = np.linspace(0, len(crops) - 1, min(_CROPS, len(crops))).round().astype(int)
    return [{"images": crops[at][np.newaxis]} for at in picked]


class _Recorder:
    """Run graphs in another engine, and keep what the backbone is given."""

    precision = "float32"

    def __init__(self, engine: OnnxEngine) -> None:
        self._engine = engine
        self.given: list[Array] = []

    def run(self, graph: str, inputs: Inputs) -> list[Array]:
        """Return what the other engine does."""
        if graph == BACKBONE:
            self.given.append(inputs["images"].copy())
        return self._engine.run(graph, inputs)

    def search(self, images: Array, code: Inputs) -> list[Array]:
        """Return what the other engine does."""
        self.given.append(images.copy())
        return self._engine.search(images, code)


class _Reader:
    """Hand inputs to ONNX Runtime's calibration, one crop a call, then None."""

    def __init__(self, crops: Sequence[Inputs]) -> None:
        self._crops: Iterator[Inputs] = iter(crops)

    def get_next(self) -> Inputs | None:
        """Return the next inputs."""
        return next(self._crops, None)
