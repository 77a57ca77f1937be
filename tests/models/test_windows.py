import numpy as np
import pytest

from tests.tolerances import assert_close
from tracker.models.windows import REFINER_CELLS, REFINER_CONTEXT, refiner_window

INNER = (np.arange(REFINER_CELLS) + 0.5) / REFINER_CELLS - 0.5


@pytest.mark.parametrize(("height", "width"), [(21, 25), (25, 21)])
def test_window_reaches_over_the_box_by_its_context(height: int, width: int) -> None:
    # A map of each cell's place, pixels from the middle.
    x, y = ((np.arange(count) - (count - 1) / 2) * 8 for count in (width, height))
    across = np.stack([np.tile(x, (height, 1)), np.tile(y[:, None], width)])
    found = refiner_window(across.astype(np.float32), (5.0, -3.0, 60.0, 40.0), 8)
    assert found.shape == (2, REFINER_CELLS, REFINER_CELLS) and found.dtype == np.float32
    columns, rows = 5.0 + 60.0 * REFINER_CONTEXT * INNER, -3.0 + 40.0 * REFINER_CONTEXT * INNER
    assert_close(found[0], np.tile(columns, (REFINER_CELLS, 1)), "float32")
    assert_close(found[1], np.tile(rows[:, None], (1, REFINER_CELLS)), "float32")


def test_beyond_the_map_its_border_goes_on() -> None:
    outline = np.random.default_rng(0).random((2, 5, 6), np.float32)
    found = refiner_window(outline, (400.0, -400.0, 20.0, 20.0), 8)
    assert_close(found, np.broadcast_to(outline[:, :1, -1:], found.shape), "float32")
