import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.videos import paint
from tracker.annotation import JpegFrames, Proposal, doubtful_spans, propose
from tracker.cli import main
from tracker.cli_data import _ask_for_keys
from tracker.crop import cut
from tracker.data.check import check_tracks
from tracker.data.track_writer import Video, shown_part, video_of, write_track
from tracker.data.tracks import read_tracks
from tracker.frames import open_frames
from tracker.geometry import Box, CropGeometry, iou
from tracker.interface import Frame, Prediction
from tracker.video_writer import VideoWriter


class Drifting:
    """Stay where it was told, but `drift` pixels further right at each update; lost after some of them."""

    def __init__(self, drift: float, updates: int = 1000) -> None:
        self.drift, self.updates, self.score = drift, updates, 0.8

    def init(self, frame: Frame, box: Box) -> None:
        self.box, self.left = box, self.updates

    def update(self, frame: Frame) -> Prediction:
        self.box = Box(self.box.cx + self.drift, self.box.cy, self.box.w, self.box.h)
        self.left -= 1
        return Prediction(self.box, self.score, self.left < 0)


FRAMES = [np.zeros((100, 200, 3), np.uint8)] * 11
KEY = Box(50, 50, 20, 20)


def test_between_keys_the_nearer_counts_for_most() -> None:
    keys = {0: KEY, 10: Box(50, 50, 20, 80)}  # a tracker that stays put, keys of two heights
    found = propose(Drifting(0.0), FRAMES, {0: KEY, 10: Box(50, 50, 20, 39)})
    assert [p.frame for p in found] == list(range(11))
    assert found[0] == Proposal(0, KEY, 1.0, True)
    assert found[5].box.h == pytest.approx((20 * 39) ** 0.5)  # half way, by the log
    assert found[5].trust == pytest.approx(20 / 39)
    assert [round(p.box.h, 3) for p in found] == sorted(round(p.box.h, 3) for p in found)
    apart = propose(Drifting(0.0), FRAMES, keys)  # an overlap of a quarter: no blend of two wrongs
    assert {p.box.h for p in apart[1:5]} == {20}
    assert {p.box.h for p in apart[6:10]} == {80}
    assert doubtful_spans(apart) == [(1, 9)]


def test_tracks_of_both_ways_are_blended() -> None:
    found = propose(Drifting(0.4), FRAMES, {0: KEY, 10: KEY})
    # Forwards it is at 0.4 n, backwards at 0.4 (10 - n); each counts by nearness.
    assert [p.box.cx - 50 for p in found] == pytest.approx([2 * 0.4 * n * (10 - n) / 10 for n in range(11)])


def test_after_the_last_key_the_tracker_goes_on_until_it_is_lost() -> None:
    found = propose(Drifting(1.0, updates=4), FRAMES, {3: KEY})
    assert [(p.frame, p.box.cx, p.trust) for p in found] == [(3, 50, 1.0), *((3 + n, 50 + n, 0.8) for n in range(1, 5))]


def test_spans_of_doubt_are_joined() -> None:
    kept = [True, False, False, True, False, True, False]
    found = [Proposal(at, KEY, 0.5, each) for at, each in enumerate(kept)]
    assert doubtful_spans(found) == [(1, 2), (4, 4), (6, 6)]
    assert doubtful_spans(found[:1]) == []


