"""Sample the window over a box from a feature map, as the same grid of cells whatever its size: NumPy."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker.pooling import sample

Array = NDArray[np.floating[Any]]

REFINER_CELLS = 8  # of the windows that `models.refiner` compares, on each side
REFINER_CONTEXT = 1.5  # of their sides over the box's: its border against its ground is what shows it
_ACROSS = REFINER_CONTEXT * ((np.arange(REFINER_CELLS, dtype=np.float32) + 0.5) / REFINER_CELLS - 0.5).reshape(-1, 1)


def refiner_window(outline: Array, box_uvwh: tuple[float, float, float, float], stride: int) -> Array:
    """Return the window (c, n, n), n = `REFINER_CELLS`, around a box of a map (c, h, w) with that stride.

    box_uvwh: centre less the crop's middle, and size, crop pixels. Cells are bilinear samples; outside the map its
    border goes on. Source: He et al. 2017 (RoIAlign), section 3, with one sample a cell.
    """
    _, height, width = outline.shape
    u, v, w, h = (value / stride for value in box_uvwh)
    given = np.array(((height - 1, v, h), (width - 1, u, w)), np.float32).reshape(2, 3, 1, 1)
    last, centres, sides = given[:, 0], given[:, 1], given[:, 2]  # (2, 1, 1)
    at = np.minimum(np.maximum(last / 2 + centres + sides * _ACROSS, 0), last)  # (2, n, 1)
    rows, columns = np.maximum(1 - np.abs(at - _cells(max(height, width))), 0)
    return sample(outline, rows[:, :height], columns[:, :width])


@cache
def _cells(count: int) -> Array:
    cells = np.arange(count, dtype=np.float32)
    cells.flags.writeable = False
    return cells
