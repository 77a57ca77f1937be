"""What maps are worth to the filter that is learned online on them: a loss that trains the neck that gives them.

The filter of `models.online_filter` is learned on one search crop and applied to another of the same object. It is a
ridge regression in closed form, so the loss has a gradient with respect to the maps of both. Sources: Bertinetto
et al. 2019 (meta-learning with differentiable closed-form solvers), section 3.2; Valmadre et al. 2017 (CFNet) for
trackers; Bhat et al. 2019 (DiMP), section 3.1, for the hinge on the background.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import unfold

from tracker.models.anchors import cell_offsets
from tracker.training.distributed import mean_over_ranks

_GROUND = 0.05  # a label below it is of the ground: there an answer below zero is as good
_OBJECT_WEIGHT = 2.0  # of a place of the object: few are
_SHARPNESS = 9.0  # of the answers as logits of where the object is


@dataclass(frozen=True, slots=True)
class FilterLoss:
    """Measure the answers of a filter with the settings of `config.OnlineConfig`, on maps of one stride."""

    stride: int  # pixels
    kernel: int  # cells
    ridge: float
    label_sigma: float  # over the object's side
    min_sigma: float  # pixels

    def __call__(self, maps: Tensor, boxes: Tensor, positive: Tensor) -> Tensor:
        """Return the loss of K filters a template, each learned on a search and asked in the next.

        maps: (N, K, d, h, h), K > 1, each sample of norm 1. boxes: (N, K, 4), see `data.pairs.Pairs`.
        positive: (N, K) bool: only a search that shows the object is learned from, and where the next does not, no
        place should answer.
        """
        n, k = positive.shape
        shown, there = maps.float().flatten(0, 1), positive.flatten()
        labels = self._labels(boxes.flatten(0, 1), maps.shape[-1])
        before = torch.arange(n * k, device=maps.device).view(n, k).roll(1, dims=1).flatten()
        answers = filter_answers(shown, labels, before, self.kernel, self.ridge)
        learned = there[before]
        wanted = labels * there.unsqueeze(1)
        on_ground, on_object = answers.clamp(min=0).square(), _OBJECT_WEIGHT * (answers - wanted).square()
        off = torch.where(wanted < _GROUND, on_ground, on_object).sum(1)
        place = -(wanted * (_SHARPNESS * answers).log_softmax(1)).sum(1) / wanted.sum(1).clamp(min=_GROUND)
        both = learned & there
        # Sums are divided by counts of the whole batch, of all processes.
        off_mean = (off * learned).sum() / mean_over_ranks(learned.float().sum()).clamp(min=1)
        return off_mean + (place * both).sum() / mean_over_ranks(both.float().sum()).clamp(min=1)

    def _labels(self, boxes: Tensor, cells: int) -> Tensor:
        """Return the wanted answers (N, P) of objects `boxes` (N, 4) at all places of maps of that many cells."""
        sigma = (self.label_sigma * boxes[:, 2:].prod(1).sqrt()).clamp(min=self.min_sigma).view(-1, 1)
        at = cell_offsets(cells + self.kernel - 1, self.stride, boxes.device)
        across, down = (torch.exp(-(at - boxes[:, i : i + 1]).square() / (2 * sigma.square())) for i in (0, 1))
        return (down.unsqueeze(2) * across.unsqueeze(1)).flatten(1)


def filter_answers(maps: Tensor, labels: Tensor, before: Tensor, kernel: int, ridge: float) -> Tensor:
    """Return the answers (N, P) on maps (N, d, h, h) of filters, each learned on the map that `before` (N,) says.

    labels: (N, P), the wanted answers of a map at the P = (h + kernel - 1)^2 places whose neighbourhood reaches into
    it, row by row. Answers are over the filter's peak where it was learned. The filters are those of
    `models.online_filter`.
    """
    places = unfold(maps, kernel, padding=kernel - 1).transpose(1, 2)  # (N, P, d k k)
    moments = places.transpose(1, 2) @ labels.unsqueeze(2)
    damped = places.transpose(1, 2) @ places + ridge * torch.eye(places.shape[2], dtype=maps.dtype, device=maps.device)
    filters = torch.cholesky_solve(moments, torch.linalg.cholesky(damped))
    peaks = (places @ filters).amax(1).clamp(min=0.1)
    return (places @ filters[before]).squeeze(2) / peaks[before]
