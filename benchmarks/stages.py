"""Show where the time of an update goes, stage by stage, and how far the backbone is from what the machine can do.

    python -m benchmarks.stages --out benchmarks/stages.md

The clip that comes with the package is tracked through the public calls, on one thread; clocks sit on the methods that
`update` calls, so what is timed is the tracker itself, and all stages of an update take turns. A stage's time is
without the stages inside it; "in updates" says in how many of them it ran, and the times are of those. "cpu" is the
mean time for which the thread had a core; median and p95 are by the wall. On an idle machine cpu and median agree; on a
busy one only cpu, and what is computed from it (share of all updates, GFLOP/s), says something of the tracker.

The limit is a matrix product, timed between the updates; a multiply-add is two FLOP. Beside it stands the backbone in
those updates that searched all of the square, and once: a smaller one is less work.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
from torch import nn

import tracker
from benchmarks.clocks import BackboneWork, Span, StageClock, backbone_work, network_of, span
from benchmarks.correlation import machine
from benchmarks.report import publish
from tracker import siamese_tracker
from tracker.builder import load_tracker
from tracker.crop import Fill
from tracker.frames import open_frames
from tracker.geometry import Box, CropGeometry
from tracker.interface import Frame
from tracker.localisers import OnlineLocaliser, ScaleSearchLocaliser
from tracker.models import graphs, online_filter
from tracker.online import BoxModel, PlaceModel
from tracker.rpn_localiser import RPNLocaliser
from tracker.runtime_graphs import GraphRuntime
from tracker.runtime_torch import TorchRuntime
from tracker.siamese_tracker import SiameseTracker
from tracker.zoo import find_graphs, zoo

ASSETS = Path(tracker.__file__).parent / "assets"

CROP, CASTS, FINE, DEEP = "crop", "batch, normalisation, casts", "backbone to fine", "backbone, fine to deep"
PROJECTION, PEAK = "projection", "response, peak"
REFINEMENT, CORRECTION = "box refinement", "box correction"
NORMAL, SOLVE, BOX_LEARNING = "normal equations", "solve", "box learning"
NETWORK = "network"  # where it runs as graphs: backbone and head
SMALL = "refiner, embedding"  # the networks that read single boxes
JOIN, CORRELATION, HEAD, DECODE = "joined maps", "correlation", "head", "decode"
CERTAINTY = "certainty"  # pooling and judging
REST, UPDATE, INIT = "rest", "update", "init"

PASS_UPDATES = 100  # of one target; then `init` again, further on in the clip
MATRIX_SIDE = 512  # larger ones run no faster per multiply-add


@dataclass(frozen=True)
class Figures:
    """Hold the times of one model and its backbone's work; `stages` has a span for each update in which one ran."""

    work: BackboneWork | None  # None where the network runs as graphs
    dtype: torch.dtype
    stages: dict[str, list[Span]] = field(default_factory=lambda: defaultdict(list))
    updates: list[Span] = field(default_factory=list)
    inits: list[Span] = field(default_factory=list)
    products: dict[torch.dtype, list[Span]] = field(default_factory=lambda: defaultdict(list))
    whole: list[int] = field(default_factory=list)  # sizes of the crops that `work` is of
    crops: list[list[int]] = field(default_factory=list)  # the same of each update


