import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests import reference
from tests.tolerances import Kind, assert_close
from tracker.models.encoders import l2_similarity
from tracker.training import metric_losses as losses
from tracker.training.mining import Quadruplets, SamplePairs, Triplets, all_triplets, batch_hard, quadruplets

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pytorch_metric_learning import distances as oracle_distances
    from pytorch_metric_learning import losses as oracle
    from pytorch_metric_learning import reducers

DTYPES: list[tuple[torch.dtype, Kind]] = [(torch.float64, "float64"), (torch.float32, "float32")]
LABELS = [3, 1, 3, 1, 2, 3, 2, 2, 1, 7]  # the last class has a single sample
SAME = torch.tensor([True, False, True, False, False])


def embeddings(dtype: torch.dtype = torch.float64, labels: list[int] = LABELS, dimensions: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(len(labels), dimensions, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=1).to(dtype)


def listed(found: Triplets | Quadruplets | SamplePairs) -> list[tuple[int, ...]]:
    return [tuple(row) for row in torch.stack(list(found), dim=1).tolist()]


def batch_hard_loss(rows: Tensor, labels: Tensor, margin: float) -> Tensor:
    return losses.triplet_loss(rows, batch_hard(rows, labels), margin)


PAIRED = [5, 5, 2, 2, 9, 9]
BY_LABELS: dict[str, tuple[Callable[..., Tensor], Callable[..., float], tuple[float, ...], list[int]]] = {
    "info_nce": (losses.info_nce_loss, reference.info_nce_loss, (0.2,), LABELS),
    "supervised_contrastive": (
        losses.supervised_contrastive_loss,
        reference.supervised_contrastive_loss,
        (0.2,),
        LABELS,
    ),
    "n_pair": (losses.n_pair_loss, reference.n_pair_loss, (4.0,), LABELS[:-1]),
    "batch_hard": (
        batch_hard_loss,
        lambda rows, labels, margin: reference.triplet_loss(rows, reference.batch_hard(rows, labels), margin),
        (0.3,),
        LABELS,
    ),
}


@pytest.mark.parametrize(("dtype", "kind"), DTYPES)
@pytest.mark.parametrize("name", BY_LABELS)
def test_loss_over_labels_is_that_of_the_loop(name: str, dtype: torch.dtype, kind: Kind) -> None:
    loss, slow, arguments, labels = BY_LABELS[name]
    rows = embeddings(dtype, labels)
    assert_close(loss(rows, torch.tensor(labels), *arguments), slow(rows.double().numpy(), labels, *arguments), kind)


@pytest.mark.parametrize(("dtype", "kind"), DTYPES)
def test_losses_over_tuples_are_those_of_the_loops(dtype: torch.dtype, kind: Kind) -> None:
    rows, labels = embeddings(dtype), torch.tensor(LABELS)
    slow, triplets = rows.double().numpy(), all_triplets(labels)
    found = quadruplets(rows, labels, triplets)
    assert len(found.other) > 50
    three, four = listed(triplets), listed(found)
    assert_close(losses.triplet_loss(rows, triplets, 0.2), reference.triplet_loss(slow, three, 0.2), kind)
    assert_close(losses.soft_triplet_loss(rows, triplets), reference.soft_triplet_loss(slow, three), kind)
    assert_close(losses.quadruplet_loss(rows, found, 0.3, 0.1), reference.quadruplet_loss(slow, four, 0.3, 0.1), kind)


@pytest.mark.parametrize(("dtype", "kind"), DTYPES)
def test_losses_over_pairs_are_those_of_the_loops(dtype: torch.dtype, kind: Kind) -> None:
    gaps = torch.tensor([0.3, 0.2, 1.4, 0.9, 1.7], dtype=dtype)
    slow, same = gaps.double().numpy(), SAME.tolist()
    found = losses.contrastive_loss(gaps, SAME.to(dtype), 1.0, "same")
    assert_close(found, reference.contrastive_loss(slow, same, 1.0), kind)
    logits = 3 * gaps - 2
    assert_close(losses.similarity_loss(logits, SAME), reference.similarity_loss(logits.double().numpy(), same), kind)


def test_both_conventions_of_labels_are_the_same_loss() -> None:
    gaps = torch.tensor([0.3, 0.2, 1.4, 0.9, 1.7])
    one_is_same = losses.contrastive_loss(gaps, SAME.float(), 1.0, "same")
    assert losses.contrastive_loss(gaps, 1 - SAME.float(), 1.0, "different") == one_is_same
    assert losses.contrastive_loss(gaps, SAME.float(), 1.0, "different") != one_is_same
    with pytest.raises(TypeError):
        losses.contrastive_loss(gaps, SAME.float(), 1.0)  # type: ignore[call-arg]  # there is no default


def euclidean(power: int = 1) -> oracle_distances.LpDistance:
    return oracle_distances.LpDistance(normalize_embeddings=False, p=2, power=power)


def test_triplet_loss_is_that_of_pytorch_metric_learning() -> None:
    rows, labels = embeddings(), torch.tensor(LABELS)
    triplets = all_triplets(labels)
    hinge = oracle.TripletMarginLoss(0.2, distance=euclidean(), reducer=reducers.MeanReducer())
    assert_close(losses.triplet_loss(rows, triplets, 0.2), hinge(rows, labels), "float64")
    smooth = oracle.TripletMarginLoss(0.0, smooth_loss=True, distance=euclidean(), reducer=reducers.MeanReducer())
    assert_close(losses.soft_triplet_loss(rows, triplets), smooth(rows, labels), "float64")


def test_first_half_of_the_quadruplet_loss_is_that_of_pytorch_metric_learning() -> None:
    rows, labels = embeddings(), torch.tensor(LABELS)
    triplets = all_triplets(labels)
    found = quadruplets(rows, labels, triplets)
    assert len(found.anchor) == len(triplets.anchor)
    expected = oracle.TripletMarginLoss(0.2, distance=euclidean(power=2), reducer=reducers.MeanReducer())(rows, labels)
    assert_close(losses.quadruplet_loss(rows, found, 0.2, -1e9), expected, "float64")


def test_supervised_contrastive_loss_is_that_of_pytorch_metric_learning() -> None:
    labels = LABELS[:-1]
    rows = embeddings(labels=labels)
    expected = oracle.SupConLoss(0.2)(rows, torch.tensor(labels))
    assert_close(losses.supervised_contrastive_loss(rows, torch.tensor(labels), 0.2), expected, "float64")


def test_info_nce_loss_is_that_of_pytorch_metric_learning() -> None:
    rows, labels = embeddings(), torch.tensor(LABELS)
    assert_close(losses.info_nce_loss(rows, labels, 0.2), oracle.NTXentLoss(0.2)(rows, labels), "float64")


def test_n_pair_loss_is_that_of_pytorch_metric_learning() -> None:
    rows, labels = embeddings(labels=PAIRED), torch.tensor(PAIRED)
    product = oracle_distances.DotProductSimilarity(normalize_embeddings=False)  # the scale goes into the norms
    assert_close(
        losses.n_pair_loss(rows, labels, 4.0), oracle.NPairsLoss(distance=product)(2 * rows, labels), "float64"
    )


def test_contrastive_loss_is_that_of_pytorch_metric_learning() -> None:
    rows, labels = embeddings(), torch.tensor(LABELS)
    same = labels.unsqueeze(0) == labels.unsqueeze(1)
    first, second = (~torch.eye(len(labels), dtype=torch.bool)).nonzero(as_tuple=True)
    gaps, alike = -l2_similarity(rows[first], rows[second]), same[first, second]
    # Theirs is linear in the distance, with a mean over each kind of pair: each half is compared by its slope.
    theirs = oracle.ContrastiveLoss(0, 1.3, distance=euclidean(), reducer=reducers.DoNothingReducer())(rows, labels)
    pulls, pushes = theirs["pos_loss"]["losses"], theirs["neg_loss"]["losses"]
    mean = (pulls.square().sum() + pushes.square().sum()) / 2 / len(gaps)
    assert_close(losses.contrastive_loss(gaps, alike.to(gaps), 1.3, "same"), mean, "float64")


def test_info_nce_of_two_views_is_the_n_pair_loss_in_one_direction() -> None:
    rows, labels = embeddings(labels=[0, 0, 1, 1]), torch.tensor([0, 0, 1, 1])
    logits = rows[[0, 2]] @ rows[[1, 3]].T / 0.5
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1]))
    assert_close(losses.n_pair_loss(rows, labels, 2.0), expected, "float64")


