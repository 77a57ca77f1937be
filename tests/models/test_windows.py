import numpy as np

from tests.tolerances import assert_close
from tracker.models.windows import sample_windows


def test_rows_come_first_and_columns_last() -> None:
    across = np.stack([np.broadcast_to(np.arange(9.0), (7, 9)), np.broadcast_to(np.arange(7.0)[:, None], (7, 9))])
    found = sample_windows(across, np.array([[0.5, -1.0]]), np.array([[4.0, 2.0]]), 4)
    inner = np.array([-0.375, -0.125, 0.125, 0.375])
    assert found.shape == (1, 4, 2, 4)
    assert_close(found[0, :, 0], np.tile(4.5 + 4.0 * inner, (4, 1)), "float64")
    assert_close(found[0, :, 1], np.tile((2.0 + 2.0 * inner)[:, None], (1, 4)), "float64")


def test_beyond_the_map_its_border_goes_on() -> None:
    features = np.random.default_rng(0).random((2, 5, 6))
    found = sample_windows(features, np.array([[40.0, -40.0]]), np.array([[2.0, 2.0]]), 3)
    assert_close(found[0], np.broadcast_to(features[:, 0, -1].reshape(1, 2, 1), (3, 2, 3)), "float64")
