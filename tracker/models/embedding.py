"""The head that turns an object's features into one vector: what two pictures of the same thing have in common."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tracker.pooling import POOLED_CELLS

_NORM = 5.0  # of the pooled features: about 1 a cell


class EmbeddingHead(nn.Module):
    """Embed pooled features (N, C, n, n), n = `pooling.POOLED_CELLS`, as unit vectors (N, D).

    Each cell is narrowed, then all are projected together, so where in the object a pattern lies counts. Two unit
    vectors are compared by their cosine, which is the cross-correlation of two normalised 1x1 maps.
    """

    def __init__(self, channels: int, narrowed: int = 64, dimensions: int = 128) -> None:
        """Build for features of `channels`."""
        super().__init__()
        self.channels = channels
        self.reduce = nn.Linear(channels, narrowed)
        self.project = nn.Linear(narrowed * POOLED_CELLS**2, dimensions)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return embeddings (N, D) of pooled features (N, C, n, n), whose scale does not matter."""
        cells = pooled.flatten(2).transpose(1, 2)  # (N, n * n, C)
        norms = pooled.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1)
        narrow = torch.relu(self.reduce(_NORM * cells / norms))
        return normalize(self.project(narrow.flatten(1)), dim=1)
