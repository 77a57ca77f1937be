import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from benchmarks import development
from benchmarks.cameras import CAMERAS, make_behind
from benchmarks.peers import OpenCVTracker, make_peer
from tests.drawn_sequences import SquareTracker, StillTracker, draw, moving, write_otb
from tracker.evaluation import read_frame
from tracker.geometry import Box
from tracker.interface import Frame, Prediction, Tracker


class TiredTracker(StillTracker):
    """Say the first box for ever, ever less sure: its score ranks hits above misses without fail."""

    def init(self, frame: Frame, box: Box) -> None:
        super().init(frame, box)
        self.score = 1.0

    def update(self, frame: Frame) -> Prediction:
        self.score *= 0.9
        return Prediction(self.box, self.score, False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write the three sets, the clips in another folder; an absent object in the last."""
    absent = moving(4)
    absent[2] = np.nan
    write_otb(tmp_path / "a" / "OTB", "Car", moving(8), index_base=1)
    write_otb(tmp_path / "a" / "OTB", "Dog", moving(3), index_base=1)
    write_otb(tmp_path / "a" / "UAV123_10fps", "boat", moving(6), index_base=0)
    write_otb(tmp_path / "b" / "clips", "ball", absent, index_base=1)
    (tmp_path / "a" / "clips").mkdir()  # packed: nothing to measure there
    return tmp_path


def measured(data: Path, *options: str) -> dict[str, dict]:
    roots = ["--data", str(data / "a"), "--data", str(data / "b")]
    assert development.main([*roots, "--model", "m", "--json", str(data / "out.json"), *options]) == 0
    return json.loads((data / "out.json").read_text())["sets"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Sequence[str]]]:
    calls = []

    def load(name: str, device: str, overrides: Sequence[str], **_: object) -> Tracker:
        calls.append((name, device, overrides))
        return {"m": SquareTracker, "tired": TiredTracker}[name]()

    monkeypatch.setattr(development, "load_tracker", load)
    return calls


def test_the_truth_has_the_ideal_scores_in_every_set(
    data: Path, asked: list[tuple[str, str, Sequence[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    sets = measured(data, "--set", "a.b=1", "--set", "c.d=2", "--per-sequence")  # a wrong index base fails in `init`
    assert list(sets) == ["OTB", "UAV123_10fps", "clips"]
    for figures in sets.values():
        assert figures["success_auc"] == pytest.approx(20 / 21)
        assert (figures["precision"], figures["ao"], figures["auroc"]) == (1.0, 1.0, None)
        assert figures["median_ms"] > 0
    assert sets["clips"]["frames"] == 3
    assert list(sets["OTB"]["sequences"]) == ["Car", "Dog"]
    assert asked == [("m", "cpu", ("a.b=1", "c.d=2"))] * 3
    out = capsys.readouterr().out
    assert "0.952" in out and "Dog" in out


def test_frames_cut_the_sequences(data: Path, asked: list[object]) -> None:
    sets = measured(data, "--frames", "4")
    assert [figures["frames"] for figures in sets.values()] == [4 + 3, 4, 3]


def test_any_folder_of_sequences_is_measured(data: Path, asked: list[object]) -> None:
    options = ["--model", "m", "--frames", "4", "--json", str(data / "out.json")]
    assert development.main(["--sequences", str(data / "a" / "OTB"), *options]) == 0
    sets = json.loads((data / "out.json").read_text())["sets"]
    assert list(sets) == ["OTB"] and sets["OTB"]["frames"] == 4 + 3
    assert sets["OTB"]["success_auc"] == pytest.approx(20 / 21)
    with pytest.raises(SystemExit):
        development.main(["--sequences", str(data), "--data", str(data), *options])


def test_names_with_brackets_are_shown_whole(
    tmp_path: Path, asked: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    write_otb(tmp_path / "set", "dog [x7]", moving(4))
    assert development.main(["--sequences", str(tmp_path / "set"), "--model", "m", "--per-sequence"]) == 0
    assert "dog [x7]" in capsys.readouterr().out


def test_a_folder_is_a_set_of_its_own_name(data: Path, asked: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data / "a" / "OTB")
    assert development.main(["--sequences", ".", "--model", "m", "--json", str(data / "out.json")]) == 0
    assert list(json.loads((data / "out.json").read_text())["sets"]) == ["OTB"]


@pytest.mark.parametrize(
    ("boxes", "complaint"),
    [
        (moving(1), "sequence Bird has one frame only, so there is nothing to track; leave it out"),
        (
            moving(3) * [[np.nan], [1], [1]],
            "sequence Bird has no box in its first frame, so no tracker can start on it",
        ),
    ],
)
def test_what_cannot_be_tracked_is_said_before_anything_is(
    data: Path, asked: list[object], capsys: pytest.CaptureFixture[str], boxes: np.ndarray, complaint: str
) -> None:
    write_otb(data / "a" / "OTB", "Bird", boxes)
    roots = ["--data", str(data / "a"), "--data", str(data / "b")]
    for where in (roots, ["--sequences", str(data / "a" / "OTB")]):
        assert development.main([*where, "--model", "m", "--json", str(data / "out.json")]) == 2
        assert capsys.readouterr().err == f"error: {complaint}\n"
    assert asked == []


def test_figures_get_a_folder_or_are_not_measured(
    data: Path, asked: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--sequences", str(data / "a" / "OTB"), "--model", "m", "--json"]
    out = data / "new" / "out.json"
    assert development.main([*command, str(out)]) == 0 and out.is_file()
    asked.clear()
    assert development.main([*command, str(out / "out.json")]) == 2  # in a file
    assert capsys.readouterr().err.startswith("error: ")
    assert asked == []


class SeenTracker(StillTracker):
    """Keep what was seen."""

    def init(self, frame: Frame, box: Box) -> None:
        super().init(frame, box)
        self.seen = [frame]

    def update(self, frame: Frame) -> Prediction:
        self.seen.append(frame)
        return super().update(frame)


def test_a_camera_shows_every_frame_in_its_way() -> None:
    frame = np.full((60, 50, 3), (200, 120, 40), np.uint8)
    for name in CAMERAS:
        inner = SeenTracker()
        tracker = make_behind(lambda inner=inner: inner, name)
        tracker.init(frame, Box(20, 20, 8, 8))
        tracker.update(frame)
        first, second = inner.seen
        tracker.init(frame, Box(20, 20, 8, 8))
        assert np.array_equal(inner.seen[0], first)  # a run is as the one before
        if name == "grey":
            assert (first == first[0, 0, 0]).all()
        elif name == "dark":
            assert (first == (50, 30, 10)).all()
        elif name == "coarse":
            assert np.array_equal(first, frame)  # of one colour; `test_augment` has what pixels it loses
        else:
            assert 15 < first.astype(float).std(axis=(0, 1)).mean() < 22
        assert np.array_equal(first, second) == (name != "noisy")


def test_a_camera_is_measured_through(data: Path, asked: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    cameras = []

    def behind(factory: Callable[[], Tracker], name: str) -> Tracker:
        cameras.append(name)
        return factory()

    monkeypatch.setattr(development, "make_behind", behind)
    measured(data, "--camera", "dark")
    assert set(cameras) == {"dark"}


def test_auroc_is_over_the_frames_of_the_set(data: Path, asked: list[object]) -> None:
    roots = ["--data", str(data / "a"), "--data", str(data / "b")]
    assert development.main([*roots, "--model", "tired", "--json", str(data / "out.json")]) == 0
    otb = json.loads((data / "out.json").read_text())["sets"]["OTB"]
    assert otb["auroc"] == 1.0
    assert otb["sequences"]["Dog"]["auroc"] is None  # it moves 6 px of 12: no miss


def test_what_is_missing_is_one_line(
    data: Path, asked: list[object], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert development.main(["--data", str(data / "a"), "--model", "m"]) == 2
    assert "error: no clips/<sequence>/groundtruth_rect.txt below any of" in capsys.readouterr().err
    roots = ["--data", str(data / "a"), "--data", str(data / "b")]
    assert development.main([*roots, "--peer", "nano", "--peer-files", str(tmp_path)]) == 2
    assert "error: the nano tracker needs a folder with nanotrack_backbone_sim.onnx and" in capsys.readouterr().err


class FakeOpenCVTracker:
    """Note what it is given; find the object twice, 1.5 px wide steps are beyond it, then fail."""

    def init(self, image: np.ndarray, box: tuple[int, ...]) -> None:
        self.first_pixel, self.box, self.left = image[0, 0].tolist(), box, 2

    def update(self, image: np.ndarray) -> tuple[bool, tuple[int, ...]]:
        self.left -= 1
        self.box = (self.box[0] + 2, *self.box[1:])
        return self.left >= 0, self.box

    def getTrackingScore(self) -> float:  # noqa: N802 - OpenCV's name
        return 0.25


def test_a_peer_gets_bgr_and_whole_pixels() -> None:
    made = []

    def create() -> FakeOpenCVTracker:
        made.append(FakeOpenCVTracker())
        return made[-1]

    frame = np.full((20, 30, 3), (250, 10, 0), np.uint8)
    peer = OpenCVTracker(create)
    with pytest.raises(RuntimeError, match="update before init"):
        peer.update(frame)
    peer.init(frame, Box.from_xywh(3.4, 4.6, 5.5, 0.4))
    assert made[0].first_pixel == [0, 10, 250]
    assert made[0].box == (3, 5, 6, 1)
    found = [peer.update(frame) for _ in range(3)]
    assert [prediction.box.to_xywh()[0] for prediction in found] == [5, 7, 7]
    assert [prediction.lost for prediction in found] == [False, False, True]
    assert {prediction.score for prediction in found} == {0.25}
    peer.init(frame, Box.from_xywh(1, 1, 4, 4))
    assert len(made) == 2 and made[1].box == (1, 1, 4, 4)


def test_a_real_peer_follows_a_square(tmp_path: Path) -> None:
    peer = make_peer("mil")
    for i, box in enumerate(moving(3, step=1)):
        draw(tmp_path / "frame.png", box)
        frame = read_frame(tmp_path / "frame.png")
        if i == 0:
            peer.init(frame, Box.from_xywh(*box))
        else:
            prediction = peer.update(frame)
    assert abs(prediction.box.to_xywh()[0] - 7) <= 4 and prediction.score in (0.0, 1.0)


def test_a_peer_without_a_score_says_whether_it_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeOpenCVTracker, "getTrackingScore", lambda self: -1.0)
    peer = OpenCVTracker(FakeOpenCVTracker)
    frame = np.zeros((20, 30, 3), np.uint8)
    peer.init(frame, Box.from_xywh(1, 1, 4, 4))
    assert [peer.update(frame).score for _ in range(3)] == [1.0, 1.0, 0.0]


def test_a_peer_of_another_age_has_no_score_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(FakeOpenCVTracker, "getTrackingScore")
    legacy = SimpleNamespace(TrackerMOSSE=SimpleNamespace(create=FakeOpenCVTracker))
    monkeypatch.setattr(cv2, "legacy", legacy, raising=False)
    peer = make_peer("mosse")
    frame = np.zeros((20, 30, 3), np.uint8)
    peer.init(frame, Box.from_xywh(1, 1, 4, 4))
    assert [peer.update(frame).score for _ in range(3)] == [1.0, 1.0, 0.0]


def test_the_networks_of_a_peer_are_given_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(cv2, "TrackerVit", SimpleNamespace(create=lambda params: given.append(params.net)))
    name = "object_tracking_vittrack_2023sep.onnx"
    with pytest.raises(ValueError, match=f"the vit tracker needs a folder with {name}, got {tmp_path.name}"):
        make_peer("vit", tmp_path)
    (tmp_path / name).touch()
    make_peer("vit", tmp_path)._create()  # type: ignore[attr-defined]
    assert given == [str(tmp_path / name)]


def test_unknown_and_missing_peers_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="unknown peer 'best'; there are nano, vit, mil, csrt, kcf, mosse"):
        make_peer("best")
    monkeypatch.delattr(cv2, "legacy", raising=False)
    with pytest.raises(ValueError, match="has no MOSSE tracker; install opencv-contrib-python"):
        make_peer("mosse")
    monkeypatch.delattr(cv2, "TrackerCSRT", raising=False)
    with pytest.raises(ValueError, match="has no CSRT tracker; install opencv-contrib-python"):
        make_peer("csrt")
