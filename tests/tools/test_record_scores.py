import json
from pathlib import Path

import pytest
import torch

from tools.record_scores import record
from tracker import checkpoint
from tracker.checkpoint import Checkpoint

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "resnet18_online.toml"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    text = CONFIG.read_text(encoding="utf-8").replace("patience = 5", "patience = 7")
    checkpoint.save(path, Checkpoint({"a": torch.arange(6.0)}, text, {"data": "none"}, {"old": 1.0, "verify_auc": 0.9}))
    return path


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    path = tmp_path / "scores.json"
    sets = {"OTB": {"success_auc": 0.61234, "precision": 0.8}, "clips": {"success_auc": 0.5, "precision": 0.25}}
    path.write_text(json.dumps({"sets": sets}), encoding="utf-8")
    return path


def test_scores_replace_the_old_and_all_else_stays(weights: Path, scores: Path) -> None:
    before = checkpoint.load(weights)
    record(weights, scores, update_ms=12.5, config=None)
    after = checkpoint.load(weights)
    assert after.metrics == {
        "otb_auc": 0.6123,
        "otb_precision": 0.8,
        "clips_auc": 0.5,
        "clips_precision": 0.25,
        "update_ms": 12.5,
        "verify_auc": 0.9,
    }
    assert torch.equal(after.tensors["a"], before.tensors["a"])
    assert (after.config, after.provenance) == (before.config, before.provenance)


def test_the_configuration_can_be_replaced(weights: Path, scores: Path) -> None:
    record(weights, scores, update_ms=None, config=CONFIG)
    assert checkpoint.load(weights).config == CONFIG.read_text(encoding="utf-8")


def test_a_configuration_that_cannot_be_read_is_not_written(weights: Path, scores: Path, tmp_path: Path) -> None:
    before = weights.read_bytes()
    (tmp_path / "bad.toml").write_text("nonsense = 1")
    with pytest.raises(ValueError, match="nonsense"):
        record(weights, scores, update_ms=None, config=tmp_path / "bad.toml")
    assert weights.read_bytes() == before
