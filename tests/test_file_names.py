from pathlib import Path

import pytest

from tracker.file_names import folders_below, in_home, natural_order, shown_files


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["img1.jpg", "img2.jpg", "img10.jpg", "img0011.jpg", "x2/1.jpg", "x10/1.jpg"]
    assert natural_order([Path(name) for name in reversed(names)]) == [Path(name) for name in names]
    same = [Path("01.jpg"), Path("1.jpg")]
    assert natural_order(same) == natural_order(same[::-1])


def test_a_wave_stands_for_a_home_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    names = ("~/a.mp4", "~clip.mp4", "a/~b.mp4")
    assert [in_home(name) for name in names] == [Path("/home/me/a.mp4"), Path("~clip.mp4"), Path("a/~b.mp4")]


def test_hidden_files_are_none_of_a_folder(tmp_path: Path) -> None:
    for name in ("10.xml", "9.xml", "._9.xml", "9.txt"):
        (tmp_path / name).touch()
    assert shown_files(tmp_path, ".xml") == [tmp_path / "9.xml", tmp_path / "10.xml"]
    assert shown_files(tmp_path / "none", ".xml") == []


def test_folders_are_found_through_links_but_not_round_in_a_loop(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("root/b/c", "root/.hidden", "other/d"):
        (tmp_path / name).mkdir(parents=True)
    (root / "a").symlink_to(tmp_path / "other")
    (root / "e").symlink_to(tmp_path / "other")
    (root / "b" / "c" / "back").symlink_to(root)
    (tmp_path / "other" / "d" / "up").symlink_to(tmp_path / "other")
    (root / "gone").symlink_to(tmp_path / "nothing")
    found = [path.relative_to(root).as_posix() for path in folders_below(root)]
    assert found == [".", "a", "a/d", "b", "b/c", "e", "e/d"]
    assert list(folders_below(tmp_path / "none")) == []
