"""Correct a box on the fine features it is seen by: linear regression learned on moved copies of a known box.

A window over the box is sampled from one feature map, and a linear map reads from it how far the object lies from the
window and how much larger it is. It is learned on the frame itself: the known box is moved and scaled at random, so
every sample's answer is known and nothing has to be trained beforehand. Learned linear predictors of motion are those
of Jurie and Dhome 2002; regressing the box from features is that of Girshick et al. 2014, appendix C. Here both are
solved in closed form in the space of the samples. All functions are stateless.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import grid_sample


class BoxRegression(NamedTuple):
    """Read corrections (dx, dy, log growth, log stretch) from a sample s: offset + (s - mean) @ weights."""

    weights: Tensor  # (D, 4)
    mean: Tensor  # (D,)
    offset: Tensor  # (4,)


def moves(count: int, shift: float, growth: float, stretch: float, seed: int) -> Tensor:
    """Return moves (count, 4) of a window: (dx, dy) over its size, log growth, log stretch, each within +- its range.

    Growth acts on both sides; stretch makes the window wider and as much lower. The first one is no move at all; the
    others are drawn evenly.
    """
    drawn = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    drawn[0] = 0
    return drawn * torch.tensor([shift, shift, growth, stretch])


def apply(centre: Tensor, size: Tensor, by: Tensor) -> tuple[Tensor, Tensor]:
    """Return centres (M, 2) and sizes (M, 2) of a window, centre (2,) and size (2,), after moves (M, 4)."""
    factors = torch.stack([by[:, 2] + by[:, 3], by[:, 2] - by[:, 3]], dim=1).exp()
    return centre + by[:, :2] * size, size * factors


def corrections(by: Tensor) -> Tensor:
    """Return the moves (M, 4) that take windows moved by (M, 4) back: `apply` of one undoes the other."""
    _, factors = apply(torch.zeros(2, dtype=by.dtype), torch.ones(2, dtype=by.dtype), by)
    return torch.cat([-by[:, :2] / factors, -by[:, 2:]], dim=1)


def sample_windows(features: Tensor, centres: Tensor, sizes: Tensor, cells: int) -> Tensor:
    """Sample windows from a map (1, d, h, w), bilinearly, each with norm 1: (M, d * cells * cells).

    centres, sizes: (M, 2) as (x, y) in cells of the map, the centre counted from its middle. Outside the map its
    border goes on.
    """
    height, width = features.shape[2:]
    across = ((torch.arange(cells, device=features.device) + 0.5) / cells - 0.5).to(features.dtype)
    # grid_sample wants -1 and 1 at the first and last cell: (n - 1) / 2 cells from the middle.
    x = (centres[:, :1] + sizes[:, :1] * across) / ((width - 1) / 2)  # (M, cells)
    y = (centres[:, 1:] + sizes[:, 1:] * across) / ((height - 1) / 2)
    grid = torch.stack([x.unsqueeze(1).expand(-1, cells, -1), y.unsqueeze(2).expand(-1, -1, cells)], dim=3)
    # One map, all windows: the windows lie below each other in one grid, so the map is not copied.
    windows = grid_sample(features, grid.flatten(0, 1).unsqueeze(0), padding_mode="border", align_corners=True)
    samples: Tensor = windows.view(features.shape[1], len(centres), -1).transpose(0, 1).flatten(1)
    norms: Tensor = samples.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return samples / norms


def fit(samples: Tensor, answers: Tensor, ridge: float) -> BoxRegression:
    """Return the regression that reads answers (M, 4) from samples (M, D).

    ridge is relative to the mean energy of a sample around their mean. The weights are a sum of samples (there are far
    fewer of them than numbers in one), so the system that is solved is M x M.
    """
    mean, offset = samples.mean(0), answers.mean(0)
    centred = samples - mean
    kernel = centred @ centred.T
    # The floor keeps a plain window, all of whose samples are alike, solvable: it corrects nothing.
    damping = ridge * kernel.diagonal().mean() + 1e-9
    damped = kernel + damping * torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    duals = torch.cholesky_solve(answers - offset, torch.linalg.cholesky(damped))
    return BoxRegression(centred.T @ duals, mean, offset)


def predict(regression: BoxRegression, sample: Tensor) -> Tensor:
    """Return the correction (4,) that a sample (D,) asks for."""
    return regression.offset + (sample - regression.mean) @ regression.weights


def blend(a: BoxRegression, b: BoxRegression, share: float) -> BoxRegression:
    """Return the regression that is `share` of b and the rest of a."""
    return BoxRegression(*(torch.lerp(x, y, share) for x, y in zip(a, b, strict=True)))
