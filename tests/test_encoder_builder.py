from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tracker import checkpoint
from tracker.data.batches import BatchDataset, LabelledBatch
from tracker.data.labelled import LabelledSamples, gather
from tracker.encoder_builder import build_encoder, build_encoder_optimizer, build_loss, is_sequential, load_encoder
from tracker.encoder_config import EncoderConfig
from tracker.toml_tree import read, to_toml
from tracker.training.metric_objectives import metric_objective
from tracker.training.mining import BalancedBatches

CONFIGS = sorted((Path(__file__).parent.parent / "configs" / "encoders").glob("*.toml"))

TEXT = """
description = "tiny"
[data]
layout = "pictures"
channels = 1
size = 8
[model]
encoder = "character_cnn"
width = 4
dimensions = 6
metric = "cosine"
[train]
steps = 4
classes = 3
samples = 2
loss = "triplet"
lr_start = 0.01
lr_end = 0.001
warmup_steps = 1
weight_decay = 0.01
seed = 1
"""
LOSSES = ("contrastive", "triplet", "soft_triplet", "quadruplet", "n_pair", "info_nce", "supervised_contrastive")
MINERS = ("all", "batch_hard", "semi_hard", "hard_negatives", "distance_weighted")
SHAPES = {"pictures": (1, 8, 8), "omniglot": (1, 8, 8), "clips": (3, 1, 8, 8), "sequences": (5, 1)}


def configured(*overrides: str) -> EncoderConfig:
    return read(EncoderConfig, TEXT, overrides)


def samples(config: EncoderConfig) -> LabelledSamples:
    """Return four classes that differ in brightness alone, of the kind that the configuration reads."""
    rng = np.random.default_rng(0)
    found = []
    for k in range(4):
        drawn = 60 * k + rng.integers(0, 30, (3, *SHAPES[config.data.layout]))
        found.append((str(k), list(drawn.astype(np.float32 if config.data.layout == "sequences" else np.uint8))))
    return gather(found)


def batch(config: EncoderConfig) -> LabelledBatch:
    data, train = samples(config), config.train
    batches = BalancedBatches(data.labels, data.names, train.classes, train.samples, train.seed)
    one = BatchDataset(data, batches, None, 1)[0]
    return LabelledBatch(*(part.unsqueeze(0) for part in one))


def losses(config: EncoderConfig, steps: int) -> list[float]:
    torch.manual_seed(0)
    network = build_encoder(config)
    objective = metric_objective(build_loss(network, config.model, config.train), is_sequential(config), None)
    optimizer = build_encoder_optimizer(network, config.train)
    found, values = batch(config), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = objective(network, found)
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    return values


@pytest.mark.parametrize(
    ("loss", "mining"),
    [
        *((loss, "batch_hard") for loss in LOSSES),
        *(("triplet", mining) for mining in MINERS[1:]),
        *(("quadruplet", mining) for mining in MINERS),
    ],
)
def test_every_loss_and_mining_learns_the_batch(loss: str, mining: str) -> None:
    config = configured(f"train.loss={loss}", f"train.mining={mining}", "train.pairs=20", "train.margin=0.5")
    values = losses(config, 60)
    assert values[0] > 0
    assert values[-1] < 0.9 * values[0]


@pytest.mark.parametrize("metric", ["weighted_l1", "relation"])
def test_every_learned_metric_learns_the_batch(metric: str) -> None:
    values = losses(configured("train.loss=cross_entropy", f"model.metric={metric}", "train.pairs=40"), 60)
    assert values[-1] < 0.8 * values[0]


@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
def test_every_metric_is_built(metric: str) -> None:
    network = build_encoder(configured(f"model.metric={metric}"))
    found = batch(configured()).values[0]
    assert network.eval()(found, found.flip(0)).shape == (6,)


