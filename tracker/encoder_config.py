"""Settings of an encoder: what it embeds, how it compares, and how it is trained; read by `toml_tree.read`."""

from dataclasses import dataclass
from typing import Literal

from tracker.data.distort import Distortion


@dataclass(frozen=True, slots=True)
class SamplesConfig:
    """Name the layout of the data and what samples become when they are read."""

    layout: Literal["omniglot", "pictures", "clips", "sequences"]
    channels: int  # 1: grey, 3: RGB; of sequences: numbers a step
    size: int = 0  # pixels a side, of pictures and clips
    rotations: bool = False  # in training: a class turned by 90, 180, 270 degrees is another class


@dataclass(frozen=True, slots=True)
class EncoderModelConfig:
    """Name the parts of a Siamese encoder; `encoder_builder` knows them."""

    encoder: Literal["character_cnn", "lstm", "time_delay", "clip"]
    width: int
    dimensions: int  # of the embedding
    metric: Literal["l1", "l2", "cosine", "weighted_l1", "relation"]


@dataclass(frozen=True, slots=True)
class EncoderTrainConfig:
    """How an encoder is trained: batches of `classes` with `samples` each."""

    steps: int
    classes: int
    samples: int
    loss: Literal[
        "contrastive",
        "triplet",
        "soft_triplet",
        "quadruplet",
        "n_pair",
        "info_nce",
        "supervised_contrastive",
        "cross_entropy",
    ]
    lr_start: float
    lr_end: float
    warmup_steps: int
    weight_decay: float
    seed: int
    mining: Literal["all", "batch_hard", "semi_hard", "hard_negatives", "distance_weighted"] = "batch_hard"
    margin: float = 0.2
    other_margin: float = 0.1  # of quadruplets, between classes that the anchor has no part in
    negatives: int = 1  # of each anchor, for the mining of hard negatives
    temperature: float = 0.1  # the cosine over it is the logit; for n_pair, info_nce, supervised_contrastive
    pairs: int = 0  # drawn of each batch, for contrastive and cross_entropy
    ema: float = 0.0  # share of the mean weights that a step keeps; 0: the weights themselves are the result
    distortion: Distortion | None = None  # of pictures


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Hold everything that makes an encoder; `train` is what made its weights."""

    description: str
    data: SamplesConfig
    model: EncoderModelConfig
    train: EncoderTrainConfig
