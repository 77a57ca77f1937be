"""Show how fast networks are trained, and whether they wait for their data.

    python -m benchmarks.training --data DIR [--steps 60] [--workers 2] [--threads 2] --out benchmarks/training.md

DIR holds tracks.jsonl and its pictures. Each configuration with a [train] table is trained from fresh weights for a few
steps, as `siamtrack train` does it, into a folder that is thrown away; the first tenth of the steps is warm-up.
"pairs/s" is the median over the steps; "waiting" the share of all time in which the network had no batch; "loader" the
pairs a second that the workers prepare when no network runs beside them.
"""

import argparse
import csv
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch.utils.data import DataLoader

from benchmarks.correlation import machine
from benchmarks.report import publish
from tracker.config import parse
from tracker.data.pairs import PairDataset
from tracker.data.tracks import read_tracks
from tracker.network_builder import pair_config
from tracker.training.run import RunOptions, train

ROOT = Path(__file__).parent.parent


def recipes() -> list[Path]:
    """Return the configurations that say how their weights are made."""
    return [
        path
        for path in sorted((ROOT / "configs").glob("*.toml"))
        if parse(path.read_text(encoding="utf-8")).train is not None
    ]


def train_speed(config: Path, data: Path, steps: int, options: RunOptions) -> tuple[float, float]:
    """Return pairs a second and the share of time spent waiting."""
    settings = parse(config.read_text(encoding="utf-8")).train
    assert settings is not None
    pairs = steps * settings.batch * settings.data.searches_per_template
    with tempfile.TemporaryDirectory() as folder:
        for _ in train(config, data, Path(folder), [f"train.pairs={pairs}", "train.warmup_pairs=0"], options):
            pass
        with (Path(folder) / "log.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))[max(steps // 10, 1) :]
    seconds = [1 / float(row["pairs_per_s"]) for row in rows]
    waited = sum(float(row["waiting"]) * second for row, second in zip(rows, seconds, strict=True))
    return statistics.median(float(row["pairs_per_s"]) for row in rows), waited / sum(seconds)


def loader_speed(config: Path, data: Path, steps: int, workers: int) -> float:
    """Return the pairs a second that the workers prepare alone."""
    chosen = parse(config.read_text(encoding="utf-8"))
    settings = chosen.train
    assert settings is not None
    tracks = read_tracks(data / "tracks.jsonl")
    dataset = PairDataset(
        tracks, settings.data.weights, pair_config(chosen, settings), settings.seed, steps * settings.batch
    )
    batches = iter(DataLoader(dataset, settings.batch, num_workers=workers))
    next(batches)  # the workers start
    start = time.perf_counter()
    pairs = sum(batch.positive.numel() for batch in batches)
    return pairs / (time.perf_counter() - start)


def report(data: Path, steps: int, options: RunOptions) -> Iterator[str]:
    """Yield the lines of the report."""
    yield "# Training"
    yield ""
    command = f"python -m benchmarks.training --data DIR --steps {steps} --out benchmarks/training.md"
    yield f"Written by `{command}`, which says how to read it."
    yield ""
    yield f"{machine()} {steps} steps each, {options.workers} workers, {options.threads} threads of the network."
    yield ""
    yield "| configuration | pairs/s | waiting | loader, pairs/s |"
    yield "|---|---:|---:|---:|"
    for config in recipes():
        speed, waiting = train_speed(config, data, steps, options)
        loader = loader_speed(config, data, steps, max(options.workers, 1))
        yield f"| {config.stem} | {speed:.1f} | {waiting:.1%} | {loader:.0f} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description="Measure how fast networks are trained.")
    parser.add_argument("--data", type=Path, required=True, help="folder with tracks.jsonl and its pictures")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    args = parser.parse_args(argv)
    if args.steps < 2:
        parser.error(f"--steps must be at least 2, got {args.steps}")
    return publish(report(args.data, args.steps, RunOptions(args.workers, args.threads)), args.out)


if __name__ == "__main__":
    sys.exit(main())
