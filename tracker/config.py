"""Settings: a tree of frozen dataclasses, read from TOML; what is unknown or of a wrong type is an error."""

import dataclasses
import json
import re
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Tree = TypeVar("Tree")


@dataclass(frozen=True, slots=True)
class CropConfig:
    """Sizes of the crops in pixels, and the context around the object (see `geometry.context_side`)."""

    template_size: int
    search_size: int
    context: float


@dataclass(frozen=True, slots=True)
class ScaleSearchConfig:
    """How a response pyramid becomes a box (Bertinetto et al. 2016, section 3.1)."""

    scales: int
    scale_step: float
    scale_penalty: float
    size_smoothing: float
    window_influence: float
    upsample: int
    filter_share: float = 0.0  # of the place's score, where there is an online filter; the rest is the head's


@dataclass(frozen=True, slots=True)
class RPNConfig:
    """How the maps of an anchor head and of the online filter become a box (see `decode.best_proposal`)."""

    filter_share: float  # of the score; the rest is the head's
    penalty_k: float
    size_smoothing: float
    window_influence: float
    calibration: float  # share of the first frame's correction that later boxes get
    hold: float  # score below which the box stays where it was


@dataclass(frozen=True, slots=True)
class BoxRegressionConfig:
    """How the box is corrected on the fine features (see `models.box_regression`)."""

    channels: int
    cells: int
    context: float  # side of the window over that of the object
    moves: int
    shift: float  # of the moves, over the object's size
    growth: float  # of the moves, log of the size
    stretch: float  # of the moves, half the log of the aspect
    stretch_trust: float  # share of a measured stretch that is followed
    ridge: float
    rate: float
    first_weight: float
    share: float = 1.0  # of a correction that is followed, beside a head that finds boxes itself


@dataclass(frozen=True, slots=True)
class OnlineConfig:
    """How a filter is learned on the features while tracking (see `models.online_filter`)."""

    channels: int
    kernel: int
    ridge: float
    label_sigma: float  # over the object's side
    min_sigma: float  # pixels of the search crop
    rate: float
    first_weight: float
    first_frames: int
    gate: float
    learn_every: int = 1  # frames, once the first ones are learned: with the weight of all of them
    fine_weight: float = 0.0  # of the fine features beside the deep ones, whose weight is 1; for backbones of stride 16
    trust: float = 0.0  # score from which on the box is corrected
    box: BoxRegressionConfig | None = None  # without it boxes are the head's, or those of the scale search
    # The rest is for a model without a head: where to search.
    search_factor: float = 0.0  # side of the search crop over the context side
    search_size: int = 0
    window_influence: float = 0.0


@dataclass(frozen=True, slots=True)
class LostConfig:
    """When a tracker calls itself lost: below `enter` for `patience` frames, until the score is above `leave`."""

    enter: float
    leave: float
    patience: int


@dataclass(frozen=True, slots=True)
class ScoreConfig:
    """How evidence becomes the chance that the box is right: weights of a logistic regression (see `certainty`)."""

    bias: float
    alone: float
    head: float
    similarity: float
    recent: float
    rate: float  # of the mean over the last frames
    trust: float  # chance above which filter and appearance learn
    appearance_rate: float
    embed_every: int = 1  # frames: in between the last similarity holds, unless the chance by it is below
    embed_below: float = 1.0


@dataclass(frozen=True, slots=True)
class RecoveryConfig:
    """How a lost object is searched for (see `recovery`)."""

    regions: int  # searched a frame beside the last place
    accept: float  # chance above which a place elsewhere is taken
    step: float  # between two regions, over their side
    scales: tuple[float, ...]  # of the object's size when it was last sure, one a sweep over the frame


@dataclass(frozen=True, slots=True)
class DataConfig:
    """What training pairs are drawn from and how (see `data.pairs.PairConfig` for the units)."""

    weights: dict[str, float]
    searches_per_template: int
    max_gap: int
    still_share: float
    negative_share: float
    same_class_share: float
    max_shift: float
    max_scale: float
    colour: float
    grey_chance: float
    blur_chance: float
    cover_chance: float
    template_shift: float = 8.0
    template_max_scale: float = 1.1
    max_stretch: float = 1.0
    distractor_chance: float = 0.0
    background_chance: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How a network is trained; `search_size` may be smaller than in tracking: the network is convolutional."""

    pairs: int
    batch: int  # templates
    search_size: int
    label_radius: float
    lr_start: float
    lr_end: float
    warmup_pairs: int
    momentum: float
    weight_decay: float
    seed: int
    data: DataConfig
    label_share: float = 0.0  # radius of the positive cells over the object's sides, where that is more
    lr_fall: Literal["geometric", "cosine"] = "geometric"
    optimizer: Literal["sgd", "adamw"] = "sgd"  # `momentum` is of sgd alone
    backbone_lr: float = 1.0  # share of the learning rate
    frozen: tuple[str, ...] = ()  # parts of the backbone, or "head", that keep their weights
    clip_norm: float = 0.0  # largest norm of the gradient; 0: as it comes
    ema: float = 0.0  # share of the mean weights that a step keeps; 0: the weights themselves are the result
    filter_weight: float = 0.0  # of the online filter's loss beside the head's, see `training.filter_loss`
    teacher: str = ""  # a model of the zoo or a weight file, whose features the backbone learns, see `training.teacher`
    teacher_weight: float = 0.0  # of that loss beside the head's


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Name the parts of the network; `network_builder` knows them."""

    backbone: Literal["siamfc_alexnet", "resnet18", "mobilenetv3_small"]
    head: Literal["siamfc", "rpn", "rpn_light", "rpn_up_channel", "none"]
    embedding: Literal["none", "pooled"] = "none"  # of an object, to tell it from others
    filter_channels: int = 0  # that the online filter reads, trained for it; 0: those that hold most, for each target


