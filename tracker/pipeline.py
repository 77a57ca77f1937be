"""Read and write in threads of their own, so that tracking waits for neither."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition, Thread

from tracker.frames import Frames
from tracker.video_reader import STALL_SECONDS, RgbImage

_AHEAD = 4  # frames of a file that are read before they are asked for
_BEHIND = 8  # jobs that may wait to be written


class ReadAhead:
    """Iterate over the frames that a thread reads from a source: a file's all in order, a live source's newest.

    A live source does not wait: frames that come while the last one is being tracked are dropped but for the newest,
    and counted in `dropped`. `index` and `time` are those of the frame given last, as in `Frames`. Iterating raises
    what reading raises. A context manager; the source itself stays the caller's, to be closed after it.
    """

    def __init__(self, frames: Frames) -> None:
        """Read on where `frames` is; the thread starts with the first frame that is asked for."""
        self.index = frames.index
        self.time = frames.time
        self.dropped = 0
        self._frames = frames
        self._room = 1 if frames.live else _AHEAD
        self._waiting: deque[tuple[RgbImage, int, float]] = deque()
        self._changed = Condition()
        self._ended = False  # no frame comes after those that wait
        self._failure: BaseException | None = None
        self._closed = False
        self._thread: Thread | None = None

    def __iter__(self) -> "ReadAhead":
        """Return the iterator itself: a source is read once."""
        return self

    def __next__(self) -> RgbImage:
        """Return the next frame, waiting for it where there is none, and set `index` and `time` to it."""
        if self._thread is None:
            self._thread = Thread(target=self._read, name="siamtrack-reader", daemon=True)
            self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            if not self._waiting:
                if self._failure is not None:
                    raise self._failure
                raise StopIteration
            image, self.index, self.time = self._waiting.popleft()
            self._changed.notify_all()
            return image

    def _read(self) -> None:
        try:
            for image in self._frames:
                if not self._offer((image, self._frames.index, self._frames.time)):
                    return
        except Exception as error:  # whatever it is, it belongs to the one who asks for the next frame
            self._failure = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _offer(self, item: tuple[RgbImage, int, float]) -> bool:
        """Let a frame wait for its turn; return whether more are wanted."""
        with self._changed:
            if self._frames.live and self._waiting:
                self._waiting.clear()
                self.dropped += 1
            self._changed.wait_for(lambda: len(self._waiting) < self._room or self._closed)
            self._waiting.append(item)
            self._changed.notify_all()
            return not self._closed

    def __enter__(self) -> "ReadAhead":
        """Return the frames."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop reading; waits for the frame that is being read, a stalled stream's no longer than its time limit."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(STALL_SECONDS + 1)


class WriteBehind:
    """Do jobs in order in a thread; who hands them in waits only where many are still to do. A context manager."""

    def __init__(self) -> None:
        """Start without jobs."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="siamtrack-writer")
        self._open: deque[Future[None]] = deque()

    def submit(self, job: Callable[[], None]) -> None:
        """Do a job after those before it. Raises what an earlier one raised; the jobs after that are not done."""
        while self._open and (self._open[0].done() or len(self._open) >= _BEHIND):
            self._open.popleft().result()
        self._open.append(self._pool.submit(job))

    def __enter__(self) -> "WriteBehind":
        """Return the jobs."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until all is done. Raises what a job raised."""
        try:
            while self._open:
                self._open.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)
