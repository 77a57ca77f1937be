import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tracker.cli import main
from tracker.data.check import check_tracks, contact_sheet
from tracker.data.tracks import read_tracks


def write(folder: Path, *rows: object) -> Path:
    """Write an index, and the pictures a.png and b.png of 80x60, left half black, right half white."""
    image = np.zeros((60, 80, 3), np.uint8)
    image[:, 40:] = 255
    for name in ("a.png", "b.png"):
        assert cv2.imwrite(str(folder / name), image)
    (folder / "broken.png").write_bytes(b"no picture")
    index = folder / "tracks.jsonl"
    index.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return index


def track(*frames: tuple[str, list[float]], video: str = "v", label: str = "dog", source: str = "mine") -> object:
    shown = [{"image": image, "box": box} for image, box in frames]
    return {"set": source, "video": video, "class": label, "frames": shown}


GOOD = ("a.png", [30.0, 20.0, 20.0, 20.0])


def wrong(index: Path) -> list[tuple[int, str, str]]:
    return [(problem.line, problem.image, problem.what) for problem in check_tracks(index, lambda _: None).problems]


def test_what_is_there_is_counted(tmp_path: Path) -> None:
    other = track(("b.png", [1, 2, 30, 40]), label="cat", source="", video="w")
    told: list[float] = []
    findings = check_tracks(write(tmp_path, track(GOOD, ("b.png", [31, 20, 20, 20])), other), told.append)
    assert (len(findings.readable), findings.stills, findings.frames, findings.videos) == (2, 1, 3, {"v", "w"})
    assert findings.labels == {"dog": 1, "cat": 1}
    assert findings.sources == {"mine": 1, "": 1}
    assert findings.problems == []
    assert told == [0.5, 1.0]


def test_each_thing_that_is_wrong_is_named(tmp_path: Path) -> None:
    index = write(
        tmp_path,
        track(GOOD),
        "no track",
        track(("gone.png", [1, 1, 9, 9])),
        track(("broken.png", [1, 1, 9, 9])),
        track(("a.png", [70, 20, 25, 20]), ("b.png", [-30, -40, 20, 20])),
        track(("a.png", [30, 20, 3.5, 20])),
        track(("a.png", [30, 20, 0, 20])),
        track(GOOD, ("b.png", [1, 1, 9, 9])),
    )
    found = wrong(index)
    assert [(line, image) for line, image, _ in found] == [
        *((2, ""), (3, "gone.png"), (4, "broken.png"), (5, "a.png"), (5, "b.png"), (6, "a.png"), (7, ""), (8, "")),
    ]
    whats = [what for *_, what in found]
    assert whats[0].startswith("not a track (JSONDecodeError")
    assert whats[1:3] == ["there is no such picture", "the picture cannot be decoded"]
    assert whats[3] == "box 70,20,25,20 in a picture of 80x60: less than half of it is in the picture"
    assert whats[5] == "box 30,20,3.5,20 in a picture of 80x60: smaller than 4 pixels"
    assert whats[6:] == ["no frame has a box", "the track of line 1 again"]


def test_empty_index_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    assert main(["data", "check", str(tmp_path), "-q"]) == 1
    assert capsys.readouterr().out.splitlines()[-2:] == ["tracks.jsonl: there are no tracks in it", "1 problems"]


def test_picture_that_was_cut_off_is_a_problem(tmp_path: Path) -> None:
    index = write(tmp_path, track(("cut.jpg", [30, 20, 20, 20])))
    content = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))[1].tobytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    assert wrong(index) == [(1, "cut.jpg", "the picture cannot be decoded")]


def test_box_that_is_half_inside_is_no_problem(tmp_path: Path) -> None:
    assert wrong(write(tmp_path, track(("a.png", [70, 20, 20, 20])))) == []


def test_index_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot read the tracks in .*tracks.jsonl"):
        check_tracks(tmp_path / "tracks.jsonl", lambda _: None)


def test_sheet_shows_first_middle_and_last_with_the_box_around_the_object(tmp_path: Path) -> None:
    frames = [("a.png", [30.0 + i, 20.0, 20.0, 20.0]) for i in range(5)]
    tracks = read_tracks(write(tmp_path, track(*frames), *(track(GOOD, video=str(i)) for i in range(5))))
    sheet = contact_sheet(tracks, 5)
    assert sheet.shape == (2 * 128, 4 * 3 * 128, 3)
    assert (sheet[128:, 384:] == 96).all()  # four tracks a row: nothing beside the fifth
    for tile in range(3):
        crop = sheet[:128, 128 * tile : 128 * (tile + 1)]
        green = (crop == (0, 230, 118)).all(axis=2)
        rows, columns = np.nonzero(green)
        # The crop is 1.5 context squares, 3 sides of the object, wide: it takes a third of the tile.
        assert columns.max() - columns.min() == pytest.approx(128 / 3, abs=2)
        assert (rows.min() + rows.max()) / 2 == pytest.approx(64, abs=2)
        # The edge between black and white lies at x = 40: in the middle of the first box, 4 px left of the last one's.
        edge = int(np.argmax(crop[64, 10:118, 0] > 127)) + 10
        assert edge == pytest.approx(64 - tile * 2 * 128 / 60, abs=3)


def test_sheet_leaves_out_what_cannot_be_read(tmp_path: Path) -> None:
    rows = [track((name, box)) for name, box in (("broken.png", [1, 1, 9, 9]), ("a.png", [1, 2, 1e300, 1e300]), GOOD)]
    sheet = contact_sheet(read_tracks(write(tmp_path, *rows)), 10)
    assert (sheet[:, :768] == 96).all()
    assert not (sheet[:, 768:1152] == 96).all()


def test_command_reports_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, track(GOOD), track(("b.png", [1, 2, 30, 40]), label="cat"))
    assert main(["data", "check", str(tmp_path), "--sheet", str(tmp_path / "sheet.png"), "-q"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "2 tracks of 1 videos, 2 frames; 2 stills",
        "1 sets: mine 2",
        "2 classes: dog 1, cat 1",
        f"a picture of the tracks is in {tmp_path / 'sheet.png'}",
        "no problems",
    ]
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None and sheet.shape == (128, 1536, 3)


def test_sheet_is_drawn_of_what_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = track((str(tmp_path.parent / "none.png"), [1, 1, 9, 9]), video="w")
    write(tmp_path, track(GOOD), "no track", elsewhere)
    assert main(["data", "check", str(tmp_path), "--sheet", str(tmp_path / "sheet.png"), "-q"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "2 problems"
    assert f"line 3: {Path('..', 'none.png')}: there is no such picture" in out
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None


def test_command_fails_where_something_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, track(GOOD), *(track((f"{i}.png", [1, 1, 9, 9])) for i in range(25)))
    assert main(["data", "check", str(tmp_path), "-q"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert "line 2: 0.png: there is no such picture" in out
    assert out[-2:] == ["... and 5 more", "25 problems"]


@pytest.mark.parametrize("name", ["sheet.nothing", "missing/sheet.png"])
def test_picture_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    write(tmp_path, track(GOOD))
    assert main(["data", "check", str(tmp_path), "--sheet", str(tmp_path / name), "-q"]) == 2
    assert capsys.readouterr().err.startswith(f"siamtrack: error: cannot write {tmp_path / name}")


def test_folder_without_an_index_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
