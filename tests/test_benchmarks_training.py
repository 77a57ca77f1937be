from pathlib import Path

import pytest
import torch

from benchmarks import training
from tests.training.test_run import CONFIG, write_data
from tracker.training.run import RunOptions


def test_report_has_a_row_for_each_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_data(tmp_path / "data")
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG)
    monkeypatch.setattr(training, "recipes", lambda: [config])
    monkeypatch.setattr(training, "loader_speed", lambda *_: 123.0)  # it starts processes
    lines = list(training.report(data, 3, RunOptions(workers=0, threads=torch.get_num_threads())))
    name, speed, waiting, loader = (cell.strip() for cell in lines[-1].strip("|").split("|"))
    assert (name, loader) == ("tiny", "123")
    assert float(speed) > 0
    assert 0 <= float(waiting.rstrip("%")) <= 100


def test_recipes_are_the_configurations_with_a_train_table() -> None:
    names = [path.stem for path in training.recipes()]
    assert "siamfc_alexnet" in names and "siamrpn_resnet18" in names
    assert "resnet18_online" not in names