@pytest.mark.parametrize("name", BY_LABELS)
def test_gradient_pulls_positives_together(name: str) -> None:
    loss, _, arguments, labels = BY_LABELS[name]
    rows, known = embeddings(labels=labels), torch.tensor(labels)
    for _ in range(60):
        rows = rows.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(rows, known, *arguments), rows)
        rows = torch.nn.functional.normalize(rows - 0.1 * gradient, dim=1)
    assert loss(rows, known, *arguments) < 0.7 * loss(embeddings(labels=labels), known, *arguments)


def test_equal_embeddings_have_a_finite_gradient() -> None:
    rows = torch.ones(4, 3, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1])
    for loss in (batch_hard_loss(rows, labels, 0.2), losses.info_nce_loss(rows, labels, 0.1)):
        (gradient,) = torch.autograd.grad(loss, rows)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("labels", [[0, 1, 2], [4, 4, 4]], ids=["no positives", "no negatives"])
def test_loss_over_nothing_is_zero_with_a_gradient_of_zero(labels: list[int]) -> None:
    rows, known = embeddings(labels=labels).requires_grad_(), torch.tensor(labels)
    found = [batch_hard_loss(rows, known, 0.2), losses.info_nce_loss(rows, known, 0.1)]
    found.append(losses.similarity_loss(rows[:0, 0], known[:0] > 0))
    for loss in found:
        assert loss == 0
        (gradient,) = torch.autograd.grad(loss, rows)
        assert (gradient == 0).all()


def test_class_with_one_sample_is_named() -> None:
    with pytest.raises(ValueError, match="label 7 has a single sample"):
        losses.n_pair_loss(embeddings(), torch.tensor(LABELS), 4.0)


def test_embeddings_that_are_not_finite_are_seen() -> None:
    rows, labels = embeddings(), torch.tensor(LABELS)
    rows[4, 2] = math.nan
    with pytest.raises(FloatingPointError, match="not finite"):
        batch_hard_loss(rows, labels, 0.2)
    assert losses.supervised_contrastive_loss(rows, labels, 0.1).isnan()
    assert losses.info_nce_loss(rows, labels, 0.1).isnan()  # the trainer stops there
