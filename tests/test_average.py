from pathlib import Path

import pytest
import torch

from tracker.average import average
from tracker.checkpoint import Checkpoint, load, save


def write(path: Path, value: float, shape: tuple[int, ...] = (3,), **more: torch.Tensor) -> Path:
    tensors = {"a": torch.full(shape, value).half(), "count": torch.tensor(int(value)), **more}
    said = {"command": f"train {value}", "embedding": "learned"}
    save(path, Checkpoint(tensors, f"config {value}", said, {"otb_auc": 0.7, "verify_threshold": 0.4}))
    return path


def test_mean_takes_the_second_files_configuration_and_names_both(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.safetensors", 1.0), write(tmp_path / "b.safetensors", 4.0)
    assert average(first, second, 0.5, tmp_path / "c.safetensors") == "nothing"
    found = load(tmp_path / "c.safetensors")
    assert found.tensors["a"].tolist() == [2.5] * 3 and found.tensors["a"].dtype == torch.float16
    assert found.tensors["count"].item() == 4
    assert found.config == "config 4.0"
    commands = {"mean_of_1_command": "train 1.0", "mean_of_2_command": "train 4.0", "mean_share": "0.5 of the second"}
    assert commands.items() <= found.provenance.items() and "command" not in found.provenance
    assert "otb_auc" not in found.metrics  # of either, not of the mean


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.25, 1.75), (1.0, 4.0)])
def test_the_share_is_the_second_files(tmp_path: Path, share: float, value: float) -> None:
    first, second = write(tmp_path / "a.safetensors", 1.0), write(tmp_path / "b.safetensors", 4.0)
    average(first, second, share, tmp_path / "c.safetensors")
    assert load(tmp_path / "c.safetensors").tensors["a"].tolist() == [value] * 3


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_is_a_share(tmp_path: Path, share: float) -> None:
    first, second = write(tmp_path / "a.safetensors", 1.0), write(tmp_path / "b.safetensors", 4.0)
    with pytest.raises(ValueError, match="must be 0 to 1, got"):
        average(first, second, share, tmp_path / "c.safetensors")


@pytest.mark.parametrize("other", [{}, {"embedding.w": torch.zeros(2)}, {"embedding.v": torch.ones(2)}])
def test_embedding_head_is_left_out_where_there_are_two(tmp_path: Path, other: dict[str, torch.Tensor]) -> None:
    first = write(tmp_path / "a.safetensors", 1.0, **{"embedding.w": torch.ones(2)})
    second = write(tmp_path / "b.safetensors", 4.0, **other)
    assert average(first, second, 0.5, tmp_path / "c.safetensors") == "head"
    assert load(tmp_path / "c.safetensors").metrics == {}
    assert set(load(tmp_path / "c.safetensors").tensors) == {"a", "count"}


def test_embedding_head_stays_where_both_have_the_same(tmp_path: Path) -> None:
    head = {"embedding.w": torch.full((2,), 0.3).half()}
    first, second = write(tmp_path / "a.safetensors", 1.0, **head), write(tmp_path / "b.safetensors", 4.0, **head)
    assert average(first, second, 0.3, tmp_path / "c.safetensors") == "nothing"
    assert torch.equal(load(tmp_path / "c.safetensors").tensors["embedding.w"], head["embedding.w"])


@pytest.mark.parametrize("moved", [False, True])
def test_threshold_stays_where_the_features_do(tmp_path: Path, moved: bool) -> None:
    first, second = (
        write(path, 1.0, **{"embedding.w": torch.ones(2), "backbone.w": torch.full((2,), value)})
        for path, value in ((tmp_path / "a.safetensors", 1.0), (tmp_path / "b.safetensors", 2.0 if moved else 1.0))
    )
    assert average(first, second, 0.5, tmp_path / "c.safetensors") == ("figures" if moved else "nothing")
    found = load(tmp_path / "c.safetensors")
    assert found.metrics == ({} if moved else {"verify_threshold": 0.4})
    assert ("embedding" in found.provenance) is not moved


def test_other_networks_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "a.safetensors", 1.0)
    with pytest.raises(ValueError, match="not weights of one network"):
        average(first, write(tmp_path / "b.safetensors", 1.0, more=torch.ones(1)), 0.5, tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=r"a is \(3,\) .* and \(4,\)"):
        average(first, write(tmp_path / "b.safetensors", 1.0, shape=(4,)), 0.5, tmp_path / "c.safetensors")
    assert not (tmp_path / "c.safetensors").exists()
