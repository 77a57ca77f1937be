"""Time the online filter, operation by operation, for several sizes of filter, beside other ways to the same numbers.

    python -m benchmarks.online_filter --out benchmarks/online_filter.md

One sample of 17x17 cells, float32, one thread. The paths take turns, call by call, after a warm-up. "ours" is what
tracking uses; "unfolded" is what the normal equations cost where every neighbourhood is written out.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch.nn.functional import conv2d

from benchmarks.correlation import machine
from benchmarks.report import publish
from tracker.models import online_filter
from tracker.threads import one_blas_thread

CELLS = 17
MAPS = 384  # channels of the maps that are projected
SIZES = ((32, 3), (64, 3), (32, 5))  # channels, kernel
RIDGE = 0.01


def operations(channels: int, kernel: int) -> dict[str, dict[str, Callable[[], object]]]:
    """Return what to time: for each operation, its paths."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    maps, projection = draw(1, MAPS, CELLS, CELLS), draw(MAPS, channels)
    sample = online_filter.project(maps, projection)
    sample = sample / online_filter.norms(sample)[0]
    labels, weight = draw(1, CELLS + kernel - 1, CELLS + kernel - 1), np.ones(1, np.float32)
    sums, moment = online_filter.normal_equations(sample, labels, weight, kernel)
    matrix = online_filter.gram(sums)
    found = online_filter.solve(matrix, moment, RIDGE)
    ridge = np.float32(RIDGE) * np.eye(len(matrix), dtype=np.float32)
    t_maps, t_projection, t_sample = (torch.from_numpy(part) for part in (maps, projection, sample))
    t_matrix, t_moment = torch.from_numpy(matrix + ridge), torch.from_numpy(moment).unsqueeze(1)
    taps = torch.from_numpy(found).view(1, kernel, kernel, channels).permute(0, 3, 1, 2).contiguous()

    def unfolded() -> object:
        reach = kernel - 1
        padded = np.pad(sample[0], ((0, 0), (reach, reach), (reach, reach)))
        rows = sliding_window_view(padded, (kernel, kernel), axis=(1, 2)).transpose(1, 2, 0, 3, 4)
        rows = rows.reshape(-1, channels * kernel**2)
        return rows.T @ rows, rows.T @ labels.ravel()

    return {
        "projection": {
            "ours": lambda: online_filter.project(maps, projection),
            "torch": lambda: torch.einsum("nchw,cd->ndhw", t_maps, t_projection),
        },
        "normal equations": {
            "ours": lambda: online_filter.normal_equations(sample, labels, weight, kernel),
            "unfolded": unfolded,
        },
        "gram": {"ours": lambda: online_filter.gram(sums)},
        "solve": {
            "ours": lambda: online_filter.solve(matrix, moment, RIDGE),
            "numpy": lambda: np.linalg.solve(matrix + ridge, moment),
            "torch": lambda: torch.cholesky_solve(t_moment, torch.linalg.cholesky(t_matrix)),
        },
        "response": {
            "ours": lambda: online_filter.respond(sample, found, kernel),
            "torch": lambda: conv2d(t_sample, taps, padding=kernel // 2),
        },
    }


def time_paths(paths: dict[str, Callable[[], object]], budget_s: float) -> dict[str, list[float]]:
    """Return the seconds of each path's calls, which take turns."""
    times: dict[str, list[float]] = {name: [] for name in paths}
    for path in paths.values():
        path()
    deadline = time.perf_counter() + budget_s
    while time.perf_counter() < deadline:
        for name, path in paths.items():
            path()  # unmeasured: fills the caches
            start = time.perf_counter()
            path()
            times[name].append(time.perf_counter() - start)
    return times


def report(budget_s: float) -> Iterator[str]:
    """Yield the lines of the report."""
    yield "# The online filter\n"
    command = "python -m benchmarks.online_filter --out benchmarks/online_filter.md"
    yield f"Written by `{command}`, which says how to read it.\n"
    yield f"{machine()} One thread.\n"
    yield "| channels | kernel | unknowns | operation | path | best us | median us | p95 us |"
    yield "|---:|---:|---:|---|---|---:|---:|---:|"
    for channels, kernel in SIZES:
        for operation, paths in operations(channels, kernel).items():
            for name, times in time_paths(paths, budget_s).items():
                best, median, p95 = np.percentile(times, (0, 50, 95)) * 1e6
                size = f"{channels} | {kernel} | {channels * kernel**2}"
                yield f"| {size} | {operation} | {name} | {best:.0f} | {median:.0f} | {p95:.0f} |"


def main() -> None:
    """Print the table; write it too where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each operation (default: 1)")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode(), one_blas_thread():
        publish(report(arguments.seconds), arguments.out)


if __name__ == "__main__":
    main()
