"""Which samples of a batch a metric loss compares: triplets and pairs by index, and batches of balanced classes.

Embeddings are (N, D), labels (N,) integers. Distances are Euclidean.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

_NEAREST = 0.5  # distances below count as this in `negative_weights`: Wu et al. 2017, section 4


class Triplets(NamedTuple):
    """Hold the indices (T,) of T triplets: anchor and positive share a label, the negative has another one."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor


class Quadruplets(NamedTuple):
    """Hold the indices (T,) of T triplets and of a fourth sample each, whose label is a third one."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor
    other: Tensor


class SamplePairs(NamedTuple):
    """Hold the indices (P,) of P pairs and whether their labels are the same (P,) bool."""

    first: Tensor
    second: Tensor
    same: Tensor


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the distances (N, M) of rows (N, D) to rows (M, D).

    Raises FloatingPointError for values that are not finite: every comparison with them is false, so that a miner
    would find nothing and the loss would be 0.
    """
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise FloatingPointError("embeddings are not finite; lower train.lr_start")
    # Differences first: with the product of norms, rows that are nearly equal lose all their digits.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def all_triplets(labels: Tensor) -> Triplets:
    """Return every triplet, N cubed of them in memory: for small batches."""
    same, positive = _relations(labels)
    return Triplets(*(positive.unsqueeze(2) & ~same.unsqueeze(1)).nonzero().unbind(1))


def batch_hard(embeddings: Tensor, labels: Tensor) -> Triplets:
    """Return one triplet an anchor: its farthest positive and its nearest negative (Hermans et al. 2017, section 2).

    Anchors that lack either are left out.
    """
    same, positive = _relations(labels)
    apart = distances(embeddings.detach(), embeddings.detach())
    farthest = apart.masked_fill(~positive, -math.inf).argmax(1)
    nearest = apart.masked_fill(same, math.inf).argmin(1)
    (anchor,) = (positive.any(1) & ~same.all(1)).nonzero(as_tuple=True)
    return Triplets(anchor, farthest[anchor], nearest[anchor])


def semi_hard(embeddings: Tensor, labels: Tensor, margin: float) -> Triplets:
    """Return for each positive pair the nearest negative that is farther than the positive, by less than the margin.

    Pairs without one are left out. Source: Schroff et al. 2015 (FaceNet), section 3.2.
    """
    same, positive = _relations(labels)
    apart = distances(embeddings.detach(), embeddings.detach())
    anchor, other = positive.nonzero(as_tuple=True)
    reach = apart[anchor, other].unsqueeze(1)
    rows = apart[anchor]
    fits = ~same[anchor] & (rows > reach) & (rows < reach + margin)
    nearest = rows.masked_fill(~fits, math.inf).argmin(1)
    found = fits.any(1)
    return Triplets(anchor[found], other[found], nearest[found])


def hard_negatives(queries: Tensor, query_labels: Tensor, index: Tensor, index_labels: Tensor, count: int) -> Tensor:
    """Return for each query the places (N, count) in an index of the nearest samples with another label, nearest first.

    The index may be the batch itself or the embeddings of a whole data set: (M, D), labels (M,). Raises ValueError
    where it holds fewer samples of other labels than asked for.
    """
    apart = distances(queries.detach(), index.detach())
    same = query_labels.unsqueeze(1) == index_labels.unsqueeze(0)
    fewest = int((~same).sum(1).min())
    if fewest < count:
        raise ValueError(f"{count} negatives were asked for, but the index has {fewest} samples of other labels")
    return apart.masked_fill(same, math.inf).topk(count, dim=1, largest=False).indices


def hard_triplets(embeddings: Tensor, labels: Tensor, count: int) -> Triplets:
    """Return each positive pair with each of the anchor's `count` hard negatives in the batch."""
    _, positive = _relations(labels)
    negatives = hard_negatives(embeddings, labels, embeddings, labels, count)
    anchor, other = positive.nonzero(as_tuple=True)
    return Triplets(
        anchor.repeat_interleave(count),
        other.repeat_interleave(count),
        negatives[anchor].reshape(anchor.numel() * count),
    )


