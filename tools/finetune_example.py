"""Fine-tune the default model on five short videos of a world it does not know, as a user would; measure what changes.

    python -m tools.finetune_example [--work runs/finetune_example] [--data DEVELOPMENT] [--ways] [--out REPORT.md]

The clips come from tools/make_finetune_clips.py: five to learn from, of which every 25th frame gets a box by hand (the
truth, rounded to pixels), and twenty of other seeds to measure on. All steps are commands that a user gives; each is
timed, and one that was done before in the same folder is not done again. With --data it also measures what is left on
the development sets of benchmarks/development.py. --ways compares the recipe with others (see WAYS).
"""

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.correlation import machine
from benchmarks.report import publish
from tools.make_finetune_clips import FRAMES
from tracker.builder import load_tracker
from tracker.data.otb import read_otb
from tracker.draw import write_picture
from tracker.evaluation import follow_sequence, read_frame
from tracker.zoo import DEFAULT_MODEL

ROOT = Path(__file__).parent.parent
CLIPS, HELD = 5, 20  # to learn from, to measure on
FIRST_HELD = 101  # seed
KEY_EVERY = 25  # frames between two boxes drawn by hand
SHOWN = 5  # frames on the picture
_COLOURS = {"truth": (255, 255, 255), "before": (255, 96, 64), "after": (0, 230, 118)}


@dataclass(frozen=True)
class Way:
    """Name a way to fine-tune, and how it departs from the recipe."""

    name: str
    title: str
    run: str = "finetuned"  # the training; ways with the same one share it
    overrides: tuple[str, ...] = ()
    share: float = 1.0  # of what was trained in the mean with the model that it began with


_DEEPER = ('train.frozen=["conv1", "layer1", "layer2"]',)
WAYS = (
    Way("finetuned", "`configs/finetune.toml`"),
    Way("mean", f"`siamtrack average` of that and `{DEFAULT_MODEL}`", share=0.5),
    Way("less", "the same, .3 of what was trained", share=0.3),
    Way("deeper", "`configs/finetune.toml`, the last part of the backbone learns too", "deeper", _DEEPER),
)


class Steps:
    """Run commands, keep how long each took in a file, and pass over those that it holds."""

    def __init__(self, work: Path) -> None:
        """Go on in a folder."""
        self._path = work / "steps.json"
        self.spent: dict[str, tuple[float, float]] = {}  # seconds by the wall and of all cores, by command
        if self._path.is_file():
            self.spent = json.loads(self._path.read_text(encoding="utf-8"))

    def run(self, *words: str) -> None:
        """Run a module with its arguments. Raises ChildProcessError where it fails."""
        command = shlex.join(words)
        if command in self.spent:
            return
        print(f"$ python -m {command}", file=sys.stderr, flush=True)
        start = _clocks()
        done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, stdout=sys.stderr, check=False)
        if done.returncode:
            raise ChildProcessError(f"exit status {done.returncode}: python -m {command}")
        end = _clocks()
        self.spent[command] = end[0] - start[0], end[1] - start[1]
        self._path.write_text(json.dumps(self.spent, indent=1) + "\n", encoding="utf-8")

    def row(self, title: str, *start: str) -> str:
        """Return the row of a table: the time of all commands that begin with these words."""
        of = [spent for command, spent in self.spent.items() if shlex.split(command)[: len(start)] == [*start]]
        return f"| {title} | {sum(wall for wall, _ in of):.0f} s | {sum(cores for _, cores in of):.0f} s |"


def _clocks() -> tuple[float, float]:
    children = os.times()
    return time.perf_counter(), children.children_user + children.children_system


def prepare(steps: Steps, work: Path) -> None:
    """Make the clips, annotate those to learn from, and look them over."""
    maker = "tools.make_finetune_clips"
    steps.run(maker, "--out", str(work / "clips"), "--count", str(CLIPS))
    steps.run(maker, "--out", str(work / "held"), "--count", str(HELD), "--first", str(FIRST_HELD), "--layout", "otb")
    for video in sorted((work / "clips").glob("*.mp4")):
        keys = [word for key in drawn_keys(video.with_suffix(".csv")) for word in ("--key", key)]
        preview = work / "previews" / video.name
        preview.parent.mkdir(exist_ok=True)
        steps.run(
            *("tracker", "data", "annotate", str(video), "--out", str(work / "mydata"), "--class", "ciliate", *keys),
            *("--preview", str(preview)),
        )
    steps.run("tracker", "data", "check", str(work / "mydata"), "--sheet", str(work / "sheet.png"))


def drawn_keys(boxes: Path) -> list[str]:
    """Return what --key takes for one box of so many in a file, rounded to pixels as a hand would draw it."""
    with boxes.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[::KEY_EVERY]
    return [f"{row['frame']}:" + ",".join(f"{float(row[side]):.0f}" for side in "xywh") for row in rows]


def finetune(steps: Steps, work: Path, way: Way) -> Path:
    """Train, average where the way does, and export; return the folder of the graphs."""
    run, graphs = work / "runs" / way.run, work / "graphs" / way.name
    start, weights = f"weights/{DEFAULT_MODEL}.safetensors", str(run / "weights.safetensors")
    changes = [word for override in way.overrides for word in ("--set", override)]
    steps.run(
        *("tracker", "train", "configs/finetune.toml", "--data", str(work / "mydata"), "--out", str(run)),
        *("--init", start, *changes),
    )
    if way.share < 1:
        mean = str(run / f"{way.name}.safetensors")
        steps.run("tracker", "average", start, weights, "--share", f"{way.share:g}", "--out", mean)
        weights = mean
    steps.run("tracker", "export", weights, "--out", str(graphs), "--half")
    return graphs


