import numpy as np
import pytest
from threadpoolctl import threadpool_info

from tracker.threads import free_cores, free_threads, one_blas_thread


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


def test_linear_algebra_has_one_thread_for_a_while() -> None:
    np.ones((4, 4)) @ np.ones((4, 4))
    before = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    with one_blas_thread():
        within = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    after = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    assert before == after and within == [1] * len(before) and before


def test_limit_lasts_until_the_last_one_leaves() -> None:
    first, second = one_blas_thread(), one_blas_thread()
    before = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    within = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    second.__exit__(None, None, None)
    assert within == [1] * len(before)
    assert before == [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
