import math
import tracemalloc
import warnings

import numpy as np
import pytest
import torch

from tests import reference
from tests.tolerances import assert_close
from tests.training.test_metric_losses import LABELS, embeddings, listed
from tracker.training import mining
from tracker.training.mining import BalancedBatches

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pytorch_metric_learning import distances as oracle_distances
    from pytorch_metric_learning import miners as oracle

KNOWN = torch.tensor(LABELS)


@pytest.mark.parametrize("labels", [LABELS, [0, 0, 0], [1, 2, 3], [0, 0, 1]])
def test_all_triplets_are_those_of_the_loop(labels: list[int]) -> None:
    expected = [(a, p, n) for a, p in reference.positive_pairs(labels) for n in reference.negatives(labels, a)]
    assert sorted(listed(mining.all_triplets(torch.tensor(labels)))) == sorted(expected)


@pytest.mark.parametrize("labels", [LABELS, [0, 0, 0], [1, 2, 3], [0, 0, 1]])
def test_batch_hard_is_that_of_the_loop(labels: list[int]) -> None:
    rows = embeddings(labels=labels)
    found = listed(mining.batch_hard(rows, torch.tensor(labels)))
    assert found == reference.batch_hard(rows.numpy(), labels)


def test_batch_hard_is_that_of_pytorch_metric_learning() -> None:
    rows = embeddings()
    distance = oracle_distances.LpDistance(normalize_embeddings=False)
    expected = oracle.BatchHardMiner(distance=distance)(rows, KNOWN)
    assert sorted(listed(mining.batch_hard(rows, KNOWN))) == sorted(
        zip(*(part.tolist() for part in expected), strict=True)
    )


@pytest.mark.parametrize("margin", [0.0, 0.05, 0.3, 2.0])
def test_semi_hard_is_that_of_the_loop(margin: float) -> None:
    rows = embeddings()
    found = listed(mining.semi_hard(rows, KNOWN, margin))
    assert found == reference.semi_hard(rows.numpy(), LABELS, margin)
    assert bool(found) == (margin > 0)


def test_semi_hard_negatives_are_among_those_of_pytorch_metric_learning() -> None:
    rows = embeddings()
    distance = oracle_distances.LpDistance(normalize_embeddings=False)
    theirs = oracle.TripletMarginMiner(0.3, type_of_triplets="semihard", distance=distance)(rows, KNOWN)
    every = set(zip(*(part.tolist() for part in theirs), strict=True))
    found = listed(mining.semi_hard(rows, KNOWN, 0.3))
    assert found and set(found) <= every
    assert {row[:2] for row in found} == {row[:2] for row in every}


@pytest.mark.parametrize("count", [1, 3])
def test_hard_negatives_are_those_of_the_loop(count: int) -> None:
    index, index_labels = embeddings(labels=[1, 2, 3, 1, 2, 7, 7, 3]), torch.tensor([1, 2, 3, 1, 2, 7, 7, 3])
    queries = embeddings()
    found = mining.hard_negatives(queries, KNOWN, index, index_labels, count)
    for row, query, label in zip(found.tolist(), queries.numpy(), LABELS, strict=True):
        others = [n for n, other in enumerate(index_labels.tolist()) if other != label]
        assert row == sorted(others, key=lambda n: reference.distance(query, index[n].numpy()))[:count]


def test_hard_triplets_join_positives_with_the_hard_negatives() -> None:
    rows = embeddings()
    negatives = mining.hard_negatives(rows, KNOWN, rows, KNOWN, 2).tolist()
    expected = [(a, p, n) for a, p in reference.positive_pairs(LABELS) for n in negatives[a]]
    assert listed(mining.hard_triplets(rows, KNOWN, 2)) == expected


def test_index_with_too_few_negatives_says_how_many_there_are() -> None:
    rows, labels = embeddings(labels=[0, 0, 1]), torch.tensor([0, 0, 1])
    with pytest.raises(ValueError, match="2 negatives were asked for, but the index has 1"):
        mining.hard_negatives(rows, labels, rows, labels, 2)


@pytest.mark.parametrize("dimensions", [3, 6, 128])
def test_weights_of_negatives_are_those_of_the_loop(dimensions: int) -> None:
    rows = embeddings(dimensions=dimensions)
    weights = mining.negative_weights(rows, KNOWN)
    assert_close(weights, reference.negative_weights(rows.numpy(), LABELS), "float64")
    assert_close(weights.sum(1), np.ones(len(LABELS)), "float64")


def test_negatives_are_drawn_as_often_as_they_weigh() -> None:
    rows = embeddings()
    generator = torch.Generator().manual_seed(3)
    counts = torch.zeros(len(LABELS), len(LABELS))
    for _ in range(1000):
        anchor, positive, negative = mining.distance_weighted(rows, KNOWN, generator)
        assert (KNOWN[anchor] == KNOWN[positive]).all() and (anchor != positive).all()
        counts.index_put_((anchor, negative), torch.ones(len(anchor)), accumulate=True)
    several = counts.sum(1) > 0
    shares = counts[several] / counts[several].sum(1, keepdim=True)
    weights = mining.negative_weights(rows, KNOWN)[several]
    assert several.sum() == len(LABELS) - 1  # the single sample has no positive
    assert (shares - weights).abs().max() < 0.05  # 2000 or more draws: four standard deviations are .045
    assert (counts[KNOWN.unsqueeze(0) == KNOWN.unsqueeze(1)] == 0).all()


