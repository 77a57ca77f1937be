"""Track one video of a batch after another, and leave a table of boxes for each that is whole, or none."""

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue
from typing import Generic

import cv2

from tracker.box_files import BoxWriter
from tracker.draw import draw_predictions
from tracker.frames import open_frames
from tracker.interface import Frame, Prediction
from tracker.loop import AnyTracker, track_many
from tracker.manifest import VideoJob
from tracker.tally import Tally
from tracker.video_reader import DEFAULT_FPS
from tracker.video_writer import FILE_GAP_S, VideoWriter

PART = ".part-"  # begins the names of folders with what is not whole yet


@dataclass(frozen=True, slots=True)
class Recipe(Generic[AnyTracker]):
    """Say how videos are tracked and where the results go. It travels to other processes: its functions must pickle."""

    load: Callable[[], AnyTracker]
    fork: Callable[[AnyTracker], AnyTracker]
    update_many: Callable[[Sequence[AnyTracker], Frame], list[Prediction]]
    out: Path  # folder that is there; all processes must see it
    save_videos: bool

    def outputs(self, name: str) -> list[Path]:
        """Return the files that hold the results of a job, the table of boxes last."""
        video = [self.out / f"{name}.mp4"] if self.save_videos else []
        return [*video, self.out / f"{name}.csv"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Say what became of a job."""

    name: str
    done: bool
    frames: int
    lost_frames: int  # of all targets together
    seconds: float  # of reading, tracking and writing
    error: str  # why it failed; of one that is done, what reading warned of


class VideoWorker(Generic[AnyTracker]):
    """Track videos with one tracker, which is loaded when the first one comes, in one thread of torch and OpenCV."""

    def __init__(self, recipe: Recipe[AnyTracker]) -> None:
        """Load nothing yet."""
        self._recipe = recipe
        self._tracker: AnyTracker | None = None

    def run(self, job: VideoJob) -> Outcome:
        """Track a video and move its files to their places; a failure of whatever kind is told, not raised."""
        tally = Tally(len(job.boxes))
        began = time.perf_counter()
        error = ""
        with _warnings() as told:
            try:
                with tempfile.TemporaryDirectory(prefix=PART, dir=self._recipe.out) as folder:
                    self._track(job, Path(folder), tally)
                    for path in self._recipe.outputs(job.name):
                        (Path(folder) / path.name).replace(path)
            except (ValueError, OSError) as failure:
                error = str(failure) or type(failure).__name__
            except Exception as failure:  # such as a runtime's own; what it left of the tracker is not to be trusted
                error = f"{type(failure).__name__}: {failure}"
                self._tracker = None
        seconds = time.perf_counter() - began
        return Outcome(
            job.name, not error, tally.frames, sum(tally.lost), seconds, _one_line([error or "; ".join(told)])
        )

    def _track(self, job: VideoJob, folder: Path, tally: Tally) -> None:
        recipe = self._recipe
        with ExitStack() as files:
            frames = files.enter_context(open_frames(job.video, job.start, job.end))
            if self._tracker is None:
                cv2.setNumThreads(1)
                self._tracker = recipe.load()
            trackers = [self._tracker, *(recipe.fork(self._tracker) for _ in job.boxes[1:])]
            table = files.enter_context(BoxWriter(folder / f"{job.name}.csv"))
            video: VideoWriter | None = None
            for frame, predictions in track_many(trackers, frames, job.boxes, recipe.update_many):
                tally.add(frames.index, predictions)
                table.write(frames.index, frames.time, predictions)
                if not recipe.save_videos:
                    continue
                if video is None:
                    path, size_hw = folder / f"{job.name}.mp4", (frame.shape[0], frame.shape[1])
                    fps, aspect = frames.fps or DEFAULT_FPS, frames.pixel_aspect
                    video = files.enter_context(VideoWriter(path, fps, size_hw, FILE_GAP_S, aspect))
                video.write(draw_predictions(frame, predictions, frames.index), frames.time)


def _one_line(texts: Sequence[str]) -> str:
    return " ".join(" ".join(texts).split())


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what the package warns of into a list that is filled at the end, instead of letting it be printed."""
    records: SimpleQueue[logging.LogRecord] = SimpleQueue()
    handler = QueueHandler(records)
    handler.setLevel(logging.WARNING)
    logger = logging.getLogger("tracker")
    logger.addHandler(handler)
    told: list[str] = []
    try:
        yield told
    finally:
        logger.removeHandler(handler)
        while not records.empty():
            told.append(records.get().getMessage())
