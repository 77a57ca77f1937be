"""Turn configuration and weight files into networks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tracker import checkpoint
from tracker.config import Config, SecondConfig, parse
from tracker.models.backbones import (
    FINE_STRIDE,
    Backbone,
    EfficientNetLite0,
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
from tracker.zoo import find_weights

OneBackbone = SiamFCAlexNet | ResNet18 | MobileNetV3Small | EfficientNetLite0

_BACKBONES: dict[str, type[OneBackbone]] = {
    "siamfc_alexnet": SiamFCAlexNet,
    "resnet18": ResNet18,
    "mobilenetv3_small": MobileNetV3Small,
    "efficientnet_lite0": EfficientNetLite0,
}
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
    # What the embedding head reads stays as it is where the filter, which reads it as well, is left out.
    joined_as = config if config.online is not None else parse(loaded.config)
    network = build_network(config, joined_as.fine_weight)
    try:
        network.load_state_dict(_tensors(path, loaded.tensors, embeds=config.model.embedding != "none"))
    except RuntimeError as error:
        first = str(error).split("\n\t")[1]
        raise ValueError(f"{path} holds the weights of another network than its settings say: {first}") from error
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


def build_network(config: Config, fine_weight: float | None = None) -> SiameseNetwork:
    """Return the network that a configuration names, with fresh weights; fine_weight: other than the filter's."""
    model = config.model
    fine_weight = config.fine_weight if fine_weight is None else fine_weight
    first = _BACKBONES[model.backbone]()
    head, refiner = _head(first, config), _refiner(first, config)
    parts = _Parts(first, head, refiner) if model.second is None else _ensemble(model.second, first, head, refiner)
    joined = joined_channels(parts.backbone, fine_weight)
    embedding = EmbeddingHead(joined) if model.embedding == "pooled" else None
    neck = FilterNeck(joined, model.filter_channels) if model.filter_channels else None
    return SiameseNetwork(parts.backbone, parts.head, embedding, neck, parts.refiner, fine_weight)


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


def joined_channels(backbone: Backbone, fine_weight: float) -> int:
    """Return the channels of a backbone's maps as the online filter reads them, see `graphs.filter_maps`."""
    return backbone.channels + (backbone.fine_channels if fine_weight else 0)


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
