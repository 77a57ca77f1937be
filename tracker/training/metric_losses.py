"""Losses that bring embeddings of one class together and others apart.

Embeddings are (N, D) with norm 1 unless it says otherwise, labels (N,) integers. Distances are Euclidean. A loss over
nothing, such as no triplet, is 0 with a gradient of 0.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, relu, softplus

from tracker.models.encoders import l2_similarity
from tracker.training.mining import Quadruplets, Triplets

OneMeans = Literal["same", "different"]  # what the label 1 of a pair says: both are found in the literature


def contrastive_loss(gaps: Tensor, labels: Tensor, margin: float, one_means: OneMeans) -> Tensor:
    """Return the mean of d^2 / 2 over pairs that are the same and of max(0, margin - d)^2 / 2 over the others.

    gaps: (P,), the distances d. labels: (P,), 0 or 1; one_means: "different" in Hadsell et al. 2006 (eq. 4, the source
    of the loss), "same" in most that came after.
    """
    same = labels > 0.5 if one_means == "same" else labels <= 0.5
    return _mean(torch.where(same, gaps.square(), relu(margin - gaps).square()) / 2)


def similarity_loss(logits: Tensor, same: Tensor) -> Tensor:
    """Return the mean cross-entropy of learned similarities (P,) with whether the pairs are the same (P,).

    Source: Koch et al. 2015, section 3.2.
    """
    return binary_cross_entropy_with_logits(logits, same.to(logits.dtype)) if len(logits) else logits.sum()


def triplet_loss(embeddings: Tensor, triplets: Triplets, margin: float) -> Tensor:
    """Return the mean of max(0, d(anchor, positive) - d(anchor, negative) + margin) (Schroff et al. 2015, eq. 3)."""
    return _mean(relu(_lead(embeddings, triplets) + margin))


def soft_triplet_loss(embeddings: Tensor, triplets: Triplets) -> Tensor:
    """Return the mean of log(1 + exp(d(anchor, positive) - d(anchor, negative))) (Hermans et al. 2017, section 2)."""
    return _mean(softplus(_lead(embeddings, triplets)))


def quadruplet_loss(embeddings: Tensor, found: Quadruplets, margin: float, other_margin: float) -> Tensor:
    """Return the mean over quadruplets of two hinges on squared distances (Chen et al. 2017, eq. 6).

    max(0, d(a, p)^2 - d(a, n)^2 + margin) + max(0, d(a, p)^2 - d(n, o)^2 + other_margin): the second pushes classes
    apart that the anchor has no part in.
    """
    anchor, positive, negative, other = (embeddings[at] for at in found)
    near = _squared(anchor, positive)
    return _mean(
        relu(near - _squared(anchor, negative) + margin) + relu(near - _squared(negative, other) + other_margin)
    )


def n_pair_loss(embeddings: Tensor, labels: Tensor, scale: float) -> Tensor:
    """Return the mean over classes of log(1 + sum over others j of exp(s_ij - s_ii)) (Sohn 2016, eq. 7).

    s_ij: `scale` times the product of the first sample of class i and the second one of class j. Sohn's embeddings have
    no norm; those of norm 1 need a scale above 1. Raises ValueError naming the label of a single sample.
    """
    firsts, seconds = [], []
    for label in sorted(set(labels.tolist())):
        (members,) = (labels == label).nonzero(as_tuple=True)
        if len(members) < 2:
            raise ValueError(f"label {label} has a single sample; the N-pair loss needs two of each")
        firsts.append(members[0])
        seconds.append(members[1])
    logits = scale * embeddings[torch.stack(firsts)] @ embeddings[torch.stack(seconds)].T
    return _mean(logits.logsumexp(1) - logits.diagonal())


def info_nce_loss(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the mean over positive pairs (i, p) of -log(exp(s_ip) / (exp(s_ip) + sum over negatives of exp(s_in))).

    s: cosine over temperature. Source: van den Oord et al. 2018, eq. 4, with the batch's negatives as in Chen et al.
    2020 (SimCLR).
    """
    same, others = _similar(embeddings, labels, temperature)
    i, p = (same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)).nonzero(as_tuple=True)
    negatives = others.masked_fill(same, -math.inf).logsumexp(1)
    return _mean(torch.logaddexp(others[i, p], negatives[i]) - others[i, p])


def supervised_contrastive_loss(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the mean over samples of the mean, over their positives, of -log softmax of the cosine over temperature.

    The softmax is over all other samples of the batch; samples without a positive are left out. Source: Khosla et al.
    2020, eq. 2.
    """
    same, logits = _similar(embeddings, labels, temperature)
    own = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive = (same & ~own).to(logits.dtype)
    log_share = logits - logits.masked_fill(own, -math.inf).logsumexp(1, keepdim=True)
    count = positive.sum(1)
    losses = -(positive * log_share).sum(1) / count.clamp(min=1)
    return _mean(losses[count > 0])


def _similar(embeddings: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return which samples share a label and the similarities over temperature, both (N, N)."""
    return labels.unsqueeze(0) == labels.unsqueeze(1), embeddings @ embeddings.T / temperature


def _lead(embeddings: Tensor, triplets: Triplets) -> Tensor:
    """Return how much farther the positive is than the negative (T,)."""
    anchor, positive, negative = (embeddings[at] for at in triplets)
    return l2_similarity(anchor, negative) - l2_similarity(anchor, positive)


def _squared(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().sum(-1)


def _mean(values: Tensor) -> Tensor:
    return values.mean() if values.numel() else values.sum()
