"""A model that embeds objects, for tests: ImageNet's backbone under an embedding head that was never trained."""

from pathlib import Path

import numpy as np
import torch

from tests.videos import texture
from tracker import checkpoint
from tracker.config import Config, parse
from tracker.interface import Frame
from tracker.models.backbones import fuse_batch_norm
from tracker.models.siamese import SiameseNetwork
from tracker.network_builder import build_network
from tracker.toml_tree import to_toml
from tracker.zoo import find_weights

ROOT = Path(__file__).parent.parent
THRESHOLD = 0.97  # the drawn head tells textures apart there


def make_network(embedding: str = "pooled", seed: int = 0) -> tuple[SiameseNetwork, Config]:
    """Return the network as it is stored, and its configuration."""
    text = (ROOT / "configs" / "siamrpn_mobile.toml").read_text(encoding="utf-8")
    config = parse(text, [f"model.embedding={embedding}"])
    torch.manual_seed(seed)
    network = build_network(config)
    backbone = checkpoint.load(find_weights("mobilenetv3_online")).tensors
    found = network.load_state_dict({name: tensor.float() for name, tensor in backbone.items()}, strict=False)
    assert not found.unexpected_keys and not any(name.startswith("backbone") for name in found.missing_keys)
    return network, config


def running(network: SiameseNetwork) -> SiameseNetwork:
    """Return the network as it runs while tracking."""
    network.eval()
    fuse_batch_norm(network)
    return network


def write_weights(path: Path, metrics: dict[str, float], embedding: str = "pooled", seed: int = 0) -> Path:
    """Write such a model's weight file."""
    network, config = make_network(embedding, seed)
    checkpoint.save(path, checkpoint.Checkpoint(dict(network.state_dict()), to_toml(config), {}, metrics))
    return path


def thing(seed: int, side: int = 96) -> Frame:
    """Return a picture of a thing of its own texture and colour."""
    tint = np.random.default_rng(seed + 100).uniform(0.2, 1.0, 3)
    return np.asarray(texture(side, side, seed, grain=6 + 5 * (seed % 4)) * tint, np.uint8)