@pytest.mark.parametrize(("score", "kept"), [(0.8, True), (0.29, False)])
def test_frames_with_a_weak_score_are_not_kept(score: float, kept: bool) -> None:
    tracker = Drifting(0.0)
    tracker.score = score
    assert {proposal.kept for proposal in propose(tracker, FRAMES, {0: KEY})[1:]} == {kept}


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({}, "give at least one key"),
        ({0: KEY, 11: KEY}, "keys must lie in the 11 frames, counted from 0, got 0 to 11"),
        ({-1: KEY}, "got -1 to -1"),
        ({0: KEY, 5: Box(500, 50, 20, 20)}, "outside the 200x100 frame"),
    ],
)
def test_keys_that_do_not_fit_are_refused(keys: dict[int, Box], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        propose(Drifting(0.0), FRAMES, keys)


def test_frames_are_held_as_jpeg() -> None:
    frame = paint(Box(80, 80, 44, 52))
    held = JpegFrames([frame, frame[::-1]])
    assert len(held) == 2
    assert held[1].shape == frame.shape
    assert np.abs(held[0].astype(int) - frame).mean() < 3
    assert np.abs(held[1].astype(int) - frame[::-1]).mean() < 3


@pytest.mark.parametrize("box", [Box(160, 120, 20, 12), Box(10, 20, 30, 30), Box(160, 120, 200, 150)])
def test_part_of_a_frame_shows_the_same_object(box: Box) -> None:
    frame = paint(box)
    part, shown = shown_part(frame, box)
    one, other = (
        cut(image, CropGeometry(where.cx, where.cy, 0.9 * min(where.w, where.h), 32), (0.0, 0.0, 0.0))
        for image, where in ((frame, box), (part, shown))
    )
    # Blurred, since one of them may be scaled down on the way.
    assert np.abs(cv2.blur(one, (5, 5)).astype(int) - cv2.blur(other, (5, 5))).mean() < 4
    assert shown.w * shown.h <= 150**2
    assert shown.w / shown.h == pytest.approx(box.w / box.h, rel=0.02)


def test_track_is_written_as_training_reads_it_and_replaced_by_its_name(tmp_path: Path) -> None:
    boxes = [Box(80 + 3 * i, 80, 44, 52) for i in range(4)]
    frames = [(10 * i, paint(box), box) for i, box in enumerate(boxes)]
    video = Video("my clip")
    assert write_track(tmp_path, video, "dog/1", "dog", frames) == (4, tmp_path / "tracks.jsonl")
    write_track(tmp_path, video, "2", "cat", frames[:1])
    for again in range(3):
        write_track(tmp_path, video, "dog/1", "dog", frames[1:])  # with a frame less
        assert len(list(tmp_path.rglob("*.jpg"))) == 4, again
    cat, dog = read_tracks(tmp_path / "tracks.jsonl")
    assert (cat.label, dog.label, dog.video) == ("cat", "dog", "my clip")
    assert [frame.image.name for frame in dog.frames] == ["000010.jpg", "000020.jpg", "000030.jpg"]
    assert [frame.box_xywh[2:] for frame in dog.frames] == [(44, 52)] * 3
    assert check_tracks(tmp_path / "tracks.jsonl", lambda _: None).problems == []


def test_track_that_cannot_be_written_to_its_end_leaves_the_old_one(tmp_path: Path) -> None:
    frames = [(0, paint(KEY), KEY), (1, paint(KEY), KEY)]

    def breaking_off() -> Iterator[tuple[int, Frame, Box]]:
        yield frames[0]
        raise OSError("gone")

    _, index = write_track(tmp_path, Video("v"), "0", "dog", frames)
    before = index.read_bytes()
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            write_track(tmp_path, Video("v"), "0", "dog", breaking_off())
        assert index.read_bytes() == before
        assert check_tracks(index, lambda _: None).problems == []
    outside = [(0, paint(KEY), Box(-8, 50, 20, 20))]
    with pytest.raises(ValueError, match="no frame shows half of the box of v:0, so there is no track to write"):
        write_track(tmp_path, Video("v"), "0", "dog", outside)
    assert index.read_bytes() == before
    write_track(tmp_path, Video("v"), "0", "dog", frames[:1])
    assert len(list(tmp_path.rglob("*.jpg"))) == 1


def test_line_that_was_cut_off_is_taken_out(tmp_path: Path) -> None:
    frames = [(0, paint(KEY), KEY)]
    _, index = write_track(tmp_path, Video("v"), "0", "dog", frames)
    with index.open("ab") as file:
        file.write('{"video": "ä'.encode()[:-1])
    video = video_of("other/clip.mp4", tmp_path)
    write_track(tmp_path, video, "0", "dog", frames)
    assert [track.video for track in read_tracks(index)] == ["v", "other/clip.mp4"]


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (("a/seq.001", "a/seq.002"), ("a/seq.001", "a/seq.002")),
        (("a/w.mp4", "a/w.mkv"), ("a/w.mp4", "a/w.mkv")),
        (("x/1/day/w.mp4", "x/2/day/w.mp4", "y/2/day/w.mp4"), ("day/w.mp4", "2/day/w.mp4", "y/2/day/w.mp4")),
        (("x/1/day/*.png", "x/2/day/*.png"), ("day/*.png", "2/day/*.png")),
        (("x/1/day", "x/2/day"), ("1/day", "2/day")),
    ],
)
def test_videos_keep_their_names_apart(tmp_path: Path, sources: tuple[str, ...], names: tuple[str, ...]) -> None:
    for number, source in enumerate(sources):
        path = tmp_path / source
        file = path if path.suffix.startswith(".m") else path.parent / "1.png" if "*" in source else path / "1.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"content" * (number + 1))
    for _ in range(2):  # again: each replaces its own
        for source, name in zip(sources, names, strict=True):
            video = video_of(str(tmp_path / source), tmp_path / "data")
            assert video.name == name
            write_track(tmp_path / "data", video, "0", "dog", [(0, paint(KEY), KEY)])
    assert {track.video for track in read_tracks(tmp_path / "data" / "tracks.jsonl")} == set(names)
    (tmp_path / sources[-1]).parent.rename(tmp_path / "elsewhere")
    (tmp_path / "new").mkdir()
    (tmp_path / "elsewhere").rename(tmp_path / "new" / Path(sources[-1]).parent.name)
    moved = tmp_path / "new" / Path(*Path(sources[-1]).parts[-2:])
    assert video_of(str(moved), tmp_path / "data").name == names[-1]


