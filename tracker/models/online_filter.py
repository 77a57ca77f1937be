"""A discriminative correlation filter in closed form, learned online on the features of a backbone.

A filter f of k x k cells over d channels answers each cell of a feature map with the inner product of f and the cell's
neighbourhood. Written as rows, the neighbourhoods of one map are U (cells, d k k); wanted answers are y (cells,). The
filter minimises sum |U f - y|^2 + ridge |f|^2 over weighted samples: f = (G + ridge I)^-1 b with G = sum U'U and
b = sum U'y. G and b are all that must be kept of any number of samples, so memory and time are constant (recursive
least squares). All functions are stateless; every tensor is float32 or float64.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d
from torch.nn.functional import unfold as im2col


def principal_directions(features: Tensor, count: int) -> Tensor:
    """Return the projection (C, count) onto the directions that hold most of the energy of features (N, C, h, w).

    The mean is not taken off: it is the first direction of rectified features, and it tells object from ground too.
    A map without energy gets directions all the same, so a plain frame is no special case.
    """
    cells = features.transpose(0, 1).flatten(1)  # (C, N h w)
    directions: Tensor = torch.linalg.eigh(cells @ cells.T)[1]  # eigenvalues ascend
    return directions[:, -count:].flip(1)


def project(features: Tensor, projection: Tensor) -> Tensor:
    """Return features (N, C, h, w) in the directions of projection (C, d), each sample with norm 1: (N, d, h, w)."""
    projected: Tensor = torch.einsum("nchw,cd->ndhw", features, projection)
    norms: Tensor = projected.flatten(1).norm(dim=1).clamp(min=1e-12)
    return projected / norms.view(-1, 1, 1, 1)


def unfold(features: Tensor, kernel: int) -> Tensor:
    """Return the neighbourhoods of each cell, zero outside the map: (N, d, h, w) -> (N, h w, d k k), k odd."""
    return im2col(features, kernel, padding=kernel // 2).transpose(1, 2)


def gaussian_labels(centres: Tensor, cells: int, sigma: Tensor) -> Tensor:
    """Return wanted answers (N, cells, cells): a Gaussian of height 1 around each centre.

    centres: (N, 2) as (column, row) in cells, 0 at the middle of the first cell. sigma: (N,) in cells.
    """
    at = torch.arange(cells, dtype=centres.dtype, device=centres.device)
    spread = 2 * sigma.view(-1, 1).square()
    across = torch.exp(-(at - centres[:, :1]).square() / spread)
    down = torch.exp(-(at - centres[:, 1:]).square() / spread)
    return down.unsqueeze(2) * across.unsqueeze(1)


def normal_equations(features: Tensor, labels: Tensor, weights: Tensor, kernel: int) -> tuple[Tensor, Tensor]:
    """Return G (m, m) and b (m,), m = d k k, of samples (N, d, h, w) with labels (N, h, w) and weights (N,)."""
    rows = unfold(features, kernel)
    weighted = rows * weights.view(-1, 1, 1)
    gram = torch.einsum("nlm,nlk->mk", weighted, rows)
    return gram, torch.einsum("nlm,nl->m", weighted, labels.flatten(1))


def solve(gram: Tensor, moment: Tensor, ridge: float) -> Tensor:
    """Return f (m,) = (G + ridge I)^-1 b, by Cholesky."""
    damped = gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return torch.cholesky_solve(moment.unsqueeze(1), torch.linalg.cholesky(damped)).squeeze(1)


def respond(features: Tensor, weights: Tensor, kernel: int) -> Tensor:
    """Return the answers (N, h, w) of the filter f (d k k,) to features (N, d, h, w)."""
    taps = weights.view(1, features.shape[1], kernel, kernel)
    return conv2d(features, taps, padding=kernel // 2).squeeze(1)