def places(follower: SiameseTracker) -> list[tuple[object, str, str]]:
    """Return what to put clocks on, (owner, attribute, stage), the order being that of an update."""
    localiser = follower.localiser
    runtime = localiser.runtime
    places: list[tuple[object, str, str]] = [(siamese_tracker, "cut", CROP), (runtime, "see", CASTS)]
    head: list[tuple[object, str, str]] = []
    if isinstance(runtime, GraphRuntime):
        places.append((runtime.engine, "search", NETWORK))
        if isinstance(localiser, OnlineLocaliser):  # of others an update runs the small networks alone beside a search
            places.append((runtime.engine, "run", NETWORK))
    elif isinstance(runtime, TorchRuntime):
        network = runtime.network
        places += [(backbone, "features", FINE) for backbone in network.backbones]
        if network.fine_weight:
            places.append((graphs, "join", JOIN))
        if network.refiner is not None:
            places.append((network.refiner, "outline", JOIN))
        if isinstance(localiser, RPNLocaliser):
            head = [(network.head, "forward", HEAD)]
        elif isinstance(localiser, ScaleSearchLocaliser):
            head = [(network.head, "forward", CORRELATION)]
    places += head
    if isinstance(localiser, OnlineLocaliser):
        return [*places, *learning(localiser.place), (localiser, "locate", PEAK), *correcting(localiser.box)]
    places += learning(localiser.place) if localiser.place else []
    boxes: list[tuple[object, str, str]] = []
    if localiser.refinement is not None:
        places.append((runtime, "refine", SMALL))
        boxes.append((localiser.refinement, "refine", REFINEMENT))
    boxes += correcting(localiser.box)
    if isinstance(localiser, RPNLocaliser):
        judging: list[tuple[object, str, str]] = []
        if localiser.certainty is not None:
            judging = [(runtime, "embed", SMALL), (localiser.certainty, "judge", CERTAINTY)]
        return [*places, *judging, (localiser, "locate", DECODE), *boxes]
    if isinstance(localiser, ScaleSearchLocaliser):
        decoding = [(localiser.decoder, "decode", DECODE), (localiser, "locate", DECODE)]
        return [*places, *decoding, *boxes]
    raise ValueError(f"no stages are known of a {type(localiser).__name__}; add them to `places`")


def learning(place: PlaceModel) -> list[tuple[object, str, str]]:
    """Return what to put clocks on in the online filter."""
    return [
        (online_filter, "project", PROJECTION),
        (place, "answer", PEAK),
        (place, "learn_for", NORMAL),
        (online_filter, "solve", SOLVE),
    ]


def correcting(box: BoxModel | None) -> list[tuple[object, str, str]]:
    """Return what to put clocks on in the box regression, where there is one."""
    return [] if box is None else [(box, "correct", CORRECTION), (box, "learn", BOX_LEARNING)]


def stage_names(follower: SiameseTracker) -> list[str]:
    """Return the stages of an update of this tracker, in their order."""
    names = list(dict.fromkeys(stage for *_, stage in places(follower)))
    if FINE in names:
        names.insert(names.index(FINE) + 1, DEEP)
    return [*names, REST]


@contextmanager
def cut_sizes() -> Iterator[list[int]]:
    """Give a list to which the size of each crop is added as a tracker cuts it."""
    sizes: list[int] = []
    cut = siamese_tracker.cut

    def noting(frame: Frame, region: CropGeometry, fill: Fill) -> Frame:
        sizes.append(region.size)
        return cut(frame, region, fill)

    with patch.object(siamese_tracker, "cut", noting):
        yield sizes


@contextmanager
def clocked(
    follower: SiameseTracker, boundaries: Sequence[nn.Module]
) -> Iterator[tuple[StageClock, Callable[[Frame], Any]]]:
    """Put clocks on the stages of a tracker; give the clock and the `update` that it times."""
    clock = StageClock()
    with ExitStack() as undo:
        for owner, name, stage in places(follower):
            undo.enter_context(patch.object(owner, name, clock.wrap(stage, getattr(owner, name))))
        for boundary in boundaries:
            hook = boundary.register_forward_pre_hook(lambda *_: clock.switch(DEEP))
            undo.callback(hook.remove)
        yield clock, clock.wrap(REST, follower.update)


