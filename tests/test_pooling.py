import numpy as np
import pytest

from tests.tolerances import assert_close
from tracker.pooling import POOLED_CELLS, pool_box

STRIDE = 16
GROWTH = 1.2
SAMPLES = 2


def slow_pool(maps: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Pool with plain loops: each cell the mean of its bilinear samples, the border going on."""
    channels, height, width = maps.shape
    u, v, w, h = box

    def at(channel: int, y: float, x: float) -> float:
        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
        y0, x0 = min(int(y), height - 2), min(int(x), width - 2)
        fy, fx = y - y0, x - x0
        rows = [
            (1 - fx) * float(maps[channel, row, x0]) + fx * float(maps[channel, row, x0 + 1]) for row in (y0, y0 + 1)
        ]
        return (1 - fy) * rows[0] + fy * rows[1]

    pooled = np.zeros((channels, POOLED_CELLS, POOLED_CELLS))
    count = POOLED_CELLS * SAMPLES
    for channel in range(channels):
        for i in range(count):
            for j in range(count):
                y = (height - 1) / 2 + (v + ((i + 0.5) / count - 0.5) * GROWTH * h) / STRIDE
                x = (width - 1) / 2 + (u + ((j + 0.5) / count - 0.5) * GROWTH * w) / STRIDE
                pooled[channel, i // SAMPLES, j // SAMPLES] += at(channel, y, x) / SAMPLES**2
    return pooled


@pytest.mark.parametrize(
    "box",
    [
        (0.0, 0.0, 64.0, 64.0),
        (10.0, -20.0, 100.0, 30.0),
        (0.0, 0.0, 2.0, 3.0),  # less than a cell
        (120.0, 110.0, 90.0, 60.0),  # over the rim
        (-900.0, 0.0, 50.0, 50.0),  # outside
        (3.0, 4.0, 900.0, 700.0),  # larger than the map
    ],
)
def test_boxes_are_pooled_as_plain_loops_do(box: tuple[float, float, float, float]) -> None:
    maps = np.random.default_rng(0).random((3, 17, 15), dtype=np.float32)
    assert_close(pool_box(maps, box, STRIDE), slow_pool(maps, box), "float32")


def test_a_ramp_is_read_at_the_places_of_the_cells() -> None:
    x = np.broadcast_to((np.arange(17, dtype=np.float32) - 8) * STRIDE, (17, 17))
    pooled = pool_box(np.stack([x, x.T]), (8.0, -6.0, 50.0, 40.0), STRIDE)
    offsets = (np.arange(POOLED_CELLS) - 2) / POOLED_CELLS * GROWTH
    assert pooled[0, 0] == pytest.approx(8 + 50 * offsets, abs=1e-3)
    assert pooled[1, :, 0] == pytest.approx(-6 + 40 * offsets, abs=1e-3)


def test_moving_map_and_box_together_changes_nothing() -> None:
    maps = np.zeros((2, 17, 17), np.float32)
    maps[:, 5:9, 4:9] = np.random.default_rng(1).random((2, 4, 5))
    moved = np.roll(maps, (2, 3), axis=(1, 2))
    here = pool_box(maps, (-24.0, -16.0, 60.0, 50.0), STRIDE)
    there = pool_box(moved, (-24.0 + 3 * STRIDE, -16.0 + 2 * STRIDE, 60.0, 50.0), STRIDE)
    assert_close(there, here, "float32")
