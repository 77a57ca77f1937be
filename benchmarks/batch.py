"""Show how many videos and frames a second a batch tracks, by the number of worker processes.

    python -m benchmarks.batch --out benchmarks/batch.md [--workers 1 2] [--videos 12] [--model NAME] [--runtime NAME]

The videos are copies of the clip that comes with the package, each tracked from its first box. All is counted: reading,
tracking, writing, and the record of the results. "start" is from the start of the processes until each has loaded its
tracker and tracked a few frames; it is paid once a run and is no part of the rates.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.correlation import machine
from benchmarks.report import publish
from tracker.batch_folder import BatchFolder, Maker
from tracker.batch_video import Recipe
from tracker.builder import load_tracker
from tracker.frames import open_frames
from tracker.geometry import Box
from tracker.manifest import VideoJob
from tracker.siamese_tracker import SiameseTracker, update_many
from tracker.workers import LocalWorkers, run_jobs
from tracker.zoo import DEFAULT_MODEL

CLIP = Path(__file__).parent.parent / "tracker" / "assets" / "demo.mp4"
BOX = Box.from_xywh(132, 111, 95, 87)  # in the first frame: assets/demo_boxes.csv
WARM_FRAMES = 5


class Figures(NamedTuple):
    """Hold what a number of workers did."""

    start_s: float
    seconds: float
    frames: int


def copies(folder: Path, count: int, end: int | None = None) -> list[VideoJob]:
    """Return jobs on so many copies of the clip, which are made in a folder."""
    jobs = []
    for number in range(count):
        video = shutil.copy(CLIP, folder / f"{number}.mp4")
        jobs.append(VideoJob(f"{number}", str(video), (BOX,), 0, end))
    return jobs


def measure(recipe: Recipe[Any], jobs: Sequence[VideoJob], workers: int) -> Figures:
    """Track all jobs. Raises ValueError where one fails."""
    folder = BatchFolder(recipe.out, Maker("", "", "", (), ""))
    with folder.begin(jobs, recipe), closing(LocalWorkers(recipe, workers)) as processes:
        begin = time.perf_counter()
        warm = [VideoJob(f"warm{number}", str(CLIP), (BOX,), 0, WARM_FRAMES) for number in range(workers)]
        list(run_jobs(warm, processes))
        ready = time.perf_counter()
        frames = 0
        for outcome in run_jobs(jobs, processes):
            if not outcome.done:
                raise ValueError(f"{outcome.name}: {outcome.error}")
            folder.add(jobs[int(outcome.name)], outcome)
            frames += outcome.frames
        return Figures(ready - begin, time.perf_counter() - ready, frames)


def report(model: str | None, runtime: str, counts: Sequence[int], videos: int, end: int | None) -> Iterator[str]:
    """Yield the lines of the report."""
    with open_frames(CLIP) as frames:
        height, width = next(frames).shape[:2]
    yield "# Batches"
    yield ""
    command = f"python -m benchmarks.batch --videos {videos} --out benchmarks/batch.md"
    yield f"Written by `{command}`, which says how to read it."
    yield ""
    yield (
        f"{machine()} {model or DEFAULT_MODEL}, runtime {runtime}, one thread a worker; {videos} videos of "
        f"{width}x{height}, one target each."
    )
    yield ""
    yield "| workers | videos/s | frames/s | times | start s |"
    yield "|---:|---:|---:|---:|---:|"
    load = partial(load_tracker, model, "cpu", runtime=runtime, threads=1)  # type: ignore[arg-type]
    base = 0.0
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            recipe = Recipe(load, SiameseTracker.fork, update_many, out, save_videos=False)
            found = measure(recipe, copies(Path(folder), videos, end), count)
        rate = found.frames / found.seconds
        base = base or rate
        yield (f"| {count} | {videos / found.seconds:.2f} | {rate:.0f} | {rate / base:.2f} | {found.start_s:.1f} |")


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description="Measure batches of videos by the number of workers.")
    parser.add_argument("--model", help="name, weight file or folder of graphs (default: the default model)")
    parser.add_argument("--runtime", default="openvino", choices=["auto", "torch", "onnx", "openvino"])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of processes (default: 1 2)")
    parser.add_argument("--videos", type=int, default=12, help="copies of the clip (default: 12)")
    parser.add_argument("--frames", type=int, help="of each copy (default: all)")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    args = parser.parse_args(argv)
    if min(args.workers) < 1 or args.videos < 1:
        parser.error("--workers and --videos must be at least 1")
    return publish(report(args.model, args.runtime, args.workers, args.videos, args.frames), args.out)


if __name__ == "__main__":
    sys.exit(main())
