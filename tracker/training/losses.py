"""Training losses."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def balanced_logistic_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean logistic loss of response maps in which positive and negative cells weigh the same.

    logits, labels: (N, 1, h, w), labels 0 or 1. Each map's positive cells share half of its weight and its negative
    cells the other half; a map of negatives alone gives them all of it. Source: Bertinetto et al. 2016, eq. 2 and
    section 2.4.
    """
    positive = (labels > 0.5).to(logits.dtype)
    negative = 1 - positive
    n_positive = positive.sum((1, 2, 3), keepdim=True)
    n_negative = negative.sum((1, 2, 3), keepdim=True)
    share = torch.where((n_positive > 0) & (n_negative > 0), 0.5, 1.0)
    weights = share * (positive / n_positive.clamp(min=1) + negative / n_negative.clamp(min=1))
    losses = binary_cross_entropy_with_logits(logits, positive, reduction="none")
    return (weights * losses).sum((1, 2, 3)).mean()


def overlap_focal_loss(logits: Tensor, overlaps: Tensor, positive: Tensor) -> Tensor:
    """Return the loss of a score that is to be the overlap of the cell's box, summed over all cells.

    logits, overlaps, positive: (N, 1, h, w); the overlaps of positive cells are in [0, 1]. A positive cell weighs as
    much as its overlap; a negative one 0.75 of its squared score, so that the many easy ones do not drown the rest.
    Source: Zhang et al. 2021 (VarifocalNet), eq. 2.
    """
    score = logits.detach().sigmoid()
    wanted = torch.where(positive, overlaps, torch.zeros_like(overlaps))
    weights = torch.where(positive, overlaps, 0.75 * score.square())
    losses = binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (weights * losses).sum()


def anchor_loss(logits: Tensor, labels: Tensor, hardest: int) -> Tensor:
    """Return the mean logistic loss of anchors, half of it of positive ones and half of the hardest negative ones.

    logits, labels: (N, K, h, w), labels 1, 0, or below 0 for anchors that do not count. `hardest` negatives of each
    sample share its half, or all of its weight where none is positive. Sources: Li et al. 2018 (SiamRPN), section 3.4,
    with 48 negatives drawn by chance; Shrivastava et al. 2016, section 4, for the hardest instead.
    """
    logits, labels = logits.flatten(1), labels.flatten(1)
    losses = binary_cross_entropy_with_logits(logits, labels.clamp(min=0).to(logits.dtype), reduction="none")
    positive = labels > 0.5
    n_positive = positive.sum(1)
    of_positive = (losses * positive).sum(1) / n_positive.clamp(min=1)
    negative_losses = losses.masked_fill((labels < 0) | positive, 0.0)
    of_negative = negative_losses.topk(min(hardest, negative_losses.shape[1]), dim=1).values.mean(1)
    return torch.where(n_positive > 0, 0.5 * (of_positive + of_negative), of_negative).mean()


def generalized_iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and generalized IoU of boxes (..., 4) = (cx, cy, w, h).

    Source: Rezatofighi et al. 2019, algorithm 1.
    """
    low_a, high_a = a[..., :2] - a[..., 2:] / 2, a[..., :2] + a[..., 2:] / 2
    low_b, high_b = b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2
    inter = (torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)).clamp(min=0).prod(-1)
    hull = (torch.maximum(high_a, high_b) - torch.minimum(low_a, low_b)).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - inter
    iou = inter / union.clamp(min=1e-9)
    return iou, iou - (hull - union) / hull.clamp(min=1e-9)
