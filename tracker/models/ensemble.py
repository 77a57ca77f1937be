"""Several Siamese networks as one: each embeds the picture itself, what their heads and refiners answer is averaged.

Networks of different make are wrong about different things, so their mean is wrong less often than the better one.
Sources: Hansen and Salamon 1990; He et al. 2018 (SA-Siam) for two branches of a Siamese tracker whose answers are
summed.
"""

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from tracker.models.backbones import Backbone, Features
from tracker.models.heads import RPNHead, RPNOutput, TemplateCode, proposals
from tracker.models.refiner import BoxRefiner


class EnsembleBackbone(nn.Module):
    """Embed images with several backbones of one stride: their features lie behind each other in the channels."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        """Take backbones whose cells lie alike. Raises ValueError for other strides than the first one's."""
        super().__init__()
        self.members = nn.ModuleList(members)
        own = [cast(Backbone, member) for member in members]
        self.stride = own[0].stride
        if any(member.stride != self.stride for member in own):
            strides = ", ".join(str(member.stride) for member in own)
            raise ValueError(f"the backbones of an ensemble must have one stride, got {strides}")
        self.widths = tuple((member.fine_channels, member.channels) for member in own)
        self.fine_channels, self.channels = (sum(counts) for counts in zip(*self.widths, strict=True))
        self.bears_bfloat16 = own[0].bears_bfloat16  # the others only add to what the first one finds

    def features(self, images: Tensor) -> Features:
        """Return the maps (N, sum of c, h, w) and (N, sum of C, h, w) of normalised images (N, 3, H, W)."""
        found = [cast(Backbone, member).features(images) for member in self.members]
        return Features(*(torch.cat(maps, dim=1) for maps in zip(*found, strict=True)))

    def forward(self, images: Tensor) -> Tensor:
        """Return the deep features of normalised images."""
        return self.features(images).deep

    def split(self, features: Features) -> list[Features]:
        """Return the features of each member."""
        return list(_split(features, self.widths))


class EnsembleHead(nn.Module):
    """Average the logits and the boxes' deltas of heads, each of which reads the features of its own backbone."""

    def __init__(self, members: Sequence[RPNHead], widths: Sequence[tuple[int, int]]) -> None:
        """Take heads and the channels (fine, deep) of the features that each reads."""
        super().__init__()
        self.members = nn.ModuleList(members)
        self.widths = tuple(widths)
        self.code_fields = tuple(f"{field}_{number}" for number in range(len(members)) for field in RPNHead.code_fields)

    def encode(self, deep: Tensor, box_uvwh: Tensor, stride: int) -> tuple[Tensor, ...]:
        """Return the members' codes, one after the other, see `RPNHead.encode`."""
        parts = torch.split(deep, [width for _, width in self.widths], dim=1)
        heads = (cast(RPNHead, member) for member in self.members)
        codes = (head.encode(part, box_uvwh, stride) for head, part in zip(heads, parts, strict=True))
        return tuple(part for code in codes for part in code)

    def forward(self, code: tuple[Tensor, ...], search: Features) -> RPNOutput:
        """Return the mean maps of the code (batch N or 1) on search features (N, ...)."""
        fields = len(RPNHead.code_fields)
        found = [
            member(code[number * fields : (number + 1) * fields], features)
            for number, (member, features) in enumerate(zip(self.members, _split(search, self.widths), strict=True))
        ]
        return RPNOutput(*(torch.stack(maps).mean(0) for maps in zip(*found, strict=True)))

    def propose(self, code: tuple[Tensor, ...], search: Features) -> tuple[Tensor, Tensor]:
        """Return the overlap (N, h, w) that each cell's box should have with the object, and the box (N, 4, h, w)."""
        return proposals(self(code, search), TemplateCode(*code[: len(RPNHead.code_fields)]).size_wh)


class EnsembleRefiner(nn.Module):
    """Average the moves of refiners, each of which reads the features of its own backbone."""

    def __init__(self, members: Sequence[BoxRefiner], widths: Sequence[tuple[int, int]]) -> None:
        """Take refiners and the channels (fine, deep) of the features that each reads."""
        super().__init__()
        self.members = nn.ModuleList(members)
        self.widths = tuple(widths)
        self._outlines = [member.channels for member in members]
        self.channels = sum(self._outlines)

    def outline(self, features: Features) -> Tensor:
        """Return the maps of all members (N, sum of c, h, w), see `BoxRefiner.outline`."""
        parts = zip(self.members, _split(features, self.widths), strict=True)
        return torch.cat([cast(BoxRefiner, member).outline(part) for member, part in parts], dim=1)

    def forward(self, template: Tensor, window: Tensor) -> Tensor:
        """Return the mean moves (M, 4) that windows (M, c, n, n) ask for beside those of the template."""
        known, shown = (torch.split(maps, self._outlines, dim=1) for maps in (template, window))
        parts = zip(self.members, known, shown, strict=True)
        return torch.stack([member(one, other) for member, one, other in parts]).mean(0)


def _split(features: Features, widths: Sequence[tuple[int, int]]) -> Iterator[Features]:
    fine, deep = ([*counts] for counts in zip(*widths, strict=True))
    return map(Features, torch.split(features.fine, fine, dim=1), torch.split(features.deep, deep, dim=1))
