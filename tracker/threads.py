"""How many threads to use, and how to keep the linear algebra of NumPy and OpenCV on one while tracking."""

import os
from contextlib import AbstractContextManager
from functools import cache

from threadpoolctl import ThreadpoolController

_MOST = 4  # beyond, a network of this size gains little


def free_threads() -> int:
    """Return how many cores nobody uses, from 1 to 4.

    Threads that wait for a core which another program holds make all of them wait: on a machine whose two cores were
    busy, two threads took five times as long as one.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # neither is on every system
    return max(1, min(_MOST, round(cores - busy)))


def one_blas_thread() -> AbstractContextManager[object]:
    """Return a context in which BLAS, in every library that brings one, uses one thread; what was set comes back.

    The filter's matrices are small: a second thread saves microseconds, and where the cores are busy with the network's
    own threads it makes some frames wait for a hundred milliseconds.
    """
    limited: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limited


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # looks at all loaded libraries, once
