"""How many threads to use, how to keep the linear algebra of NumPy and OpenCV on one, and when a process ends."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from threading import Lock, Thread, current_thread, main_thread
from types import FrameType

from threadpoolctl import LibController, ThreadpoolController

_MOST = 4  # beyond, a network of this size gains little


def free_threads() -> int:
    """Return how many threads a network may use: one a free core, up to 4.

    Threads that wait for a core which another program holds make all of them wait: on a machine whose two cores were
    busy, two threads took five times as long as one.
    """
    return min(_MOST, free_cores())


def free_cores() -> int:
    """Return how many cores nobody uses, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # neither is on every system
    return max(1, round(cores - busy))


def end_with_parent() -> None:
    """Let this process end when its parent does, however that ends: nobody would take what it does, or give it more."""
    Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def one_blas_thread() -> AbstractContextManager[None]:
    """Let BLAS, in every library that brings one, use one thread; what was set comes back when the last caller leaves.

    The filter's matrices are small: a second thread saves microseconds, and where the cores are busy with the network's
    own threads it makes some frames wait for a hundred milliseconds.
    """
    return _ONE


class _Limit:
    """Hold the limit while anybody, in any thread, is inside."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._before: list[tuple[LibController, int]] = []

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = [(library, library.get_num_threads()) for library in _libraries()]
                for library, threads in self._before:
                    if threads != 1:
                        _set_threads(library, 1)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                for library, threads in self._before:
                    if threads != 1:
                        _set_threads(library, threads)


_ONE = _Limit()


def _set_threads(library: LibController, threads: int) -> None:
    """Set the threads of a library; called with the lock of `_Limit` held."""
    # threadpoolctl 3.8 lets none but the first thread that set OpenBLAS set it again; here the last one to leave does.
    # What that is guarded by is twice as quick, which matters in every update.
    getattr(library, "_real_set_num_threads", library.set_num_threads)(threads)


@cache
def _libraries() -> list[LibController]:
    """Return those with linear algebra; all that are loaded are looked at, once."""
    # Its own `limit` asks them for all that it knows of each, with every update: 40 us of it, where this takes 25.
    return ThreadpoolController().select(user_api="blas").lib_controllers  # type: ignore[no-any-return]


@contextmanager
def stop_signals_raise_once() -> Iterator[None]:
    """Let the first Ctrl-C, SIGTERM or SIGHUP raise KeyboardInterrupt and ignore more: they would cut off the files.

    For what is done in it and leaves files; where it ends, the signals mean what they meant before.
    """
    if current_thread() is not main_thread():
        yield  # Python handles signals in the main thread alone
        return
    names = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no terminal that hangs up
    there = [getattr(signal, name) for name in names if hasattr(signal, name)]
    signals = [each for each in there if signal.getsignal(each) != signal.SIG_IGN]  # as nohup has it

    def stop(number: int, frame: FrameType | None) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = [signal.signal(each, stop) for each in signals]
    try:
        yield
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)
