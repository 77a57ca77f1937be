"""A discriminative correlation filter in closed form, learned online on the features of a backbone.

A filter f of k x k cells over d channels answers each place with the inner product of f and the place's neighbourhood.
Places are all those whose neighbourhood reaches into the map: k // 2 more than its cells on each side, where it goes on
as zero. Written as rows, the neighbourhoods of one map are U (places, k k d); wanted answers are y (places,).
The filter minimises sum |U f - y|^2 + ridge |f|^2 over weighted samples: f = (G + ridge I)^-1 b with G = sum U'U and
b = sum U'y. Because all places count, an entry of G depends only on the shift between its two taps: G is the map's
autocorrelation, (2k - 1)^2 blocks of d x d, laid out k^2 x k^2 times. That is all that must be kept of any number of
samples, so memory and time are constant (recursive least squares). All functions are stateless and take NumPy arrays of
float32 or float64: the sums are small, and a loop on them needs no other library than those that read the frames.
"""

import math
from typing import Any

import cv2
import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


def norms(samples: Array) -> Array:
    """Return the norm (N,) of each of samples (N, d, h, w), a little above 0 for one without energy."""
    return np.array([norm(one) for one in samples], samples.dtype)


def norm(sample: Array) -> float:
    """Return the norm of one sample, a little above 0 for one without energy."""
    return max(math.sqrt(np.vdot(sample, sample)), 1e-12)


def principal_directions(features: Array, count: int) -> Array:
    """Return the projection (C, count) onto the directions that hold most of the energy of features (N, C, h, w).

    The mean is not taken off: it is the first direction of rectified features, and it tells object from ground too.
    A map without energy gets directions all the same, so a plain frame is no special case.
    """
    cells = features.swapaxes(0, 1).reshape(features.shape[1], -1)  # (C, N h w)
    directions: Array = np.linalg.eigh(cells @ cells.T)[1]  # eigenvalues ascend
    return np.ascontiguousarray(directions[:, : -count - 1 : -1])


def project(features: Array, projection: Array | None) -> Array:
    """Return features (N, C, h, w) in the directions of projection (C, d): (N, d, h, w); without one as they are."""
    if projection is None:
        return features
    n, channels, height, width = features.shape
    return (projection.T @ features.reshape(n, channels, -1)).reshape(n, -1, height, width)


def gaussian_labels(centres: Array, cells: int, sigma: Array) -> Array:
    """Return wanted answers (N, cells, cells): a Gaussian of height 1 around each centre.

    centres: (N, 2) as (column, row) in cells, 0 at the middle of the first cell. sigma: (N,) in cells.
    """
    at = np.arange(cells, dtype=centres.dtype)
    spread = 2 * np.square(sigma[:, np.newaxis])
    across = np.exp(-np.square(at - centres[:, :1]) / spread)
    down = np.exp(-np.square(at - centres[:, 1:]) / spread)
    labels: Array = down[:, :, np.newaxis] * across[:, np.newaxis]
    return labels


def normal_equations(features: Array, labels: Array, weights: Array, kernel: int) -> tuple[Array, Array]:
    """Return the autocorrelation (2k - 1, 2k - 1, d, d) and b (k k d,) of samples (N, d, h, w) with weights (N,).

    labels: (N, h + k - 1, w + k - 1), of all places. See `gram` for the order of the autocorrelation.
    """
    _, channels, height, width = features.shape
    reach = kernel - 1
    # With `reach` zeros after each row of the map, a shift by (dy, dx) is one offset in the flat map.
    row = width + reach
    length = height * row
    longer = np.zeros((reach + length + reach * row + reach, channels), features.dtype)
    inside = longer[reach : reach + length]
    step, item = longer.strides
    # [dy, dx + reach, x] is the cell at x + (dy, dx)
    shifted = as_strided(longer, (kernel, 2 * reach + 1, length, channels), (row * step, step, step, item))
    below = np.zeros((kernel, 2 * reach + 1, channels, channels), features.dtype)  # shifts down; up is their mirror
    moment = np.zeros((kernel * kernel, channels), features.dtype)  # taps reversed
    for sample, label, weight in zip(features, labels, weights, strict=True):
        cells = sample.transpose(1, 2, 0)
        inside.reshape(height, row, channels)[:, :width] = cells
        below += weight * np.matmul(inside.T, shifted)
        windows = sliding_window_view(label, (height, width)).reshape(kernel * kernel, -1)
        moment += weight * (windows @ cells.reshape(-1, channels))
    autocorrelation = np.concatenate([below[1:][::-1, ::-1].swapaxes(2, 3), below])
    return autocorrelation, moment[::-1].ravel()


def gram(autocorrelation: Array) -> Array:
    """Return G (k k d, k k d) from the autocorrelation (2k - 1, 2k - 1, d, d).

    Entry [dy + k - 1, dx + k - 1, c, e] of it sums, over the map, channel c times channel e (dy, dx) further on.
    """
    shifts, _, channels, _ = autocorrelation.shape
    kernel = (shifts + 1) // 2
    down, across, row, item = autocorrelation.strides
    # Tap by tap the shift between two falls with the first and grows with the second: a view, and one copy of rows.
    shape = (kernel, kernel, channels, kernel, kernel, channels)
    blocks = as_strided(autocorrelation[kernel - 1 :, kernel - 1 :], shape, (-down, -across, row, down, across, item))
    matrix: Array = blocks.reshape(kernel * kernel * channels, -1)
    return matrix


def solve(matrix: Array, moment: Array, ridge: float) -> Array:
    """Return f (m,) = (G + ridge I)^-1 b, by Cholesky. Raises LinAlgError where that is not positive definite."""
    damped = matrix.copy()
    damped.ravel()[:: len(damped) + 1] += ridge
    # OpenCV's solver takes a quarter of the time of NumPy's, which knows no symmetry (benchmarks/online_filter.md).
    able, solution = cv2.solve(damped, moment[:, np.newaxis], flags=cv2.DECOMP_CHOLESKY)
    if not able or not np.isfinite(solution).all():
        broken = not (np.isfinite(matrix).all() and np.isfinite(moment).all())
        reason = "weight file is broken, or the precision too low" if broken else "matrix is not positive definite"
        raise np.linalg.LinAlgError(f"the filter cannot be learned: the {reason}")
    return np.asarray(solution[:, 0], matrix.dtype)


def respond(features: Array, weights: Array, kernel: int) -> Array:
    """Return the answers (N, h, w) of the filter f (k k d,) to features (N, d, h, w)."""
    n, channels, height, width = features.shape
    reach = kernel // 2
    taps = weights.reshape(kernel * kernel, channels)
    answers = (taps @ features.reshape(n, channels, -1)).reshape(n, kernel, kernel, height, width)
    planes = np.zeros((n, kernel, kernel, height + 2 * reach, width + 2 * reach), features.dtype)
    planes[..., reach : reach + height, reach : reach + width] = answers
    one, down, across, row, item = planes.strides
    # Tap (p, q) of place (y, x) lies on cell (y + p - reach, x + q - reach): [:, p, q, y, x] is what it answers there.
    strides = one, down + row, across + item, row, item
    shifted = np.ndarray((n, kernel, kernel, height, width), planes.dtype, planes.data, strides=strides)
    found: Array = shifted.sum((1, 2))
    return found
