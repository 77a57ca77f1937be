import numpy as np
import pytest
import torch

from tests import reference
from tests.tolerances import assert_close
from tracker.models.online_filter import (
    gaussian_labels,
    gram,
    normal_equations,
    principal_directions,
    project,
    respond,
    solve,
)

DTYPES = [(torch.float64, "float64"), (torch.float32, "float32")]


def draw(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("dtype", "kind"), DTYPES)
@pytest.mark.parametrize(("kernel", "shape"), [(1, (6, 6)), (3, (6, 6)), (3, (4, 7)), (5, (6, 5))])
def test_normal_equations_are_those_of_the_stored_samples(
    dtype: torch.dtype, kind: str, kernel: int, shape: tuple[int, int]
) -> None:
    places = tuple(side + kernel - 1 for side in shape)
    features, labels, weights = draw(4, 3, *shape), draw(4, *places, seed=1), draw(4, seed=2)
    autocorrelation, moment = normal_equations(features.to(dtype), labels.to(dtype), weights.to(dtype), kernel)
    size = 3 * kernel**2
    wanted_gram, wanted_moment = np.zeros((size, size)), np.zeros(size)
    for sample, label, weight in zip(features.numpy(), labels.numpy(), weights.numpy(), strict=True):
        rows = reference.neighbourhoods(sample, kernel, ring=kernel // 2)
        wanted_gram += weight * rows.T @ rows
        wanted_moment += weight * rows.T @ label.reshape(-1)
    assert_close(gram(autocorrelation), wanted_gram, kind)
    assert_close(moment, wanted_moment, kind)


def test_the_solution_is_that_of_conjugate_gradient_on_the_samples() -> None:
    features, labels = draw(3, 4, 7, 7), draw(3, 9, 9, seed=1)
    autocorrelation, moment = normal_equations(features, labels, torch.ones(3, dtype=torch.float64), 3)
    before = gram(autocorrelation)
    solved = solve(before, moment, ridge=0.1)
    assert torch.equal(before, gram(autocorrelation))  # not damped in place
    rows = np.concatenate([reference.neighbourhoods(sample, 3, ring=1) for sample in features.numpy()])
    assert_close(solved, reference.conjugate_gradient(rows, labels.numpy().reshape(-1), 0.1), "float64")


@pytest.mark.parametrize(("dtype", "kind"), DTYPES)
def test_the_response_is_the_neighbourhoods_times_the_filter(dtype: torch.dtype, kind: str) -> None:
    features, weights = draw(2, 3, 6, 5), draw(27, seed=1)
    wanted = np.stack([reference.neighbourhoods(sample, 3) @ weights.numpy() for sample in features.numpy()])
    assert_close(respond(features.to(dtype), weights.to(dtype), 3).flatten(1), wanted, kind)


def test_labels_are_gaussians_around_their_centres() -> None:
    labels = gaussian_labels(torch.tensor([[2.0, 3.5]]), 8, torch.tensor([1.5]))
    wanted = [[np.exp(-((x - 2.0) ** 2 + (y - 3.5) ** 2) / (2 * 1.5**2)) for x in range(8)] for y in range(8)]
    assert_close(labels[0], wanted, "float32")


def test_directions_are_orthonormal_and_hold_most_energy() -> None:
    features = draw(3, 10, 5, 5) * torch.linspace(0.1, 3, 10, dtype=torch.float64).view(1, -1, 1, 1)
    found = principal_directions(features, 4)
    assert_close(found.T @ found, np.eye(4), "float64")
    cells = features.transpose(0, 1).flatten(1)
    other = torch.linalg.qr(draw(10, 4, seed=3))[0]
    assert (found.T @ cells).norm() > (other.T @ cells).norm()


def test_projected_samples_have_norm_one() -> None:
    projected = project(draw(3, 6, 4, 4), torch.eye(6, 2, dtype=torch.float64))
    assert projected.shape == (3, 2, 4, 4)
    assert_close(projected.flatten(1).norm(dim=1), np.ones(3), "float64")


def test_a_plain_map_gives_numbers() -> None:
    features = torch.zeros(1, 6, 4, 4)
    sample = project(features, principal_directions(features, 2))
    autocorrelation, moment = normal_equations(sample, torch.ones(1, 6, 6), torch.ones(1), 3)
    solved = solve(gram(autocorrelation), moment, ridge=0.01)
    assert torch.equal(respond(sample, solved, 3), torch.zeros(1, 4, 4))


def test_a_learned_filter_answers_where_the_pattern_is() -> None:
    features = 0.1 * draw(1, 8, 12, 12, dtype=torch.float32)
    pattern = draw(8, 3, 3, dtype=torch.float32, seed=5)
    features[0, :, 2:5, 7:10] += pattern
    sample = project(features, torch.eye(8))
    labels = gaussian_labels(torch.tensor([[9.0, 4.0]]), 14, torch.tensor([0.8]))  # a ring around the cells counts
    autocorrelation, moment = normal_equations(sample, labels, torch.ones(1), 3)
    solved = solve(gram(autocorrelation), moment, ridge=1e-3)
    moved = torch.roll(sample, (5, -4), dims=(2, 3))
    row, column = divmod(int(respond(moved, solved, 3).argmax()), 12)
    assert (column, row) == (8 - 4, 3 + 5)
