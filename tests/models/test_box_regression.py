import math

import numpy as np
import pytest
import torch

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


def test_moves_start_with_none_and_stay_in_range() -> None:
    by = moves(200, shift=0.1, growth=0.3, stretch=0.2, seed=0)
    assert torch.equal(by[0], torch.zeros(4))
    largest = by.abs().max(0).values
    assert (largest <= torch.tensor([0.1, 0.1, 0.3, 0.2])).all()
    assert (largest > torch.tensor([0.09, 0.09, 0.27, 0.18])).all()
    assert torch.equal(by, moves(200, shift=0.1, growth=0.3, stretch=0.2, seed=0))


def test_growth_acts_on_both_sides_and_stretch_against_each_other() -> None:
    centre, size = apply(torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0]), torch.tensor([[0.1, -0.2, 0.3, 0.05]]))
    assert_close(centre[0], [2.0, -2.0], "float32")
    assert_close(size[0], [10 * math.exp(0.35), 20 * math.exp(0.25)], "float32")


def test_a_correction_takes_the_moved_window_back() -> None:
    centre, size = torch.tensor([3.0, -2.0], dtype=torch.float64), torch.tensor([5.0, 9.0], dtype=torch.float64)
    by = moves(20, 0.2, 0.2, 0.1, seed=1).double()
    centres, sizes = apply(centre, size, by)
    for moved_centre, moved_size, correction in zip(centres, sizes, corrections(by), strict=True):
        back_centre, back_size = apply(moved_centre, moved_size, correction.unsqueeze(0))
        assert_close(back_centre[0], centre, "float64")
        assert_close(back_size[0], size, "float64")


def test_windows_sample_the_map_where_they_say() -> None:
    # A map whose value is its column: the sample at x cells from the middle must read (w - 1) / 2 + x.
    across = torch.arange(9.0).view(1, 1, 1, 9).expand(1, 1, 7, 9)
    samples = sample_windows(across, torch.tensor([[0.5, 0.0]]), torch.tensor([[4.0, 2.0]]), 4)
    wanted = np.tile(4.0 + 0.5 + 4.0 * np.array([-0.375, -0.125, 0.125, 0.375]), 4)
    assert_close(samples[0], wanted / np.linalg.norm(wanted), "float32")


def test_many_windows_are_those_of_each_alone() -> None:
    features = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    centres, sizes = apply(torch.tensor([0.4, -0.3]), torch.tensor([3.0, 2.0]), moves(5, 0.3, 0.3, 0.1, seed=2))
    together = sample_windows(features, centres, sizes, 6)
    for i in range(5):
        assert_close(together[i], sample_windows(features, centres[i : i + 1], sizes[i : i + 1], 6)[0], "float32")


def test_fit_is_ridge_regression() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.rand(6, 20, generator=generator, dtype=torch.float64)
    answers = torch.rand(6, 4, generator=generator, dtype=torch.float64)
    found = fit(samples, answers, ridge=0.2)
    centred = (samples - samples.mean(0)).numpy()
    damping = 0.2 * np.mean(np.sum(centred**2, axis=1)) + 1e-9
    target = (answers - answers.mean(0)).numpy()
    wanted = np.linalg.solve(centred.T @ centred + damping * np.eye(20), centred.T @ target)
    assert_close(found.weights, wanted, "float64")
    assert_close(predict(found, samples[2]), answers.mean(0).numpy() + centred[2] @ wanted, "float64")


def test_alike_samples_correct_nothing() -> None:
    by = moves(5, 0.1, 0.1, 0.1, seed=0)
    found = fit(torch.ones(5, 12), corrections(by), ridge=0.1)
    assert_close(predict(found, torch.ones(12)), corrections(by).mean(0), "float32")


@pytest.mark.parametrize(
    "move", [(0.1, 0.0, 0.0, 0.0), (0.0, -0.1, 0.0, 0.0), (0.05, 0.05, 0.08, -0.03), (0.0, 0.0, -0.1, 0.05)]
)
def test_it_finds_back_to_a_blob(move: tuple[float, ...]) -> None:
    at = torch.arange(31.0) - 15
    blob = torch.exp(-((at / 4) ** 2)).outer(torch.exp(-((at / 3) ** 2)))
    features = torch.stack([blob, blob.sqrt(), torch.ones_like(blob)]).unsqueeze(0)
    centre, size = torch.zeros(2), torch.tensor([6.0, 8.0])
    by = moves(128, 0.15, 0.15, 0.1, seed=0)
    learned = fit(sample_windows(features, *apply(centre, size, by), 8), corrections(by), ridge=0.01)
    moved_centre, moved_size = apply(centre, size, torch.tensor([move]))
    sample = sample_windows(features, moved_centre, moved_size, 8)[0]
    back_centre, back_size = apply(moved_centre[0], moved_size[0], predict(learned, sample).unsqueeze(0))
    assert (back_centre / size).abs().max() < 0.02
    assert (back_size / size).log().abs().max() < 0.02


@pytest.mark.parametrize(("share", "wanted"), [(0.0, 1.0), (0.25, 1.5), (1.0, 3.0)])
def test_blend_mixes_all_parts(share: float, wanted: float) -> None:
    learned = fit(torch.eye(4), torch.eye(4), 0.1)
    one, three = (type(learned)(*(torch.full_like(part, value) for part in learned)) for value in (1.0, 3.0))
    for part in blend(one, three, share):
        assert_close(part, np.full(part.shape, wanted), "float32")
