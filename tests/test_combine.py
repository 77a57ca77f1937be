from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tracker import checkpoint
from tracker.combine import combine
from tracker.config import Config, parse
from tracker.network_builder import build_network, load_network
from tracker.toml_tree import to_toml

CONFIGS = Path(__file__).parents[1] / "configs"
SECOND = 'model.second={backbone="mobilenetv3_small",head="rpn_light",refiner="window_light"}'
PLAIN = ("model.embedding=none", "score=false", "recovery=false")


def written(path: Path, config: Config, seed: int) -> Path:
    """Write a model with fresh weights."""
    torch.manual_seed(seed)
    tensors = build_network(config).state_dict()
    checkpoint.save(
        path,
        checkpoint.Checkpoint(tensors, to_toml(config), {"seed": str(seed), "embedding": "said"}, {"otb_auc": 0.7}),
    )
    return path


def read(name: str, *overrides: str) -> Config:
    return parse((CONFIGS / f"{name}.toml").read_text(encoding="utf-8"), overrides)


@pytest.fixture
def members(tmp_path: Path) -> tuple[Path, Path]:
    """Write two models of one kind, and of different weights."""
    return (
        written(tmp_path / "a.safetensors", read("siamrpn_mobile"), 1),
        written(tmp_path / "b.safetensors", read("siamrpn_mobile"), 2),
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write the configuration of an ensemble of both."""
    path = tmp_path / "both.toml"
    path.write_text(to_toml(read("siamrpn_mobile", SECOND)), encoding="utf-8")
    return path


@torch.inference_mode()
def test_each_file_is_a_member(members: tuple[Path, Path], config: Path, tmp_path: Path) -> None:
    out = tmp_path / "both.safetensors"
    combine(config, *members, out)
    both = load_network(out, "cpu", PLAIN, torch.float32)[0]
    pictures = torch.randint(0, 256, (1, 3, 65, 65), dtype=torch.uint8)
    found = both.members(both.features(pictures))
    for path, one in zip(members, found, strict=True):
        alone = load_network(path, "cpu", (), torch.float32)[0].features(pictures)
        assert torch.allclose(one.deep, alone.deep, atol=1e-5) and torch.allclose(one.fine, alone.fine, atol=1e-5)
    loaded = checkpoint.load(out)
    assert loaded.provenance == {"member_1_seed": "1", "member_2_seed": "2"} and loaded.metrics == {}
    assert loaded.config == config.read_text(encoding="utf-8")


def test_the_embedding_head_is_to_be_trained(members: tuple[Path, Path], config: Path, tmp_path: Path) -> None:
    combine(config, *members, tmp_path / "both.safetensors")
    with pytest.raises(ValueError, match=r"both.safetensors has no embedding head: siamtrack train-verifier makes it"):
        load_network(tmp_path / "both.safetensors", "cpu")


def test_what_does_not_fit_is_refused(members: tuple[Path, Path], config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    with pytest.raises(ValueError, match=r"siamrpn_mobile.toml names no ensemble: it has no table \[model.second\]"):
        combine(CONFIGS / "siamrpn_mobile.toml", *members, out)
    other = written(tmp_path / "c.safetensors", read("siamrpn_mobile", "model.refiner=window"), 3)
    wanted = "a network of mobilenetv3_small, rpn_light, window, where .*both.toml names .* window_light"
    with pytest.raises(ValueError, match=wanted):
        combine(config, members[0], other, out)
    combine(config, *members, tmp_path / "both.safetensors")
    with pytest.raises(ValueError, match="both.safetensors is an ensemble"):
        combine(config, tmp_path / "both.safetensors", members[1], out)
    necked = to_toml(read("siamrpn_mobile", SECOND, "model.filter_channels=8"))
    config.write_text(necked, encoding="utf-8")
    with pytest.raises(ValueError, match="model.filter_channels asks for what neither member has learned"):
        combine(config, *members, out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("model.second.refiner=none",), "model.refiner and model.second.refiner go together"),
        (("model.refiner=none", "refine=false"), "model.refiner and model.second.refiner go together"),
        (("model.head=none", "model.refiner=none", "refine=false"), "with the head rpn or rpn_light"),
        (("model.second.head=siamfc",), "model.second.head must be one of rpn, rpn_light"),
    ],
)
def test_second_networks_that_cannot_be(changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(read("siamrpn_mobile", SECOND, *changes))


def test_an_ensemble_without_refiners_is_one(tmp_path: Path) -> None:
    config = read("siamrpn_mobile", SECOND, "model.second.refiner=none", "model.refiner=none", "refine=false")
    assert build_network(config).refiner is None
    assert build_network(replace(config, online=None)).embedding is not None
