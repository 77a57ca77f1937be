"""Heads: template and search features in, maps that say where the object is out."""

import torch
from torch import Tensor, nn

from tracker.models.correlation import cross_correlation

# A 6x6x256 correlation sums 9216 products: the gain brings it to the range of logits. It is not learned: its gradient
# is the correlation itself, thousands of times any other, and training diverges within twenty steps.
_GAIN = 1e-3


class SiamFCHead(nn.Module):
    """Correlate template and search features into one response map of logits (Bertinetto et al. 2016, eq. 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, template: Tensor, search: Tensor) -> Tensor:
        """Return the response (N, 1, h, w) of template (N or 1, C, a, b) on search features (N, C, H, W)."""
        return _GAIN * cross_correlation(template, search) + self.bias
