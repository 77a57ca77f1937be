"""Anchors and the code of boxes relative to them: the one home of both, for training and tracking.

There is one anchor a cell, and it has the shape of the template's object: the search crop is scaled so that the object
keeps its size, so zero deltas mean "the object as it was, here". The code is that of Ren et al. 2015 (Faster R-CNN),
section 3.1.2. Boxes are (u, v, w, h) in pixels of the search crop, the centre counted from the crop's middle.
"""

import math

import torch
from torch import Tensor

# A side changes by less than a factor of 4 between the template's scale and the search's: beyond, exp runs away.
_MAX_LOG_SIZE = math.log(4.0)


def cell_offsets(cells: int, stride: int, device: torch.device | None = None) -> Tensor:
    """Return where cells look, pixels from the middle of the crop: (cells,), symmetrical around 0."""
    return (torch.arange(cells, dtype=torch.float32, device=device) - (cells - 1) / 2) * stride


def decode(deltas: Tensor, size_wh: Tensor, stride: int) -> Tensor:
    """Return boxes (N, 4, h, w) from deltas (N, 4, h, w) = (dx, dy, log width, log height) on anchors (N, 2)."""
    height, width = deltas.shape[2:]
    anchors = size_wh.view(-1, 2, 1, 1)
    cells = torch.stack(
        [
            cell_offsets(width, stride, deltas.device).expand(height, width),
            cell_offsets(height, stride, deltas.device).unsqueeze(1).expand(height, width),
        ]
    )
    sizes = anchors * deltas[:, 2:].clamp(-_MAX_LOG_SIZE, _MAX_LOG_SIZE).exp()
    return torch.cat([cells + deltas[:, :2] * anchors, sizes], dim=1)