def measure(steps: Steps, work: Path, model: str, data: Path | None) -> dict[str, dict]:
    """Return the figures of each set, see benchmarks/development.py."""
    results: dict[str, dict] = {}
    for name, where in (("held", ("--sequences", str(work / "held"))), ("development", ("--data", str(data)))):
        if name == "held" or data is not None:
            scores = work / f"{name}_{Path(model).name}.json"
            how = ("--runtime", "openvino", "--workers", "2", "--json", str(scores))
            steps.run("benchmarks.development", *where, "--model", model, *how)
            results |= json.loads(scores.read_text(encoding="utf-8"))["sets"]
    return results


def report(work: Path, data: Path | None, ways: Sequence[Way], picture: Path | None) -> Iterator[str]:
    """Do what is left to do and yield the lines of the report."""
    work.mkdir(parents=True, exist_ok=True)
    steps = Steps(work)
    prepare(steps, work)
    graphs = {way: finetune(steps, work, way) for way in ways}
    results = {"before: `" + DEFAULT_MODEL + "`": measure(steps, work, DEFAULT_MODEL, data)}
    results |= {way.title: measure(steps, work, str(graphs[way]), data) for way in ways}
    yield "# Fine-tuning on five clips"
    yield ""
    words = [*(["--data", "DEVELOPMENT"] if data else []), *(["--ways"] if ways == WAYS else [])]
    command = " ".join(["python -m tools.finetune_example", *words, "--out benchmarks/finetune.md"])
    yield f"Written by `{command}`, which says how to read it. `make finetune` does it without the development sets."
    yield ""
    yield f"{machine()} Tracked in OpenVINO; {CLIPS} clips to learn from, {HELD} others to measure on."
    yield ""
    yield from _table(results)
    if picture is not None:
        clip = _most_gained(*(found["held"]["sequences"] for found in list(results.values())[:2]))
        write_picture(picture, strip(work / "held", clip, (DEFAULT_MODEL, str(graphs[ways[0]]))))
        yield ""
        yield f"![{clip}: white the truth, red before, green after]({picture.name})"
    yield ""
    yield from _times(steps, work, ways[0])


def _table(results: dict[str, dict[str, dict]]) -> Iterator[str]:
    sets = list(next(iter(results.values())))
    names = [f"{HELD} other clips" if name == "held" else name for name in sets]
    yield "Success AUC / precision@20px, and how well the score tells good frames from lost ones (AUROC):"
    yield ""
    yield "| model | " + " | ".join(names) + " | AUROC, clips |"
    yield "|---|" + "---|" * (len(sets) + 1)
    for title, found in results.items():
        cells = [f"{found[name]['success_auc']:.3f} / {found[name]['precision']:.3f}" for name in sets]
        yield f"| {title} | " + " | ".join(cells) + f" | {found['held']['auroc'] or float('nan'):.3f} |"


def _times(steps: Steps, work: Path, way: Way) -> Iterator[str]:
    run = work / "runs" / way.run
    train = ("tracker", "train", "configs/finetune.toml", "--data", str(work / "mydata"), "--out", str(run))
    yield "| step | time | of all cores |"
    yield "|---|---:|---:|"
    title = f"`siamtrack data annotate`, {CLIPS} clips of {FRAMES} frames with a key every {KEY_EVERY}"
    yield steps.row(title, "tracker", "data", "annotate")
    yield steps.row("`siamtrack data check`", "tracker", "data", "check")
    yield steps.row("`siamtrack train configs/finetune.toml`", *train)
    yield steps.row("`siamtrack export`", "tracker", "export", str(run / "weights.safetensors"))


def _most_gained(before: dict[str, dict], after: dict[str, dict]) -> str:
    return max(before, key=lambda name: after[name]["success_auc"] - before[name]["success_auc"])


def strip(folder: Path, name: str, models: tuple[str, str]) -> np.ndarray:
    """Return frames of a sequence side by side, with the boxes of the truth and of both models."""
    sequence = next(sequence for sequence in read_otb(folder) if sequence.name == name)
    boxes = {"truth": sequence.boxes_xywh}
    for when, model in zip(("before", "after"), models, strict=True):
        boxes[when] = follow_sequence(load_tracker(model, runtime="openvino", threads=1), sequence).boxes_xywh
    shown = []
    for at in np.linspace(0, len(sequence.image_paths) - 1, SHOWN).astype(int):
        frame = read_frame(sequence.image_paths[at]).copy()
        for when, colour in _COLOURS.items():
            x, y, w, h = (round(float(value)) for value in boxes[when][at])
            cv2.rectangle(frame, (x, y), (x + w, y + h), colour, 2)
        shown.append(cv2.resize(frame, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA))
    return np.hstack(shown)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, do the steps, print the report."""
    parser = argparse.ArgumentParser(description="Fine-tune the default model on five clips and measure it.")
    parser.add_argument("--work", type=Path, default=Path("runs/finetune_example"), help="folder of all that is made")
    parser.add_argument("--data", type=Path, help="folder of the development sets: what is left there")
    parser.add_argument("--ways", action="store_true", help="compare the recipe with other ways")
    parser.add_argument("--out", type=Path, help="also write the report to this file, and a picture beside it")
    args = parser.parse_args(argv)
    picture = args.out.with_suffix(".jpg") if args.out else None
    return publish(report(args.work, args.data, WAYS if args.ways else WAYS[:2], picture), args.out)


if __name__ == "__main__":
    sys.exit(main())
