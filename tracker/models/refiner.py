"""Correct a box by comparing what lies in it, and around it, with what lay in the first frame's.

A head reads a box from one coarse cell; here a window over the whole box is read again, in the fine features, next to
the same window over the box that was given. Where both are alike the box is right; what differs at its border says how
it is to move. Sources: He et al. 2017 (RoIAlign) for the windows; Yan et al. 2021 (Alpha-Refine), section 3.2, for the
pixel-wise correlation of both; a second look at a box is that of Cai and Vasconcelos 2018 (Cascade R-CNN).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate, normalize

from tracker.models.backbones import FINE_STRIDE, Features
from tracker.models.windows import REFINER_CELLS, REFINER_CONTEXT


@dataclass(frozen=True, slots=True)
class RefinerWidths:
    """Say how large a BoxRefiner is."""

    outline: int = 48  # channels of the map that windows are sampled from
    compare: int = 64
    hidden: int = 96


class BoxRefiner(nn.Module):
    """Read from two windows, over a box of the template and over one of the search, how the second is to move."""

    def __init__(self, fine: int, deep: int, stride: int, widths: RefinerWidths) -> None:
        """Build for features of `fine` and `deep` channels, the deep ones of that stride.

        Where both have one stride, their cells do not lie alike, and the fine ones alone are read.
        """
        super().__init__()
        self.channels = channels = widths.outline
        self.fine = nn.Conv2d(fine, channels, 1)
        self.deep = nn.Conv2d(deep, channels, 1, bias=False) if stride == 2 * FINE_STRIDE else None
        cells, wide, narrow = REFINER_CELLS**2, widths.compare, widths.compare // 2
        self.compare = nn.Sequential(
            *_layer(3 * channels + cells, wide, kernel=1),
            *_layer(wide, wide, kernel=3),
            *_layer(wide, narrow, kernel=3),
        )
        self.move = nn.Sequential(nn.Linear(narrow * cells, widths.hidden), nn.ReLU(), nn.Linear(widths.hidden, 4))
        nn.init.normal_(self.move[2].weight, std=1e-3)  # type: ignore[arg-type]  # at first boxes stay as they are
        nn.init.zeros_(self.move[2].bias)  # type: ignore[arg-type]

    def outline(self, features: Features) -> Tensor:
        """Return the map (N, c, h, w), stride `FINE_STRIDE`, that windows are sampled from."""
        fine: Tensor = self.fine(features.fine)
        if self.deep is None:
            return fine
        # Cell i of the deep map looks where cell 2 i of the fine one does: corners are aligned.
        deep = self.deep(features.deep)
        return fine + interpolate(deep, fine.shape[2:], mode="bilinear", align_corners=True)

    def forward(self, template: Tensor, window: Tensor) -> Tensor:
        """Return the moves (M, 4), see `moved`, that windows (M, c, n, n) ask for beside those of the template."""
        one, other = (normalize(part.flatten(2), dim=1) for part in (template, window))
        matches = torch.bmm(one.transpose(1, 2), other).view(len(window), -1, REFINER_CELLS, REFINER_CELLS)
        compared = self.compare(torch.cat([window, template, window * template, matches], dim=1))
        moves: Tensor = self.move(compared.flatten(1))
        return moves


def moved(boxes: Tensor, moves: Tensor) -> Tensor:
    """Return boxes (..., 4) = (u, v, w, h) moved by (..., 4) = (dx, dy) over their size, log growth of w and of h."""
    return torch.cat([boxes[..., :2] + moves[..., :2] * boxes[..., 2:], boxes[..., 2:] * moves[..., 2:].exp()], dim=-1)


def windows(outline: Tensor, boxes: Tensor) -> Tensor:
    """Sample the windows (N * K, c, n, n) over boxes (N, K, 4) from maps (N, c, h, w), as `windows.refiner_window`.

    Boxes are in pixels of the crop, their centres less its middle.
    """
    n, k = boxes.shape[:2]
    across = (torch.arange(REFINER_CELLS, device=boxes.device) + 0.5) / REFINER_CELLS - 0.5
    reach = outline.new_tensor([outline.shape[3] - 1, outline.shape[2] - 1]) * FINE_STRIDE / 2  # to the outer cells
    at = boxes[..., :2].unsqueeze(2) + REFINER_CONTEXT * across.view(-1, 1) * boxes[..., 2:].unsqueeze(2)
    x, y = (at / reach).unbind(-1)  # (N, K, cells)
    cells = (n, k, REFINER_CELLS, REFINER_CELLS)
    grid = torch.stack([x.unsqueeze(2).expand(cells), y.unsqueeze(3).expand(cells)], dim=-1)  # rows, then columns
    sampled = grid_sample(outline, grid.flatten(1, 2), align_corners=True, padding_mode="border")
    return sampled.view(n, -1, k, REFINER_CELLS, REFINER_CELLS).transpose(1, 2).flatten(0, 1)


def _layer(channels: int, out: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, kernel, padding=kernel // 2), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
