"""Turn the table [train] into what trains a network: its objective, its optimizer, and how pairs are drawn."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from tracker.config import Config, TrainConfig
from tracker.data.augment import Camera
from tracker.data.pairs import PairConfig, Pairs
from tracker.models.backbones import FINE_STRIDE, Backbone
from tracker.models.siamese import SiameseNetwork
from tracker.models.up_channel import UpChannelHead
from tracker.network_builder import joined_channels, load_network
from tracker.training.filter_loss import FilterLoss
from tracker.training.objectives import (
    OVERLAP_HEADS,
    Beside,
    FilterTraining,
    features_objective,
    rpn_objective,
    siamfc_objective,
    up_channel_objective,
)
from tracker.training.refining import RefinerTraining
from tracker.training.teacher import TeacherTraining

_REGRESSOR_LR = 3.0  # share of the learning rate: it starts from nothing, and what it lacks the backbone must not mend
_MOVED_BOXES = 4  # of each search, for the refiner to move back


def build_optimizer(network: SiameseNetwork, train: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimizer of the parts that are not frozen; freezes the others.

    Biases and BatchNorm are not decayed: they set a level, not a pattern. Raises ValueError where nothing is left, or
    nothing of the backbone that a teacher could teach.
    """
    assert not train.teacher or network.regressor is not None, "build_objective comes first"
    parts = _freezable(network)
    for name in train.frozen:
        if name not in parts:
            raise ValueError(f"train.frozen names {name!r}; this network has {', '.join(parts)}")
        for part in parts[name]:
            part.requires_grad_(False).eval()  # BatchNorm, too, keeps what it knows
    groups = []
    for learner, lr_share in (
        (network.backbone, train.backbone_lr),
        (network.head, 1.0),
        (network.filter_neck, 1.0),
        (network.refiner if train.refine_weight else None, 1.0),
        (network.regressor, _REGRESSOR_LR),
    ):
        learned = [p for p in learner.parameters() if p.requires_grad] if learner is not None else []
        patterns, levels = [p for p in learned if p.ndim > 1], [p for p in learned if p.ndim <= 1]
        for parameters, decay in ((patterns, train.weight_decay), (levels, 0.0)):
            if parameters:
                groups.append({"params": parameters, "weight_decay": decay, "lr_share": lr_share})
    if train.teacher and not any(parameter.requires_grad for parameter in network.backbone.parameters()):
        raise ValueError("train.frozen leaves nothing of the backbone that train.teacher could teach")
    if not groups:
        raise ValueError("train.frozen names all that could learn")
    if train.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=train.lr_start)
    return torch.optim.SGD(groups, lr=train.lr_start, momentum=train.momentum)


def _freezable(network: SiameseNetwork) -> dict[str, list[nn.Module]]:
    """Return what may be frozen, by name; a stage is that of all backbones of an ensemble that have one."""
    parts: dict[str, list[nn.Module]] = {"backbone": [network.backbone]}
    for member in network.backbones:
        for name, child in member.named_children():
            parts.setdefault(name, []).append(child)
    return parts | ({} if network.head is None else {"head": [network.head]})


def build_objective(
    network: SiameseNetwork, config: Config, train: TrainConfig, dtype: torch.dtype | None
) -> Callable[[nn.Module, Pairs], Tensor]:
    """Return what the network is trained with; the forward pass runs in `dtype`, None for float32.

    Gives a network that is to learn from a teacher its regressor, and so comes before `build_optimizer`. Raises
    ValueError where the online filter is to be trained for, a refiner to be trained or a teacher to be learned from,
    but cannot be, and where there is neither a head nor a teacher.
    """
    taught = bool(train.teacher) or train.teacher_weight != 0
    beside: list[Beside] = [_teacher_training(network, train)] if taught else []
    if train.filter_weight:
        if not isinstance(network.head, OVERLAP_HEADS):
            raise ValueError(f"train.filter_weight needs the head rpn or rpn_light, not {config.model.head}")
        beside.append(_filter_training(network.stride, config, train))
    if train.refine_weight:
        if network.refiner is None:
            raise ValueError('train.refine_weight needs model.refiner, "window" or "window_light"')
        beside.append(RefinerTraining(_MOVED_BOXES, train.refine_weight))
    if beside and (network.head is None or {"backbone", "head"} <= set(train.frozen)):
        return features_objective(dtype, beside)
    if isinstance(network.head, OVERLAP_HEADS):
        return rpn_objective(network.stride, train.label_radius, train.label_share, dtype, beside)
    if isinstance(network.head, UpChannelHead):
        return up_channel_objective(dtype, beside)
    if network.head is None:
        raise ValueError("a model without a head learns from pairs only what train.teacher tells")
    return siamfc_objective(network.stride, train.label_radius, dtype, beside)


def _teacher_training(network: SiameseNetwork, train: TrainConfig) -> TeacherTraining:
    if not train.teacher or train.teacher_weight <= 0:
        raise ValueError("train.teacher, a model or a weight file, and train.teacher_weight, above 0, go together")
    if train.search_size % 2 == 0:
        raise ValueError(f"train.search_size must be odd to learn from a teacher, got {train.search_size}")
    device = next(network.parameters()).device
    teacher, _ = load_network(train.teacher, str(device))
    if teacher.stride != 2 * FINE_STRIDE:  # those of another have no cell in the middle of the pictures shown to them
        raise ValueError(
            f"train.teacher must be a model of stride {2 * FINE_STRIDE}, {train.teacher} has {teacher.stride}"
        )
    own = cast(Backbone, network.backbone).channels
    wanted = joined_channels(cast(Backbone, teacher.backbone), teacher.fine_weight)
    network.regressor = nn.Conv2d(own, wanted, 1).to(device)
    return TeacherTraining(teacher.requires_grad_(False), train.teacher_weight)


def _filter_training(stride: int, config: Config, train: TrainConfig) -> FilterTraining:
    online = config.online
    if online is None or not config.model.filter_channels:
        raise ValueError("train.filter_weight needs the table [online] and model.filter_channels, its channels")
    if train.data.searches_per_template < 2:
        raise ValueError("train.filter_weight needs train.data.searches_per_template = 2 or more: one to learn from")
    loss = FilterLoss(stride, online.kernel, online.ridge, online.label_sigma, online.min_sigma)
    return FilterTraining(loss, train.filter_weight)


def pair_config(config: Config, train: TrainConfig) -> PairConfig:
    """Return how pairs are drawn: the crops as in tracking, the rest as in training."""
    if config.crop is None:
        raise ValueError("training on pairs needs the table [crop]")
    data = train.data
    return PairConfig(
        template_size=config.crop.template_size,
        search_size=train.search_size,
        context=config.crop.context,
        searches_per_template=data.searches_per_template,
        max_gap=data.max_gap,
        still_share=data.still_share,
        negative_share=data.negative_share,
        same_class_share=data.same_class_share,
        max_shift=data.max_shift,
        max_scale=data.max_scale,
        colour=data.colour,
        grey_chance=data.grey_chance,
        blur_chance=data.blur_chance,
        cover_chance=data.cover_chance,
        template_shift=data.template_shift,
        template_max_scale=data.template_max_scale,
        max_stretch=data.max_stretch,
        distractor_chance=data.distractor_chance,
        background_chance=data.background_chance,
        camera=Camera(data.camera_grey, data.camera_dark, data.camera_noise, data.camera_coarse),
    )
