"""Turn configuration and weight files into networks, and what they are trained with."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from tracker import checkpoint
from tracker.config import Config, SecondConfig, TrainConfig, parse
from tracker.data.pairs import PairConfig, Pairs
from tracker.models.backbones import (
    FINE_STRIDE,
    Backbone,
    MobileNetV3Small,
    ResNet18,
    SiamFCAlexNet,
    fuse_batch_norm,
)
from tracker.models.embedding import EmbeddingHead
from tracker.models.ensemble import EnsembleBackbone, EnsembleHead, EnsembleRefiner
from tracker.models.filter_neck import FilterNeck
from tracker.models.heads import RPNHead, RPNWidths, SiamFCHead
from tracker.models.refiner import BoxRefiner, RefinerWidths
from tracker.models.siamese import SiameseNetwork
from tracker.models.up_channel import UpChannelHead
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
from tracker.zoo import find_weights

OneBackbone = SiamFCAlexNet | ResNet18 | MobileNetV3Small

_BACKBONES: dict[str, type[OneBackbone]] = {
    "siamfc_alexnet": SiamFCAlexNet,
    "resnet18": ResNet18,
    "mobilenetv3_small": MobileNetV3Small,
}
_REGRESSOR_LR = 3.0  # share of the learning rate: it starts from nothing, and what it lacks the backbone must not mend
_MOVED_BOXES = 4  # of each search, for the refiner to move back
_REFINERS = {"window": RefinerWidths(), "window_light": RefinerWidths(outline=32, compare=32, hidden=64)}
_RPN_HEADS = {"rpn": RPNWidths(), "rpn_light": RPNWidths(neck=96, fine_neck=64, tower=48, separable=True)}


def load_network(
    name_or_path: str | Path | None = None,
    device: str = "auto",
    overrides: Sequence[str] = (),
    dtype: torch.dtype | None = None,
) -> tuple[SiameseNetwork, Config]:
    """Return a network as it runs while tracking, BatchNorm folded in, and its configuration; see `load_tracker`.

    dtype: of the arithmetic; None: the fastest that the device computes well in.
    """
    path = find_weights(name_or_path)
    loaded = checkpoint.load(path)
    config = parse(loaded.config, overrides)
    target = _device(device)
    network = build_network(config)
    network.load_state_dict(_tensors(path, loaded.tensors, embeds=config.model.embedding != "none"))
    network.eval()
    fuse_batch_norm(network)
    network.to(target, memory_format=torch.channels_last)  # type: ignore[call-overload]
    chosen = dtype or (inference_dtype(target) if network.bears_bfloat16 else torch.float32)
    network.backbone.to(chosen)
    if network.head is not None and network.anchor_head is not None:  # SiamFC's sums thousands of products
        network.head.to(chosen)
    return network, config


def _tensors(path: Path, tensors: Mapping[str, Tensor], embeds: bool) -> dict[str, Tensor]:
    """Return the tensors of a file as they are to be loaded, an embedding head where one is asked for."""
    chosen = {n: tensor.float() for n, tensor in tensors.items() if embeds or not n.startswith("embedding.")}
    if embeds and not any(name.startswith("embedding.") for name in chosen):
        raise ValueError(
            f"{path} has no embedding head: siamtrack train-verifier makes it, model.embedding=none does without"
        )
    return chosen


def build_network(config: Config) -> SiameseNetwork:
    """Return the network that a configuration names, with fresh weights."""
    model = config.model
    first = _BACKBONES[model.backbone]()
    head, refiner = _head(first, config), _refiner(first, config)
    parts = _Parts(first, head, refiner) if model.second is None else _ensemble(model.second, first, head, refiner)
    joined = _joined_channels(parts.backbone, config)
    embedding = EmbeddingHead(joined) if model.embedding == "pooled" else None
    neck = FilterNeck(joined, model.filter_channels) if model.filter_channels else None
    return SiameseNetwork(parts.backbone, parts.head, embedding, neck, parts.refiner)


class _Parts(NamedTuple):
    backbone: OneBackbone | EnsembleBackbone
    head: nn.Module | None
    refiner: BoxRefiner | EnsembleRefiner | None


def _ensemble(
    second: SecondConfig, backbone: OneBackbone, head: nn.Module | None, refiner: BoxRefiner | None
) -> _Parts:
    """Return the parts of an ensemble of a first network, of which these are the parts, and a second one."""
    if not isinstance(head, RPNHead):
        raise ValueError("model.second is for a first network with the head rpn or rpn_light")
    if (refiner is None) != (second.refiner == "none"):
        raise ValueError("model.refiner and model.second.refiner go together: both networks have one, or none has")
    other = _BACKBONES[second.backbone]()
    both = EnsembleBackbone([backbone, other])
    heads = EnsembleHead([head, _rpn_head(other, second.head)], both.widths)
    if refiner is None:
        return _Parts(both, heads, None)
    return _Parts(both, heads, EnsembleRefiner([refiner, _box_refiner(other, second.refiner)], both.widths))


def _joined_channels(backbone: Backbone, config: Config) -> int:
    return backbone.channels + (backbone.fine_channels if config.fine_weight else 0)


def _head(backbone: OneBackbone, config: Config) -> nn.Module | None:
    name = config.model.head
    if name == "none":
        return None
    if name == "siamfc":
        return SiamFCHead()
    if name == "rpn_up_channel":
        _check_stride(backbone.stride, FINE_STRIDE, config)
        return UpChannelHead(backbone.channels)
    _check_stride(backbone.stride, 2 * FINE_STRIDE, config)
    return _rpn_head(backbone, name)


def _rpn_head(backbone: OneBackbone, name: str) -> RPNHead:
    return RPNHead(backbone.channels, backbone.fine_channels, _RPN_HEADS[name])


def _refiner(backbone: OneBackbone, config: Config) -> BoxRefiner | None:
    name = config.model.refiner
    if name == "none":
        if config.refine is not None:
            raise ValueError("the table [refine] needs model.refiner; without one, leave it out: refine=false")
        return None
    if config.model.head == "none":
        raise ValueError("model.refiner needs a head, whose boxes it corrects")
    if config.model.head == "siamfc" and backbone.stride != FINE_STRIDE:
        # Fine and deep cells lie alike in pictures of whole cells alone, which the other heads ask for.
        raise ValueError(f"model.refiner beside the siamfc head needs a backbone of stride {FINE_STRIDE}")
    return _box_refiner(backbone, name)


def _box_refiner(backbone: OneBackbone, name: str) -> BoxRefiner:
    return BoxRefiner(backbone.fine_channels, backbone.channels, backbone.stride, _REFINERS[name])


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
        if train.refine_weight < 0:
            raise ValueError(f"train.refine_weight must not be negative, got {train.refine_weight}")
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
    teacher, its = load_network(train.teacher, str(device))
    if teacher.stride != 2 * FINE_STRIDE:  # those of another have no cell in the middle of the pictures shown to them
        raise ValueError(
            f"train.teacher must be a model of stride {2 * FINE_STRIDE}, {train.teacher} has {teacher.stride}"
        )
    own = cast(Backbone, network.backbone).channels
    wanted = _joined_channels(cast(Backbone, teacher.backbone), its)
    network.regressor = nn.Conv2d(own, wanted, 1).to(device)
    return TeacherTraining(teacher.requires_grad_(False), its.fine_weight, train.teacher_weight)


def _filter_training(stride: int, config: Config, train: TrainConfig) -> FilterTraining:
    online = config.online
    if online is None or not config.model.filter_channels:
        raise ValueError("train.filter_weight needs the table [online] and model.filter_channels, its channels")
    if train.data.searches_per_template < 2:
        raise ValueError("train.filter_weight needs train.data.searches_per_template = 2 or more: one to learn from")
    loss = FilterLoss(stride, online.kernel, online.ridge, online.label_sigma, online.min_sigma)
    return FilterTraining(loss, train.filter_weight, online.fine_weight)


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
    )


def inference_dtype(device: torch.device) -> torch.dtype:
    """Return the number format that the device computes fastest in without changing what a tracker decides."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch do not say
    return torch.bfloat16 if able.get("amx_bf16") or able.get("avx512_bf16") else torch.float32


def _check_stride(stride: int, wanted: int, config: Config) -> None:
    if stride != wanted:
        model = config.model
        raise ValueError(f"the head {model.head} reads features of stride {wanted}, not those of {model.backbone}")


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}; use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r} asked for, but torch sees no CUDA; use --device cpu")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device {name!r} is not supported; use auto, cpu or cuda")
    return device