def test_same_generator_draws_the_same_negatives() -> None:
    draws = [mining.distance_weighted(embeddings(), KNOWN, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0].negative, draws[1].negative)
    assert not torch.equal(draws[0].negative, draws[2].negative)


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 2, 3]], ids=["no negatives", "no positives"])
def test_nothing_to_mine_is_no_triplet(labels: list[int]) -> None:
    rows, known = embeddings(labels=labels), torch.tensor(labels)
    assert not len(mining.distance_weighted(rows, known, torch.Generator()).anchor)
    assert not len(mining.semi_hard(rows, known, 0.3).anchor)
    assert not len(mining.quadruplets(rows, known, mining.all_triplets(known)).anchor)


def test_fourth_sample_is_the_nearest_of_a_third_class() -> None:
    rows = embeddings()
    triplets = mining.all_triplets(KNOWN)
    found = listed(mining.quadruplets(rows, KNOWN, triplets))
    expected = []
    for a, p, n in listed(triplets):
        others = [o for o, label in enumerate(LABELS) if label not in (LABELS[a], LABELS[n])]
        expected.append((a, p, n, min(others, key=lambda o: reference.distance(rows[n].numpy(), rows[o].numpy()))))
    assert found == expected


def test_two_classes_have_no_quadruplet() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    rows = embeddings(labels=labels.tolist())
    assert not len(mining.quadruplets(rows, labels, mining.all_triplets(labels)).anchor)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_embeddings_that_are_not_finite_stop_the_miners(value: float) -> None:
    rows = embeddings()
    rows[2, 1] = value
    for mine in (
        lambda: mining.batch_hard(rows, KNOWN),
        lambda: mining.semi_hard(rows, KNOWN, 0.2),
        lambda: mining.hard_triplets(rows, KNOWN, 1),
        lambda: mining.distance_weighted(rows, KNOWN, torch.Generator()),
    ):
        with pytest.raises(FloatingPointError, match="embeddings are not finite; lower train.lr_start"):
            mine()


def test_distances_of_nearly_equal_rows_keep_their_digits() -> None:
    a = torch.tensor([[1.0, 0.0, 0.0]])
    b = torch.tensor([[1.0, 3e-6, 4e-6]])
    assert_close(mining.distances(a, b), [[5e-6]], "float32")


# Pairs


def test_drawn_pairs_are_of_both_kinds_and_never_of_a_sample_with_itself() -> None:
    labels = np.array(LABELS)
    first, second, same = mining.draw_pairs(labels, 4001, np.random.default_rng(0))
    assert int(same.sum()) == 2000 and len(same) == 4001
    assert ((labels[first] == labels[second]) == same.numpy()).all()
    assert (first != second).all()
    found = set(zip(first.tolist(), second.tolist(), strict=True))
    assert len(found) == 10 * 9  # all ordered pairs come: the draw leaves none out
    shares = np.bincount(second[same], minlength=10) / 2000
    assert_close(shares[labels == 7], [0.0], "float64")
    assert np.abs(shares[labels != 7] - 1 / 9).max() < 0.03  # four standard deviations


def test_pairs_depend_on_the_seed_alone() -> None:
    draws = [mining.draw_pairs(LABELS, 50, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert listed(draws[0]) == listed(draws[1]) != listed(draws[2])


def test_memory_of_pairs_does_not_grow_with_the_square_of_the_samples() -> None:
    labels = np.arange(200_000) // 20
    tracemalloc.start()
    mining.draw_pairs(labels, 100, np.random.default_rng(0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 * len(labels)  # bytes: a matrix of all pairs would take 200,000 a sample


@pytest.mark.parametrize("labels", [[1, 1, 1], [1, 2, 3], [], [4]])
def test_pairs_that_cannot_be_drawn_say_what_is_there(labels: list[int]) -> None:
    with pytest.raises(ValueError, match=f"got {len(labels)} samples of {len(set(labels))} classes"):
        mining.draw_pairs(labels, 4, np.random.default_rng(0))


# Batches

TWELVE = np.array([0] * 3 + [1] * 5 + [2] * 2 + [3] * 2)
NAMES = ("a", "b", "c", "d")


def test_batch_has_as_many_samples_of_each_class() -> None:
    batches = BalancedBatches(TWELVE, NAMES, classes=3, samples=3, seed=1)
    seen: set[int] = set()
    for step in range(40):
        chosen = batches.batch(step)
        seen |= set(chosen.tolist())
        labels = TWELVE[chosen].reshape(3, 3)
        assert (labels == labels[:, :1]).all() and len(set(labels[:, 0])) == 3
        for row in chosen.reshape(3, 3):
            assert len(set(row.tolist())) == min(3, int((TWELVE[row[0]] == TWELVE).sum()))
    assert seen == set(range(12))


def test_batch_depends_on_seed_and_step_alone() -> None:
    one, again, other = (BalancedBatches(TWELVE, NAMES, 2, 2, seed) for seed in (1, 1, 2))
    ahead = [again.batch(step).tolist() for step in reversed(range(20))][::-1]  # in any order: as a resumed run
    assert [one.batch(step).tolist() for step in range(20)] == ahead
    assert [other.batch(step).tolist() for step in range(20)] != ahead


def test_class_with_one_sample_is_named_by_the_batches() -> None:
    with pytest.raises(ValueError, match="class 'b' has 1 samples; a class needs two"):
        BalancedBatches([0, 0, 1], ("a", "b"), 2, 2, seed=0)
    with pytest.raises(ValueError, match="class 'c' has 0 samples"):
        BalancedBatches([0, 0, 1, 1], ("a", "b", "c"), 2, 2, seed=0)


@pytest.mark.parametrize(("classes", "samples"), [(5, 2), (1, 2), (2, 1), (0, 0)])
def test_batches_that_cannot_be_filled_are_refused(classes: int, samples: int) -> None:
    with pytest.raises(ValueError, match=f"at most the 4 classes that there are; got {classes} of {samples}"):
        BalancedBatches(TWELVE, NAMES, classes, samples, seed=0)
