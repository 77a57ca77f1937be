"""How many threads to use, and how to keep the linear algebra of NumPy and OpenCV on one while tracking."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

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


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS, in every library that brings one, use one thread; what was set comes back when the last caller leaves.

    The filter's matrices are small: a second thread saves microseconds, and where the cores are busy with the network's
    own threads it makes some frames wait for a hundred milliseconds.
    """
    _ONE.enter()
    try:
        yield
    finally:
        _ONE.leave()


class _Limit:
    """Hold the limit while anybody, in any thread, is inside."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._limit: Any = None

    def enter(self) -> None:
        with self._lock:
            if not self._inside:
                self._limit = _controller().limit(limits=1, user_api="blas")
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._limit.restore_original_limits()


_ONE = _Limit()


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # looks at all loaded libraries, once
