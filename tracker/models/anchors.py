"""Anchors and the code of boxes relative to them: the one home of both, for training and tracking.

The search crop is scaled so that the object keeps its size. `RPNHead` has one anchor a cell, of the shape of the
template's object, so zero deltas mean "the object as it was, here"; `UpChannelHead` has five of one area. The code is
that of Ren et al. 2015 (Faster R-CNN), section 3.1.2. Boxes are (u, v, w, h) in pixels of the search crop, the centre
counted from the crop's middle.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# A side changes by less than a factor of 4 between the template's scale and the search's: beyond, exp runs away.
_MAX_LOG_SIZE = math.log(4.0)


def cell_offsets(cells: int, stride: int, device: torch.device | None = None) -> Tensor:
    """Return where cells look, pixels from the middle of the crop: (cells,), symmetrical around 0."""
    return (torch.arange(cells, dtype=torch.float32, device=device) - (cells - 1) / 2) * stride


def anchor_sizes(side: float, ratios: Sequence[float]) -> Tensor:
    """Return the sizes (K, 2) of anchors with the area of a square of `side` pixels and these heights over widths."""
    roots = torch.tensor(ratios).sqrt()
    return torch.stack([side / roots, side * roots], dim=1)


def encode(boxes: Tensor, size_wh: Tensor, cells: int, stride: int) -> Tensor:
    """Return the deltas (N, K, 4, cells, cells) that lead from anchors (K, 2) in each cell to boxes (N, 4)."""
    offsets = cell_offsets(cells, stride, boxes.device)
    u, v, w, h = (boxes[:, part].view(-1, 1, 1, 1) for part in range(4))
    anchor_w, anchor_h = size_wh[:, 0].view(-1, 1, 1), size_wh[:, 1].view(-1, 1, 1)
    dx = (u - offsets.view(1, 1, 1, -1)) / anchor_w
    dy = (v - offsets.view(1, 1, -1, 1)) / anchor_h
    parts = (dx, dy, (w / anchor_w).log(), (h / anchor_h).log())
    return torch.stack([part.expand(len(boxes), len(size_wh), cells, cells) for part in parts], dim=2)


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
