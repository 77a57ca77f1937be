from pathlib import Path

import pytest
import torch

from benchmarks import training
from benchmarks.training import LoaderSpeed
from tests.training.test_run import CONFIG, write_data
from tracker.data.pack import pack
from tracker.data.shard_index import PackRule
from tracker.training.run import RunOptions


def test_report_has_a_row_for_each_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_data(tmp_path / "data")
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG)
    monkeypatch.setattr(training, "recipes", lambda: [config])
    monkeypatch.setattr(training, "loader_speed", lambda *_: LoaderSpeed(123.0, 0.5, 2.0))  # it starts processes
    lines = list(training.report(data, 3, RunOptions(workers=0, threads=torch.get_num_threads())))
    name, speed, waiting, loader = (cell.strip() for cell in lines[-1].strip("|").split("|"))
    assert (name, loader) == ("tiny", "123")
    assert float(speed) > 0
    assert 0 <= float(waiting.rstrip("%")) <= 100


def test_recipes_are_the_configurations_with_a_train_table() -> None:
    names = [path.stem for path in training.recipes()]
    assert "siamfc_alexnet" in names and "siamrpn_resnet18" in names
    assert "resnet18_online" not in names


def test_shards_have_a_section_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_data(tmp_path / "data")
    rounds = [(100.0, 0.1, 2.0), (150.0, 1.0, 3.0), (200.0, 0.1, 2.0), (100.0, 1.0, 3.0)]
    speeds = (LoaderSpeed(*row) for row in rounds * 10)
    asked = []
    monkeypatch.setattr(training, "loader_speed", lambda *args: asked.append(args[1:]) or next(speeds))
    monkeypatch.setattr(training, "_ROUNDS", 2)
    monkeypatch.setattr(training, "recipes", lambda: [])
    out = tmp_path / "report.md"
    shards = ["--data", str(data), "--shards", str(tmp_path / "shards"), "--steps", "7", "--out", str(out)]
    assert training.main(["--data", str(data), "--out", str(out)]) == 0
    first = out.read_text()
    for _ in range(2):
        assert training.main(shards) == 0
        assert out.read_text().startswith(first)
        assert out.read_text().count("## Shards") == 1
    assert out.read_text().splitlines()[-4:] == [
        "| 1 | folder | 150 |  | 2.00 | 0.1 |",
        "| 1 | shards | 125 | 1.00 | 3.00 | 1.0 |",
        "| 2 | folder | 150 |  | 2.00 | 0.1 |",
        "| 2 | shards | 125 | 1.00 | 3.00 | 1.0 |",
    ]
    assert asked[:2] == [(data, 7, 1), (tmp_path / "shards", 7, 1)]
    assert training.main(["--data", str(data), "--out", str(out)]) == 0  # and the other part leaves it there
    assert "## Shards" in out.read_text()


def test_the_loader_is_measured_on_both(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG)
    for _ in pack(data, tmp_path / "shards", PackRule(64, None, 1, 1)):
        pass
    for place in (data, tmp_path / "shards"):
        assert min(training.loader_speed(config, place, 4, workers=0)) > 0
