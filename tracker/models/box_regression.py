"""Correct a box on the fine features it is seen by: linear regression learned on moved copies of a known box.

A window over the box is sampled from one feature map, and a linear map reads from it how far the object lies from the
window and how much larger it is. It is learned on the frame itself: the known box is moved and scaled at random, so
every sample's answer is known and nothing has to be trained beforehand. Learned linear predictors of motion are those
of Jurie and Dhome 2002; regressing the box from features is that of Girshick et al. 2014, appendix C. Here both are
solved in closed form in the space of the samples. All functions are stateless and take NumPy arrays.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


class BoxRegression(NamedTuple):
    """Read corrections (dx, dy, log growth, log stretch) from a sample s: offset + (s - mean) @ weights."""

    weights: Array  # (D, 4)
    mean: Array  # (D,)
    offset: Array  # (4,)


def moves(count: int, shift: float, growth: float, stretch: float, seed: int) -> Array:
    """Return moves (count, 4) of a window: (dx, dy) over its size, log growth, log stretch, each within +- its range.

    Growth acts on both sides; stretch makes the window wider and as much lower. They are drawn evenly, in pairs of
    opposite moves, so that the mean sample is that of no move. Raises ValueError for an odd count.
    """
    if count % 2:
        raise ValueError(f"the number of moves must be even, got {count}")
    drawn = np.random.default_rng(seed).uniform(-1, 1, (count // 2, 4)).astype(np.float32)
    return np.concatenate([drawn, -drawn]) * np.array([shift, shift, growth, stretch], np.float32)


def apply(centre: Array, size: Array, by: Array) -> tuple[Array, Array]:
    """Return centres (M, 2) and sizes (M, 2) of a window, centre (2,) and size (2,), after moves (M, 4)."""
    factors = np.exp(np.stack([by[:, 2] + by[:, 3], by[:, 2] - by[:, 3]], axis=1))
    return centre + by[:, :2] * size, size * factors


def corrections(by: Array) -> Array:
    """Return the moves (M, 4) that take windows moved by (M, 4) back: `apply` of one undoes the other."""
    _, factors = apply(np.zeros(2, by.dtype), np.ones(2, by.dtype), by)
    return np.concatenate([-by[:, :2] / factors, -by[:, 2:]], axis=1)


def sample_windows(features: Array, centres: Array, sizes: Array, cells: int) -> Array:
    """Sample windows from a map (d, h, w), bilinearly, each with norm 1: (M, cells * cells * d).

    centres, sizes: (M, 2) as (x, y) in cells of the map, the centre counted from its middle. Outside the map its
    border goes on.
    """
    _, height, width = features.shape
    across = ((np.arange(cells) + 0.5) / cells - 0.5).astype(features.dtype)
    x = np.clip((width - 1) / 2 + centres[:, :1] + sizes[:, :1] * across, 0, width - 1)  # (M, cells)
    y = np.clip((height - 1) / 2 + centres[:, 1:] + sizes[:, 1:] * across, 0, height - 1)
    # Bilinear sampling is separable: first the rows of every window, then their columns, each a sparse matrix product
    # that is short enough to be done in full.
    rows = np.tensordot(_hats(y, height), features, axes=(2, 1))  # (M, cells, d, w)
    samples = np.matmul(rows, _hats(x, width).swapaxes(1, 2)[:, np.newaxis])  # (M, cells, d, cells)
    flat = samples.reshape(len(centres), -1)
    norms = np.sqrt(np.einsum("md,md->m", flat, flat)).clip(min=1e-12)
    unit: Array = flat / norms[:, np.newaxis]
    return unit


def _hats(at: Array, count: int) -> Array:
    """Return the weights (M, cells, count) that linear interpolation at places (M, cells) gives each of `count`."""
    weights: Array = np.maximum(1 - np.abs(at[..., np.newaxis] - np.arange(count, dtype=at.dtype)), 0)
    return weights


def fit(samples: Array, answers: Array, ridge: float) -> BoxRegression:
    """Return the regression that reads answers (M, 4) from samples (M, D).

    ridge is relative to the mean energy of a sample around their mean. The weights are a sum of samples (there are far
    fewer of them than numbers in one), so the system that is solved is M x M.
    """
    mean, offset = samples.mean(0), answers.mean(0)
    centred = samples - mean
    kernel = centred @ centred.T
    # The floor keeps a plain window, all of whose samples are alike, solvable: it corrects nothing.
    kernel.ravel()[:: len(kernel) + 1] += ridge * np.trace(kernel) / len(kernel) + 1e-9
    return BoxRegression(centred.T @ np.linalg.solve(kernel, answers - offset), mean, offset)


def predict(regression: BoxRegression, sample: Array) -> Array:
    """Return the correction (4,) that a sample (D,) asks for."""
    return regression.offset + (sample - regression.mean) @ regression.weights


def blend(a: BoxRegression, b: BoxRegression, share: float) -> BoxRegression:
    """Return the regression that is `share` of b and the rest of a."""
    return BoxRegression(*(x + share * (y - x) for x, y in zip(a, b, strict=True)))
