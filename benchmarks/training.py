"""Show how fast networks are trained, and whether they wait for their data.

    python -m benchmarks.training --data DIR [--steps 60] [--workers 2] [--threads 2] --out benchmarks/training.md

DIR holds tracks.jsonl and its pictures. Each configuration with a [train] table is trained from fresh weights for a few
steps, as `siamtrack train` does it, into a folder that is thrown away; the first tenth of the steps is warm-up.
"pairs/s" is the median over the steps; "waiting" the share of all time in which the network had no batch; "loader" the
pairs a second that the workers prepare when no network runs beside them.

    python -m benchmarks.training --data DIR --shards SHARDS [--steps 60] --out benchmarks/training.md

measures the loader alone, on the folder and on shards that `siamtrack data pack` made of it, and replaces that section
of the report. Both run in turn, three times, so that a machine's other work falls on both alike; "shards / folder" is
the median of the ratios of pairs/s. "CPU" is the processor time a pair, of all processes, which other work changes less
than the pace; it holds the start, and of shards the filling of the buffer. "first" is the time to the first batch.
"""

import argparse
import csv
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from torch.utils.data import DataLoader

from benchmarks.correlation import machine
from benchmarks.report import publish
from tracker.config import parse
from tracker.data.storage import Place, place_of
from tracker.training.pair_source import open_pairs
from tracker.training.run import BUFFER_MB, RunOptions, train

ROOT = Path(__file__).parent.parent

_SHARDS = "## Shards"
_ROUNDS = 3


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


class LoaderSpeed(NamedTuple):
    """Hold what was measured of a loader alone."""

    pairs_per_s: float  # after the first batch
    first_s: float  # until it was there
    cpu_ms: float  # of the processor a pair, in all processes


def loader_speed(config: Path, data: Place, steps: int, workers: int) -> LoaderSpeed:
    """Measure the workers when no network runs beside them; workers: 0 for none beside this process."""
    chosen = parse(config.read_text(encoding="utf-8"))
    settings = chosen.train
    assert settings is not None
    pairs = open_pairs(chosen, data, steps, workers, BUFFER_MB).pairs
    start, used = time.perf_counter(), _cpu_seconds()
    batches = iter(DataLoader(pairs, settings.batch, num_workers=workers))
    next(batches)  # the workers start
    ready = time.perf_counter()
    count = sum(batch.positive.numel() for batch in batches)
    speed = count / (time.perf_counter() - ready)
    del batches  # the workers end, and their time is known
    return LoaderSpeed(speed, ready - start, 1000 * (_cpu_seconds() - used) / (count * steps / (steps - 1)))


def _cpu_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


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
        loader = loader_speed(config, data, steps, max(options.workers, 1)).pairs_per_s
        yield f"| {config.stem} | {speed:.1f} | {waiting:.1%} | {loader:.0f} |"


def shard_report(config: Path, data: Path, shards: Place, steps: int) -> Iterator[str]:
    """Yield the section on shards: the loader on a folder and on its shards, with one worker and with two."""
    yield _SHARDS
    yield ""
    command = f"python -m benchmarks.training --data DIR --shards SHARDS --steps {steps} --out benchmarks/training.md"
    yield f"Written by `{command}`."
    yield ""
    yield f"{machine()} {config.stem}, {steps} steps each; a buffer of {BUFFER_MB} MB a worker."
    yield ""
    yield "| workers | data | pairs/s | shards / folder | CPU, ms a pair | first, s |"
    yield "|---:|---|---:|---:|---:|---:|"
    for workers in (1, 2):
        rounds = [[loader_speed(config, place, steps, workers) for place in (data, shards)] for _ in range(_ROUNDS)]
        ratio = statistics.median(packed.pairs_per_s / folder.pairs_per_s for folder, packed in rounds)
        for name, at, shown in (("folder", 0, ""), ("shards", 1, f"{ratio:.2f}")):
            speed, first, cpu = (statistics.median(row) for row in zip(*(found[at] for found in rounds), strict=True))
            yield f"| {workers} | {name} | {speed:.0f} | {shown} | {cpu:.2f} | {first:.1f} |"


def _parts(out: Path | None) -> tuple[list[str], list[str]]:
    """Return the lines of a report before its section on shards, and those of the section, each without the other."""
    lines = out.read_text(encoding="utf-8").splitlines() if out is not None and out.exists() else []
    at = lines.index(_SHARDS) if _SHARDS in lines else len(lines)
    return [*lines[:at], *([""] if lines and at == len(lines) else [])], lines[at:]


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description="Measure how fast networks are trained.")
    parser.add_argument("--data", type=Path, required=True, help="folder with tracks.jsonl and its pictures")
    parser.add_argument("--shards", type=place_of, help="shards of the same tracks: measure their loader, and no more")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    args = parser.parse_args(argv)
    if args.steps < 2:
        parser.error(f"--steps must be at least 2, got {args.steps}")
    if args.shards is not None:
        section = shard_report(ROOT / "configs" / "siamrpn_mobile.toml", args.data, args.shards, args.steps)
        return publish(chain(_parts(args.out)[0], section), args.out)
    lines = report(args.data, args.steps, RunOptions(args.workers, args.threads))
    return publish(chain(lines, ["", *_parts(args.out)[1]]), args.out)


if __name__ == "__main__":
    sys.exit(main())
