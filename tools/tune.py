"""Search the settings of tracking on the development sets, and say what the search is worth on videos it has not seen.

    python -m tools.tune --data DIR --model NAME_OR_FILE [--range rpn.hold] [--range online.rate=0.005:0.08:log]
        [--trials 40] [--minutes 60] [--workers 2] [--json out.json] [--out report.md] [--write-overrides]

A trial follows the sequences whole and from other starts (see benchmarks/certainty.py) with settings that Optuna draws;
the first has the model's own. The objective is the mean success AUC, each set and each kind counting as --weight says,
not by how many videos it has. A trial that is surely worse than the best ends early. The study lies in a file: given
again, the command goes on, and several at a time share it. What it began with, it must go on with: the same model,
data, ranges and code of the tracker.

The best of many trials is partly luck. So settings are also chosen on some sequences and scored on the others, in turn
(--folds); videos made of one sequence stay together. Of the trials drawn blindly, before any was compared, that is an
honest figure; of all of them it is a little too kind, as the sampler has seen every sequence.

Where the time goes (siamrpn_mobile, OpenVINO, every fourth whole sequence and every sixth start, 4,600 frames, busy
machine): reading and decoding 10 % of 40 s, the network 52 %. So decoded pictures are kept: 6,384 of them take 2.8 GB,
in a file that all processes map. What the network sees is not: from trial to trial .13 of the crops come again where
the size or the filter changes (those of the first frames, 9 % of the time), .81 to .99 where only `online.gate`,
`rpn.hold` or a little `rpn.window_influence` do, and one trial's features take 9 GB.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from benchmarks.development import SETS, find_sets
from benchmarks.report import publish
from tracker.builder import RuntimeName
from tracker.evaluation import read_frame

if TYPE_CHECKING:
    from tools.tuning.study import Evaluate, Follow, Plan
    from tools.tuning.videos import Group, TrackerMaker

_FILE = "studies.sqlite"


def make_evaluate(model: str, overrides: tuple[str, ...], runtime: RuntimeName, store: Path | None) -> "Evaluate":
    """Return what makes, of settings, a function that follows groups; `store` None: pictures are decoded each time."""
    from tools.tuning.ranges import as_overrides
    from tools.tuning.videos import FrameStore, TrackerMaker, follow_group

    cv2.setNumThreads(1)
    maker = TrackerMaker(model, overrides, runtime)
    read = read_frame if store is None else FrameStore(store).read

    def evaluate(settings: dict[str, bool | int | float | str]) -> "Follow":
        return partial(follow_group, maker.make(as_overrides(settings)), read=read)

    return evaluate


def _plan(args: argparse.Namespace, groups: "list[Group]", maker: "TrackerMaker") -> "Plan":
    from tools.tuning.objective import make_shares
    from tools.tuning.ranges import check_ranges, read_ranges, shipped_settings
    from tools.tuning.study import Plan

    ranges = read_ranges(args.ranges, maker.config)
    if not ranges:
        raise ValueError("there is nothing to search: give a --range")
    check_ranges(ranges, maker.make)
    deadline = time.time() + 60 * args.minutes
    shares = make_shares(groups, args.weights)
    shipped = shipped_settings(ranges, maker.config)
    name = args.study or Path(args.model).stem
    return Plan(args.folder / _FILE, name, groups, shares, ranges, shipped, args.seed, args.blind, deadline)


def _identity(args: argparse.Namespace, plan: "Plan") -> dict[str, str]:
    from tools.tuning.videos import code_print, data_print, model_print

    return {
        "model": f"{Path(args.model).stem} {model_print(args.model, args.runtime)}",
        "runtime": args.runtime,
        "settings": " ".join(args.overrides),
        "data": f"{len(plan.groups)} sequences, {sum(g.frames for g in plan.groups)} frames, {data_print(plan.groups)}",
        "ranges": " ".join(f"{one.name}={one.text}" for one in plan.ranges),
        "weights": " ".join(f"{name}={weight:g}" for name, weight in sorted(args.weights.items())),
        "blind": str(plan.blind),
        "code": code_print(),
    }


def _tune(args: argparse.Namespace) -> Iterator[str]:
    """Make the trials, and yield the lines of the report."""
    if find_spec("optuna") is None:
        raise ValueError("Optuna is not installed: pip install 'siamtrack[tune]'")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
    from tools.tuning import report
    from tools.tuning.study import open_study, run_trials
    from tools.tuning.videos import KINDS, TrackerMaker, make_groups, store_frames

    sets = {name: found for name, found in find_sets(args.data, None).items() if args.weights.get(name, 1)}
    groups = make_groups(sets, [kind for kind in KINDS if args.weights.get(kind, 1)], args.frames)
    maker = TrackerMaker(args.model, args.overrides, args.runtime)
    plan = _plan(args, groups, maker)
    identity = _identity(args, plan)
    study = open_study(plan, identity)
    if args.trials:
        store = store_frames(groups, args.folder, args.store_gb) if args.store_gb else None
        make: Callable[[], Evaluate] = partial(make_evaluate, args.model, tuple(args.overrides), args.runtime, store)
        run_trials(plan, make, args.trials, args.workers)
    found = report.judge(study, plan, args.folds)
    if args.json:
        args.json.write_text(report.as_json(found, plan, identity) + "\n", encoding="utf-8")
    yield f"# Settings of {Path(args.model).stem}"
    yield ""
    yield f"Written by `python -m tools.tune --data DIR --model {args.model} --runtime {args.runtime} ...`:"
    yield f"{identity['data']}; ranges {identity['ranges']}."
    yield ""
    yield from report.lines(found, plan)
    if args.write_overrides:
        yield ""
        yield report.as_words(report.changes(found.best, plan.shipped)) or "(the shipped settings are the best)"


def _weight(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    if name not in (*SETS, "whole", "starts"):
        raise argparse.ArgumentTypeError(f"{name!r} is neither a set ({', '.join(SETS)}) nor whole or starts")
    try:
        weight = float(number)
    except ValueError:
        weight = -1.0
    if not 0 <= weight < float("inf"):
        raise argparse.ArgumentTypeError(f"write NAME=WEIGHT with a weight of 0 or more, got {text!r}")
    return name, weight


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {text}")
        return int(text)

    return number


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Search the settings of tracking on the development sets.")
    add = parser.add_argument
    add("--data", type=Path, action="append", required=True, help="folder of the sets; repeatable")
    add("--model", required=True, help="name of a model, a weight file or a folder of graphs")
    add("--runtime", default="auto", choices=["auto", "torch", "onnx", "openvino"])
    add("--set", dest="overrides", action="append", default=[], help="change a setting in every trial: a.b=value")
    add(
        "--range",
        dest="ranges",
        action="append",
        default=[],
        metavar="NAME[=RANGE]",
        help="search a setting: LOW:HIGH, LOW:HIGH:STEP, LOW:HIGH:log or A,B,C; repeatable; none: the usual ones",
    )
    add(
        "--weight",
        dest="weights",
        type=_weight,
        action="append",
        default=[],
        metavar="NAME=WEIGHT",
        help="what a set, whole or starts counts; 1 where not given, 0 leaves it out; repeatable",
    )
    add("--frames", type=_at_least(2), help="only so many frames of each video")
    add("--trials", type=_at_least(0), default=40, help="how many more; 0 reports what is there")
    add("--minutes", type=float, default=float("inf"), help="begin no trial after so many")
    add("--workers", type=_at_least(1), default=1, help="processes")
    add("--blind", type=_at_least(1), default=10, help="trials drawn at random before the sampler learns")
    add("--seed", type=int, default=0)
    add("--folds", type=_at_least(2), default=5, help="parts of the sequences for the figure of unseen ones")
    add("--folder", type=Path, default=Path("runs/tune"), help="of studies and decoded pictures")
    add("--study", help="name in the folder; the model's if not given")
    add("--store-gb", type=float, default=4.0, help="largest file of decoded pictures; 0 decodes in every trial")
    add("--json", type=Path, help="write all figures to this file")
    add("--out", type=Path, help="write the report to this file")
    add("--write-overrides", action="store_true", help="print the best trial's settings as options of a command")
    args = parser.parse_args(argv)
    args.weights = dict(args.weights)
    return args


def main(argv: list[str] | None = None) -> int:
    """Print the report; return 2 after a one-line message for wrong input, 130 where Ctrl-C stopped it."""
    args = _parse(argv)
    try:
        return publish(_tune(args), args.out)
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
