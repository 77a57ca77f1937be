"""The filter of `models.online_filter` on the CPU in NumPy arrays, compiled by Numba: for loops without torch.

It is about as fast as torch, which serves where it is there (benchmarks/online_filter.md).

All functions take and give float32 or float64 and mean what their namesakes there do. Maps are laid out as (h, w, d),
so that the innermost loops run over channels that lie side by side. The first call of each compiles it, see
`models.correlation_numba`.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])

# Sums may be reordered and fused, which SIMD needs; not-a-number and infinity keep their meaning.
_OPTIONS: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "nsz"},
    "error_model": "numpy",
    "nogil": True,
    "cache": True,
}
_compiled: Callable[[_Kernel], _Kernel] = numba.njit(**_OPTIONS)


def normal_equations(features: Array, labels: Array, weights: Array, kernel: int) -> tuple[Array, Array]:
    """Return the autocorrelation (2k - 1, 2k - 1, d, d) and b (d k k,) of samples (N, d, h, w) with weights (N,).

    labels: (N, h + k - 1, w + k - 1), of all places.
    """
    cells = np.ascontiguousarray(features.transpose(0, 2, 3, 1))
    channels = cells.shape[3]
    reach = kernel - 1
    below = np.zeros((kernel, 2 * reach + 1, channels, channels), cells.dtype)
    moment = np.zeros((kernel, kernel, channels), cells.dtype)
    _accumulate(cells, np.ascontiguousarray(labels), weights, below, moment)
    mirrored = below[1:][::-1, ::-1].transpose(0, 1, 3, 2)
    return np.concatenate([mirrored, below]), moment.transpose(2, 0, 1).ravel()


def gram(autocorrelation: Array) -> Array:
    """Return G (d k k, d k k) from the autocorrelation."""
    shifts, _, channels, _ = autocorrelation.shape
    kernel = (shifts + 1) // 2
    at = np.arange(kernel)
    between = at - at[:, np.newaxis] + kernel - 1
    taps = kernel * kernel
    blocks = autocorrelation[between[:, np.newaxis, :, np.newaxis], between[np.newaxis, :, np.newaxis, :]]
    blocks = blocks.reshape(taps, taps, channels, channels)
    return np.ascontiguousarray(blocks.transpose(2, 0, 3, 1)).reshape(channels * taps, channels * taps)


def solve(matrix: Array, moment: Array, ridge: float) -> Array:
    """Return f (m,) = (G + ridge I)^-1 b, by Cholesky. Raises LinAlgError where that is not positive definite."""
    lower = matrix.copy()
    lower.ravel()[:: len(lower) + 1] += ridge
    solution = moment.copy()
    _cholesky_solve(lower, solution)
    if not np.isfinite(solution).all():
        raise np.linalg.LinAlgError("the matrix is not positive definite")
    return solution


def respond(features: Array, weights: Array, kernel: int) -> Array:
    """Return the answers (N, h, w) of the filter f (d k k,) to features (N, d, h, w)."""
    n, channels, height, width = features.shape
    reach = kernel // 2
    cells = np.pad(features.transpose(0, 2, 3, 1), ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    taps = np.ascontiguousarray(weights.reshape(channels, kernel, kernel).transpose(1, 2, 0))
    answers = np.empty((n, height, width), cells.dtype)
    _answer(np.ascontiguousarray(cells), taps, answers)
    return answers


@_compiled
def _accumulate(cells: Array, labels: Array, weights: Array, below: Array, moment: Array) -> None:
    """Add each sample's products of cells that lie (dy, dx) apart, and of cells with the labels around them."""
    n, height, width, channels = cells.shape
    kernel = below.shape[0]
    reach = kernel - 1
    for sample in range(n):
        weight = weights[sample]
        for dy in range(kernel):
            for dx in range(-reach, reach + 1):
                block = below[dy, dx + reach]
                for i in range(height - dy):
                    for j in range(max(0, -dx), min(width, width - dx)):
                        here, there = cells[sample, i, j], cells[sample, i + dy, j + dx]
                        for c in range(channels):
                            factor = weight * here[c]
                            for e in range(channels):
                                block[c, e] += factor * there[e]
        for i in range(height):
            for j in range(width):
                for p in range(kernel):
                    for q in range(kernel):
                        # Place (y, x) sees cell (y + p - reach, x + q - reach) through tap (p, q).
                        label = weight * labels[sample, i + reach - p, j + reach - q]
                        for c in range(channels):
                            moment[p, q, c] += label * cells[sample, i, j, c]


@_compiled
def _cholesky_solve(lower: Array, solution: Array) -> None:
    """Overwrite the lower triangle of a positive definite matrix with its factor, and b with the solution."""
    size = len(lower)
    for i in range(size):
        row = lower[i]
        for j in range(i + 1):
            other = lower[j]
            total = row[j]
            for k in range(j):
                total -= row[k] * other[k]
            if i == j:
                row[j] = np.sqrt(total)
            else:
                row[j] = total / other[j]
    for i in range(size):
        row = lower[i]
        total = solution[i]
        for k in range(i):
            total -= row[k] * solution[k]
        solution[i] = total / row[i]
    for i in range(size - 1, -1, -1):
        solution[i] /= lower[i, i]
        value = solution[i]
        row = lower[i]
        for k in range(i):
            solution[k] -= value * row[k]


@_compiled
def _answer(cells: Array, taps: Array, answers: Array) -> None:
    """Take the inner product of the taps (k, k, d) with each neighbourhood of padded cells (N, h, w, d)."""
    n, height, width = answers.shape
    kernel, channels = taps.shape[0], taps.shape[2]
    for sample in range(n):
        for i in range(height):
            for j in range(width):
                total = answers.dtype.type(0)
                for p in range(kernel):
                    for q in range(kernel):
                        tap, cell = taps[p, q], cells[sample, i + p, j + q]
                        for c in range(channels):
                            total += tap[c] * cell[c]
                answers[sample, i, j] = total