def negative_weights(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Return how likely each sample is drawn as the negative of each anchor (N, N), rows summing to 1.

    The weight is the inverse of how often a distance d occurs between points of a sphere in D dimensions,
    d^(D - 2) (1 - d^2 / 4)^((D - 3) / 2): all distances are drawn as often. Embeddings have norm 1. Distances below
    0.5 count as 0.5, so that noise does not dominate. A row without negatives is 0. Source: Wu et al. 2017, section 4.
    """
    same, _ = _relations(labels)
    dimensions = embeddings.shape[1]
    apart = distances(embeddings.detach(), embeddings.detach()).clamp(min=_NEAREST)
    cap = (1 - apart.square() / 4).clamp(min=1e-8)  # opposite points: the density is 0
    log_weights = (2.0 - dimensions) * apart.log() - (dimensions - 3) / 2 * cap.log()
    log_weights = log_weights.masked_fill(same, -math.inf)
    return torch.softmax(log_weights, dim=1).nan_to_num(0.0)


def distance_weighted(embeddings: Tensor, labels: Tensor, generator: torch.Generator) -> Triplets:
    """Return each positive pair with a negative drawn by `negative_weights`; pairs without negatives are left out."""
    same, positive = _relations(labels)
    anchor, other = (positive & ~same.all(1, keepdim=True)).nonzero(as_tuple=True)
    if not anchor.numel():
        return Triplets(anchor, other, anchor)
    weights = negative_weights(embeddings, labels)[anchor]
    return Triplets(anchor, other, torch.multinomial(weights, 1, generator=generator).squeeze(1))


def quadruplets(embeddings: Tensor, labels: Tensor, triplets: Triplets) -> Quadruplets:
    """Return each triplet with the sample nearest to its negative that has a third label; without one it is left out.

    Source: Chen et al. 2017, section 3.3, whose quadruplets are drawn; the nearest are the hardest.
    """
    apart = distances(embeddings.detach(), embeddings.detach())
    anchor, positive, negative = triplets
    taken = (labels[anchor].unsqueeze(1) == labels) | (labels[negative].unsqueeze(1) == labels)
    other = apart[negative].masked_fill(taken, math.inf).argmin(1)
    found = ~taken.all(1)
    return Quadruplets(anchor[found], positive[found], negative[found], other[found])


def draw_pairs(labels: ArrayLike, count: int, generator: np.random.Generator) -> SamplePairs:
    """Draw pairs, the first half of them of one label and the rest of two: time and memory grow with N + count.

    A class is drawn by its number of samples, and gives same pairs only with two or more; no pair joins a sample with
    itself. Raises ValueError where one kind cannot be drawn.
    """
    known = np.asarray(labels)
    order = np.argsort(known, kind="stable")
    classes, starts, sizes = np.unique(known[order], return_index=True, return_counts=True)
    if len(classes) < 2 or sizes.max() < 2:
        raise ValueError(
            f"pairs need two classes and one of two samples, got {len(known)} samples of {len(classes)} classes"
        )
    alike = count // 2
    several = np.flatnonzero(sizes >= 2)
    picked = generator.choice(several, size=alike, p=sizes[several] / sizes[several].sum())
    first = generator.integers(sizes[picked])
    second = (first + generator.integers(1, sizes[picked])) % sizes[picked]  # a step of 1 to size - 1: never itself
    same_first, same_second = order[starts[picked] + first], order[starts[picked] + second]
    anchors = generator.integers(len(known), size=count - alike)
    at = np.searchsorted(classes, known[anchors])
    # A place outside the anchor's class: as many steps past the end of its class as there are other samples.
    beyond = generator.integers(len(known) - sizes[at])
    others = order[(starts[at] + sizes[at] + beyond) % len(known)]
    firsts, seconds = np.concatenate([same_first, anchors]), np.concatenate([same_second, others])
    return SamplePairs(torch.from_numpy(firsts), torch.from_numpy(seconds), torch.arange(count) < alike)


class BalancedBatches:
    """Draw batches of `classes` classes with `samples` samples each (Hermans et al. 2017, section 2, P and K).

    The batch of a step depends on the seed and the step alone, so a resumed run sees what it would have seen. Classes
    are drawn without repetition, and so are samples unless a class has fewer than `samples`, all of which then come
    before any comes again. Raises ValueError for too few classes, and naming a class with a single sample: it has no
    positive pair.
    """

    def __init__(self, labels: ArrayLike, names: tuple[str, ...], classes: int, samples: int, seed: int) -> None:
        """Take the label (N,) of each sample: its place in `names`."""
        known = np.asarray(labels)
        self.members = [np.flatnonzero(known == label) for label in range(len(names))]
        for name, members in zip(names, self.members, strict=True):
            if len(members) < 2:
                raise ValueError(f"class {name!r} has {len(members)} samples; a class needs two to be learned")
        if not 2 <= classes <= len(names) or samples < 2:
            raise ValueError(
                f"a batch needs two classes of two samples or more, at most the {len(names)} classes that there are; "
                f"got {classes} of {samples}"
            )
        self.classes, self.samples, self.seed = classes, samples, seed

    def batch(self, step: int) -> NDArray[np.int64]:
        """Return the samples (classes * samples,) of a step, class by class."""
        generator = np.random.default_rng((self.seed, step))
        chosen = generator.choice(len(self.members), size=self.classes, replace=False)
        return np.concatenate([self._draw(self.members[label], generator) for label in chosen])

    def _draw(self, members: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        rounds = -(-self.samples // len(members))
        return np.concatenate([generator.permutation(members) for _ in range(rounds)])[: self.samples]


def _relations(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return which samples share a label (N, N), and which of those are not the sample itself."""
    same = labels.unsqueeze(0) == labels.unsqueeze(1)
    return same, same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
