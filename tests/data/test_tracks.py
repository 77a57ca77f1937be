import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tracker.data.tracks import ObjectTrack, TrackFrame, UnreadablePictureError, read_tracks

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


def test_name_may_hold_what_ends_a_line_elsewhere(tmp_path: Path) -> None:
    index = write(tmp_path, json.dumps({**ROW, "class": "a\u2028b\x85c"}, ensure_ascii=False), ROW)
    assert [track.label for track in read_tracks(index)] == ["a\u2028b\x85c", "Car"]


def test_ends_of_lines_and_byte_order_mark_of_windows_are_read(tmp_path: Path) -> None:
    index = tmp_path / "tracks.jsonl"
    index.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROW).encode() + b"\r\n" + json.dumps(ROW).encode())
    assert len(read_tracks(index)) == 2


def test_picture_that_was_cut_off_is_named(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    path = tmp_path / "a.jpg"
    path.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
    frame = TrackFrame(path, (1, 2, 30, 40))
    assert frame.read().shape == image.shape
    for length in (len(path.read_bytes()) // 2, 0):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(UnreadablePictureError, match="cannot read the training picture .*a.jpg"):
            frame.read()
    path.unlink()
    with pytest.raises(UnreadablePictureError, match="a.jpg .No such file"):
        frame.read()


def test_file_without_tracks_is_refused(tmp_path: Path) -> None:
    assert "no tracks in" in refusal(write(tmp_path))
    assert "no tracks in" in refusal(write(tmp_path, framed([0, 0, 0, 0])))


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    assert "cannot read the tracks" in refusal(tmp_path / "none.jsonl")
    assert "cannot read the tracks" in refusal(tmp_path)
    binary = tmp_path / "tracks.jsonl"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "cannot read the tracks" in refusal(binary)
