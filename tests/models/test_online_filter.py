import numpy as np
import pytest
import torch

from tests import reference
from tests.tolerances import Kind, assert_close
from tracker.models.graphs import join
from tracker.models.online_filter import (
    gaussian_labels,
    gram,
    normal_equations,
    norms,
    principal_directions,
    project,
    respond,
    solve,
)

DTYPES = [(np.float64, "float64"), (np.float32, "float32")]


def draw(*shape: int, dtype: type = np.float64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(dtype)


@pytest.mark.parametrize(("dtype", "kind"), DTYPES)
@pytest.mark.parametrize(("kernel", "shape"), [(1, (6, 6)), (3, (6, 6)), (3, (4, 7)), (5, (6, 5))])
def test_normal_equations_are_those_of_the_stored_samples(
    dtype: type, kind: Kind, kernel: int, shape: tuple[int, int]
) -> None:
    places = tuple(side + kernel - 1 for side in shape)
    features, labels, weights = (
        draw(*size, dtype=dtype, seed=seed) for seed, size in enumerate([(4, 3, *shape), (4, *places), (4,)])
    )
    autocorrelation, moment = normal_equations(features, labels, weights, kernel)
    size = 3 * kernel**2
    wanted_gram, wanted_moment = np.zeros((size, size)), np.zeros(size)
    for sample, label, weight in zip(features, labels, weights, strict=True):
        rows = reference.neighbourhoods(sample.astype(np.float64), kernel, ring=kernel // 2)
        wanted_gram += weight * rows.T @ rows
        wanted_moment += weight * rows.T @ label.reshape(-1)
    assert autocorrelation.dtype == moment.dtype == features.dtype
    assert_close(gram(autocorrelation), wanted_gram, kind)
    assert_close(moment, wanted_moment, kind)


def test_the_solution_is_that_of_conjugate_gradient_on_the_samples() -> None:
    features, labels = draw(3, 4, 7, 7), draw(3, 9, 9, seed=1)
    autocorrelation, moment = normal_equations(features, labels, np.ones(3), 3)
    matrix = gram(autocorrelation)
    solved = solve(matrix, moment, 0.1)
    assert np.array_equal(matrix, gram(autocorrelation))  # not damped in place
    rows = np.concatenate([reference.neighbourhoods(sample, 3, ring=1) for sample in features])
    assert_close(solved, reference.conjugate_gradient(rows, labels.reshape(-1), 0.1), "float64")


@pytest.mark.parametrize(("dtype", "kind"), DTYPES)
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_response_is_the_neighbourhoods_times_the_filter(dtype: type, kind: Kind, kernel: int) -> None:
    features, weights = draw(2, 3, 6, 5, dtype=dtype), draw(3 * kernel**2, dtype=dtype, seed=1)
    wanted = [reference.neighbourhoods(sample.astype(np.float64), kernel) @ weights for sample in features]
    assert_close(respond(features, weights, kernel).reshape(2, -1), np.stack(wanted), kind)


def test_matrix_that_is_not_positive_definite_is_an_error() -> None:
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        solve(np.diag([1.0, 1.0, 1.0, 1.0, -1.0]), np.ones(5), 0.1)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_features_of_a_broken_network_are_an_error(broken: float) -> None:
    for matrix, moment in ((np.diag([1.0, broken]), np.ones(2)), (np.eye(2), np.array([broken, 1.0]))):
        with pytest.raises(ValueError, match="cannot be learned: the weight file is broken"):
            solve(matrix, moment, 0.1)


def test_labels_are_gaussians_around_their_centres() -> None:
    labels = gaussian_labels(np.array([[2.0, 3.5]]), 8, np.array([1.5]))
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
    features = draw(3, 10, 5, 5) * np.linspace(0.1, 3, 10).reshape(1, -1, 1, 1)
    found = principal_directions(features, 4)
    assert_close(found.T @ found, np.eye(4), "float64")
    cells = features.swapaxes(0, 1).reshape(10, -1)
    other = np.linalg.qr(draw(10, 4, seed=3))[0]
    assert np.linalg.norm(found.T @ cells) > np.linalg.norm(other.T @ cells)


def test_projection_is_the_product_in_each_cell() -> None:
    features, directions = draw(3, 6, 4, 5), np.linalg.qr(draw(6, 2, seed=1))[0]
    assert_close(project(features, directions), np.einsum("nchw,cd->ndhw", features, directions), "float64")
    assert project(features, None) is features


def test_norms_are_those_of_whole_samples() -> None:
    features = draw(3, 6, 4, 5)
    assert_close(norms(features), np.linalg.norm(features.reshape(3, -1), axis=1), "float64")
    assert 0 < norms(0 * features).max() < 1e-9


def test_a_plain_map_gives_numbers() -> None:
    features = np.zeros((1, 6, 4, 4), np.float32)
    sample = project(features, principal_directions(features, 2))
    autocorrelation, moment = normal_equations(sample, np.ones((1, 6, 6), np.float32), np.ones(1, np.float32), 3)
    solved = solve(gram(autocorrelation), moment, ridge=0.01)
    assert np.array_equal(respond(sample, solved, 3), np.zeros((1, 4, 4)))


def test_a_learned_filter_answers_where_the_pattern_is() -> None:
    features = 0.1 * draw(1, 8, 12, 12)
    features[0, :, 2:5, 7:10] += draw(8, 3, 3, seed=5)
    sample = project(features, np.eye(8))
    labels = gaussian_labels(np.array([[9.0, 4.0]]), 14, np.array([0.8]))  # a ring around the cells counts
    autocorrelation, moment = normal_equations(sample, labels, np.ones(1), 3)
    solved = solve(gram(autocorrelation), moment, ridge=1e-3)
    moved = np.roll(sample, (5, -4), axis=(2, 3))
    row, column = divmod(int(respond(moved, solved, 3).argmax()), 12)
    assert (column, row) == (8 - 4, 3 + 5)
