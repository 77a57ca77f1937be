"""What a head should answer: label maps for training."""

import torch
from torch import Tensor


def response_labels(centres: Tensor, positive: Tensor, cells: int, stride: int, radius_px: float) -> Tensor:
    """Return label maps (N, 1, cells, cells): 1 where a cell lies within `radius_px` of the object, else 0.

    centres: (N, 2), the object's (u, v) less the middle of the search crop, in crop pixels. positive: (N,) bool; a
    pair that does not match has no positive cell. Source: Bertinetto et al. 2016, eq. 4.
    """
    offsets = (torch.arange(cells, dtype=torch.float32) - (cells - 1) / 2) * stride  # cell centre less crop middle
    du = offsets.view(1, 1, cells) - centres[:, 0].view(-1, 1, 1)
    dv = offsets.view(1, cells, 1) - centres[:, 1].view(-1, 1, 1)
    inside = (du.square() + dv.square() <= radius_px**2) & positive.view(-1, 1, 1)
    return inside.float().unsqueeze(1)
