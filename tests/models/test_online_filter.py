from typing import Protocol

import numpy as np
import pytest
import torch

from tests import reference
from tests.tolerances import assert_close
from tracker.models import online_filter_numba
from tracker.models.online_filter import (
    gaussian_labels,
    gram,
    join,
    normal_equations,
    principal_directions,
    project,
    respond,
    solve,
)

DTYPES = [(torch.float64, "float64"), (torch.float32, "float32")]


def draw(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


class FilterPath(Protocol):
    """What both paths offer, on NumPy arrays."""

    def normal_equations(
        self, features: np.ndarray, labels: np.ndarray, weights: np.ndarray, kernel: int
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def gram(self, autocorrelation: np.ndarray) -> np.ndarray: ...

    def solve(self, matrix: np.ndarray, moment: np.ndarray, ridge: float) -> np.ndarray: ...

    def respond(self, features: np.ndarray, weights: np.ndarray, kernel: int) -> np.ndarray: ...


class TorchPath:
    """The functions of `online_filter` on NumPy arrays."""

    @staticmethod
    def normal_equations(
        features: np.ndarray, labels: np.ndarray, weights: np.ndarray, kernel: int
    ) -> tuple[np.ndarray, np.ndarray]:
        sums = normal_equations(*(torch.from_numpy(part) for part in (features, labels, weights)), kernel)
        return sums[0].numpy(), sums[1].numpy()

    @staticmethod
    def gram(autocorrelation: np.ndarray) -> np.ndarray:
        return gram(torch.from_numpy(autocorrelation)).numpy()

    @staticmethod
    def solve(matrix: np.ndarray, moment: np.ndarray, ridge: float) -> np.ndarray:
        return solve(torch.from_numpy(matrix), torch.from_numpy(moment), ridge).numpy()

    @staticmethod
    def respond(features: np.ndarray, weights: np.ndarray, kernel: int) -> np.ndarray:
        return respond(torch.from_numpy(features), torch.from_numpy(weights), kernel).numpy()


PATHS = pytest.mark.parametrize("path", [TorchPath, online_filter_numba], ids=["torch", "numba"])


@PATHS
@pytest.mark.parametrize(("dtype", "kind"), DTYPES)
@pytest.mark.parametrize(("kernel", "shape"), [(1, (6, 6)), (3, (6, 6)), (3, (4, 7)), (5, (6, 5))])
def test_normal_equations_are_those_of_the_stored_samples(
    path: FilterPath, dtype: torch.dtype, kind: str, kernel: int, shape: tuple[int, int]
) -> None:
    places = tuple(side + kernel - 1 for side in shape)
    features, labels, weights = (
        part.to(dtype).numpy() for part in (draw(4, 3, *shape), draw(4, *places, seed=1), draw(4, seed=2))
    )
    autocorrelation, moment = path.normal_equations(features, labels, weights, kernel)
    size = 3 * kernel**2
    wanted_gram, wanted_moment = np.zeros((size, size)), np.zeros(size)
    for sample, label, weight in zip(features, labels, weights, strict=True):
        rows = reference.neighbourhoods(sample.astype(np.float64), kernel, ring=kernel // 2)
        wanted_gram += weight * rows.T @ rows
        wanted_moment += weight * rows.T @ label.reshape(-1)
    assert autocorrelation.dtype == moment.dtype == features.dtype
    assert_close(path.gram(autocorrelation), wanted_gram, kind)
    assert_close(moment, wanted_moment, kind)


@PATHS
def test_the_solution_is_that_of_conjugate_gradient_on_the_samples(path: FilterPath) -> None:
    features, labels = draw(3, 4, 7, 7).numpy(), draw(3, 9, 9, seed=1).numpy()
    autocorrelation, moment = path.normal_equations(features, labels, np.ones(3), 3)
    matrix = path.gram(autocorrelation)
    solved = path.solve(matrix, moment, 0.1)
    assert np.array_equal(matrix, path.gram(autocorrelation))  # not damped in place
    rows = np.concatenate([reference.neighbourhoods(sample, 3, ring=1) for sample in features])
    assert_close(solved, reference.conjugate_gradient(rows, labels.reshape(-1), 0.1), "float64")


@PATHS
@pytest.mark.parametrize(("dtype", "kind"), DTYPES)
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_response_is_the_neighbourhoods_times_the_filter(
    path: FilterPath, dtype: torch.dtype, kind: str, kernel: int
) -> None:
    features, weights = draw(2, 3, 6, 5).to(dtype).numpy(), draw(3 * kernel**2, seed=1).to(dtype).numpy()
    wanted = [reference.neighbourhoods(sample.astype(np.float64), kernel) @ weights for sample in features]
    assert_close(path.respond(features, weights, kernel).reshape(2, -1), np.stack(wanted), kind)


@PATHS
def test_matrix_that_is_not_positive_definite_is_an_error(path: FilterPath) -> None:
    with pytest.raises((np.linalg.LinAlgError, torch.linalg.LinAlgError)):
        path.solve(np.array([[1.0, 2.0], [2.0, 1.0]]), np.ones(2), 0.1)


def test_labels_are_gaussians_around_their_centres() -> None:
    labels = gaussian_labels(torch.tensor([[2.0, 3.5]]), 8, torch.tensor([1.5]))
    wanted = [[np.exp(-((x - 2.0) ** 2 + (y - 3.5) ** 2) / (2 * 1.5**2)) for x in range(8)] for y in range(8)]
    assert_close(labels[0], wanted, "float32")


def test_joined_maps_lie_over_each_other() -> None:
    deep, fine = torch.zeros(1, 2, 4, 5), torch.zeros(1, 3, 7, 9)
    deep[0, 1, 2, 3] = 5.0
    fine[0, 2, 3:6, 5:8] = 7.0  # all around fine cell (4, 6), where deep cell (2, 3) looks
    joined = join(deep, fine, 0.5)
    assert joined.shape == (1, 5, 4, 5)
    assert divmod(int(joined[0, 1].argmax()), 5) == divmod(int(joined[0, 4].argmax()), 5) == (2, 3)
    assert joined[0, 1, 2, 3] == pytest.approx(1.0)
    assert joined[:, 2:].norm() == pytest.approx(0.5)
    assert torch.equal(join(0 * deep, 0 * fine, 0.5), torch.zeros(1, 5, 4, 5))


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
