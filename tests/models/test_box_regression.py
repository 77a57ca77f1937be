import math

import numpy as np
import pytest

from tests.tolerances import assert_close
from tracker.models.box_regression import (
    apply,
    blend,
    corrections,
    fit,
    moves,
    predict,
    sample_windows,
)


def test_moves_are_balanced_and_stay_in_range() -> None:
    by = moves(200, shift=0.1, growth=0.3, stretch=0.2, seed=0)
    assert np.array_equal(by[:100], -by[100:])
    largest = np.abs(by).max(0)
    assert (largest <= [0.1, 0.1, 0.3, 0.2]).all()
    assert (largest > [0.09, 0.09, 0.27, 0.18]).all()
    assert np.array_equal(by, moves(200, shift=0.1, growth=0.3, stretch=0.2, seed=0))


def test_growth_acts_on_both_sides_and_stretch_against_each_other() -> None:
    centre, size = apply(np.array([1.0, 2.0]), np.array([10.0, 20.0]), np.array([[0.1, -0.2, 0.3, 0.05]]))
    assert_close(centre[0], [2.0, -2.0], "float64")
    assert_close(size[0], [10 * math.exp(0.35), 20 * math.exp(0.25)], "float64")


def test_a_correction_takes_the_moved_window_back() -> None:
    centre, size = np.array([3.0, -2.0]), np.array([5.0, 9.0])
    by = moves(20, 0.2, 0.2, 0.1, seed=1).astype(np.float64)
    centres, sizes = apply(centre, size, by)
    for moved_centre, moved_size, correction in zip(centres, sizes, corrections(by), strict=True):
        back_centre, back_size = apply(moved_centre, moved_size, correction[np.newaxis])
        assert_close(back_centre[0], centre, "float64")
        assert_close(back_size[0], size, "float64")


def test_windows_sample_the_map_where_they_say() -> None:
    # A map whose value is its column: the sample at x cells from the middle must read (w - 1) / 2 + x.
    across = np.broadcast_to(np.arange(9.0), (1, 7, 9))
    samples = sample_windows(across, np.array([[0.5, 0.0]]), np.array([[4.0, 2.0]]), 4)
    wanted = np.tile(4.0 + 0.5 + 4.0 * np.array([-0.375, -0.125, 0.125, 0.375]), 4)
    assert_close(samples[0], wanted / np.linalg.norm(wanted), "float64")


def test_windows_beyond_the_map_see_its_border() -> None:
    features = np.random.default_rng(0).random((2, 5, 6))
    samples = sample_windows(features, np.array([[40.0, -40.0]]), np.array([[2.0, 2.0]]), 3)
    wanted = np.tile(features[:, 0, -1].reshape(1, 2, 1), (3, 1, 3))  # rows, channels, columns
    assert_close(samples[0], wanted.ravel() / np.linalg.norm(wanted), "float64")


def test_many_windows_are_those_of_each_alone() -> None:
    features = np.random.default_rng(0).random((3, 8, 8))
    centres, sizes = apply(np.array([0.4, -0.3]), np.array([3.0, 2.0]), moves(6, 0.3, 0.3, 0.1, seed=2))
    together = sample_windows(features, centres, sizes, 6)
    for i in range(5):
        assert_close(together[i], sample_windows(features, centres[i : i + 1], sizes[i : i + 1], 6)[0], "float64")


def test_fit_is_ridge_regression() -> None:
    rng = np.random.default_rng(0)
    samples, answers = rng.random((6, 20)), rng.random((6, 4))
    found = fit(samples, answers, ridge=0.2)
    centred = samples - samples.mean(0)
    damping = 0.2 * np.mean(np.sum(centred**2, axis=1)) + 1e-9
    wanted = np.linalg.solve(centred.T @ centred + damping * np.eye(20), centred.T @ (answers - answers.mean(0)))
    assert_close(found.weights, wanted, "float64")
    assert_close(predict(found, samples[2]), answers.mean(0) + centred[2] @ wanted, "float64")


def test_alike_samples_correct_nothing() -> None:
    by = moves(6, 0.1, 0.1, 0.1, seed=0)
    found = fit(np.ones((6, 12), np.float32), corrections(by), ridge=0.1)
    assert_close(predict(found, np.ones(12, np.float32)), corrections(by).mean(0), "float32")


@pytest.mark.parametrize(
    "move", [(0.1, 0.0, 0.0, 0.0), (0.0, -0.1, 0.0, 0.0), (0.05, 0.05, 0.08, -0.03), (0.0, 0.0, -0.1, 0.05)]
)
def test_it_finds_back_to_a_blob(move: tuple[float, ...]) -> None:
    at = np.arange(31.0) - 15
    blob = np.outer(np.exp(-((at / 4) ** 2)), np.exp(-((at / 3) ** 2)))
    features = np.stack([blob, np.sqrt(blob), np.ones_like(blob)])
    centre, size = np.zeros(2), np.array([6.0, 8.0])
    by = moves(128, 0.15, 0.15, 0.1, seed=0)
    learned = fit(sample_windows(features, *apply(centre, size, by), 8), corrections(by), ridge=0.01)
    moved_centre, moved_size = apply(centre, size, np.array([move]))
    sample = sample_windows(features, moved_centre, moved_size, 8)[0]
    back_centre, back_size = apply(moved_centre[0], moved_size[0], predict(learned, sample)[np.newaxis])
    assert np.abs(back_centre / size).max() < 0.02
    assert np.abs(np.log(back_size / size)).max() < 0.02


@pytest.mark.parametrize(("share", "wanted"), [(0.0, 1.0), (0.25, 1.5), (1.0, 3.0)])
def test_blend_mixes_all_parts(share: float, wanted: float) -> None:
    learned = fit(np.eye(4), np.eye(4), 0.1)
    one, three = (type(learned)(*(np.full_like(part, value) for part in learned)) for value in (1.0, 3.0))
    for part in blend(one, three, share):
        assert_close(part, np.full(part.shape, wanted), "float64")
