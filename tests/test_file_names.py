from pathlib import Path

import pytest

from tracker.file_names import in_home, natural_order


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["img1.jpg", "img2.jpg", "img10.jpg", "img0011.jpg", "x2/1.jpg", "x10/1.jpg"]
    assert natural_order([Path(name) for name in reversed(names)]) == [Path(name) for name in names]
    same = [Path("01.jpg"), Path("1.jpg")]
    assert natural_order(same) == natural_order(same[::-1])


def test_a_wave_stands_for_a_home_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    names = ("~/a.mp4", "~clip.mp4", "a/~b.mp4")
    assert [in_home(name) for name in names] == [Path("/home/me/a.mp4"), Path("~clip.mp4"), Path("a/~b.mp4")]