def clip(size_wh: tuple[int, int]) -> tuple[list[Frame], list[Box]]:
    """Return the frames of the clip that comes with the package, scaled to a size, and the truth."""
    with open_frames(ASSETS / "demo.mp4") as source:
        originals = list(source)
    height, width = originals[0].shape[:2]
    x, y = size_wh[0] / width, size_wh[1] / height
    rows = np.loadtxt(ASSETS / "demo_boxes.csv", delimiter=",", skiprows=1, usecols=(1, 2, 3, 4)).tolist()
    boxes = [Box.from_xywh(row[0] * x, row[1] * y, row[2] * x, row[3] * y) for row in rows]
    if size_wh == (width, height):
        return originals, boxes
    return [cv2.resize(frame, size_wh, interpolation=cv2.INTER_AREA) for frame in originals], boxes


def measure(follower: SiameseTracker, frames: Sequence[Frame], boxes: Sequence[Box], updates: int) -> Figures:
    """Track pieces of the clip, each from its true box, until there are enough updates; the first piece warms up."""
    follower.init(frames[0], boxes[0])
    if isinstance(follower.localiser.runtime, TorchRuntime):
        dtype = next(network_of(follower).backbone.parameters()).dtype
        whole = [region.size for region in follower.localiser.regions(boxes[0])]
        figures = Figures(backbone_work(follower, frames[1]), dtype, whole=whole)
    else:
        figures = Figures(None, torch.float32)
    starts = range(0, len(frames) - PASS_UPDATES, PASS_UPDATES)
    count = 0
    while len(figures.updates) < updates:
        start = starts[count % len(starts)]
        measured = figures if count else Figures(figures.work, figures.dtype)
        wanted = min(PASS_UPDATES, updates - len(figures.updates))
        measured.inits.append(span(lambda at=start: follower.init(frames[at], boxes[at])))
        _time_updates(follower, frames[start + 1 : start + 1 + wanted], measured)
        if figures.work is not None:
            _time_products(measured)
        count += 1
    return figures


def _time_updates(follower: SiameseTracker, frames: Sequence[Frame], figures: Figures) -> None:
    boundaries = figures.work.boundaries if figures.work else ()
    with clocked(follower, boundaries) as (clock, update), cut_sizes() as sizes:
        for frame in frames:
            clock.spent.clear()
            update(frame)
            figures.crops.append([*sizes])
            sizes.clear()
            wall, cpu = (sum(times) for times in zip(*clock.spent.values(), strict=True))
            figures.updates.append((wall, cpu))
            for stage, spent in clock.spent.items():
                figures.stages[stage].append(spent)


def _time_products(figures: Figures) -> None:
    for dtype in dict.fromkeys((torch.float32, figures.dtype)):
        matrix = torch.rand(MATRIX_SIDE, MATRIX_SIDE, generator=torch.Generator().manual_seed(0)).to(dtype)
        figures.products[dtype] += [span(lambda m=matrix: m @ m) for _ in range(4)]


def stage_table(names: Sequence[str], figures: Figures) -> Iterator[str]:
    """Yield the table of the stages, the whole update and `init`, then the worst update."""
    yield "| stage | in updates | share | cpu ms | median ms | p95 ms |"
    yield "|---|---:|---:|---:|---:|---:|"
    count, total = len(figures.updates), _cpu_seconds(figures.updates)
    for name in names:
        spans = figures.stages[name]
        yield f"| {name} | {len(spans) / count:.0%} | {_cpu_seconds(spans) / total:.1%} | {_milliseconds(spans)} |"
    yield f"| **{UPDATE}** | 100% | 100% | {_milliseconds(figures.updates)} |"
    yield f"| {INIT} | | | {_milliseconds(figures.inits)} |"
    yield ""
    by_wall, by_cpu = np.max(figures.updates, axis=0) / np.median(figures.updates, axis=0).clip(1e-9)
    worst = f"the worst {by_wall:.2f} times the median by the wall, {by_cpu:.2f} times by cpu"
    yield f"{count} updates, {worst}; {len(figures.inits)} inits."


def _cpu_seconds(spans: Sequence[Span]) -> float:
    return max(sum(cpu for _, cpu in spans), 1e-9)  # where the clock ticks coarsely, as on Windows, it may stand still


