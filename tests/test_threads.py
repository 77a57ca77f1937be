import signal
import sys
from collections.abc import Iterator
from threading import Event, Thread

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tracker.threads import free_cores, free_threads, one_blas_thread, stop_signals_raise_once


@pytest.mark.parametrize(
    ("cores", "busy", "wanted"), [(2, 0.1, 2), (2, 1.9, 1), (2, 6.0, 1), (16, 0.0, 4), (8, 5.2, 3), (1, 0.0, 1)]
)
def test_threads_are_the_free_cores(monkeypatch: pytest.MonkeyPatch, cores: int, busy: float, wanted: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(cores), raising=False)
    monkeypatch.setattr("os.getloadavg", lambda: (busy, 0.0, 0.0), raising=False)
    assert free_threads() == wanted


def test_free_cores_are_as_many_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(16), raising=False)
    for busy, wanted in ((3.2, 13), (99.0, 1)):
        monkeypatch.setattr("os.getloadavg", lambda busy=busy: (busy, 0.0, 0.0), raising=False)
        assert free_cores() == wanted


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


@pytest.fixture
def two_threads() -> Iterator[int]:
    """Give BLAS two threads, however many the machine or its environment has; the number of libraries."""
    np.ones((4, 4)) @ np.ones((4, 4))
    with threadpool_limits(2, user_api="blas"):
        yield len(blas_threads())


def test_linear_algebra_has_one_thread_for_a_while(two_threads: int) -> None:
    assert two_threads
    for _ in range(2):
        assert blas_threads() == [2] * two_threads
        with one_blas_thread():
            assert blas_threads() == [1] * two_threads
    with pytest.raises(OSError), one_blas_thread():
        raise OSError
    assert blas_threads() == [2] * two_threads


def test_limit_lasts_until_the_last_one_leaves(two_threads: int) -> None:
    """The first to enter is another thread than the last to leave."""
    entered, left = Event(), Event()

    def other() -> None:
        with one_blas_thread():
            entered.set()
            left.wait(10)

    thread = Thread(target=other)
    with one_blas_thread():
        thread.start()
        assert entered.wait(10)
    assert blas_threads() == [1] * two_threads
    left.set()
    thread.join()
    assert blas_threads() == [2] * two_threads


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_the_first_signal_stops_and_more_of_them_do_not() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_signals_raise_once():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_signal_that_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stop_signals_raise_once():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
