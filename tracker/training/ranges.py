"""The range of each setting that a training takes: what lies outside it is said before the training begins."""

import math
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import NamedTuple

from tracker.config import Config
from tracker.encoder_config import EncoderConfig


class _Range(NamedTuple):
    holds: Callable[[float], bool]
    text: str


_ABOVE_0 = _Range(lambda value: value > 0, "be above 0")
_NOT_BELOW_0 = _Range(lambda value: value >= 0, "not be negative")
_FROM_1 = _Range(lambda value: value >= 1, "be 1 or more")
_SHARE = _Range(lambda value: 0 <= value <= 1, "be 0 to 1")
_BELOW_1 = _Range(lambda value: 0 <= value < 1, "be 0 or more and less than 1")
_PICTURE = _Range(lambda value: value >= 8, "be 8 or more, to be halved three times")


def _each(wanted: _Range, table: str, names: str) -> dict[str, _Range]:
    return {f"{table}.{name}": wanted for name in names.split()}


_TRAINING = {
    **_each(_FROM_1, "train", "pairs batch search_size"),
    **_each(_ABOVE_0, "train", "lr_start"),
    **_each(
        _NOT_BELOW_0, "train", "label_radius label_share lr_end warmup_pairs weight_decay seed backbone_lr clip_norm"
    ),
    **_each(_NOT_BELOW_0, "train", "refine_weight filter_weight teacher_weight"),
    **_each(_BELOW_1, "train", "momentum ema"),
    **_each(_FROM_1, "train.data", "searches_per_template max_scale template_max_scale max_stretch"),
    **_each(_NOT_BELOW_0, "train.data", "max_gap max_shift template_shift"),
    **_each(_SHARE, "train.data", "still_share negative_share same_class_share colour grey_chance blur_chance"),
    **_each(_SHARE, "train.data", "cover_chance distractor_chance background_chance"),
    **_each(_SHARE, "train.data", "camera_grey camera_dark camera_noise camera_coarse"),
}
_CROP = {"crop.template_size": _FROM_1, "crop.context": _NOT_BELOW_0}
_ENCODER = {
    **_each(_FROM_1, "data", "channels"),
    **_each(_FROM_1, "model", "width dimensions"),
    **_each(_FROM_1, "train", "steps negatives"),
    **_each(_ABOVE_0, "train", "lr_start temperature"),
    **_each(_NOT_BELOW_0, "train", "lr_end warmup_steps weight_decay seed margin other_margin pairs"),
    **_each(_BELOW_1, "train", "ema"),
}
_DISTORTION = {
    **_each(_NOT_BELOW_0, "train.distortion", "rotate shear scale shift bend"),
    **_each(_SHARE, "train.distortion", "stroke_chance"),
}


def check_training(config: Config) -> None:
    """Raise ValueError naming a setting of the training on pairs that is out of its range."""
    train = config.train
    assert train is not None
    _check(config, _TRAINING | (_CROP if config.crop is not None else {}))
    for source, weight in train.data.weights.items():
        _check_one(f"train.data.weights.{source or repr(source)}", weight, _NOT_BELOW_0)
    if train.lr_fall == "geometric":
        _check_one("train.lr_end, where the fall is geometric,", train.lr_end, _ABOVE_0)
    _check_warm_up("train.warmup_pairs", train.warmup_pairs, "train.pairs", train.pairs)


def check_encoder(config: EncoderConfig) -> None:
    """Raise ValueError naming a setting of an encoder or its training that is out of its range."""
    train = config.train
    _check(config, _ENCODER | (_DISTORTION if train.distortion is not None else {}))
    if config.data.layout != "sequences":
        _check_one("data.size", config.data.size, _PICTURE)
    if train.loss == "quadruplet" and train.classes < 3:
        raise ValueError(f"train.classes must be 3 or more for the loss quadruplet, got {train.classes}")
    _check_warm_up("train.warmup_steps", train.warmup_steps, "train.steps", train.steps)


def _check(config: Config | EncoderConfig, ranges: Mapping[str, _Range]) -> None:
    for name, wanted in ranges.items():
        _check_one(name, attrgetter(name)(config), wanted)


def _check_one(name: str, value: float, wanted: _Range) -> None:
    if not (math.isfinite(value) and wanted.holds(value)):
        raise ValueError(f"{name} must {wanted.text}, got {value}")


def _check_warm_up(name: str, warm_up: int, of: str, whole: int) -> None:
    if warm_up > whole:
        raise ValueError(f"{name} = {warm_up} must not be more than {of} = {whole}")