def test_video_is_known_by_its_size_and_beginning(tmp_path: Path) -> None:
    clip, origins = tmp_path / "clip.mp4", set()
    for content in (b"0" * 2_000_000, b"0" * 2_000_001, b"1" + b"0" * 1_999_999):
        clip.write_bytes(content)
        origins.add(video_of(str(clip), tmp_path).origin)
    assert len(origins) == 3
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "10.png").write_bytes(b"ten")
    (folder / "2.png").write_bytes(b"two")
    (folder / "1.txt").write_bytes(b"no picture")
    before = video_of(str(folder), tmp_path)
    (folder / "10.png").write_bytes(b"another")
    assert video_of(str(folder), tmp_path) == before
    (folder / "2.png").write_bytes(b"another")
    assert video_of(str(folder), tmp_path) != before
    assert video_of("https://host/a/clip.mp4", tmp_path).name == "a/clip.mp4"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    with VideoWriter(path, 10.0, (240, 320)) as video:
        for i in range(13):
            video.write(paint(Box(80 + 5 * i, 80 + 2 * i, 44, 52)), i / 10)
    return path


def test_command_makes_a_track_of_a_video(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = ["--key", "2:68,58,44,52", "--key", "9:103,72,44,52"]
    preview = tmp_path / "preview.mp4"
    data = tmp_path / "data"
    options = ["--out", str(data), "--class", "spot", "--every", "4", "--preview", str(preview)]
    assert main(["data", "annotate", str(clip), *keys, *options]) == 0
    out = capsys.readouterr().out
    assert out.startswith("5 frames kept of 6 to choose from, of 13 in all")  # frame 0 comes before the first key
    assert "doubtful" not in out
    (track,) = read_tracks(data / "tracks.jsonl")
    assert (track.video, track.label) == (f"{clip.parent.name}/clip.mp4", "spot")
    assert [frame.image.stem for frame in track.frames] == ["000002", "000004", "000008", "000009", "000012"]
    row = json.loads((data / "tracks.jsonl").read_text())
    assert row["track"] == f"{clip.parent.name}/clip.mp4:0"
    with open_frames(preview) as frames:
        assert sum(1 for _ in frames) == 13


def test_preview_has_times_and_pixels_of_the_source(tmp_path: Path) -> None:
    source, preview = tmp_path / "source.mp4", tmp_path / "preview.mp4"
    times = [0.0, 0.1, 0.2, 0.55, 0.6, 3.0, 3.1]  # such as of a phone that waits for light
    with VideoWriter(source, 10.0, (240, 320), 600.0, Fraction(4, 3)) as video:
        for i, seconds in enumerate(times):
            video.write(paint(Box(80 + 5 * i, 80, 44, 52)), seconds)
    options = ["--out", str(tmp_path / "data"), "--preview", str(preview)]
    assert main(["data", "annotate", str(source), "--key", "0:58,54,44,52", *options]) == 0
    with open_frames(preview) as frames:
        assert [frames.time for _ in frames] == pytest.approx(times, abs=0.002)
        assert frames.pixel_aspect == Fraction(4, 3)


def test_command_proposes_what_is_true(clip: Path) -> None:
    from tracker.builder import load_tracker

    with open_frames(clip) as opened:
        found = propose(
            load_tracker(device="cpu"), JpegFrames(opened), {0: Box(80, 80, 44, 52), 12: Box(140, 104, 44, 52)}
        )
    assert min(iou(p.box, Box(80 + 5 * p.frame, 80 + 2 * p.frame, 44, 52)) for p in found) > 0.7


def test_frames_are_numbered_as_in_the_source(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--out", str(tmp_path), "--start", "3", "--every", "4"]
    assert main(["data", "annotate", str(clip), "--key", "3:73,60,44,52", *options]) == 0
    (track,) = read_tracks(tmp_path / "tracks.jsonl")
    assert [frame.image.stem for frame in track.frames] == ["000003", "000007", "000011"]
    capsys.readouterr()
    for keys, complaint in ((["2"], "--key 2:... lies outside the frames 3 to 12"), (["4", "4"], "two --key for one")):
        chosen = [word for key in keys for word in ("--key", f"{key}:73,60,44,52")]
        assert main(["data", "annotate", str(clip), *chosen, *options]) == 2
        assert capsys.readouterr().err.startswith(f"siamtrack: error: {complaint}")


@pytest.mark.parametrize(
    ("preview", "complaint"),
    [("", "is the source itself"), ("p.xyz", "must end in one of .mp4"), ("no/p.mp4", "there is no folder")],
)
def test_preview_is_looked_at_before_anything(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], preview: str, complaint: str
) -> None:
    before = clip.read_bytes()
    path = tmp_path / preview if preview else clip.parent / ".." / clip.parent.name / "clip.mp4"
    options = ["--out", str(tmp_path / "data"), "--preview", str(path)]
    assert main(["data", "annotate", str(clip), "--key", "0:68,58,44,52", *options]) == 2
    assert complaint in capsys.readouterr().err
    assert clip.read_bytes() == before
    assert list(tmp_path.iterdir()) == []


def test_key_that_lies_outside_makes_no_track(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--key", "12:300,58,44,52", "--out", str(tmp_path / "data")]
    assert main(["data", "annotate", str(clip), *options]) == 2
    assert "no frame shows half of the box" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_doubtful_frames_are_listed_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    kept = [True, False, True, False, False, False, True]
    _ask_for_keys([Proposal(at, KEY, 0.5, each) for at, each in enumerate(kept)], 10, 17)
    assert capsys.readouterr().out == "doubtful, and left out: frames 11, 13-15; a --key near frame 14 helps most\n"


def test_names_that_look_alike_have_folders_of_their_own(tmp_path: Path) -> None:
    frames = [(0, paint(Box(80, 80, 44, 52)), Box(80, 80, 44, 52))]
    for name in ("a b", "a_b", "a/b"):
        write_track(tmp_path, Video("v"), name, "dog", frames)
    assert check_tracks(tmp_path / "tracks.jsonl", lambda _: None).problems == []
    assert len({track.frames[0].image for track in read_tracks(tmp_path / "tracks.jsonl")}) == 3


@pytest.mark.parametrize("text", ["80,80,44,52", "x:1,2,3,4", "0:1,2,3", "0:1,2,3,y", "1.5:1,2,3,4"])
def test_key_that_cannot_be_read_is_one_line(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert main(["data", "annotate", str(clip), "--key", text, "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("siamtrack: error: --key must be N:X,Y,W,H")
    assert list(tmp_path.iterdir()) == []
