import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.tolerances import assert_close
from tracker import fewshot
from tracker.fewshot import EpisodeSize, episodes
from tracker.models.encoders import RelationHead, cosine_similarity, l2_similarity

LABELS = [4] * 6 + [2] * 5 + [9] * 2 + [7] * 8


def unit(count: int, seed: int) -> Tensor:
    drawn = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=1)


QUERIES, SUPPORT, KNOWN = unit(5, 1), unit(6, 2), torch.tensor([0, 0, 1, 1, 2, 2])


def test_episodes_hold_different_classes_and_different_samples() -> None:
    labels = np.array(LABELS)
    found = list(episodes(labels, EpisodeSize(3, 2, 3), 50, np.random.default_rng(0)))
    assert len(found) == 50
    for one in found:
        assert len(set(one.support.tolist()) | set(one.queries.tolist())) == 3 * 5
        assert one.support_labels.tolist() == [0, 0, 1, 1, 2, 2]
        classes = labels[one.support].reshape(3, 2)[:, 0]
        assert (labels[one.support] == classes[one.support_labels]).all()
        assert (labels[one.queries] == classes[one.query_labels]).all()
        assert set(classes.tolist()) == {2, 4, 7}  # 9 has two samples, too few
    assert len({tuple(one.support.tolist()) for one in found}) > 40


def test_episodes_depend_on_the_seed_alone() -> None:
    size = EpisodeSize(2, 1, 1)
    first, again, other = (
        [one.support.tolist() for one in episodes(LABELS, size, 10, np.random.default_rng(seed))] for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (EpisodeSize(4, 2, 3), "needs 4 classes of 5 samples; there are 3, of 4 classes with up to 8 samples"),
        (EpisodeSize(5, 1, 1), "needs 5 classes of 2 samples; there are 4, of 4 classes with up to 8 samples"),
        (EpisodeSize(2, 8, 1), "needs 2 classes of 9 samples; there are 0, of 4 classes with up to 8 samples"),
        (EpisodeSize(0, 1, 1), "at least one way, shot and query"),
    ],
)
def test_episode_larger_than_the_data_says_what_there_is(size: EpisodeSize, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        episodes(LABELS, size, 1, np.random.default_rng(0))  # before the first is asked for


def test_no_data_holds_no_episode() -> None:
    with pytest.raises(ValueError, match="there are 0, of 0 classes with up to 0 samples"):
        episodes([], EpisodeSize(2, 1, 1), 1, np.random.default_rng(0))


def by_loop(score: object) -> list[list[float]]:
    """Return the score of each query for each class, which takes the query and the class's support."""
    assert callable(score)
    rows = SUPPORT.numpy()
    return [[score(query, rows[[2 * k, 2 * k + 1]]) for k in range(3)] for query in QUERIES.numpy()]


@pytest.mark.parametrize("similarity", [cosine_similarity, l2_similarity])
def test_nearest_neighbour_is_that_of_the_loop(similarity: fewshot.Similarity) -> None:
    found = fewshot.nearest_neighbour(similarity)(QUERIES, SUPPORT, KNOWN)
    truth = by_loop(lambda q, s: max(float(similarity(torch.tensor(q), torch.tensor(row))) for row in s))
    assert_close(found, truth, "float64")


def test_prototypes_are_those_of_the_loop() -> None:
    truth = by_loop(lambda q, s: -float(((q - (s[0] + s[1]) / 2) ** 2).sum()))
    assert_close(fewshot.prototypes(QUERIES, SUPPORT, KNOWN), truth, "float64")


def test_matching_is_that_of_the_loop() -> None:
    sums = {tuple(q): sum(math.exp(float(q @ row) / 0.2) for row in SUPPORT.numpy()) for q in QUERIES.numpy()}
    truth = by_loop(lambda q, s: sum(math.exp(float(q @ row) / 0.2) for row in s) / sums[tuple(q)])
    found = fewshot.matching(0.2)(QUERIES, SUPPORT, KNOWN)
    assert_close(found, truth, "float64")
    assert_close(found.sum(1), np.ones(5), "float64")


def test_relation_is_that_of_the_loop() -> None:
    torch.manual_seed(0)
    head = RelationHead(6, 4).double()
    found = fewshot.relation(head)(QUERIES, SUPPORT, KNOWN)
    truth = by_loop(lambda q, s: float(head(torch.tensor(q), torch.tensor(s[0] + s[1])).detach()))
    assert_close(found.detach(), truth, "float64")


def test_one_shot_makes_the_classifiers_agree() -> None:
    labels = torch.arange(6)
    scores = [
        fewshot.nearest_neighbour(cosine_similarity)(QUERIES, SUPPORT, labels),
        fewshot.prototypes(QUERIES, SUPPORT, labels),
        fewshot.matching(0.1)(QUERIES, SUPPORT, labels),
        fewshot.relation(cosine_similarity)(QUERIES, SUPPORT, labels),
    ]
    for one in scores[1:]:
        assert torch.equal(one.argsort(1), scores[0].argsort(1))


def test_accuracy_of_an_episode_counts_the_right_answers() -> None:
    embeddings = torch.eye(4)[[0, 1, 2, 0, 1, 1]]
    episode = fewshot.Episode(np.array([0, 1, 2]), np.arange(3), np.array([3, 4, 5]), np.array([0, 1, 2]))
    classifier = fewshot.nearest_neighbour(cosine_similarity)
    assert fewshot.episode_accuracy(embeddings, episode, classifier) == pytest.approx(2 / 3)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_embeddings_that_are_not_finite_win_nothing(value: float) -> None:
    embeddings = torch.eye(3)
    embeddings[0, 0] = value
    episode = fewshot.Episode(np.array([0, 1]), np.arange(2), np.array([2]), np.array([0]))
    with pytest.raises(ValueError, match="scores are not finite"):
        fewshot.episode_accuracy(embeddings, episode, fewshot.nearest_neighbour(cosine_similarity))


def test_mean_accuracy_has_its_interval() -> None:
    found = fewshot.mean_accuracy([0.5, 0.7, 0.9])
    assert (found.mean, found.problems) == (pytest.approx(0.7), 3)
    assert found.half_width == pytest.approx(1.96 * 0.2 / math.sqrt(3))  # the spread of three in steps of .2 is .2
    assert math.isnan(fewshot.mean_accuracy([0.5]).half_width)
    with pytest.raises(ValueError, match="no problem was solved"):
        fewshot.mean_accuracy([])
