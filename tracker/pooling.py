"""Pool the features under a box into a small grid, whatever the box's size: NumPy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

POOLED_CELLS = 5  # on each side
_GROWTH = 1.2  # of the box: its rim tells where the object ends
_SAMPLES = 2  # in a cell, on each axis


def pool_box(maps: Array, box_uvwh: tuple[float, float, float, float], stride: int) -> Array:
    """Return the features (C, n, n) under a box, n = POOLED_CELLS, of maps (C, h, w) with that stride.

    box_uvwh: centre less the crop's middle, and size, crop pixels. Each cell is the mean of bilinear samples (He et al.
    2017, RoIAlign); what lies outside the map is its border.
    """
    u, v, w, h = box_uvwh
    rows = _weights(v / stride, h / stride, maps.shape[1])
    columns = _weights(u / stride, w / stride, maps.shape[2])
    return sample(maps, rows, columns)


def sample(maps: Array, rows: Array, columns: Array) -> Array:
    """Return maps (C, h, w) as (C, n, m): each row, (n, h), and each column, (m, w), is weighed out of theirs."""
    # Rows first, a small product a channel: what is left, (C * n, w) x (w, m), is one product, and a short one.
    fewer = np.matmul(rows, maps)
    sampled: Array = (fewer.reshape(-1, maps.shape[2]) @ columns.T).reshape(*fewer.shape[:2], -1)
    return sampled


def _weights(centre: float, size: float, cells: int) -> Array:
    """Return the weights (n, cells) of a map's cells for a stretch of cells: centre from the middle, and size."""
    places = (np.arange(POOLED_CELLS * _SAMPLES) + 0.5) / (POOLED_CELLS * _SAMPLES) - 0.5
    at = np.clip((cells - 1) / 2 + centre + places * (_GROWTH * size), 0, cells - 1)
    low = np.minimum(at.astype(int), cells - 2)
    part = (at - low).astype(np.float32)
    weights = np.zeros((len(at), cells), np.float32)
    rows = np.arange(len(at))
    weights[rows, low] = 1 - part
    weights[rows, low + 1] = part
    mean: Array = weights.reshape(POOLED_CELLS, _SAMPLES, cells).mean(1)
    return mean
