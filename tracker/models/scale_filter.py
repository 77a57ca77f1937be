"""Measure the size of an object on features it is already seen by: ridge regression over samples at many scales.

A window over the object is sampled from one fine feature map at a ladder of sizes; a filter learns to answer a
Gaussian over the ladder that peaks at the true size. The idea of a one-dimensional filter over scales is that of
Danelljan et al. 2014 (DSST); here the samples come from the backbone's own features, so no crop is embedded twice, and
the filter is solved in closed form in the space of its samples. All functions are stateless.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import grid_sample


class ScaleFilter(NamedTuple):
    """Answer a sample s by weights . (s - mean); both (D,)."""

    weights: Tensor
    mean: Tensor


def ladder(steps: int, step: float) -> Tensor:
    """Return the factors (steps,) step^(-m) .. step^m around 1, m = (steps - 1) / 2."""
    exponents = torch.arange(steps) - (steps - 1) / 2
    return step**exponents


def sample_windows(features: Tensor, centres: Tensor, half_sizes: Tensor, cells: int) -> Tensor:
    """Sample windows from a map (1, d, h, w), bilinearly, each with norm 1: (M, d * cells * cells).

    centres, half_sizes: (M, 2) as (x, y) in cells of the map, the centre counted from its middle. Outside the map its
    border goes on.
    """
    height, width = features.shape[2:]
    across = (torch.arange(cells, dtype=features.dtype, device=features.device) + 0.5) / cells * 2 - 1
    # grid_sample wants -1 and 1 at the first and last cell: (n - 1) / 2 cells from the middle.
    x = (centres[:, :1] + half_sizes[:, :1] * across) / ((width - 1) / 2)  # (M, cells)
    y = (centres[:, 1:] + half_sizes[:, 1:] * across) / ((height - 1) / 2)
    grid = torch.stack([x.unsqueeze(1).expand(-1, cells, -1), y.unsqueeze(2).expand(-1, -1, cells)], dim=3)
    # One map, all windows: the windows lie below each other in one grid, so the map is not copied.
    windows = grid_sample(features, grid.flatten(0, 1).unsqueeze(0), padding_mode="border", align_corners=True)
    samples = windows.view(features.shape[1], len(centres), -1).transpose(0, 1).flatten(1)
    return samples / samples.norm(dim=1, keepdim=True).clamp(min=1e-12)


def fit(samples: Tensor, labels: Tensor, ridge: float) -> ScaleFilter:
    """Return the filter that answers samples (M, D) with labels (M,).

    ridge is relative to the mean energy of a sample around their mean. The filter is a sum of samples (there are far
    fewer of them than numbers in one), so the system that is solved is M x M.
    """
    mean = samples.mean(0)
    centred = samples - mean
    kernel = centred @ centred.T
    # The floor keeps a plain window, all of whose samples are alike, solvable: its filter is zero.
    damping = ridge * kernel.diagonal().mean() + 1e-9
    damped = kernel + damping * torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    duals = torch.cholesky_solve((labels - labels.mean()).unsqueeze(1), torch.linalg.cholesky(damped))
    return ScaleFilter(centred.T @ duals.squeeze(1), mean)


def respond(scale_filter: ScaleFilter, samples: Tensor) -> Tensor:
    """Return the answers (M,) to samples (M, D)."""
    return (samples - scale_filter.mean) @ scale_filter.weights


def blend(a: ScaleFilter, b: ScaleFilter, share: float) -> ScaleFilter:
    """Return the filter that is `share` of b and the rest of a."""
    return ScaleFilter(torch.lerp(a.weights, b.weights, share), torch.lerp(a.mean, b.mean, share))
