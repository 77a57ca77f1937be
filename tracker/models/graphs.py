"""The parts of a Siamese network as they run while tracking: the backbone on pictures, and the head's two sides.

Tracking in torch runs them as they are; each is exported as one graph for other runtimes. Their outputs are named in
`BackboneGraph.outputs` and `HeadGraph.outputs`.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from tracker.models.backbones import Features
from tracker.models.ensemble import EnsembleRefiner
from tracker.models.filter_neck import unit_samples
from tracker.models.refiner import BoxRefiner
from tracker.models.siamese import SiameseNetwork


class BackboneGraph(nn.Module):
    """Embed pictures, and join fine and deep features for the online filter."""

    def __init__(self, network: SiameseNetwork) -> None:
        super().__init__()
        self.network = network
        narrow = () if network.filter_neck is None else ("narrow",)
        outline = () if network.refiner is None else ("outline",)
        deep = () if network.head is None else ("deep",)
        self.outputs = ("maps", *narrow, *outline, *deep, "fine")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the `outputs`, each (N, C, h, w), of pictures (N, S, S, 3) uint8.

        maps: fine and deep features together; narrow: of them what the online filter was trained to read; outline:
        what the refiner samples windows from.
        """
        network = self.network
        features = network.features_of_pixels(images)
        fine, deep = features
        maps = filter_maps(network, features)
        narrow = () if network.filter_neck is None else (network.filter_neck(maps),)
        outline = () if network.refiner is None else (network.refiner.outline(features),)
        return (maps, *narrow, *outline, *(() if network.head is None else (deep,)), fine)


class CodeGraph(nn.Module):
    """Make the code of a template, once a target: for SiamFC its deep features, else what the anchor head wants."""

    def __init__(self, network: SiameseNetwork) -> None:
        super().__init__()
        self.head = network.anchor_head
        self.stride = network.stride
        self.outputs = ("template",) if self.head is None else self.head.code_fields

    def forward(self, deep: Tensor, size_wh: Tensor) -> tuple[Tensor, ...]:
        """Return the code of deep features (N, C, h, h), in whose middle lie objects of size_wh (N, 2), crop pixels."""
        deep = deep + 0 * size_wh.sum()  # an input that is used nowhere would not be part of the graph
        if self.head is None:
            return (deep,)
        box_uvwh = torch.cat([torch.zeros_like(size_wh), size_wh], dim=1)
        return tuple(part.float() for part in self.head.encode(deep, box_uvwh, self.stride))


class HeadGraph(nn.Module):
    """Compare a template's code with the features of search crops."""

    def __init__(self, network: SiameseNetwork) -> None:
        super().__init__()
        self.anchors = network.anchor_head
        self.siamfc = network.head if self.anchors is None else None
        self.outputs = ("scores",) if self.anchors is None else ("scores", "boxes")

    def forward(self, deep: Tensor, fine: Tensor, *code: Tensor) -> tuple[Tensor, ...]:
        """Return scores (N, a, a) and, from an anchor head, boxes (N, 4, a, a): see `tracker.runtime.Seen`.

        A code of batch 1 serves all crops.
        """
        if self.anchors is not None:
            return self.anchors.propose(code, Features(fine, deep))
        assert self.siamfc is not None
        return (self.siamfc(code[0], deep)[:, 0],)


class EmbeddingGraph(nn.Module):
    """Embed an object."""

    outputs = ("embedding",)

    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, pooled: Tensor) -> tuple[Tensor, ...]:
        """Return unit vectors (N, D) of features (N, C, n, n) pooled from the backbone's maps."""
        return (self.embedding(pooled),)


class RefinerGraph(nn.Module):
    """Say how boxes are to move."""

    outputs = ("moves",)

    def __init__(self, refiner: BoxRefiner | EnsembleRefiner) -> None:
        super().__init__()
        self.refiner = refiner

    def forward(self, template: Tensor, window: Tensor) -> tuple[Tensor, ...]:
        """Return moves (N, 4) for windows (N, c, n, n), each beside that of its template; see `models.refiner`."""
        return (self.refiner(template, window),)


def filter_maps(network: SiameseNetwork, features: Features) -> Tensor:
    """Return the maps (N, C, h, w) of which the online filter reads, those of all members of a network.

    Of each both together, or the deep ones alone where the network's `fine_weight` is 0.
    """
    weight = network.fine_weight
    maps = [join(one.deep, one.fine, weight) if weight else one.deep for one in network.members(features)]
    return maps[0] if len(maps) == 1 else torch.cat(maps, dim=1)


def join(deep: Tensor, fine: Tensor, fine_weight: float) -> Tensor:
    """Return deep (N, C, h, w) and fine features (N, c, 2h - 1, 2w - 1) as one map (N, C + c, h, w).

    Deep cell i looks where fine cell 2 i does; the fine cells around it are averaged. Each sample of the deep map gets
    the norm 1 and of the fine map the norm `fine_weight`.
    """
    pooled = avg_pool2d(fine, 3, stride=2, padding=1, count_include_pad=False)
    return torch.cat([unit_samples(deep), fine_weight * unit_samples(pooled)], dim=1)
