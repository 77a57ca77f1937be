"""Race our models, in every runtime that is installed, against the trackers of OpenCV.

    python -m benchmarks.speed --out benchmarks/speed.md [--peer-files FOLDER] [--picture benchmarks/speed.png]

All follow the clip that comes with the package, scaled to 640x480, from its first box on, one thread each. They take
turns, a stretch of frames each, so that whatever slows the machine slows all; the first stretch of each warms up and
is not counted: as in any video but the shortest, most frames are not the first ones, of which ours learn each.
"update" is all of it, crop to box; "of Nano" is the median over that of OpenCV's TrackerNano in the same run. AUC is
the success AUC on the OTB seven that is written in the weight file: that of the graphs that ship, whatever the
runtime; peers' were measured with `python -m benchmarks.development --peer NAME`. CSRT, KCF and MOSSE need
opencv-contrib-python, TrackerNano and TrackerVit their ONNX files, see benchmarks/peers.py; what is not there is left
out, with a line that says so. A tracker whose overlap is low has lost the object, and may do less work then.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from benchmarks.correlation import machine
from benchmarks.peers import PEERS, make_peer
from benchmarks.report import publish
from benchmarks.stages import clip
from tracker.builder import load_tracker
from tracker.geometry import Box, iou
from tracker.interface import Frame, Tracker
from tracker.zoo import find_graphs, zoo

SIZE_WH = (640, 480)
STRETCH = 20  # updates in a turn
_STARTS = 3  # that are timed
RUNTIMES = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}
PEER_AUC = {"nano": 0.687, "csrt": 0.612, "kcf": 0.238, "mosse": 0.282}  # the OTB seven, OpenCV 5.1
NANO = "OpenCV nano"
_MARKERS = {"torch": "o", "onnx": "s", "openvino": "^"}  # on the picture, by runtime


@dataclass
class Racer:
    """Hold a tracker, what it is, and its times so far."""

    name: str
    tracker: Tracker
    auc: float | None
    times_s: list[float] = field(default_factory=list)
    inits_s: list[float] = field(default_factory=list)
    overlaps: list[float] = field(default_factory=list)

    def start(self, frame: Frame, box: Box) -> None:
        """Start anew, a few times: what the first time costs beyond the others, it costs once."""
        for count in range(_STARTS + 1):
            start = time.perf_counter()
            self.tracker.init(frame, box)
            if count:
                self.inits_s.append(time.perf_counter() - start)

    def run(self, frames: Sequence[Frame], boxes: Sequence[Box], counts: bool) -> None:
        """Follow through the next frames; where they do not count, they warm up."""
        for frame, box in zip(frames, boxes, strict=True):
            start = time.perf_counter()
            prediction = self.tracker.update(frame)
            if counts:
                self.times_s.append(time.perf_counter() - start)
                self.overlaps.append(iou(prediction.box, box))


def racers(peer_files: Path | None) -> tuple[list[Racer], list[str]]:
    """Return all that can race here, and why others cannot."""
    found, missing = [], []
    for card in zoo():
        for runtime, package in RUNTIMES.items():
            if find_spec(package) is None or (runtime != "torch" and find_graphs(card.name) is None):
                missing.append(f"{card.name} in {runtime}: {package} or the graphs are not there")
                continue
            tracker = load_tracker(card.name, "cpu", runtime=runtime, threads=1)  # type: ignore[arg-type]
            found.append(Racer(f"{card.name}, {runtime}", tracker, card.metrics.get("otb_auc")))
    for peer in PEERS:
        try:
            found.append(Racer(f"OpenCV {peer}", make_peer(peer, peer_files), PEER_AUC.get(peer)))
        except ValueError as error:
            missing.append(f"OpenCV {peer}: {error}")
    return found, missing


def race(entered: Sequence[Racer], frames: Sequence[Frame], boxes: Sequence[Box], rounds: int) -> None:
    """Let all take turns through the frames, there and back; the first turn, after `init`, warms up."""
    way = [*range(1, len(frames)), *range(len(frames) - 2, 0, -1)]
    for racer in entered:
        racer.start(frames[0], boxes[0])
    for turn in range(rounds + 1):
        stretch = [way[at % len(way)] for at in range(turn * STRETCH, (turn + 1) * STRETCH)]
        for racer in entered:
            racer.run([frames[at] for at in stretch], [boxes[at] for at in stretch], counts=turn > 0)


def table(entered: Sequence[Racer]) -> Iterator[str]:
    """Yield the table, the fastest first."""
    nano = next((float(np.median(racer.times_s)) for racer in entered if racer.name == NANO), None)
    yield "| tracker | update, median ms | mean ms | p95 ms | of Nano | init ms | OTB AUC | overlap here |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for racer in sorted(entered, key=lambda one: np.median(one.times_s)):
        median, p95 = np.percentile(racer.times_s, (50, 95)) * 1e3
        mean = float(np.mean(racer.times_s)) * 1e3
        of_nano = f"{median / nano / 1e3:.2f}" if nano else "-"
        auc = f"{racer.auc:.3f}" if racer.auc is not None else "-"
        init = float(np.median(racer.inits_s)) * 1e3
        overlap = float(np.mean(racer.overlaps))
        times = f"{median:.2f} | {mean:.2f} | {p95:.2f}"
        yield f"| {racer.name} | {times} | {of_nano} | {init:.1f} | {auc} | {overlap:.2f} |"


def draw(entered: Sequence[Racer], path: Path) -> None:
    """Draw accuracy over speed for all whose accuracy is known; a line joins the runtimes of one model."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    models: dict[str, list[Racer]] = {}
    for racer in sorted(entered, key=lambda one: -float(np.median(one.times_s))):
        if racer.auc is not None:
            models.setdefault(racer.name.partition(",")[0], []).append(racer)
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    lines = []
    for model, runs in models.items():
        speeds, scores = [1 / float(np.median(run.times_s)) for run in runs], [run.auc for run in runs]
        if model.startswith("OpenCV"):  # far apart, and all of one colour
            where = {"textcoords": "offset points", "xytext": (8, -3), "fontsize": 8}
            axes.annotate(model, (speeds[-1], scores[-1]), color="tab:gray", **where)
            (line,) = axes.plot(speeds, scores, color="tab:gray")
        else:
            (line,) = axes.plot(speeds, scores, label=model)
            lines.append(line)
        for run, speed, score in zip(runs, speeds, scores, strict=True):
            marker = _MARKERS.get(run.name.partition(", ")[2], "D")
            axes.plot(speed, score, marker=marker, linestyle="", color=line.get_color())
    runtimes = [
        axes.plot([], [], marker=marker, linestyle="", color="0.4", label=runtime)[0]
        for runtime, marker in _MARKERS.items()
    ]
    figure.legend(handles=[*lines, *runtimes], loc="outside right upper", fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks([20, 50, 100, 200, 400, 1000, 2000])
    axes.set_xlabel("updates a second, one thread")
    axes.set_ylabel("success AUC, seven OTB sequences")
    axes.grid(alpha=0.3)
    axes.margins(x=0.2, y=0.15)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def report(args: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the report."""
    frames, boxes = clip(SIZE_WH)
    entered, missing = racers(args.peer_files)
    race(entered, frames, boxes, args.rounds)
    yield "# Speed"
    yield ""
    command = f"python -m benchmarks.speed --rounds {args.rounds} --out benchmarks/speed.md"
    yield f"Written by `{command}`, which says how to read it."
    yield ""
    yield f"{machine()} OpenCV {cv2.__version__}. One thread each; {args.rounds * STRETCH} updates each."
    yield ""
    yield from table(entered)
    if missing:
        yield ""
        yield "Not there: " + "; ".join(missing) + "."
    if args.picture:
        draw(entered, args.picture)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and race."""
    parser = argparse.ArgumentParser(description="Race our trackers against those of OpenCV.")
    parser.add_argument("--peer-files", type=Path, help="folder of the nano tracker's ONNX files")
    parser.add_argument("--rounds", type=int, default=8, help=f"turns of {STRETCH} updates (default: 8)")
    parser.add_argument("--picture", type=Path, help="also draw accuracy over speed into this file")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    args = parser.parse_args(argv)
    if args.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {args.rounds}")
    cv2.setNumThreads(1)
    return publish(report(args), args.out)


if __name__ == "__main__":
    sys.exit(main())
