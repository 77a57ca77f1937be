"""What training minimises: a network and a batch of pairs in, one loss out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from tracker.data.pairs import Pairs
from tracker.models import anchors
from tracker.models.backbones import FINE_STRIDE, Features
from tracker.models.ensemble import EnsembleHead
from tracker.models.graphs import filter_maps
from tracker.models.heads import RPNHead
from tracker.models.siamese import SiameseNetwork
from tracker.models.up_channel import UpChannelCode, UpChannelHead
from tracker.training.distributed import mean_over_ranks
from tracker.training.filter_loss import FilterLoss
from tracker.training.losses import anchor_loss, balanced_logistic_loss, generalized_iou, overlap_focal_loss
from tracker.training.targets import anchor_labels, response_labels

OVERLAP_HEADS = RPNHead, EnsembleHead  # what `rpn_objective` trains

_HARDEST = 64  # negative anchors of a pair that are learned from: most of the thousands are easy
_ANCHOR_BOX_WEIGHT = 1.2
_BEND = 0.1  # of the smooth L1 loss: deltas are shares of the anchor
_BOX_WEIGHT = 2.0  # the score's loss is about twice the boxes' once both are learned


class Beside(Protocol):
    """Say what else is learned from the same features beside what the head is trained with."""

    def of(self, network: SiameseNetwork, template: Features | None, search: Features, pairs: Pairs) -> Tensor:
        """Return the weighted loss on the float32 features of templates, (N, C, h, w), and searches, (N * K, C, h, w).

        A network without a head embeds no templates.
        """


@dataclass(frozen=True, slots=True)
class FilterTraining:
    """Say how the neck of the online filter is trained.

    The features below it are not: on the training tracks they then find more, on others less
    (benchmarks/experiments.md).
    """

    loss: FilterLoss
    weight: float  # beside the head's losses

    def of(self, network: SiameseNetwork, template: Features | None, search: Features, pairs: Pairs) -> Tensor:
        """Return the weighted loss on the features of the searches."""
        assert network.filter_neck is not None
        maps: Tensor = network.filter_neck(filter_maps(network, search.detached()))
        maps = maps.view(*pairs.positive.shape, *maps.shape[1:])
        return self.weight * self.loss(maps, pairs.boxes.to(maps.device), pairs.positive.to(maps.device))


def features_objective(
    autocast_dtype: torch.dtype | None, beside: Sequence[Beside]
) -> Callable[[nn.Module, Pairs], Tensor]:
    """Return the objective of a network whose head does not learn, or that has none: what is learned beside it alone.

    autocast_dtype: for the backbone.
    """

    def objective(network: nn.Module, pairs: Pairs) -> Tensor:
        assert isinstance(network, SiameseNetwork)
        device = next(network.parameters()).device
        with torch.autocast(device.type, autocast_dtype, enabled=autocast_dtype is not None):
            template = None if network.head is None else network.features(pairs.template.to(device))
            search = network.features(pairs.searches.to(device).flatten(0, 1))
        return _besides(beside, network, template, search, pairs)

    return objective


def siamfc_objective(
    stride: int, label_radius: float, autocast_dtype: torch.dtype | None, beside: Sequence[Beside] = ()
) -> Callable[[nn.Module, Pairs], Tensor]:
    """Return the objective of SiamFC: the balanced logistic loss of the response map.

    stride: of the backbone, pixels. label_radius: pixels. autocast_dtype: for the backbone alone; the correlation and
    the loss stay in float32. beside: what else is learned.
    """

    def objective(network: nn.Module, pairs: Pairs) -> Tensor:
        assert isinstance(network, SiameseNetwork)
        n, k = pairs.positive.shape
        device = next(network.parameters()).device
        with torch.autocast(device.type, autocast_dtype, enabled=autocast_dtype is not None):
            template = network.features(pairs.template.to(device))
            features = network.features(pairs.searches.to(device).flatten(0, 1))
        with torch.autocast(device.type, enabled=False):
            logits = network(template.deep.repeat_interleave(k, dim=0), features.deep)
        labels = response_labels(
            pairs.boxes.reshape(n * k, 4), pairs.positive.reshape(n * k), logits.shape[-1], stride, label_radius
        )
        loss = balanced_logistic_loss(logits, labels.to(device))
        return loss + _besides(beside, network, template, features, pairs)

    return objective


def rpn_objective(
    stride: int,
    label_radius: float,
    label_share: float,
    autocast_dtype: torch.dtype | None,
    beside: Sequence[Beside] = (),
) -> Callable[[nn.Module, Pairs], Tensor]:
    """Return the objective of an anchor head: the score is the overlap of the cell's box, the box has the largest GIoU.

    stride: of the deep features, pixels. label_radius, label_share: of the positive cells, see
    `targets.response_labels`. autocast_dtype: for all but the boxes and the losses. beside: what else is learned.
    """

    def objective(network: nn.Module, pairs: Pairs) -> Tensor:
        assert isinstance(network, SiameseNetwork) and isinstance(network.head, OVERLAP_HEADS)
        n, k = pairs.positive.shape
        device = next(network.parameters()).device
        with torch.autocast(device.type, autocast_dtype, enabled=autocast_dtype is not None):
            parts, template, search = _codes_and_features(network, pairs, stride)
            output = network.head(parts, search)
        boxes = pairs.boxes.reshape(n * k, 4).to(device)
        positive = response_labels(
            boxes.cpu(),
            pairs.positive.reshape(n * k),
            output.cls_logits.shape[-1],
            FINE_STRIDE,
            label_radius,
            label_share,
        ).to(device)
        sizes = pairs.template_box[:, 2:].to(device).repeat_interleave(k, dim=0)
        found = anchors.decode(output.box_deltas, sizes, FINE_STRIDE)
        iou, giou = generalized_iou(found.permute(0, 2, 3, 1), boxes.view(-1, 1, 1, 4))
        # Sums are divided by counts of the whole batch, of all processes.
        n_cells = mean_over_ranks(positive.sum()).clamp(min=1)
        cls_loss = overlap_focal_loss(output.cls_logits, iou.detach().unsqueeze(1), positive > 0) / n_cells
        # Each object weighs the same, however many cells it has.
        share = positive[:, 0] / positive[:, 0].sum((1, 2), keepdim=True).clamp(min=1)
        box_loss = ((1 - giou) * share).sum() / mean_over_ranks(pairs.positive.sum().to(device)).clamp(min=1)
        return cls_loss + _BOX_WEIGHT * box_loss + _besides(beside, network, template, search, pairs)

    return objective


def up_channel_objective(
    autocast_dtype: torch.dtype | None, beside: Sequence[Beside] = ()
) -> Callable[[nn.Module, Pairs], Tensor]:
    """Return the objective of SiamRPN: cross-entropy of the anchors, smooth L1 of what the object's differ from it by.

    autocast_dtype: for all but the losses. beside: what else is learned. Source: Li et al. 2018, section 3.2.
    """

    def objective(network: nn.Module, pairs: Pairs) -> Tensor:
        assert isinstance(network, SiameseNetwork) and isinstance(network.head, UpChannelHead)
        head = network.head
        n, k = pairs.positive.shape
        device = next(network.parameters()).device
        with torch.autocast(device.type, autocast_dtype, enabled=autocast_dtype is not None):
            parts, template, search = _codes_and_features(network, pairs, network.stride)
            output = head(UpChannelCode(*parts), search)
        boxes = pairs.boxes.reshape(n * k, 4).to(device)
        cells = output.cls_logits.shape[-1]
        wanted = anchors.encode(boxes, head.sizes, cells, FINE_STRIDE)
        # The anchors themselves, which all samples share.
        plain = head.boxes(torch.zeros_like(output.box_deltas[:1])).permute(0, 1, 3, 4, 2)
        overlaps = generalized_iou(plain, boxes.view(-1, 1, 1, 1, 4))[0]
        labels = anchor_labels(overlaps, pairs.positive.reshape(n * k).to(device))
        holds = (labels > 0).unsqueeze(2)
        off = smooth_l1_loss(output.box_deltas, wanted, reduction="none", beta=_BEND)
        n_holding = mean_over_ranks(holds.sum()).clamp(min=1)
        loss = anchor_loss(output.cls_logits, labels, _HARDEST) + _ANCHOR_BOX_WEIGHT * (off * holds).sum() / n_holding
        return loss + _besides(beside, network, template, search, pairs)

    return objective


def _codes_and_features(
    network: SiameseNetwork, pairs: Pairs, stride: int
) -> tuple[tuple[Tensor, ...], Features, Features]:
    """Return the codes of the templates, each repeated for its searches, and the features of templates and searches."""
    assert network.anchor_head is not None
    device = next(network.parameters()).device
    template = network.features(pairs.template.to(device))
    code = network.anchor_head.encode(template.deep, pairs.template_box.to(device), stride)
    search = network.features(pairs.searches.to(device).flatten(0, 1))
    return tuple(part.repeat_interleave(pairs.positive.shape[1], dim=0) for part in code), template, search


def _besides(
    beside: Sequence[Beside], network: SiameseNetwork, template: Features | None, search: Features, pairs: Pairs
) -> Tensor:
    return sum((part.of(network, template, search, pairs) for part in beside), start=search.deep.new_zeros(()))
