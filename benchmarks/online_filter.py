"""Time the online filter, operation by operation, in torch and in Numba, for several sizes of filter.

    python -m benchmarks.online_filter --out benchmarks/online_filter.md

One sample of 17x17 cells, float32, one thread. The two paths take turns, call by call, after a warm-up. "unfolded" is
what the normal equations cost where every neighbourhood is written out: the rival that the autocorrelation has to beat.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import unfold

from benchmarks.correlation import machine
from benchmarks.report import publish
from tracker.models import online_filter, online_filter_numba

CELLS = 17
SIZES = ((32, 3), (64, 3), (32, 5))  # channels, kernel
RIDGE = 0.01


def operations(channels: int, kernel: int) -> dict[str, dict[str, Callable[[], object]]]:
    """Return what to time: for each operation, its paths."""
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(1, channels, CELLS, CELLS, generator=generator)
    sample /= sample.norm()
    labels, weight = torch.rand(1, CELLS + kernel - 1, CELLS + kernel - 1, generator=generator), torch.ones(1)
    sums, moment = online_filter.normal_equations(sample, labels, weight, kernel)
    matrix = online_filter.gram(sums)
    found = online_filter.solve(matrix, moment, RIDGE)
    arrays = [part.numpy() for part in (sample, labels, weight, sums, matrix, moment, found)]
    n_sample, n_labels, n_weight, n_sums, n_matrix, n_moment, n_found = arrays
    numba = online_filter_numba

    def unfolded() -> object:
        rows = unfold(sample, kernel, padding=kernel - 1)[0]
        return rows @ rows.T, rows @ labels.flatten()

    return {
        "normal equations": {
            "unfolded, torch": unfolded,
            "torch": lambda: online_filter.normal_equations(sample, labels, weight, kernel),
            "numba": lambda: numba.normal_equations(n_sample, n_labels, n_weight, kernel),
        },
        "gram": {"torch": lambda: online_filter.gram(sums), "numba": lambda: numba.gram(n_sums)},
        "solve": {
            "torch": lambda: online_filter.solve(matrix, moment, RIDGE),
            "numba": lambda: numba.solve(n_matrix, n_moment, RIDGE),
        },
        "response": {
            "torch": lambda: online_filter.respond(sample, found, kernel),
            "numba": lambda: numba.respond(n_sample, n_found, kernel),
        },
    }


def time_paths(paths: dict[str, Callable[[], object]], budget_s: float) -> dict[str, list[float]]:
    """Return the seconds of each path's calls, which take turns."""
    times: dict[str, list[float]] = {name: [] for name in paths}
    for path in paths.values():
        path()  # compiles
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
    with torch.inference_mode():
        publish(report(arguments.seconds), arguments.out)


if __name__ == "__main__":
    main()
