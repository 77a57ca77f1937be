"""Show what an update costs as frames grow, and as targets in one frame grow in number.

    python -m benchmarks.scaling --out benchmarks/scaling.md [--model NAME] [--runtime NAME]

The clip that comes with the package, scaled to each size, is tracked from its true box; the sizes take turns, a stretch
of frames each, and the first round warms up. Targets are forks of one tracker on the same object, updated together on
640x480; they take turns too. One thread. "times" is the median over that of the first row.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.correlation import machine
from benchmarks.report import publish
from benchmarks.stages import clip
from tracker.builder import load_tracker
from tracker.geometry import Box
from tracker.interface import Frame
from tracker.siamese_tracker import SiameseTracker, update_many
from tracker.zoo import DEFAULT_MODEL

SIZES_WH = ((640, 480), (320, 240), (1280, 720), (1920, 1080), (3840, 2160))
TARGETS = (1, 2, 4, 8, 16, 32, 64)
STRETCH = 12

Stretch = tuple[Sequence[Frame], Box]


def stretches(size_wh: tuple[int, int], rounds: int) -> list[Stretch]:
    """Return pieces of the clip, scaled, each with the object's box in its first frame."""
    originals, boxes = clip(SIZES_WH[0])
    x, y = size_wh[0] / SIZES_WH[0][0], size_wh[1] / SIZES_WH[0][1]
    pieces = []
    for at in range(rounds):
        first = at * STRETCH % (len(originals) - STRETCH)
        box = boxes[first]
        frames = [cv2.resize(frame, size_wh) for frame in originals[first : first + STRETCH]]
        pieces.append((frames, Box(box.cx * x, box.cy * y, box.w * x, box.h * y)))
    return pieces


def time_updates(trackers: Sequence[SiameseTracker], stretch: Stretch) -> list[float]:
    """Return the seconds of each update of all trackers together."""
    (first, *rest), box = stretch
    for tracker in trackers:
        tracker.init(first, box)
    times = []
    for frame in rest:
        start = time.perf_counter()
        update_many(trackers, frame)
        times.append(time.perf_counter() - start)
    return times


def take_turns(runs: dict[str, Callable[[int], list[float]]], rounds: int) -> dict[str, list[float]]:
    """Return the times of each run, called once a round; the first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for at in range(rounds):
        for name, run in runs.items():
            found = run(at)
            if at:
                times[name] += found
    return times


def table(heading: str, times: dict[str, list[float]]) -> Iterator[str]:
    """Yield a table of medians, and how many times the first row's they are."""
    yield f"| {heading} | median ms | p95 ms | times |"
    yield "|---|---:|---:|---:|"
    base = float(np.median(next(iter(times.values()))))
    for name, spans in times.items():
        median, p95 = np.percentile(spans, (50, 95))
        yield f"| {name} | {median * 1e3:.2f} | {p95 * 1e3:.2f} | {median / base:.2f} |"
    yield ""


def report(model: str | None, runtime: str, rounds: int) -> Iterator[str]:
    """Yield the lines of the report."""
    tracker = load_tracker(model, "cpu", runtime=runtime, threads=1)  # type: ignore[arg-type]
    yield "# Scaling"
    yield ""
    command = f"python -m benchmarks.scaling --rounds {rounds} --out benchmarks/scaling.md"
    yield f"Written by `{command}`, which says how to read it."
    yield ""
    yield f"{machine()} {model or DEFAULT_MODEL}, runtime {runtime}, one thread."
    yield ""
    by_size = {}
    for width, height in SIZES_WH:
        pieces = stretches((width, height), rounds)
        by_size[f"{width}x{height}"] = lambda at, pieces=pieces: time_updates([tracker], pieces[at])
    yield from table("frame", take_turns(by_size, rounds))
    pieces = stretches(SIZES_WH[0], rounds)
    by_count = {}
    for count in TARGETS:
        forks = [tracker.fork() for _ in range(count)]
        by_count[str(count)] = lambda at, forks=forks: time_updates(forks, pieces[at])
    yield from table("targets", take_turns(by_count, rounds))


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description="Measure an update as frames and targets grow.")
    parser.add_argument("--model", help="name, weight file or folder of graphs (default: the default model)")
    parser.add_argument("--runtime", default="openvino", choices=["auto", "torch", "onnx", "openvino"])
    parser.add_argument("--rounds", type=int, default=4, help="the first warms up (default: 4)")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    args = parser.parse_args(argv)
    if args.rounds < 2:
        parser.error(f"--rounds must be at least 2, got {args.rounds}")
    cv2.setNumThreads(1)
    return publish(report(args.model, args.runtime, args.rounds), args.out)


if __name__ == "__main__":
    sys.exit(main())
