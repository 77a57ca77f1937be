"""The anchor head of SiamRPN: the template makes the kernels of two convolutions over the search features."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tracker.models.anchors import anchor_sizes, decode
from tracker.models.backbones import FINE_STRIDE, Features
from tracker.models.correlation import up_channel_cross_correlation

_RATIOS = (0.33, 0.5, 1.0, 2.0, 3.0)  # height over width, section 4.1
_SIDE = 64.0  # pixels: a square object in a crop of its context has this side at 127 px
_KERNEL = 3


class UpChannelCode(NamedTuple):
    """Hold what the head needs of a template: K anchors a cell, kernels of c channels and t x t taps."""

    cls_kernels: Tensor  # (N, K, c, t, t)
    box_kernels: Tensor  # (N, 4K, c, t, t)


class AnchorOutput(NamedTuple):
    """Hold the maps of K anchors a cell, of stride `FINE_STRIDE`."""

    cls_logits: Tensor  # (N, K, h, w), that the anchor holds the object
    box_deltas: Tensor  # (N, K, 4, h, w), see `models.anchors`


class UpChannelHead(nn.Module):
    """Answer for five anchors a cell whether they hold the object, and how its box differs from them.

    Source: Li et al. 2018 (SiamRPN), section 3. The two classes of its softmax are one logit here, their difference;
    the kernels have 64 channels instead of 256, each side is normalised, and the sum over a kernel is divided by the
    root of its length, so that answers are of the size of logits from the start.
    """

    code_fields = UpChannelCode._fields
    sizes: Tensor  # (K, 2), of the anchors, crop pixels

    def __init__(self, channels: int, width: int = 64) -> None:
        """Build for features of `channels` and stride `FINE_STRIDE`."""
        super().__init__()
        self.width = width
        anchors = len(_RATIOS)
        self.cls_template = _adjust(channels, anchors * width)
        self.box_template = _adjust(channels, 4 * anchors * width)
        self.cls_search = _adjust(channels, width)
        self.box_search = _adjust(channels, width)
        self.box = nn.Conv2d(4 * anchors, 4 * anchors, 1)
        self.cls_gain = nn.Parameter(torch.tensor(1.0))
        self.cls_bias = nn.Parameter(torch.full((anchors,), -2.0))  # few anchors hold the object
        nn.init.normal_(self.box.weight, std=0.01)
        nn.init.zeros_(self.box.bias)  # type: ignore[arg-type]
        self.register_buffer("sizes", anchor_sizes(_SIDE, _RATIOS), persistent=False)

    def encode(self, deep: Tensor, box_uvwh: Tensor, stride: int) -> UpChannelCode:
        """Return the code of template features (N, C, h, h); where in them the object lies does not matter."""
        dtype = self.box.weight.dtype
        deep = deep.to(dtype)
        kernels = [part(deep).unflatten(1, (-1, self.width)).float() for part in (self.cls_template, self.box_template)]
        length = self.width * kernels[0].shape[-1] ** 2
        return UpChannelCode(*(kernel / length**0.5 for kernel in kernels))

    def forward(self, code: UpChannelCode, search: Features) -> AnchorOutput:
        """Return the maps of the code (batch N or 1) on search features (N, ...)."""
        dtype = self.box.weight.dtype
        deep = search.deep.to(dtype)
        cls = up_channel_cross_correlation(code.cls_kernels.to(dtype), self.cls_search(deep).to(dtype))
        box = self.box(up_channel_cross_correlation(code.box_kernels.to(dtype), self.box_search(deep).to(dtype)))
        logits = self.cls_gain * cls.float() + self.cls_bias.view(1, -1, 1, 1)
        return AnchorOutput(logits, box.float().unflatten(1, (-1, 4)))

    def boxes(self, deltas: Tensor) -> Tensor:
        """Return boxes (N, K, 4, h, w) from deltas (N, K, 4, h, w), see `models.anchors`."""
        n, anchors = deltas.shape[:2]
        sizes = self.sizes.repeat(n, 1)
        return decode(deltas.flatten(0, 1), sizes, FINE_STRIDE).view(deltas.shape)

    def propose(self, code: tuple[Tensor, ...], search: Features) -> tuple[Tensor, Tensor]:
        """Return the score (N, h, w) of each cell's best anchor, in [0, 1], and its box (N, 4, h, w)."""
        output = self(UpChannelCode(*code), search)
        score, best = output.cls_logits.max(dim=1)
        index = best[:, None, None].expand(-1, 1, 4, -1, -1)
        return score.sigmoid(), self.boxes(output.box_deltas).gather(1, index)[:, 0]


def _adjust(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, _KERNEL), nn.BatchNorm2d(out))
