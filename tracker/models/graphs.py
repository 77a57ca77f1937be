"""The two branches of a Siamese network as they run while tracking: pictures in, all that the loop reads out."""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from tracker.models import anchors
from tracker.models.backbones import FINE_STRIDE
from tracker.models.heads import RPNHead, SiamFCHead, TemplateCode
from tracker.models.siamese import SiameseNetwork


class TemplateGraph(nn.Module):
    """Encode a template once a target."""

    def __init__(self, network: SiameseNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, size_wh: Tensor) -> tuple[Tensor, ...]:
        """Return the code of crops (N, T, T, 3) uint8, in whose middle lie objects of size_wh (N, 2), crop pixels."""
        deep = self.network.embed(images.permute(0, 3, 1, 2))
        if not isinstance(self.network.head, RPNHead):
            return (deep.float(),)
        box_uvwh = torch.cat([torch.zeros_like(size_wh), size_wh], dim=1)
        return tuple(part.float() for part in self.network.head.encode(deep, box_uvwh, self.network.stride))


class SearchGraph(nn.Module):
    """Look at search crops; the parts that `tracker.runtime.Seen` names come out, those that the head has.

    Without a code the head is left out.
    """

    def __init__(self, network: SiameseNetwork, fine_weight: float) -> None:
        """Take the network and the weight of the fine features in the online filter's maps, 0 for none."""
        super().__init__()
        self.network = network
        self.fine_weight = fine_weight

    def forward(self, images: Tensor, *code: Tensor) -> tuple[Tensor, ...]:
        """Return maps and fine, maps and scores, or maps, scores and boxes, of crops (N, S, S, 3) uint8."""
        network = self.network
        features = network.features(images.permute(0, 3, 1, 2))
        maps = join(features.deep, features.fine, self.fine_weight) if self.fine_weight else features.deep
        if isinstance(network.head, SiamFCHead) and code:
            return maps, network(code[0], features.deep)[:, 0]
        if isinstance(network.head, RPNHead) and code:
            output = network.head(TemplateCode(*code), features)
            size_wh = TemplateCode(*code).size_wh
            return maps, output.cls_logits[:, 0].sigmoid(), anchors.decode(output.box_deltas, size_wh, FINE_STRIDE)
        return maps, features.fine


def join(deep: Tensor, fine: Tensor, fine_weight: float) -> Tensor:
    """Return deep (N, C, h, w) and fine features (N, c, 2h - 1, 2w - 1) as one map (N, C + c, h, w).

    Deep cell i looks where fine cell 2 i does; the fine cells around it are averaged. Each sample of the deep map gets
    the norm 1 and of the fine map the norm `fine_weight`.
    """
    pooled = avg_pool2d(fine, 3, stride=2, padding=1, count_include_pad=False)
    return torch.cat([_unit(deep), fine_weight * _unit(pooled)], dim=1)


def _unit(maps: Tensor) -> Tensor:
    """Return maps (N, C, h, w), each sample with norm 1; one without energy stays 0."""
    norms: Tensor = maps.flatten(1).norm(dim=1).clamp(min=1e-12)
    return maps / norms.view(-1, 1, 1, 1)
