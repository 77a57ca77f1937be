"""Settings: a tree of frozen dataclasses, read from TOML by `toml_tree`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tracker.toml_tree import read


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
class RefineConfig:
    """How boxes are corrected by a network that has a refiner (see `refinement`)."""

    trust: float  # answer of head and filter from which on
    share: float  # of a correction that is followed
    passes: int  # how often a box is read again, at most
    calibration: float  # share of the first frame's correction that later boxes get
    settled: float = 0.0  # move, over the size or in log size, below which no other pass follows


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
    reads: int = 0  # channels of the fine features, the first ones; 0: all


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
    learn_near: int = 0  # the same while a smaller square is searched, see NearConfig; 0: no other
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
class NearConfig:
    """When a smaller square is searched: where the object hardly moves (see `siamese_tracker`)."""

    size: int  # of the crop, pixels
    moved: float  # in the frame before, over the object's size: below
    score: float  # from which on, before and now


@dataclass(frozen=True, slots=True)
class LookAgainConfig:
    """When a frame is searched once more, around the place just found (see `siamese_tracker`)."""

    moved: float  # from the last place, over the object's size: from there on
    drop: float  # of the score: what answers less by more than that is not taken


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
    camera_grey: float = 0.0
    camera_dark: float = 0.0
    camera_noise: float = 0.0
    camera_coarse: float = 0.0


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
    frozen: tuple[str, ...] = ()  # parts of the backbone, "backbone" or "head", that keep their weights
    clip_norm: float = 0.0  # largest norm of the gradient; 0: as it comes
    ema: float = 0.0  # share of the mean weights that a step keeps; 0: the weights themselves are the result
    refine_weight: float = 0.0  # of the box refiner's loss beside the head's, see `training.refining`
    filter_weight: float = 0.0  # of the online filter's loss beside the head's, see `training.filter_loss`
    teacher: str = ""  # a model of the zoo or a weight file, whose features the backbone learns, see `training.teacher`
    teacher_weight: float = 0.0  # of that loss beside the head's


@dataclass(frozen=True, slots=True)
class SecondConfig:
    """Name the parts of a second network, whose answers are averaged with the first one's (see `models.ensemble`)."""

    backbone: Literal["resnet18", "mobilenetv3_small", "efficientnet_lite0"]
    head: Literal["rpn", "rpn_light"]
    refiner: Literal["none", "window", "window_light"] = "none"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Name the parts of the network; `network_builder` knows them."""

    backbone: Literal["siamfc_alexnet", "resnet18", "mobilenetv3_small", "efficientnet_lite0"]
    head: Literal["siamfc", "rpn", "rpn_light", "rpn_up_channel", "none"]
    embedding: Literal["none", "pooled"] = "none"  # of an object, to tell it from others
    refiner: Literal["none", "window", "window_light"] = "none"  # of boxes, see `models.refiner`
    filter_channels: int = 0  # that the online filter reads, trained for it; 0: those that hold most, for each target
    second: SecondConfig | None = None  # beside a first one that has an rpn or rpn_light head, and a refiner if it has

    @property
    def heads(self) -> tuple[str, ...]:
        """The head of each network."""
        return (self.head,) if self.second is None else (self.head, self.second.head)

    @property
    def refiners(self) -> tuple[str, ...]:
        """The refiner of each network."""
        return (self.refiner,) if self.second is None else (self.refiner, self.second.refiner)


@dataclass(frozen=True, slots=True)
class Config:
    """Hold everything that makes a tracker; `train` is what made its weights."""

    description: str
    model: ModelConfig
    lost: LostConfig
    crop: CropConfig | None = None  # of template and search, for a model with a head
    scale_search: ScaleSearchConfig | None = None
    rpn: RPNConfig | None = None
    refine: RefineConfig | None = None  # without it boxes are not refined
    online: OnlineConfig | None = None
    near: NearConfig | None = None  # without it all of the search's square is searched in each frame
    look_again: LookAgainConfig | None = None  # without it each frame is searched once
    score: ScoreConfig | None = None  # without it the score is what answers
    recovery: RecoveryConfig | None = None  # without it a lost object is searched for where it was
    train: TrainConfig | None = None

    @property
    def search_size(self) -> int:
        """Side of the search's crops, pixels; 0 for a model that searches nothing."""
        if self.model.head != "none" and self.crop is not None:
            return self.crop.search_size
        return self.online.search_size if self.online is not None else 0

    @property
    def fine_weight(self) -> float:
        """Weight of the fine features in the online filter's maps, 0 without a filter."""
        return self.online.fine_weight if self.online is not None else 0.0

    @property
    def corrects_boxes(self) -> bool:
        """Whether boxes are corrected by what is learned online, on fine features that are handed on for it."""
        return self.online is not None and self.online.box is not None


def parse(text: str, overrides: Sequence[str] = ()) -> Config:
    """Read the configuration of a tracker, see `toml_tree.read`."""
    return read(Config, text, overrides)
