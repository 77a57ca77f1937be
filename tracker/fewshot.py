"""Few-shot recognition: N-way K-shot episodes, and classifiers that read a handful of labelled embeddings.

A classifier takes queries (Q, D), a support set (S, D) and its labels (S,), 0 to N - 1, and returns scores (Q, N) that
grow with likeness. Embeddings have norm 1.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import one_hot

Similarity = Callable[[Tensor, Tensor], Tensor]  # of vectors (..., D) that broadcast
Classifier = Callable[[Tensor, Tensor, Tensor], Tensor]

_Z95 = 1.96  # of the normal distribution: 95 % lie within


@dataclass(frozen=True, slots=True)
class Episode:
    """Hold one problem: places of the support samples (N * K,) and of the queries (N * Q,), with labels 0 to N - 1."""

    support: NDArray[np.int64]
    support_labels: NDArray[np.int64]
    queries: NDArray[np.int64]
    query_labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EpisodeSize:
    """Say how large an episode is: N ways, K shots, and queries of each class."""

    ways: int
    shots: int
    queries: int


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Hold the mean share of right answers over problems, and half the width of its 95 % confidence interval."""

    mean: float
    half_width: float  # NaN for a single problem
    problems: int


def episodes(labels: ArrayLike, size: EpisodeSize, count: int, generator: np.random.Generator) -> Iterator[Episode]:
    """Yield `count` episodes of different classes, support and queries of different samples.

    Classes with too few samples take no part. Raises ValueError, before the first, for an episode larger than the data.
    """
    known = np.asarray(labels)
    if min(size.ways, size.shots, size.queries) < 1:
        raise ValueError(f"an episode needs at least one way, shot and query, got {size}")
    needed = size.shots + size.queries
    classes, counts = np.unique(known, return_counts=True)
    members = [np.flatnonzero(known == label) for label in classes[counts >= needed]]
    if len(members) < size.ways:
        raise ValueError(
            f"an episode of {size.ways} ways, {size.shots} shots and {size.queries} queries needs {size.ways} classes "
            f"of {needed} samples; there are {len(members)}, of {len(classes)} classes with up to "
            f"{max(counts, default=0)} samples"
        )
    return (_episode(members, size, generator) for _ in range(count))


def _episode(members: Sequence[NDArray[np.int64]], size: EpisodeSize, generator: np.random.Generator) -> Episode:
    chosen = generator.choice(len(members), size.ways, replace=False)
    drawn = np.stack([generator.permutation(members[at])[: size.shots + size.queries] for at in chosen])
    ways = np.arange(size.ways)
    return Episode(
        drawn[:, : size.shots].ravel(),
        np.repeat(ways, size.shots),
        drawn[:, size.shots :].ravel(),
        np.repeat(ways, size.queries),
    )


def nearest_neighbour(similarity: Similarity) -> Classifier:
    """Return the classifier whose score of a class is the similarity to its nearest support sample."""

    def classify(queries: Tensor, support: Tensor, labels: Tensor) -> Tensor:
        found = similarity(queries.unsqueeze(1), support.unsqueeze(0))  # (Q, S)
        apart = one_hot(labels).T.unsqueeze(0) == 0  # (1, N, S)
        return found.unsqueeze(1).masked_fill(apart, -math.inf).amax(2)

    return classify


def prototypes(queries: Tensor, support: Tensor, labels: Tensor) -> Tensor:
    """Score a class by minus the squared distance to the mean of its support (Snell et al. 2017, eq. 1 and 2)."""
    members = one_hot(labels).to(support.dtype)  # (S, N)
    means = members.T @ support / members.sum(0).unsqueeze(1)
    return -(queries.unsqueeze(1) - means.unsqueeze(0)).square().sum(2)


def matching(temperature: float) -> Classifier:
    """Return the classifier whose score of a class is the attention that its support gets (Vinyals et al. 2016, eq. 1).

    The attention is the softmax of the cosine over the temperature, which is 1 there: scores of a query sum to 1.
    """

    def classify(queries: Tensor, support: Tensor, labels: Tensor) -> Tensor:
        attention = torch.softmax(queries @ support.T / temperature, dim=1)  # (Q, S)
        return attention @ one_hot(labels).to(attention.dtype)

    return classify


def relation(similarity: Similarity) -> Classifier:
    """Return the classifier whose score is the similarity to the sum of a class's support (Sung et al. 2018, eq. 2)."""

    def classify(queries: Tensor, support: Tensor, labels: Tensor) -> Tensor:
        sums = one_hot(labels).to(support.dtype).T @ support  # (N, D)
        return similarity(queries.unsqueeze(1), sums.unsqueeze(0))

    return classify


def episode_accuracy(embeddings: Tensor, found: Episode, classifier: Classifier) -> float:
    """Return the share of an episode's queries that are told right."""
    support, labels = embeddings[found.support], torch.from_numpy(found.support_labels)
    return share_right(classifier(embeddings[found.queries], support, labels), torch.from_numpy(found.query_labels))


def share_right(scores: Tensor, labels: Tensor) -> float:
    """Return the share of rows (Q, N) whose largest score is at the label (Q,).

    Raises ValueError for scores that are not finite: the first class would win them all.
    """
    if not torch.isfinite(scores).all():
        raise ValueError("scores are not finite: the embeddings of some sample are broken")
    return float((scores.argmax(1) == labels).double().mean())


def mean_accuracy(shares: Sequence[float]) -> Accuracy:
    """Return the mean of the shares of right answers in several problems. Raises ValueError for none."""
    if not len(shares):
        raise ValueError("no problem was solved, so there is no accuracy")
    spread = float(np.std(shares, ddof=1)) if len(shares) > 1 else math.nan
    return Accuracy(float(np.mean(shares)), _Z95 * spread / math.sqrt(len(shares)), len(shares))