def _milliseconds(spans: Sequence[Span]) -> str:
    if not spans:
        return "- | - | -"
    median, p95 = np.percentile([wall for wall, _ in spans], (50, 95))
    return " | ".join(f"{seconds * 1e3:.3f}" for seconds in (_cpu_seconds(spans) / len(spans), median, p95))


def limit_table(figures: Figures) -> Iterator[str]:
    """Yield the table of the backbone's arithmetic against a matrix product of the same number format."""
    yield "| work | million multiply-adds | dtype | GFLOP/s | of the matrix product |"
    yield "|---|---:|---|---:|---:|"
    macs = MATRIX_SIDE**3
    rates = {dtype: _gflops(macs, spans) for dtype, spans in figures.products.items()}
    side = f"{MATRIX_SIDE} x {MATRIX_SIDE}"
    for dtype, rate in rates.items():
        yield f"| matrix product, {side} | {macs / 1e6:.0f} | {_name(dtype)} | {rate:.1f} | |"
    work = figures.work
    assert work is not None
    whole = [at for at, sizes in enumerate(figures.crops) if sizes == figures.whole]
    fine, deep = ([figures.stages[stage][at] for at in whole] for stage in (FINE, DEEP))
    both = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(fine, deep, strict=True)]
    for label, parts, spans in (
        (FINE, work.fine_macs, fine),
        (DEEP, work.deep_macs, deep),
        ("whole backbone", work.fine_macs + work.deep_macs, both),
    ):
        rate = _gflops(parts, spans)
        share = rate / rates[figures.dtype]
        yield f"| {label} | {parts / 1e6:.0f} | {_name(figures.dtype)} | {rate:.1f} | {share:.0%} |"


def _gflops(macs: int, spans: Sequence[Span]) -> float:
    return 2 * macs * len(spans) / _cpu_seconds(spans) / 1e9


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="name or weight file; repeatable (default: the whole zoo)")
    parser.add_argument("--runtime", action="append", help="repeatable (default: torch and openvino)")
    parser.add_argument("--size", default="640x480", help="of the frames, width x height (default: 640x480)")
    parser.add_argument("--updates", type=int, default=500, help="to time, of each model (default: 500)")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    arguments = parser.parse_args(argv)
    width, _, height = arguments.size.partition("x")
    if not (width.isdecimal() and height.isdecimal() and min(int(width), int(height)) >= 64):
        parser.error(f"--size must be width x height of at least 64, such as 640x480, got {arguments.size}")
    if arguments.updates < 1:
        parser.error(f"--updates must be at least 1, got {arguments.updates}")
    arguments.size_wh = int(width), int(height)
    return arguments


def report(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the report, model by model. Raises ValueError for a model that cannot be loaded."""
    runtimes = arguments.runtime or ("torch", "openvino")
    names = arguments.model or [card.name for card in zoo()]
    followers = {
        f"{name}, {runtime}": load_tracker(name, "cpu", runtime=runtime)
        for name in names
        for runtime in runtimes
        if arguments.model or runtime == "torch" or find_graphs(name)  # one that ships without graphs runs in torch
    }
    frames, boxes = clip(arguments.size_wh)
    yield "# Stages of an update\n"
    command = f"python -m benchmarks.stages --updates {arguments.updates} --out benchmarks/stages.md"
    yield f"Written by `{command}`, which says how to read it.\n"
    yield f"{machine()} One thread, frames of {arguments.size}.\n"
    for name, follower in followers.items():
        figures = measure(follower, frames, boxes, arguments.updates)
        yield f"## {name}\n"
        yield from stage_table(stage_names(follower), figures)
        yield ""
        if figures.work is not None:
            yield from limit_table(figures)
            yield ""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report; write it too where asked. Return 2 after a one-line message for wrong input."""
    arguments = _parse(argv)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return publish(report(arguments), arguments.out)


if __name__ == "__main__":
    sys.exit(main())
