import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.data.test_check import GOOD, track, write
from tracker import cli_data
from tracker.cli import main
from tracker.data.pair_sheet import pair_sheet
from tracker.data.pairs import Pairs

CONFIG = Path(__file__).parents[2] / "configs" / "siamrpn_resnet18.toml"
GREEN, RED = (0, 230, 118), (255, 48, 48)


def extent(image: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, ...]:
    rows, columns = np.nonzero((image == colour).all(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def test_boxes_lie_where_the_pairs_say() -> None:
    pair = Pairs(
        torch.zeros(3, 32, 32, dtype=torch.uint8),
        torch.full((2, 3, 64, 64), 50, dtype=torch.uint8),
        torch.tensor([2.0, 0.0, 10.0, 8.0]),
        torch.tensor([[-10.0, 6.0, 20.0, 12.0], [0.0, 0.0, 30.0, 30.0]]),
        torch.tensor([True, False]),
    )
    sheet = pair_sheet([pair] * 4)
    assert sheet.shape == (2 * 64, 3 * 160, 3)
    assert extent(sheet[:64, :32], GREEN) == (13, 12, 23, 20)
    assert extent(sheet[:64, 32:96], GREEN) == (12, 32, 32, 44)
    assert extent(sheet[:64, 96:160], RED) == (17, 17, 47, 47)
    assert (sheet[64:, 160:] == 0).all()  # the fourth begins a new line
    assert np.array_equal(sheet[64:, :160], sheet[:64, :160])


def test_command_draws_what_training_would_see(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, track(GOOD), track(("b.png", [1, 2, 30, 40]), label="cat", video="w"))
    out = tmp_path / "pairs.png"
    assert main(["data", "pairs", str(CONFIG), "--data", str(tmp_path), "--out", str(out), "--count", "2"]) == 0
    assert capsys.readouterr().out == f"the pairs are drawn in {out}\n"
    image = cv2.imread(str(out))
    assert image is not None and image.shape == (257, 2 * (129 + 2 * 257), 3)


def test_configuration_without_training_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = CONFIG.with_name("resnet18_online.toml")
    assert main(["data", "pairs", str(config), "--data", str(tmp_path), "--out", str(tmp_path / "a.png")]) == 2
    assert "has no [train] table" in capsys.readouterr().err


def test_without_torch_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(cli_data, "find_spec", lambda _name: None)
    monkeypatch.setitem(sys.modules, "tracker.data.pair_sheet", None)  # it cannot be imported then
    assert main(["data", "pairs", str(CONFIG), "--data", str(tmp_path), "--out", str(tmp_path / "pairs.png")]) == 2
    told = "siamtrack: error: drawing pairs needs torch: pip install 'siamtrack[train]'\n"
    assert capsys.readouterr().err == told
