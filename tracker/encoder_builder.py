"""Turn configuration and weight files into encoders, their data, and what they are trained with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tracker import checkpoint
from tracker.data.image_folder import read_clips, read_pictures, read_sequences
from tracker.data.labelled import LabelledSamples
from tracker.data.omniglot import read_omniglot
from tracker.encoder_config import EncoderConfig, EncoderModelConfig, EncoderTrainConfig, SamplesConfig
from tracker.models.encoders import (
    CharacterCNN,
    ClipEncoder,
    LSTMEncoder,
    Metric,
    RelationHead,
    SiameseEncoder,
    TimeDelayEncoder,
    WeightedL1,
    cosine_similarity,
    l1_similarity,
    l2_similarity,
)
from tracker.toml_tree import read
from tracker.training import metric_losses as losses
from tracker.training import mining
from tracker.training.metric_objectives import Loss, contrastive_of_pairs, cross_entropy_of_pairs
from tracker.training.mining import Triplets

_RELATION_HIDDEN = 64
_LEARNED = ("weighted_l1", "relation")
_READS = {  # what each encoder embeds
    "character_cnn": ("omniglot", "pictures"),
    "lstm": ("sequences",),
    "time_delay": ("sequences",),
    "clip": ("clips",),
}
_READERS: dict[str, Callable[[Path, SamplesConfig], LabelledSamples]] = {
    "omniglot": lambda root, data: read_omniglot(root, data.size),
    "pictures": lambda root, data: read_pictures(root, data.size, data.channels),
    "clips": lambda root, data: read_clips(root, data.size, data.channels),
    "sequences": lambda root, data: read_sequences(root, data.channels),
}


def load_encoder(path: Path) -> tuple[SiameseEncoder[Any], EncoderConfig]:
    """Return an encoder as it runs, float32, and its configuration.

    Raises ValueError for a file that is none or that holds no encoder.
    """
    loaded = checkpoint.load(path)
    try:
        config = read(EncoderConfig, loaded.config)
    except ValueError as error:
        raise ValueError(f"{path} holds no encoder: {error}") from error
    network = build_encoder(config)
    network.load_state_dict({name: tensor.float() for name, tensor in loaded.tensors.items()})
    network.eval()
    return network, config


def build_encoder(config: EncoderConfig) -> SiameseEncoder[Any]:
    """Return the encoder that a configuration names, with fresh weights. Raises ValueError for what does not fit."""
    data, model = config.data, config.model
    if data.layout not in _READS[model.encoder]:
        raise ValueError(
            f"model.encoder {model.encoder} embeds {' or '.join(_READS[model.encoder])}, not {data.layout}"
        )
    if data.layout == "omniglot" and data.channels != 1:
        raise ValueError(f"omniglot is grey: data.channels must be 1, got {data.channels}")
    encoders: dict[str, Callable[[], nn.Module]] = {
        "character_cnn": lambda: CharacterCNN(data.size, data.channels, model.width, model.dimensions),
        "lstm": lambda: LSTMEncoder(data.channels, model.width, model.dimensions),
        "time_delay": lambda: TimeDelayEncoder(data.channels, model.width, model.dimensions),
        "clip": lambda: ClipEncoder(
            CharacterCNN(data.size, data.channels, model.width, model.dimensions),
            model.dimensions,
            model.dimensions,
            model.dimensions,
        ),
    }
    return SiameseEncoder(encoders[model.encoder](), _metric(model))


def _metric(model: EncoderModelConfig) -> Metric:
    metrics: dict[str, Callable[[], Metric]] = {
        "l1": lambda: l1_similarity,
        "l2": lambda: l2_similarity,
        "cosine": lambda: cosine_similarity,
        "weighted_l1": lambda: WeightedL1(model.dimensions),
        "relation": lambda: RelationHead(model.dimensions, _RELATION_HIDDEN),
    }
    return metrics[model.metric]()


def is_sequential(config: EncoderConfig) -> bool:
    """Return whether samples have a length."""
    return config.data.layout in ("clips", "sequences")


def read_samples(config: EncoderConfig, root: Path) -> LabelledSamples:
    """Read the samples below a folder as the configuration says. Raises ValueError for what is not there."""
    return _READERS[config.data.layout](root, config.data)


def build_loss(network: SiameseEncoder[Any], model: EncoderModelConfig, train: EncoderTrainConfig) -> Loss:
    """Return the loss that a configuration names. Raises ValueError for one that would leave the metric unlearned."""
    if (train.loss == "cross_entropy") != (model.metric in _LEARNED):
        raise ValueError(
            f"train.loss cross_entropy and a learned metric ({' or '.join(_LEARNED)}) go together, got {train.loss} "
            f"and {model.metric}"
        )
    if train.loss in ("contrastive", "cross_entropy") and train.pairs < 2:
        raise ValueError(f"train.pairs must be two or more for the loss {train.loss}, got {train.pairs}")
    mine = _miner(train)

    def quadruplet(e: Tensor, y: Tensor, seed: int) -> Tensor:
        found = mining.quadruplets(e, y, mine(e, y, seed))
        return losses.quadruplet_loss(e, found, train.margin, train.other_margin)

    chosen: dict[str, Loss] = {
        "contrastive": contrastive_of_pairs(train.pairs, train.margin),
        "triplet": lambda e, y, seed: losses.triplet_loss(e, mine(e, y, seed), train.margin),
        "soft_triplet": lambda e, y, seed: losses.soft_triplet_loss(e, mine(e, y, seed)),
        "quadruplet": quadruplet,
        "n_pair": lambda e, y, _: losses.n_pair_loss(e, y, 1 / train.temperature),
        "info_nce": lambda e, y, _: losses.info_nce_loss(e, y, train.temperature),
        "supervised_contrastive": lambda e, y, _: losses.supervised_contrastive_loss(e, y, train.temperature),
        "cross_entropy": cross_entropy_of_pairs(train.pairs, network.metric),
    }
    return chosen[train.loss]


def _miner(train: EncoderTrainConfig) -> Callable[[Tensor, Tensor, int], Triplets]:
    def drawn(e: Tensor, y: Tensor, seed: int) -> Triplets:
        return mining.distance_weighted(e, y, torch.Generator(e.device).manual_seed(seed))

    miners: dict[str, Callable[[Tensor, Tensor, int], Triplets]] = {
        "all": lambda _, y, __: mining.all_triplets(y),
        "batch_hard": lambda e, y, _: mining.batch_hard(e, y),
        "semi_hard": lambda e, y, _: mining.semi_hard(e, y, train.margin),
        "hard_negatives": lambda e, y, _: mining.hard_triplets(e, y, train.negatives),
        "distance_weighted": drawn,
    }
    return miners[train.mining]


def build_encoder_optimizer(network: nn.Module, train: EncoderTrainConfig) -> torch.optim.Optimizer:
    """Return AdamW; biases and BatchNorm are not decayed: they set a level, not a pattern."""
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": train.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=train.lr_start)
