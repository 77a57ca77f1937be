"""Show that memory does not grow with the length of a video, nor with the number of frames learned from.

    python -m benchmarks.memory --frames 10000 --updates 100000 --out benchmarks/memory.md

First `siamtrack track` follows a long video, the clip that comes with the package played forth and back, and writes
boxes and a drawn video; its resident memory is read once a second from /proc (Linux). Then the online filter and the
box regression learn from one frame over and over, in this process.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.correlation import machine
from benchmarks.report import publish
from benchmarks.stages import clip
from tracker.builder import load_tracker
from tracker.crop import cut, mean_colour
from tracker.geometry import Box
from tracker.localisers import OnlineLocaliser
from tracker.threads import one_blas_thread
from tracker.video_writer import VideoWriter

SIZE_WH = (320, 240)
FPS = 25.0
SETTLED_FRAME = 200  # by then decoder and encoder have filled their queues
SETTLED_UPDATES = 1000


@dataclass(frozen=True)
class Sample:
    """Hold the memory of a process at one moment, in MiB, and how many frames it had written by then."""

    frames: int
    resident: float
    peak: float


def read_memory(pid: int | str, frames: int) -> Sample | None:
    """Return the memory of a process, or None once it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return None
    lines = dict(line.split(":", 1) for line in text.splitlines())
    if "VmRSS" not in lines:  # a process that has ended and was not waited for yet
        return None
    return Sample(frames, *(int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM")))


def write_video(path: Path, frames: int) -> Box:
    """Write the clip forth and back until there are enough frames; return the object's box in the first."""
    images, boxes = clip(SIZE_WH)
    there_and_back = cycle(chain(images, images[-2:0:-1]))
    with VideoWriter(path, FPS, (SIZE_WH[1], SIZE_WH[0])) as video:
        for index, image in enumerate(islice(there_and_back, frames)):
            video.write(image, index / FPS)
    return boxes[0]


def watch_command(folder: Path, frames: int, model: str) -> list[Sample]:
    """Run `siamtrack track` on a long video; return its memory, second by second. Raises ChildProcessError."""
    source, table = folder / "long.mp4", folder / "boxes.csv"
    box = write_video(source, frames)
    command = [sys.executable, "-m", "tracker", "track", str(source), "--quiet", "--model", model]
    command += ["--device", "cpu", "--threads", "1", "--init", ",".join(f"{value:.2f}" for value in box.to_xywh())]
    command += ["--boxes", str(table), "--save", str(folder / "drawn.mp4")]
    samples = []
    with (folder / "messages.txt").open("w+") as messages:
        with subprocess.Popen(command, stdout=messages, stderr=subprocess.STDOUT) as process:
            while process.poll() is None:
                sample = read_memory(process.pid, _rows(table))
                if sample:
                    samples.append(sample)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(1.0)
        messages.seek(0)
        if process.returncode or _rows(table) != frames:
            raise ChildProcessError(f"siamtrack track ended after {_rows(table)} frames: {messages.read().strip()}")
    return samples


def _rows(table: Path) -> int:
    return max(table.read_bytes().count(b"\n") - 1, 0) if table.exists() else 0


def command_report(samples: Sequence[Sample], frames: int, model: str) -> Iterator[str]:
    """Yield what became of the memory of the command. Raises ValueError if it ended too early to say."""
    settled = next((sample for sample in samples if sample.frames >= SETTLED_FRAME), None)
    if settled is None or settled is samples[-1]:
        raise ValueError(f"{frames} frames were over too soon to see memory grow; ask for more with --frames")
    size = f"{SIZE_WH[0]}x{SIZE_WH[1]}"
    yield f"## `siamtrack track`, {frames} frames of {size}, {model}, boxes and video written\n"
    yield "| when | frames written | resident MiB |"
    yield "|---|---:|---:|"
    for share in (0.0, 0.25, 0.5, 0.75):
        from_here = settled.frames + share * (frames - settled.frames)
        sample = next((sample for sample in samples if sample.frames >= from_here), samples[-1])
        yield f"| {f'{share:.0%} of the way' if share else 'settled'} | {sample.frames} | {sample.resident:.1f} |"
    yield f"| last sample | {samples[-1].frames} | {samples[-1].resident:.1f} |"
    yield f"| peak | | {max(sample.peak for sample in samples):.1f} |"
    yield ""


def learning_report(updates: int, model: str) -> Iterator[str]:
    """Learn from one frame over and over; yield what became of memory and of the answer to that frame."""
    localiser = load_tracker(model, "cpu", ["online.learn_every=1"]).localiser
    if not isinstance(localiser, OnlineLocaliser):
        raise ValueError(f"model {model} does not learn online; leave out --updates or choose another model")
    frames, boxes = clip((640, 480))
    box, fill = boxes[0], mean_colour(frames[0])
    with one_blas_thread():
        state = localiser.learn(frames[0], box, fill)
        (region,) = localiser.regions(box)
        seen = localiser.runtime.see([cut(frames[0], region, fill)], ())
        assert seen.fine is not None
        shown = Box(0.0, 0.0, box.w / region.frame_per_crop, box.h / region.frame_per_crop)
        projected, _ = localiser.place.answer(state.place, seen.filtered)
        maps, _ = localiser.box.correct(state.box, seen.fine, shown)
        place, regression = state.place, state.box
        yield f"## Learning {updates} times, {model}\n"
        yield "| times learned | resident MiB | the filter's answer | correction of the true box, pixels |"
        yield "|---:|---:|---:|---:|"
        for count in range(1, updates + 1):
            place = localiser.place.learn(place, projected, (0.0, 0.0))
            regression = localiser.box.learn(regression, maps, shown, 1)
            if count in (SETTLED_UPDATES, updates):
                memory = read_memory("self", 0)
                resident = memory.resident if memory else float("nan")
                answer = float(localiser.place.answer(place, seen.filtered)[1].max())
                corrected = localiser.box.correct(regression, seen.fine, shown)[1]
                moved = max(abs(a - b) for a, b in zip(corrected.to_xywh(), shown.to_xywh(), strict=True))
                yield f"| {count} | {resident:.1f} | {answer:.5f} | {moved:.4f} |"
    yield ""


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18_online", help="name or weight file (default: resnet18_online)")
    parser.add_argument("--frames", type=int, default=10_000, help="of the video; 0 leaves this part out")
    parser.add_argument("--updates", type=int, default=100_000, help="times to learn; 0 leaves this part out")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    return parser.parse_args(argv)


def report(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the report, part by part. Raises OSError where there is no /proc."""
    if not Path("/proc/self/status").exists():
        raise OSError("memory is read from /proc, which only Linux has")
    yield "# Memory\n"
    options = f"--frames {arguments.frames} --updates {arguments.updates} --model {arguments.model}"
    yield f"Written by `python -m benchmarks.memory {options}`, which says how to read it.\n"
    yield f"{machine()}\n"
    if arguments.frames:
        with TemporaryDirectory() as folder:
            samples = watch_command(Path(folder), arguments.frames, arguments.model)
        yield from command_report(samples, arguments.frames, arguments.model)
    if arguments.updates:
        yield from learning_report(arguments.updates, arguments.model)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report; write it too where asked. Return 2 after a one-line message for what went wrong."""
    arguments = _parse(argv)
    torch.set_num_threads(1)
    return publish(report(arguments), arguments.out)


if __name__ == "__main__":
    sys.exit(main())
