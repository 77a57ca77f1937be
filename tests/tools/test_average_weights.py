from pathlib import Path

import pytest
import torch

from tools.average_weights import average
from tracker.checkpoint import Checkpoint, load, save


def write(path: Path, value: float, shape: tuple[int, ...] = (3,), **more: torch.Tensor) -> Path:
    tensors = {"a": torch.full(shape, value).half(), "count": torch.tensor(int(value)), **more}
    save(path, Checkpoint(tensors, f"config {value}", {"command": f"train {value}"}, {"otb_auc": 0.7}))
    return path


def test_mean_takes_the_second_files_configuration_and_names_both(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.safetensors", 1.0), write(tmp_path / "b.safetensors", 4.0)
    average(first, second, tmp_path / "c.safetensors")
    found = load(tmp_path / "c.safetensors")
    assert found.tensors["a"].tolist() == [2.5] * 3 and found.tensors["a"].dtype == torch.float16
    assert found.tensors["count"].item() == 4
    assert found.config == "config 4.0"
    assert found.provenance == {"mean_of_1_command": "train 1.0", "mean_of_2_command": "train 4.0"}
    assert found.metrics == {}  # of either, not of the mean


def test_embedding_head_is_left_out(tmp_path: Path) -> None:
    first = write(tmp_path / "a.safetensors", 1.0, **{"embedding.w": torch.ones(2)})
    average(first, write(tmp_path / "b.safetensors", 4.0), tmp_path / "c.safetensors")
    assert set(load(tmp_path / "c.safetensors").tensors) == {"a", "count"}


def test_other_networks_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "a.safetensors", 1.0)
    with pytest.raises(ValueError, match="not weights of one network"):
        average(first, write(tmp_path / "b.safetensors", 1.0, more=torch.ones(1)), tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=r"a is \(3,\) .* and \(4,\)"):
        average(first, write(tmp_path / "b.safetensors", 1.0, shape=(4,)), tmp_path / "c.safetensors")
    assert not (tmp_path / "c.safetensors").exists()
