"""Heads: template and search features in, maps that say where the object is out."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from tracker.models.anchors import cell_offsets, decode
from tracker.models.backbones import FINE_STRIDE, Features
from tracker.models.correlation import cross_correlation, pixelwise_cross_correlation
from tracker.models.depthwise import DepthwiseConv2d

# A 6x6x256 correlation sums 9216 products: the gain brings it to the range of logits. It is not learned: its gradient
# is the correlation itself, thousands of times any other, and training diverges within twenty steps.
_GAIN = 1e-3


class AnchorHead(Protocol):
    """Find boxes: what `RPNHead` and `UpChannelHead` have in common."""

    code_fields: tuple[str, ...]  # names of the parts of a template's code

    def encode(self, deep: Tensor, box_uvwh: Tensor, stride: int) -> tuple[Tensor, ...]:
        """Return the code of template features (N, C, h, h) whose object is box_uvwh (N, 4), see `models.anchors`."""

    def propose(self, code: tuple[Tensor, ...], search: Features) -> tuple[Tensor, Tensor]:
        """Return a score (N, h, w) in [0, 1] and a box (N, 4, h, w) for each cell of stride `FINE_STRIDE`."""


class SiamFCHead(nn.Module):
    """Correlate template and search features into one response map of logits (Bertinetto et al. 2016, eq. 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, template: Tensor, search: Tensor) -> Tensor:
        """Return the response (N, 1, h, w) of template (N or 1, C, a, b) on search features (N, C, H, W)."""
        return _GAIN * cross_correlation(template.float(), search.float()) + self.bias


class TemplateCode(NamedTuple):
    """Hold what the head needs of a template; it is computed once a target."""

    kernels: Tensor  # (N, K, c), one unit vector a cell
    inside: Tensor  # (N, K), share of each cell that is object
    gate: Tensor  # (N, c + f), in (0, 2): which channels tell this object
    size_wh: Tensor  # (N, 2), of the object, pixels of the template crop: the anchor


class RPNOutput(NamedTuple):
    """Hold the maps of an anchor head at half the stride of the deep features."""

    cls_logits: Tensor  # (N, 1, h, w), of the overlap that the cell's box has with the object
    box_deltas: Tensor  # (N, 4, h, w), see `models.anchors`


@dataclass(frozen=True, slots=True)
class RPNWidths:
    """Say how large an RPNHead is; the template's inner cells x cells are compared."""

    cells: int = 7
    neck: int = 128
    fine_neck: int = 64
    tower: int = 64
    separable: bool = False  # each 3x3 convolution as one of 5x5 a channel and one of 1x1: a sixth of the arithmetic


