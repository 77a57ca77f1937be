import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import verifier as benchmark
from benchmarks.verifier import Views, compare, draw_pairs, kept_tracks, main, mean_vectors
from tests.verifiers import THRESHOLD, thing, write_weights
from tracker.data.tracks import ObjectTrack, TrackFrame
from tracker.training.verifier import PooledViews, held_tracks


def tracks() -> list[ObjectTrack]:
    """Return two things of one video, one of the same class elsewhere, and one of no class."""
    frames = tuple(TrackFrame(Path("none"), (0, 0, 9, 9)) for _ in range(3))
    return [ObjectTrack("", video, label, frames) for video, label in (("a", "x"), ("a", "y"), ("b", "X"), ("c", ""))]


def test_pairs_are_of_their_kind() -> None:
    shown = Views(np.repeat(np.arange(4), 6), np.tile(np.repeat(np.arange(3), 2), 4))
    found = draw_pairs(tracks(), shown)
    assert list(found) == list(benchmark.KINDS)
    video, label = np.array(["a", "a", "b", "c"]), np.array(["x", "y", "x", ""])
    for kind, pairs in found.items():
        a, b = shown.tracks[pairs.first], shown.tracks[pairs.second]
        assert len(a) > 20, kind
        assert np.array_equal(video[a], np.array(["a", "b", "c"])[pairs.videos])
        if kind == "same":
            assert np.array_equal(a, b) and (shown.frames[pairs.first] != shown.frames[pairs.second]).all()
        elif kind == "same video":
            assert (video[a] == video[b]).all() and (a != b).all()
        else:
            assert (video[a] != video[b]).all()
            assert kind == "different" or ((label[a] == label[b]) & (label[a] != "")).all()


def test_intervals_are_wider_when_a_video_speaks_with_one_voice() -> None:
    rng = np.random.default_rng(0)
    many = [ObjectTrack("", f"{at}", "", tracks()[0].frames) for at in range(30)]
    shown = Views(np.repeat(np.arange(30), 6), np.tile(np.repeat(np.arange(3), 2), 30))
    own = rng.normal(size=(30, 16))
    noisy = own[shown.tracks] + rng.normal(size=(180, 16)) * np.repeat(rng.uniform(0.2, 2.5, 30), 6)[:, np.newaxis]
    found = compare(noisy / np.linalg.norm(noisy, axis=1, keepdims=True), draw_pairs(many, shown))
    (interval,) = found.intervals("different", [benchmark.area])
    assert interval.low < interval.value < interval.high
    assert interval.value == benchmark.area(found.curve("different"))
    again = found.intervals("different", [benchmark.area])
    assert again == [interval]
    (of_pairs,) = benchmark_bootstrap(found)
    assert interval.high - interval.low > 1.5 * (of_pairs.high - of_pairs.low)


def benchmark_bootstrap(found: benchmark.Compared) -> list[benchmark.Interval]:
    from tracker.verification import bootstrap

    similarities = found.similarities
    return bootstrap(similarities["same"], similarities["different"], [benchmark.area], np.random.default_rng(0))


def test_mean_features_are_unit_vectors_of_the_means() -> None:
    features = np.random.default_rng(0).random((3, 8, 5, 5)).astype(np.float16)
    found = mean_vectors(PooledViews(features, np.arange(3), np.arange(3)))
    means = np.array([[cells.astype(float).sum() / 25 for cells in one] for one in features])
    assert found == pytest.approx(means / np.linalg.norm(means, axis=1, keepdims=True), rel=1e-3)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write tracks of a thing each in three videos that are kept, and in three that are not."""
    frame = TrackFrame(tmp_path / "none.png", (0.0, 0.0, 1.0, 1.0))
    tracks = [ObjectTrack("", f"v{at}", "", (frame, frame)) for at in range(60)]
    kinds = held_tracks(tracks)
    videos = [tracks[at].video for kind in (True, False) for at in np.flatnonzero(kinds == kind)[:3]]
    lines = []
    for number, video in enumerate(videos):
        for at in range(3):
            picture = np.full((120, 120, 3), 128, np.uint8)
            picture[30:70, 20 + 10 * at : 60 + 10 * at] = thing(number, 40)
            cv2.imwrite(str(tmp_path / f"{video}_{at}.png"), picture)
        frames = [{"image": f"{video}_{at}.png", "box": [20 + 10 * at, 30, 40, 40]} for at in range(3)]
        lines.append(json.dumps({"video": video, "track": video, "class": "thing", "frames": frames}))
    (tmp_path / "tracks.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_report_is_written(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(kept_tracks(data)) == 3
    model = write_weights(data / "drawn.safetensors", {"verify_threshold": THRESHOLD})
    out, picture = data / "report.md", data / "roc.png"
    command = ["--data", str(data), "--model", str(model), "--runtime", "torch"]
    assert main([*command, "--out", str(out), "--picture", str(picture)]) == 0
    text = out.read_text()
    assert text == capsys.readouterr().out
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert [row[0].strip("| ") for row in rows] == [
        *("views, compared by", "embedding head", "mean features, the same backbone"),
        *("mean features, mobilenetv3_online", "pictures, the object", "marked by its box", "cut out"),
    ]
    assert all(float(row[1].split()[0]) > 0.9 for row in (*rows[1:4], *rows[5:]))  # they are told apart with ease
    assert rows[1][-1] == "- |"  # there is one thing a video
    assert "3 tracks of 3 videos" in text
    assert cv2.imread(str(picture)) is not None


def test_data_without_kept_videos_is_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(write_weights(data / "drawn.safetensors", {}))
    assert main(["--data", str(data), "--model", model, "--runtime", "torch"]) == 2
    assert "no threshold of its own" in capsys.readouterr().err
    (data / "tracks.jsonl").write_text((data / "tracks.jsonl").read_text().splitlines()[-1])
    assert main(["--data", str(data), "--model", model, "--runtime", "torch"]) == 2
    assert "tracks of several frames come from 1 videos; 4 are needed" in capsys.readouterr().err
