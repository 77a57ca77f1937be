"""Learn from a network that knows more: what its features say of a picture, the student's tell as well.

The two need not have channels or strides in common: a linear layer, which is thrown away afterwards, makes the
teacher's features of the student's. Source: Romero et al. 2015 (FitNets), section 2.2; here the teacher's channels
count alike, however much energy each has.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, mse_loss, pad

from tracker.data.pairs import Pairs
from tracker.models.anchors import cell_offsets
from tracker.models.backbones import Features
from tracker.models.graphs import filter_maps
from tracker.models.siamese import SiameseNetwork
from tracker.training.distributed import mean_over_ranks


@dataclass(frozen=True, slots=True)
class TeacherTraining:
    """Say what teaches a network, and how much that weighs beside the losses of its head.

    The network's `regressor` goes from its deep features to the teacher's joined ones.
    """

    teacher: SiameseNetwork  # in evaluation mode, its size of picture a multiple of its stride and 1
    weight: float

    def of(self, network: SiameseNetwork, template: Features | None, search: Features, pairs: Pairs) -> Tensor:
        """Return the weighted loss: the share of what the teacher's features say that the student's do not tell.

        search: the student's features of all searches, (N * K, C, h, w); the deep ones are taught.
        """
        assert network.regressor is not None
        pictures = pairs.searches.flatten(0, 1).to(search.deep.device)
        wanted = standardised(self._maps(pictures, search.deep.shape[-1], network.stride))
        return self.weight * mse_loss(network.regressor(search.deep.float()), wanted)

    @torch.no_grad()
    def _maps(self, pictures: Tensor, cells: int, stride: int) -> Tensor:
        """Return the teacher's maps (N, C, cells, cells) where cells of that stride look, of pictures (N, 3, S, S)."""
        features = self.teacher.features(whole_cells(pictures, self.teacher.stride))
        taught = filter_maps(self.teacher, features)
        return resampled_cells(taught, self.teacher.stride, cells, stride)


def standardised(maps: Tensor) -> Tensor:
    """Return maps (N, C, h, w), each channel with mean 0 and variance 1 over the batch of all processes."""
    mean = mean_over_ranks(maps.mean((0, 2, 3), keepdim=True))
    variance = mean_over_ranks((maps - mean).square().mean((0, 2, 3), keepdim=True))
    return (maps - mean) / variance.sqrt().clamp(min=1e-12)


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
