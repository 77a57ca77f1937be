"""Learn from a network that knows more: which places of a picture are alike, as its features say.

A filter that is learned online, and a correlation, read nothing of features but their inner products. So the student is
taught those of a teacher's joined features, whatever the channels of either mean, and no layer is needed between them.
Sources: Hinton et al. 2015 (distillation); Tung and Mori 2019 (similarity-preserving distillation), section 3, here for
the places of pictures instead of whole ones.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, mse_loss, pad

from tracker.data.pairs import Pairs
from tracker.models.anchors import cell_offsets
from tracker.models.backbones import Features
from tracker.models.filter_neck import unit_samples
from tracker.models.graphs import filter_maps
from tracker.models.siamese import SiameseNetwork


@dataclass(frozen=True, slots=True)
class TeacherTraining:
    """Say what teaches a network, and how much that weighs beside the losses of its head."""

    teacher: SiameseNetwork  # in evaluation mode, its size of picture a multiple of its stride and 1
    fine_weight: float  # of the teacher's fine features beside its deep ones
    weight: float

    def of(self, network: SiameseNetwork, search: Features, pairs: Pairs) -> Tensor:
        """Return the weighted loss: how far the places of the searches of a template are from as alike as taught.

        search: the student's features of all searches, (N * K, C, h, w); the deep ones are taught.
        """
        n, k = pairs.positive.shape
        pictures = pairs.searches.flatten(0, 1).to(search.deep.device)
        wanted = self._maps(pictures, search.deep.shape[-1], network.stride)
        return self.weight * mse_loss(inner_products(search.deep, n), inner_products(wanted, n))

    @torch.no_grad()
    def _maps(self, pictures: Tensor, cells: int, stride: int) -> Tensor:
        """Return the teacher's maps (N, C, cells, cells) where cells of that stride look, of pictures (N, 3, S, S)."""
        taught = filter_maps(self.teacher.features(whole_cells(pictures, self.teacher.stride)), self.fine_weight)
        return resampled_cells(taught, self.teacher.stride, cells, stride)


def inner_products(maps: Tensor, groups: int) -> Tensor:
    """Return the inner products (groups, P, P) of all places of maps (N, C, h, w), N / groups of which lie together.

    Each map is scaled to a mean energy of 1 a place, as the online filter does.
    """
    scaled = unit_samples(maps.float()) * maps[0, 0].numel() ** 0.5
    places = scaled.view(groups, -1, *maps.shape[1:]).permute(0, 1, 3, 4, 2).flatten(1, 3)  # (groups, P, C)
    products: Tensor = places @ places.transpose(1, 2)
    return products


def whole_cells(pictures: Tensor, stride: int) -> Tensor:
    """Return pictures (N, 3, S, S), S odd, the rim repeated on all sides alike to a multiple of the stride and 1."""
    rim = -(pictures.shape[-1] - 1) % stride // 2
    return pad(pictures.float(), (rim, rim, rim, rim), mode="replicate")


def resampled_cells(maps: Tensor, stride: int, cells: int, new_stride: int) -> Tensor:
    """Return maps (N, C, cells, cells) of another stride around the same middle, bilinear between the cells of `maps`.

    Beyond the rim its cells go on.
    """
    there = cell_offsets(cells, new_stride, maps.device) / stride  # cells of `maps` from its middle
    half = (maps.shape[-1] - 1) / 2
    share = there / half  # -1 and 1 are its first cell and its last
    grid = torch.stack(torch.meshgrid(share, share, indexing="ij")[::-1], dim=-1)
    return grid_sample(
        maps, grid.expand(len(maps), -1, -1, -1), mode="bilinear", padding_mode="border", align_corners=True
    )
