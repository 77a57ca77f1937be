import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tracker.roc_plot import check_plot, write_roc
from tracker.verification import roc_curve

CURVE = roc_curve(np.array([0.9, 0.6]), np.array([0.7, 0.1]))


def test_picture_is_written(tmp_path: Path) -> None:
    write_roc({"one": CURVE, "two": CURVE}, tmp_path / "roc.png")
    picture = cv2.imread(str(tmp_path / "roc.png"))
    assert picture is not None and picture.shape == (600, 720, 3)
    assert 0.5 < (picture > 250).mean() < 0.99


def test_ending_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Format 'xyz' is not supported"):
        write_roc({"one": CURVE}, tmp_path / "roc.xyz")
    with pytest.raises(OSError, match="nowhere"):
        write_roc({"one": CURVE}, tmp_path / "nowhere" / "roc.png")


def test_plot_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"roc.xyz: its ending must be one of .*png"):
        check_plot(tmp_path / "roc.xyz")
    with pytest.raises(ValueError, match="there is no folder .*nowhere"):
        check_plot(tmp_path / "nowhere" / "roc.png")
    for name in ("roc.PNG", "roc"):
        check_plot(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_names_are_no_formulas_and_all_are_told(tmp_path: Path) -> None:
    written = []
    for name in ("_mine", "a$^$b"):
        write_roc({name: CURVE}, tmp_path / "roc.svg")
        written.append(name.encode() in (tmp_path / "roc.svg").read_bytes())
    assert written == [True, True]


def test_matplotlib_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"plots need matplotlib: pip install 'siamtrack\[eval\]'"):
        write_roc({"one": CURVE}, tmp_path / "roc.png")
