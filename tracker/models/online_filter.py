"""A discriminative correlation filter in closed form, learned online on the features of a backbone.

A filter f of k x k cells over d channels answers each place with the inner product of f and the place's neighbourhood.
Places are all those whose neighbourhood reaches into the map: k // 2 more than its cells on each side, where it goes on
as zero. Written as rows, the neighbourhoods of one map are U (places, d k k); wanted answers are y (places,).
The filter minimises sum |U f - y|^2 + ridge |f|^2 over weighted samples: f = (G + ridge I)^-1 b with G = sum U'U and
b = sum U'y. Because all places count, an entry of G depends only on the shift between its two taps: G is the map's
autocorrelation, (2k - 1)^2 blocks of d x d, laid out k^2 x k^2 times. That is all that must be kept of any number of
samples, so memory and time are constant (recursive least squares). All functions are stateless; every tensor is float32
or float64.
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad


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
    return _unit(torch.einsum("nchw,cd->ndhw", features, projection))


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
    """Return the autocorrelation (2k - 1, 2k - 1, d, d) and b (d k k,) of samples (N, d, h, w) with weights (N,).

    labels: (N, h + k - 1, w + k - 1), of all places. See `gram` for the order of the autocorrelation.
    """
    n, channels, height, width = features.shape
    reach = kernel - 1
    cells = features.permute(0, 2, 3, 1)  # (N, h, w, d)
    # With `reach` zeros after each row of the map, a shift by (dy, dx) is one offset in the flat map.
    row = width + reach
    flat = pad(cells, (0, 0, 0, reach)).flatten(1, 2)  # (N, L, d)
    length = flat.shape[1]
    longer = pad(flat, (0, 0, reach, reach * row + reach)).contiguous()
    shifted = longer.as_strided(
        (n, kernel, 2 * reach + 1, length, channels), (longer.stride(0), row * channels, channels, channels, 1)
    )  # [n, dy, dx + reach, x] is the cell at x + (dy, dx)
    weighted = (flat * weights.view(-1, 1, 1)).transpose(1, 2)[:, None, None]
    below = torch.matmul(weighted, shifted).sum(0)  # (k, 2k - 1, d, d): shifts down; those up are their mirror
    autocorrelation = torch.cat([below[1:].flip(0, 1).transpose(2, 3), below])
    windows = labels.unfold(1, height, 1).unfold(2, width, 1).reshape(n, kernel * kernel, height * width)
    moments = torch.matmul(windows * weights.view(-1, 1, 1), cells.flatten(1, 2)).sum(0)  # (k k, d), taps reversed
    return autocorrelation, moments.flip(0).T.flatten()


def gram(autocorrelation: Tensor) -> Tensor:
    """Return G (d k k, d k k) from the autocorrelation (2k - 1, 2k - 1, d, d).

    Entry [dy + k - 1, dx + k - 1, c, e] of it sums, over the map, channel c times channel e (dy, dx) further on.
    """
    shifts, _, channels, _ = autocorrelation.shape
    kernel = (shifts + 1) // 2
    at = torch.arange(kernel, device=autocorrelation.device)
    between = at.view(1, -1) - at.view(-1, 1) + kernel - 1  # of two taps
    block = (between.view(kernel, 1, kernel, 1) * shifts + between.view(1, kernel, 1, kernel)).flatten()
    taps = kernel * kernel
    blocks = autocorrelation.flatten(0, 1).flatten(1).index_select(0, block).view(taps, taps, channels, channels)
    return blocks.permute(2, 0, 3, 1).reshape(channels * taps, channels * taps)


def solve(matrix: Tensor, moment: Tensor, ridge: float) -> Tensor:
    """Return f (m,) = (G + ridge I)^-1 b, by Cholesky."""
    damped = matrix.clone()
    damped.diagonal().add_(ridge)
    return torch.cholesky_solve(moment.unsqueeze(1), torch.linalg.cholesky(damped)).squeeze(1)


def respond(features: Tensor, weights: Tensor, kernel: int) -> Tensor:
    """Return the answers (N, h, w) of the filter f (d k k,) to features (N, d, h, w)."""
    taps = weights.view(1, features.shape[1], kernel, kernel)
    return conv2d(features, taps, padding=kernel // 2).squeeze(1)
