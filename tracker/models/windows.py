"""Sample the window over a box from a feature map, as the same grid of cells whatever its size: NumPy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker.pooling import sample

Array = NDArray[np.floating[Any]]

REFINER_CELLS = 8  # of the windows that `models.refiner` compares, on each side
REFINER_CONTEXT = 1.5  # of their sides over the box's: its border against its ground is what shows it
_ACROSS = ((np.arange(REFINER_CELLS, dtype=np.float32) + 0.5) / REFINER_CELLS - 0.5).reshape(-1, 1)  # one


def refiner_window(outline: Array, box_uvwh: tuple[float, float, float, float], stride: int) -> Array:
    """Return the window (c, n, n), n = `REFINER_CELLS`, around a box of a map (c, h, w) with that stride.

    box_uvwh: centre less the crop's middle, and size, crop pixels. Cells are bilinear samples; outside the map its
    border goes on. Source: He et al. 2017 (RoIAlign), section 3, with one sample a cell.
    """
    _, height, width = outline.shape
    u, v, w, h = (value / stride for value in box_uvwh)
    rows, columns = _weights(v, h * REFINER_CONTEXT, height), _weights(u, w * REFINER_CONTEXT, width)
    return sample(outline, rows, columns)


def _weights(centre: float, size: float, count: int) -> Array:
    """Return the weights (n, count) of a map's cells for a stretch of cells: centre from the middle, and size."""
    at = np.clip(np.float32((count - 1) / 2 + centre) + np.float32(size) * _ACROSS, 0, count - 1)
    weights: Array = np.maximum(1 - np.abs(at - np.arange(count, dtype=np.float32)), 0)
    return weights
