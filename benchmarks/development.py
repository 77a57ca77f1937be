"""Measure a model, or a peer, on the development sets: the figures that decide between two ways.

    python -m benchmarks.development --data DIR --model NAME_OR_FILE [--set a.b=c] [--workers 2] [--json out.json]
    python -m benchmarks.development --data DIR --peer nano --peer-files FOLDER
    python -m benchmarks.development --sequences FOLDER --model NAME_OR_FILE

--camera grey, dark, noisy or coarse shows them through a worse camera (`benchmarks/cameras.py`).
--data is a folder that holds OTB, UAV123_10fps and clips, each in OTB's layout; give it several times if they lie
apart. --sequences is any other folder of sequences in that layout, pixels counted from 1, measured in their place.
Scores are those of tracker/metrics.py: means over sequences, first frame counted, frames without the object not. AUROC
tells frames with overlap > 0.5 from those with < 0.1 by the tracker's score, over all frames of a set. ms is the median
of `update` alone, one thread, after warm-up: with as many workers as cores it is no honest clock.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence as Items
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.cameras import CAMERAS, make_behind
from benchmarks.peers import PEERS, make_peer
from tracker.builder import load_tracker
from tracker.data.otb import read_otb
from tracker.data.sequence import Sequence, check_followable
from tracker.evaluation import Track, TrackerFactory, follow_sequence, map_sequences
from tracker.metrics import TrackScore, mean_score, overlaps, score_auroc, score_track

SETS = {"OTB": 1, "UAV123_10fps": 0, "clips": 1}  # folder: what its files call the first pixel


@dataclass(frozen=True)
class Row:
    """Hold the figures of one sequence or set; `auroc` is NaN if the tracker never failed or never succeeded."""

    name: str
    score: TrackScore
    auroc: float
    median_ms: float  # of `update`


def find_sets(roots: Items[Path], frames: int | None) -> dict[str, list[Sequence]]:
    """Return the development sets, each from the first root that holds its pictures, cut to the first `frames`."""
    found = {}
    for name, base in SETS.items():
        root = next((r for r in roots if any((r / name).glob("*/groundtruth_rect.txt"))), None)
        if root is None:
            raise ValueError(f"no {name}/<sequence>/groundtruth_rect.txt below any of {[str(r) for r in roots]}")
        found[name] = _read(root / name, base, frames)
    return found


def read_set(folder: Path, frames: int | None) -> dict[str, list[Sequence]]:
    """Return the sequences of a folder as a set of its name, cut to the first `frames`."""
    return {folder.resolve().name: _read(folder, 1, frames)}  # "." has no name


def _read(folder: Path, index_base: int, frames: int | None) -> list[Sequence]:
    sequences = read_otb(folder, index_base)
    check_followable(sequences)
    return [sequence.head(frames) for sequence in sequences] if frames else sequences


def measure(factory: TrackerFactory, sequences: Items[Sequence], workers: int) -> tuple[Row, list[Row]]:
    """Return the figures of a set (named "") and those of each of its sequences, in their order."""
    tracks = {sequence.name: track for sequence, track in map_sequences(factory, follow_sequence, sequences, workers)}
    rows = [_row(sequence, tracks[sequence.name]) for sequence in sequences]
    scores = np.concatenate([tracks[sequence.name].scores for sequence in sequences])
    values = np.concatenate([overlaps(tracks[s.name].boxes_xywh, s.boxes_xywh) for s in sequences])
    times = np.concatenate([tracks[sequence.name].times_s[1:] for sequence in sequences])
    return Row("", mean_score(row.score for row in rows), score_auroc(scores, values), _median_ms(times)), rows


def _row(sequence: Sequence, track: Track) -> Row:
    values = overlaps(track.boxes_xywh, sequence.boxes_xywh)
    score = score_track(track.boxes_xywh, sequence.boxes_xywh)
    return Row(sequence.name, score, score_auroc(track.scores, values), _median_ms(track.times_s[1:]))


def _median_ms(times_s: np.ndarray) -> float:
    return float(np.median(times_s) * 1e3)


def _table(title: str, results: dict[str, tuple[Row, list[Row]]], per_sequence: bool) -> Table:
    table = Table(title=escape(title))
    for column in ("set", "frames", "AUC", "precision@20", "AO", "AUROC", "ms"):
        table.add_column(column, justify="left" if column == "set" else "right")
    for name, (mean, rows) in results.items():
        for label, row in [(name, mean), *((f"  {row.name}", row) for row in rows if per_sequence)]:
            score = row.score
            figures = (score.success_auc, score.precision, score.ao, row.auroc)
            table.add_row(
                escape(label), str(score.frames), *(f"{value:.3f}" for value in figures), f"{row.median_ms:.2f}"
            )
    return table


def _as_json(args: argparse.Namespace, results: dict[str, tuple[Row, list[Row]]]) -> str:
    def figures(row: Row) -> dict[str, float | None]:
        auroc = None if np.isnan(row.auroc) else row.auroc  # JSON knows no NaN
        return {**asdict(row.score), "auroc": auroc, "median_ms": row.median_ms}

    return json.dumps(
        {
            "command": " ".join(sys.argv[1:]),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {args.workers} workers of one thread",
            "sets": {
                name: {**figures(mean), "sequences": {row.name: figures(row) for row in rows}}
                for name, (mean, rows) in results.items()
            },
        },
        indent=1,
        allow_nan=False,
    )


def _parse(argv: Items[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure a tracker on the development sets.")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--data", type=Path, action="append", help="folder of the sets; repeatable")
    where.add_argument("--sequences", type=Path, help="folder of other sequences in OTB's layout")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--model", help="name of a model, or a weight file")
    who.add_argument("--peer", choices=PEERS, help="a tracker of OpenCV")
    parser.add_argument("--peer-files", type=Path, help="folder of the nano tracker's ONNX files")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="change a setting: a.b=value")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runtime", default="torch", choices=["auto", "torch", "onnx", "openvino"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--frames", type=int, help="only so many frames of each sequence")
    parser.add_argument(
        "--camera", choices=CAMERAS, help="show the videos in grey, in a quarter of the light, noisy, or coarse"
    )
    parser.add_argument("--per-sequence", action="store_true")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args(argv)
    if args.frames is not None and args.frames < 2:
        parser.error(f"--frames must be at least 2, got {args.frames}")
    return args


def main(argv: Items[str] | None = None) -> int:
    """Print the table; return 2 after a one-line message for wrong input."""
    args = _parse(argv)
    try:
        sets = find_sets(args.data, args.frames) if args.data else read_set(args.sequences, args.frames)
        factory: TrackerFactory
        if args.peer:
            factory = partial(make_peer, args.peer, args.peer_files)
        else:
            options = {"overrides": tuple(args.overrides), "runtime": args.runtime, "threads": 1}
            factory = partial(load_tracker, args.model, args.device, **options)
        if args.camera:
            factory = partial(make_behind, factory, args.camera)
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)  # before anything is measured
        results = {name: measure(factory, sequences, args.workers) for name, sequences in sets.items()}
    except (ValueError, OSError) as error:  # ChildProcessError is an OSError
        print(f"error: {error}", file=sys.stderr)
        return 2
    title = " ".join([args.peer or args.model, *args.overrides, *([args.camera] if args.camera else [])])
    Console().print(_table(title, results, args.per_sequence))
    if args.json:
        args.json.write_text(_as_json(args, results) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
