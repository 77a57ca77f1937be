"""Train the box refiner: boxes moved at random off the object, and the refiner to move them back."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tracker.data.pairs import Pairs
from tracker.models.backbones import Features
from tracker.models.refiner import moved, windows
from tracker.models.siamese import SiameseNetwork
from tracker.training.distributed import mean_over_ranks
from tracker.training.losses import generalized_iou

_SHIFT = 0.09  # standard deviation, over the object's size
_GROWTH = 0.1  # of the log of both sides together,
_STRETCH = 0.1  # and of each alone
_LARGEST = 0.35
_SMALL = 0.45  # of every other box's move: where a head is good, it is off by less


@dataclass(frozen=True, slots=True)
class RefinerTraining:
    """Say how the box refiner is trained; the features that it reads, and the head, do not learn from it."""

    boxes: int  # moved ones, of each search that shows the object
    weight: float  # beside the head's losses

    def of(self, network: SiameseNetwork, template: Features | None, search: Features, pairs: Pairs) -> Tensor:
        """Return the weighted loss: 1 - GIoU of the boxes that were moved back."""
        refiner = network.refiner
        assert refiner is not None and template is not None
        device = search.deep.device
        true = pairs.boxes.flatten(0, 1).to(device)  # (N * K, 4)
        wanted = true.unsqueeze(1).expand(-1, self.boxes, -1)
        start = moved(wanted, moves_of(pairs.boxes.flatten(0, 1), self.boxes).to(device))
        known = windows(refiner.outline(template.detached()), pairs.template_box.to(device).unsqueeze(1))
        shown = windows(refiner.outline(search.detached()), start)
        found = moved(start.flatten(0, 1), refiner(known.repeat_interleave(len(shown) // len(known), dim=0), shown))
        off = 1 - generalized_iou(found, wanted.flatten(0, 1))[1].view(len(true), -1).mean(1)
        there = pairs.positive.flatten().to(device)
        return self.weight * torch.where(there, off, 0.0).sum() / mean_over_ranks(there.float().sum()).clamp(min=1)


def moves_of(boxes: Tensor, count: int) -> Tensor:
    """Return moves (N, count, 4) of boxes (N, 4), see `refiner.moved`: drawn, but the same for the same box.

    So a run that was resumed, or that is shared by several processes, learns what one run would.
    """
    drawn = []
    for box in boxes.numpy():
        rng = np.random.default_rng(box.view(np.uint32))
        both = np.array([0.0, 0.0, _GROWTH, _GROWTH]) * rng.standard_normal((count, 1))
        each = np.array([_SHIFT, _SHIFT, _STRETCH, _STRETCH]) * rng.standard_normal((count, 4))
        drawn.append(np.clip(both + each, -_LARGEST, _LARGEST))
    by = torch.from_numpy(np.stack(drawn)).float()
    by[:, 1::2] *= _SMALL
    return by
