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
