import numpy as np
import pytest
import torch

from benchmarks.online_filter import SIZES, operations, time_paths
from tests.tolerances import assert_close


@pytest.mark.parametrize(("channels", "kernel"), SIZES)
def test_all_paths_of_an_operation_come_to_the_same(channels: int, kernel: int) -> None:
    with torch.inference_mode():
        found = {
            name: {path: run() for path, run in paths.items()} for name, paths in operations(channels, kernel).items()
        }
    assert set(found) == {"projection", "normal equations", "gram", "solve", "response"}
    for name in ("projection", "response"):
        assert_close(np.ravel(found[name]["torch"]), np.ravel(found[name]["ours"]), "float32")
    for path in ("numpy", "torch"):
        solved = np.ravel(found["solve"][path])
        assert np.abs(solved - found["solve"]["ours"]).max() < 1e-3 * np.abs(solved).max()


def test_each_path_is_timed_within_the_budget() -> None:
    calls = {"ours": 0, "other": 0}

    def count(name: str) -> object:
        calls[name] += 1
        return None

    times = time_paths({name: lambda name=name: count(name) for name in calls}, 0.01)
    assert set(times) == set(calls)
    assert all(calls[name] == 2 * len(times[name]) + 1 and len(times[name]) for name in calls)
