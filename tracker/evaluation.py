"""Run a tracker over sequences with ground truth: one tracking loop, timed honestly, in one process or several."""

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.data.sequence import Sequence
from tracker.geometry import Box
from tracker.interface import Frame, Tracker
from tracker.threads import end_with_parent

Result = TypeVar("Result")
TrackerFactory = Callable[[], Tracker]
Job = Callable[[Tracker, Sequence], Result]


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """Hold what a tracker said in each frame of a sequence."""

    boxes_xywh: NDArray[np.float64]  # (n, 4), 0-based frame pixels; row 0 is the box that was given
    scores: NDArray[np.float64]  # (n,) in [0, 1]; NaN in frame 0, where nothing was predicted
    times_s: NDArray[np.float64]  # (n,) seconds in `init` (frame 0) or `update`; reading the image is not counted


def follow(tracker: Tracker, image_paths: Items[Path], box: Box) -> Track:
    """Start a tracker on the first image and follow the object through the others, each decoded once."""
    n = len(image_paths)
    boxes, scores, times = np.empty((n, 4)), np.full(n, np.nan), np.empty(n)
    for i, path in enumerate(image_paths):
        frame = read_frame(path)
        start = time.perf_counter()
        if i == 0:
            tracker.init(frame, box)
            times[i] = time.perf_counter() - start
            boxes[i] = box.to_xywh()
        else:
            prediction = tracker.update(frame)
            times[i] = time.perf_counter() - start
            boxes[i], scores[i] = prediction.box.to_xywh(), prediction.score
    return Track(boxes, scores, times)


def follow_sequence(tracker: Tracker, sequence: Sequence) -> Track:
    """Follow the object of a sequence from its first box."""
    return follow(tracker, sequence.image_paths, sequence.first_box())


def read_frame(path: Path) -> Frame:
    """Read an image as RGB, as its pixels are stored. Raises ValueError naming the file if it cannot be read."""
    try:
        data = np.fromfile(path, dtype=np.uint8)  # cv2.imread cannot open every file name on Windows
    except OSError as error:
        raise ValueError(f"cannot read image {path} ({error.strerror})") from error
    # boxes are drawn on the stored pixels, so an orientation tag is not obeyed
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(data, flags) if len(data) else None
    if image is None:
        raise ValueError(f"cannot read image {path}: not a JPEG or PNG, or damaged; unpack it again")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def map_sequences(
    factory: TrackerFactory, job: Job[Result], sequences: Items[Sequence], workers: int
) -> Iterator[tuple[Sequence, Result]]:
    """Yield each sequence with `job(tracker, sequence)` as it gets done, in no particular order.

    Every process loads one tracker and uses one torch and one OpenCV thread, so that results do not depend on how many
    there are. With several workers `factory`, `job` and its results must be picklable. A ValueError of `job` is raised
    again with the name of the sequence, the others once those under way are done; ChildProcessError if a process dies.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    workers = min(workers, len(sequences))
    # the longest first, so that no process starts a long one when the others are done
    ordered = sorted(sequences, key=lambda sequence: -len(sequence.image_paths))
    if workers <= 1:
        with _one_thread():
            worker = _Worker(factory, job)
            for sequence in ordered:
                yield sequence, worker.run(sequence)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_process, initargs=(factory, job))
    try:
        futures = {pool.submit(_run_in_process, sequence): sequence for sequence in ordered}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise ChildProcessError("a worker process died, perhaps for want of memory; use fewer workers") from error
    finally:
        pool.shutdown(cancel_futures=True)


class _Worker(Generic[Result]):
    """Load a tracker when the first sequence comes, warm it up once, and run jobs with it."""

    def __init__(self, factory: TrackerFactory, job: Job[Result]) -> None:
        self._factory = factory
        self._job = job
        self._tracker: Tracker | None = None

    def run(self, sequence: Sequence) -> Result:
        fresh = self._tracker is None
        tracker = self._tracker = self._tracker or self._factory()
        if fresh:
            _limit_torch()  # it may have been imported just now
        try:
            if fresh:
                _warm_up(tracker, sequence)
            return self._job(tracker, sequence)
        except ValueError as error:
            raise ValueError(f"sequence {sequence.name}: {error}") from error


def _warm_up(tracker: Tracker, sequence: Sequence) -> None:
    # the first calls compile, allocate and fill caches; `init` starts afresh, so nothing of this stays
    frame = read_frame(sequence.image_paths[0])
    tracker.init(frame, sequence.first_box())
    tracker.update(frame)


_worker: "_Worker[Any] | None" = None  # of a spawned process: set once, when it starts


def _start_process(factory: TrackerFactory, job: Job[Any]) -> None:
    global _worker
    # Ctrl-C ends a worker at once and without a traceback; the parent reports it
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()
    cv2.setNumThreads(1)
    _worker = _Worker(factory, job)


def _run_in_process(sequence: Sequence) -> Any:  # noqa: ANN401 - the job's result, typed by `map_sequences`
    if _worker is None:
        raise RuntimeError("the process was not set up by _start_process")
    return _worker.run(sequence)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = _limit_torch()
    cv2_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        if before is not None:
            sys.modules["torch"].set_num_threads(before)
        cv2.setNumThreads(cv2_threads)


def _limit_torch() -> int | None:
    """Let torch, where it is loaded, use one thread; return how many there were."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    threads: int = torch.get_num_threads()
    torch.set_num_threads(1)
    return threads