class RPNHead(nn.Module):
    """Compare each template cell with each search cell, then read place and box with two convolution towers.

    The correlation is pixel-wise (Yan et al. 2021, Alpha-Refine, section 3.2): a map for every template cell, each the
    cosine of two cells. Two more maps are the best cosine with a cell of the object and with a cell of its
    surroundings (Lukezic et al. 2020, D3S, section 3.1). There is one anchor a cell, of the object's own shape, where
    Li et al. 2018 have five of fixed shapes.
    """

    code_fields = TemplateCode._fields

    def __init__(self, deep: int, fine: int, widths: RPNWidths) -> None:
        """Build for features of `deep` and `fine` channels."""
        super().__init__()
        cells, neck, fine_neck, tower = widths.cells, widths.neck, widths.fine_neck, widths.tower
        layer = _separable if widths.separable else _layer
        self.cells = cells
        joined = neck - fine_neck // 2
        self.neck = nn.Sequential(nn.Conv2d(deep, neck, 1), nn.BatchNorm2d(neck))
        self.fine_neck = nn.Sequential(nn.Conv2d(fine, fine_neck, 1), nn.BatchNorm2d(fine_neck), nn.ReLU())
        self.gate = nn.Linear(neck, neck + fine_neck)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        self.mix = nn.Sequential(*_layer(neck + cells * cells + 2, neck, kernel=1), *layer(neck, joined, kernel=3))
        self.join = nn.Sequential(*layer(joined + fine_neck, joined, kernel=3))
        self.cls_tower = nn.Sequential(*layer(joined, tower, 3), *layer(tower, tower, 3))
        self.box_tower = nn.Sequential(*layer(joined, tower, 3), *layer(tower, tower, 3))
        self.cls = nn.Conv2d(tower, 1, 1)
        self.box = nn.Conv2d(tower, 4, 1)
        nn.init.constant_(self.cls.bias, -4.0)  # type: ignore[arg-type]  # few cells are object
        nn.init.normal_(self.box.weight, std=1e-3)
        nn.init.zeros_(self.box.bias)  # type: ignore[arg-type]

    def encode(self, deep: Tensor, box_uvwh: Tensor, stride: int) -> TemplateCode:
        """Return the code of template features (N, C, h, h) whose object is box_uvwh (N, 4), see `models.anchors`."""
        neck: Tensor = self.neck(deep.to(self.cls.weight.dtype))
        margin = (neck.shape[-1] - self.cells) // 2
        neck = neck[:, :, margin : margin + self.cells, margin : margin + self.cells]
        inside = _inside(box_uvwh, self.cells, stride).to(neck.dtype)
        kernels = neck.flatten(2).transpose(1, 2)  # (N, K, c)
        mean = (kernels * inside.unsqueeze(2)).sum(1) / inside.sum(1, keepdim=True)
        gate = 2 * torch.sigmoid(self.gate(mean))
        return TemplateCode(normalize(kernels, dim=2), inside, gate, box_uvwh[:, 2:])

    def forward(self, parts: tuple[Tensor, ...], search: Features) -> RPNOutput:
        """Return the maps of the parts of a code (batch N or 1) on search features (N, ...)."""
        code = TemplateCode(*parts)
        dtype = self.cls.weight.dtype
        neck: Tensor = self.neck(search.deep.to(dtype))
        channels = neck.shape[1]
        cosines = pixelwise_cross_correlation(code.kernels.to(neck.dtype), normalize(neck, dim=1))
        inside = code.inside.to(neck.dtype).unsqueeze(2).unsqueeze(3)
        best = [(cosines * share).amax(1, keepdim=True) for share in (inside, 1 - inside)]
        matches = torch.cat([cosines, *best], dim=1)
        gate = code.gate.to(neck.dtype).unsqueeze(2).unsqueeze(3)
        mixed = self.mix(torch.cat([neck * gate[:, :channels], matches], dim=1))
        fine = self.fine_neck(search.fine.to(dtype)) * gate[:, channels:]
        # Cell i of the deep map looks where cell 2 i of the fine one does: corners are aligned.
        large = interpolate(mixed, fine.shape[2:], mode="bilinear", align_corners=True)
        joined = self.join(torch.cat([large, fine], dim=1))
        return RPNOutput(self.cls(self.cls_tower(joined)).float(), self.box(self.box_tower(joined)).float())

    def propose(self, code: tuple[Tensor, ...], search: Features) -> tuple[Tensor, Tensor]:
        """Return the overlap (N, h, w) that each cell's box should have with the object, and the box (N, 4, h, w)."""
        return proposals(self(code, search), TemplateCode(*code).size_wh)


def proposals(output: RPNOutput, size_wh: Tensor) -> tuple[Tensor, Tensor]:
    """Return the overlap (N, h, w) of each cell's box, and the box (N, 4, h, w), for objects of size_wh (N or 1, 2)."""
    return output.cls_logits[:, 0].sigmoid(), decode(output.box_deltas, size_wh, FINE_STRIDE)


def _layer(channels: int, out: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, kernel, padding=kernel // 2), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]


def _separable(channels: int, out: int, kernel: int) -> list[nn.Module]:
    """Return a convolution of the kernel's size and one cell more on each side, channels apart, and one that mixes."""
    return [DepthwiseConv2d(channels, kernel + 2), nn.BatchNorm2d(channels), *_layer(channels, out, kernel=1)]


def _inside(box_uvwh: Tensor, cells: int, stride: int) -> Tensor:
    """Return the share (N, cells * cells) of each cell that lies in the box; the cell at its centre counts in full."""
    offsets = cell_offsets(cells, stride, box_uvwh.device)
    shares = []
    for axis in (0, 1):
        centre, half = box_uvwh[:, axis : axis + 1], box_uvwh[:, axis + 2 : axis + 3] / 2
        low = torch.maximum(offsets - stride / 2, centre - half)
        high = torch.minimum(offsets + stride / 2, centre + half)
        share = ((high - low) / stride).clamp(min=0)
        shares.append(torch.maximum(share, ((offsets - centre).abs() <= stride / 2).float()))
    return (shares[1].unsqueeze(2) * shares[0].unsqueeze(1)).flatten(1)
