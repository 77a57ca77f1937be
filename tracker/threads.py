"""Keep the linear algebra of NumPy and OpenCV on one thread while tracking."""

from contextlib import AbstractContextManager
from functools import cache

from threadpoolctl import ThreadpoolController


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
