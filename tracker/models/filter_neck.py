"""What the filter that is learned online reads of the backbone's features."""

import torch
from torch import Tensor, nn


class FilterNeck(nn.Module):
    """Narrow joined features (N, C, h, w) to (N, d, h, w), each sample with norm 1.

    One matrix for all targets, trained for what a filter learned on one picture finds in others
    (`training.filter_loss`): it keeps what tells things apart, where the principal directions of the first frame keep
    what holds most energy.
    """

    def __init__(self, channels: int, narrowed: int) -> None:
        """Build for features of `channels`."""
        super().__init__()
        self.project = nn.Conv2d(channels, narrowed, 1, bias=False)
        nn.init.orthogonal_(self.project.weight)

    def forward(self, joined: Tensor) -> Tensor:
        """Return what the filter reads."""
        return unit_samples(self.project(joined))


def unit_samples(maps: Tensor) -> Tensor:
    """Return maps (N, C, h, w), each sample with norm 1; one without energy stays 0."""
    norms: Tensor = torch.linalg.vector_norm(maps, dim=(1, 2, 3), keepdim=True)
    return maps / norms.clamp(min=1e-12)