@pytest.mark.parametrize(
    ("encoder", "layout"),
    [
        ("character_cnn", "omniglot"),
        ("character_cnn", "pictures"),
        ("lstm", "sequences"),
        ("time_delay", "sequences"),
        ("clip", "clips"),
    ],
)
def test_every_encoder_learns_the_batch(encoder: str, layout: str) -> None:
    config = configured(f"model.encoder={encoder}", f"data.layout={layout}", "train.loss=supervised_contrastive")
    values = losses(config, 60)
    assert values[-1] < 0.9 * values[0]


def test_draws_of_a_loss_depend_on_the_batch_alone() -> None:
    config = configured("train.loss=triplet", "train.mining=distance_weighted")
    assert losses(config, 5) == losses(config, 5)
    found = batch(config)
    network = build_encoder(config).eval()
    objective = metric_objective(build_loss(network, config.model, config.train), sequential=False, autocast_dtype=None)
    drawn = {float(objective(network, found._replace(seed=torch.tensor([seed]))).detach()) for seed in range(20)}
    assert len(drawn) > 1


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.encoder=lstm"], "model.encoder lstm embeds sequences, not pictures"),
        (["model.encoder=clip"], "model.encoder clip embeds clips, not pictures"),
        (["data.layout=omniglot", "data.channels=3"], "data.channels must be 1, got 3"),
        (["data.size=1"], "at least 8 pixels"),
        (["model.metric=relation"], "cross_entropy and a learned metric .* go together, got triplet and relation"),
        (["train.loss=cross_entropy", "train.pairs=8"], "got cross_entropy and cosine"),
        (["train.loss=contrastive"], "train.pairs must be two or more for the loss contrastive, got 0"),
    ],
)
def test_what_does_not_go_together_is_named(overrides: list[str], said: str) -> None:
    config = configured(*overrides)
    with pytest.raises(ValueError, match=said):
        build_loss(build_encoder(config), config.model, config.train)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.loss=hinge", "setting train.loss must be one of contrastive, triplet"),
        ("train.mining=none", "setting train.mining must be one of all, batch_hard"),
        ("train.distortion.rotate=5.0", "setting train.distortion.shear is missing"),
        ("model.depth=3", "unknown setting model.depth; known here: encoder, width"),
    ],
)
def test_unknown_settings_are_named(override: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        configured(override)


def test_there_are_configs_to_ship() -> None:
    assert "omniglot" in [path.stem for path in CONFIGS]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_config_is_read_and_opens_with_its_recipe(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    config = read(EncoderConfig, text)
    for word in ("command: ", "data: ", "hardware: ", "metric: ", "date: "):
        assert f"\n# {word}" in text
    assert f"siamtrack encoder train configs/encoders/{path.name}" in text
    assert read(EncoderConfig, to_toml(config)) == config
    build_loss(build_encoder(config), config.model, config.train)


def test_weight_file_gives_the_encoder_back(tmp_path: Path) -> None:
    config = configured()
    network = build_encoder(config).eval()
    path = tmp_path / "weights.safetensors"
    checkpoint.save(path, checkpoint.Checkpoint(network.state_dict(), to_toml(config), {}, {}))
    loaded, found = load_encoder(path)
    assert found == config
    assert not loaded.training
    images = batch(config).values[0]
    assert torch.equal(loaded.embed(images), network.embed(images))


def test_weight_file_of_a_tracker_holds_no_encoder() -> None:
    path = Path(__file__).parent.parent / "weights" / "mobilenetv3_online.safetensors"
    with pytest.raises(ValueError, match="mobilenetv3_online.safetensors holds no encoder: unknown setting"):
        load_encoder(path)


def test_biases_and_batch_norm_are_not_decayed() -> None:
    config = configured()
    network = build_encoder(config)
    patterns, levels = build_encoder_optimizer(network, replace(config.train, weight_decay=0.3)).param_groups
    assert (patterns["weight_decay"], levels["weight_decay"]) == (0.3, 0.0)
    assert {p.ndim for p in levels["params"]} == {1}
    assert len(patterns["params"]) + len(levels["params"]) == len(list(network.parameters()))
