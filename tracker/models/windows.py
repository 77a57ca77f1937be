"""Sample windows over boxes from a feature map, each as the same grid of cells whatever its size: NumPy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

REFINER_CELLS = 8  # of the windows that `models.refiner` compares, on each side
REFINER_CONTEXT = 1.5  # of their sides over the box's: its border against its ground is what shows it


def sample_windows(features: Array, centres: Array, sizes: Array, cells: int) -> Array:
    """Sample windows from a map (d, h, w), bilinearly: (M, cells, d, cells), rows first and columns last.

    centres, sizes: (M, 2) as (x, y) in cells of the map, the centre counted from its middle. Outside the map its
    border goes on. Source: He et al. 2017 (RoIAlign), section 3, with one sample a cell.
    """
    _, height, width = features.shape
    across = ((np.arange(cells) + 0.5) / cells - 0.5).astype(features.dtype)
    x = np.clip((width - 1) / 2 + centres[:, :1] + sizes[:, :1] * across, 0, width - 1)  # (M, cells)
    y = np.clip((height - 1) / 2 + centres[:, 1:] + sizes[:, 1:] * across, 0, height - 1)
    # Bilinear sampling is separable: first the rows of every window, then their columns, each a sparse matrix product
    # that is short enough to be done in full.
    rows = np.tensordot(_hats(y, height), features, axes=(2, 1))  # (M, cells, d, w)
    samples: Array = np.matmul(rows, _hats(x, width).swapaxes(1, 2)[:, np.newaxis])
    return samples


def _hats(at: Array, count: int) -> Array:
    """Return the weights (M, cells, count) that linear interpolation at places (M, cells) gives each of `count`."""
    weights: Array = np.maximum(1 - np.abs(at[..., np.newaxis] - np.arange(count, dtype=at.dtype)), 0)
    return weights
