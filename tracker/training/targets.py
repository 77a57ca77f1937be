"""What a head should answer: label maps for training."""

import torch
from torch import Tensor

from tracker.models.anchors import cell_offsets

_HOLDS = 0.6  # overlap from which an anchor holds the object, and below the next one it does not (section 4.1)
_MISSES = 0.3
_NEARLY_BEST = 0.95  # of the best anchor's overlap: one that is as good holds the object too


def response_labels(
    boxes: Tensor, positive: Tensor, cells: int, stride: int, radius_px: float, share: float = 0.0
) -> Tensor:
    """Return label maps (N, 1, cells, cells): 1 where a cell lies in an ellipse around the object's centre, else 0.

    boxes: (N, 4), the object's (u, v) less the middle of the search crop and its (w, h), in crop pixels. The ellipse
    has the radii max(radius_px, share * side). positive: (N,) bool; a pair that does not match has no positive cell.
    Source: Bertinetto et al. 2016, eq. 4, whose discs are share = 0.
    """
    offsets = cell_offsets(cells, stride)
    radii = (share * boxes[:, 2:]).clamp(min=radius_px)
    du = (offsets.view(1, 1, cells) - boxes[:, 0].view(-1, 1, 1)) / radii[:, 0].view(-1, 1, 1)
    dv = (offsets.view(1, cells, 1) - boxes[:, 1].view(-1, 1, 1)) / radii[:, 1].view(-1, 1, 1)
    inside = (du.square() + dv.square() <= 1) & positive.view(-1, 1, 1)
    return inside.float().unsqueeze(1)


def anchor_labels(overlaps: Tensor, positive: Tensor) -> Tensor:
    """Return labels (N, K, h, w) of anchors by their overlaps (N, K, h, w) with the object.

    1 from an overlap of .6, 0 below .3, else -1: it does not count. Of objects whose size no anchor has, the best
    anchors are those that hold them. positive: (N,) bool; a pair that does not match has labels of 0 alone. Sources:
    Li et al. 2018 (SiamRPN), section 4.1; Ren et al. 2015 (Faster R-CNN), section 3.1.2, for the best anchors.
    """
    best = overlaps.amax((1, 2, 3), keepdim=True)
    holds = (overlaps >= _HOLDS) | ((overlaps >= _NEARLY_BEST * best) & (best > 0))
    labels = torch.where(overlaps < _MISSES, 0.0, -1.0).masked_fill(holds, 1.0)
    return labels * positive.view(-1, 1, 1, 1)