@dataclass(frozen=True, slots=True)
class Config:
    """Hold everything that makes a tracker; `train` is what made its weights."""

    description: str
    model: ModelConfig
    lost: LostConfig
    crop: CropConfig | None = None  # of template and search, for a model with a head
    scale_search: ScaleSearchConfig | None = None
    rpn: RPNConfig | None = None
    online: OnlineConfig | None = None
    score: ScoreConfig | None = None  # without it the score is what answers
    recovery: RecoveryConfig | None = None  # without it a lost object is searched for where it was
    train: TrainConfig | None = None

    @property
    def fine_weight(self) -> float:
        """Weight of the fine features in the online filter's maps, 0 without a filter."""
        return self.online.fine_weight if self.online is not None else 0.0


def parse(text: str, overrides: Sequence[str] = ()) -> Config:
    """Read the configuration of a tracker, see `read`."""
    return read(Config, text, overrides)


def read(kind: type[Tree], text: str, overrides: Sequence[str] = ()) -> Tree:
    """Read a tree of frozen dataclasses from TOML, then apply overrides "a.b=value" (in TOML, or a bare word).

    Raises ValueError with the full dotted name of what is unknown, missing or of a wrong type.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"configuration is not TOML: {error}") from error
    for override in overrides:
        _apply(tree, override)
    config: Tree = _build(kind, tree, "")
    return config


def to_toml(config: "DataclassInstance") -> str:
    """Write a configuration as TOML text; `read` makes an equal one of it."""
    return "\n".join(_lines_of_table("", dataclasses.asdict(config))) + "\n"


def _lines_of_table(name: str, table: Mapping[str, Any]) -> list[str]:
    lines = [f"[{name}]"] if name else []
    lines += [
        f"{_toml_key(key)} = {_toml(value)}" for key, value in table.items() if not isinstance(value, dict | None)
    ]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += ["", *_lines_of_table(f"{name}.{_toml_key(key)}".removeprefix("."), value)]
    return lines


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _toml(value: str | float | tuple[str, ...]) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | str | tuple) else repr(value)


def _apply(tree: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise ValueError(f"override must read a.b=value, got {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *path, last = name.split(".")
    for part in path:
        branch = tree.setdefault(part, {})
        if not isinstance(branch, dict):
            raise ValueError(f"{name}: {part} is not a table")
        tree = branch
    tree[last] = value


def _build(kind: type, tree: Mapping[str, Any], prefix: str) -> Any:  # noqa: ANN401 - an instance of `kind`
    hints = get_type_hints(kind)
    for key in tree:
        if key not in hints:
            raise ValueError(f"unknown setting {prefix}{key}; known here: {', '.join(hints)}")
    values = {}
    for field in dataclasses.fields(kind):
        if field.name in tree:
            values[field.name] = _check(hints[field.name], tree[field.name], prefix + field.name)
        elif field.default is dataclasses.MISSING:
            raise ValueError(f"setting {prefix}{field.name} is missing")
    return kind(**values)


def _check(kind: Any, value: Any, name: str) -> Any:  # noqa: ANN401 - types are data here
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):  # only "X | None" is used; TOML has no null, so false stands for it
        if value is False:
            return None
        return _check(next(option for option in get_args(kind) if option is not type(None)), value, name)
    if origin is Literal:
        if value not in get_args(kind):
            raise ValueError(f"setting {name} must be one of {', '.join(get_args(kind))}, got {value!r}")
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise ValueError(f"setting {name} must be a table, got {value!r}")
        return _build(kind, value, name + ".")
    if origin in (dict, tuple):
        return _check_many(kind, value, name)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"setting {name} must be {kind.__name__}, got {value!r}")
    return value


def _check_many(kind: Any, value: Any, name: str) -> Any:  # noqa: ANN401 - types are data here
    if get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise ValueError(f"setting {name} must be a table, got {value!r}")
        return {key: _check(get_args(kind)[1], item, f"{name}.{key}") for key, item in value.items()}
    if not isinstance(value, list):
        raise ValueError(f"setting {name} must be a list, got {value!r}")
    return tuple(_check(get_args(kind)[0], item, f"{name}[{i}]") for i, item in enumerate(value))
