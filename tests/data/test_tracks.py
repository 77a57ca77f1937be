import json
from pathlib import Path

import pytest

from tracker.data.tracks import ObjectTrack, TrackFrame, read_tracks

ROW = {
    "set": "clips",
    "video": "clips/road",
    "track": "clips/road:1",
    "class": "Car",
    "frames": [{"image": "images/0.jpg", "box": [1, 2.5, 30, 40]}, {"image": "images/1.jpg", "box": [2, 3, 31, 41]}],
}


def write(folder: Path, *rows: object) -> Path:
    index = folder / "tracks.jsonl"
    index.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return index


def refusal(index: Path) -> str:
    with pytest.raises(ValueError) as caught:
        read_tracks(index)
    assert str(index) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def framed(*boxes: list[object]) -> dict[str, object]:
    return {**ROW, "frames": [{"image": f"{i}.jpg", "box": box} for i, box in enumerate(boxes)]}


def test_track_is_read(tmp_path: Path) -> None:
    frames = (
        TrackFrame(tmp_path / "images/0.jpg", (1, 2.5, 30, 40)),
        TrackFrame(tmp_path / "images/1.jpg", (2, 3, 31, 41)),
    )
    assert read_tracks(write(tmp_path, ROW)) == [ObjectTrack("clips", "clips/road", "Car", frames)]


def test_order_of_the_file_is_kept(tmp_path: Path) -> None:
    rows = [{**ROW, "video": name} for name in ("b", "a", "c")]
    assert [track.video for track in read_tracks(write(tmp_path, *rows))] == ["b", "a", "c"]


def test_set_may_be_left_out(tmp_path: Path) -> None:
    (track,) = read_tracks(write(tmp_path, {key: value for key, value in ROW.items() if key != "set"}))
    assert track.source == ""


def test_empty_boxes_and_empty_tracks_are_left_out(tmp_path: Path) -> None:
    rows = [framed([0, 0, 5, 5], [0, 0, 0, 5], [0, 0, 5, -1], [1, 1, 5, 5]), framed([0, 0, 0, 0]), framed()]
    (track,) = read_tracks(write(tmp_path, *rows))
    assert [frame.image.name for frame in track.frames] == ["0.jpg", "3.jpg"]


@pytest.mark.parametrize(
    "row",
    [
        "{",
        "",
        "[]",
        "7",
        {key: value for key, value in ROW.items() if key != "video"},
        {key: value for key, value in ROW.items() if key != "class"},
        {key: value for key, value in ROW.items() if key != "frames"},
        {**ROW, "class": None},
        {**ROW, "video": 3},
        {**ROW, "frames": [{"image": "0.jpg"}]},
        {**ROW, "frames": [{"image": 3, "box": [0, 0, 1, 1]}]},
        {**ROW, "frames": [{"box": [0, 0, 1, 1]}]},
        framed([0, 0, 5]),
        framed([0, 0, 5, 5, 5]),
        framed([0, "x", 5, 5]),
        framed([0, 0, "5", 5]),
        framed([float("nan"), 0, 5, 5]),
        framed([0, 0, float("inf"), 5]),
    ],
    ids=repr,
)
def test_line_that_is_no_track_is_named(tmp_path: Path, row: object) -> None:
    assert "line 2: not a track" in refusal(write(tmp_path, ROW, row))


def test_file_without_tracks_is_refused(tmp_path: Path) -> None:
    assert "no tracks in" in refusal(write(tmp_path))
    assert "no tracks in" in refusal(write(tmp_path, framed([0, 0, 0, 0])))


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    assert "cannot read the tracks" in refusal(tmp_path / "none.jsonl")
    assert "cannot read the tracks" in refusal(tmp_path)
    binary = tmp_path / "tracks.jsonl"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "cannot read the tracks" in refusal(binary)
