from pathlib import Path

import numpy as np
import pytest

from benchmarks import certainty
from benchmarks.certainty import GAP, Known, fit, fit_logistic, judge_splices, make_videos, watch
from tests.drawn_sequences import SquareTracker, StillTracker, moving, write_otb
from tracker.certainty import Certainty
from tracker.data.otb import read_otb
from tracker.data.sequence import Sequence


@pytest.fixture
def sequences(tmp_path: Path) -> list[Sequence]:
    """Return two sequences of 60 and 30 frames; in the last frame of the second the object is away."""
    away = moving(30, step=0)
    away[29] = np.nan
    write_otb(tmp_path, "Car", moving(60, step=0), index_base=1)
    write_otb(tmp_path, "Dog", away, index_base=1)
    return read_otb(tmp_path, 1)


def test_splices_hold_a_gap_of_the_other_scene(sequences: list[Sequence]) -> None:
    car, dog = sequences
    videos = make_videos({"all": sequences})
    splice = videos["splices"][0]
    assert splice.name == "splices/Car/30"
    assert splice.image_paths == (*car.image_paths[:30], *dog.image_paths, *dog.image_paths[:10], *car.image_paths[30:])
    assert np.isnan(splice.boxes_xywh[30:70]).all()
    assert np.array_equal(splice.boxes_xywh[70:], car.boxes_xywh[30:])
    assert [video.name for video in videos["elsewhere"]] == ["elsewhere/Car/30", "elsewhere/Dog/15"]


def test_starts_go_both_ways_and_begin_where_the_object_is(sequences: list[Sequence]) -> None:
    starts = make_videos({"all": sequences})["starts"]
    names = [video.name for video in starts]
    assert "starts/Car/59" in names and "starts/Car/15" in names
    assert "starts/Car/0" not in names and "starts/Dog/29" not in names
    back = starts[names.index("starts/Car/59")]
    assert back.image_paths == sequences[0].image_paths[::-1]
    assert np.array_equal(back.boxes_xywh, sequences[0].boxes_xywh[::-1])
    assert all(len(video.image_paths) >= 12 for video in starts)


def test_an_object_that_comes_back_elsewhere_is_where_the_truth_says(sequences: list[Sequence]) -> None:
    video = make_videos({"all": sequences})["elsewhere"][0]
    found = watch(SquareTracker(), video)  # type: ignore[arg-type]
    back = 30 - 1 + GAP
    assert (found.overlaps[:29] > 0.9).all()
    assert found.away[29:back].all() and (found.overlaps[found.away] == 0).all()
    assert (found.overlaps[back:] > 0.9).all()


def test_what_comes_back_elsewhere_is_not_cut_in_two() -> None:
    left, middle = np.array([10.0, 5, 30, 20]), np.array([35.0, 5, 30, 20])
    assert certainty._shift(np.array([left, left]), 100) == 50
    assert np.isnan(certainty._rolled(middle, 50, 100)).all()
    assert certainty._shift(np.array([middle, [np.nan] * 4]), 100) == 25  # by 37 it would reach over the edge
    assert certainty._rolled(middle, 25, 100).tolist() == [60, 5, 30, 20]
    assert certainty._rolled(middle, 75, 100).tolist() == [10, 5, 30, 20]


def test_the_recorder_does_all_that_it_records() -> None:
    tracker = certainty.make_tracker("siamrpn_mobile", (), "onnx", fit=True)
    recorder = tracker.localiser.certainty  # type: ignore[attr-defined]
    assert isinstance(recorder, certainty._Recorder)
    public = [name for name in vars(Certainty) if not name.startswith("_")]
    assert "elsewhere" in public and all(callable(getattr(recorder, name)) for name in public)


def known(name: str, overlaps: list[float], lost: list[int]) -> Known:
    count = len(overlaps)
    marks = np.zeros(count, bool)
    marks[lost] = True
    facts = np.zeros((count, 4))
    return Known(name, np.array(overlaps), np.zeros(count, bool), np.ones(count), marks, facts)


def test_splices_are_judged_by_when_they_are_lost_and_found() -> None:
    half, tail = 6, 40
    before, gap = [0.8] * (half - 1), [0.0] * GAP
    late = [0.0] * 29 + [0.9] * (tail - 29)
    never = [0.0] * 30 + [0.9] * (tail - 30)
    videos = [
        known("splices/a/6", [*before, *gap, *([0.9] * tail)], [5 + 9]),
        known("splices/b/6", [*before, *gap, *late], [5 + 10]),
        known("splices/c/6", [*before, *gap, *never], []),
        known("splices/d/6", [*([0.1] * (half - 1)), *gap, *([0.9] * tail)], [5]),  # lost before: not counted
    ]
    found = judge_splices(videos)
    assert found.counted == 3
    assert found.lost_in_10 == pytest.approx(1 / 3)
    assert found.lost_at_all == pytest.approx(2 / 3)
    assert found.found_in_30 == pytest.approx(2 / 3)


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    facts = rng.random((count, 4))
    chance = 1 / (1 + np.exp(-(facts @ [6.0, 3.0, 2.0, 4.0] - 7.0)))
    return facts, rng.random(count) < chance


def test_the_fit_is_that_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    facts, good = drawn(2000, seed=0)
    weights, bias = fit_logistic(facts, good)
    decay = 1e-5 * len(facts)  # half of it times the squares, beside the sum of losses
    wanted = linear_model.LogisticRegression(C=1 / decay, tol=1e-10, max_iter=1000).fit(facts, good)
    assert weights == pytest.approx(wanted.coef_[0], rel=1e-3)
    assert bias == pytest.approx(wanted.intercept_[0], rel=1e-3)


def test_chances_are_of_fits_without_the_sequence() -> None:
    """A sequence whose facts lie in a place of their own cannot be known from the others."""
    videos = []
    for number in range(6):
        facts, good = drawn(300, seed=number)
        name = f"whole/{number}/0"
        videos.append(Known(name, good * 0.9, np.zeros(300, bool), np.ones(300), np.zeros(300, bool), facts))
    odd = np.tile([5.0, 0.0, 0.0, 0.0], (50, 1))
    videos.append(Known("whole/odd/0", np.zeros(50), np.zeros(50, bool), np.ones(50), np.zeros(50, bool), odd))
    _, _, chances = fit(videos)
    assert chances[-50:].min() > 0.9  # by the others' weights the odd ones would be good
    hits, misses = chances[:1800][_good(videos)[:1800]], chances[:1800][~_good(videos)[:1800]]
    assert hits.mean() > misses.mean() + 0.2


def _good(videos: list[Known]) -> np.ndarray:
    return np.concatenate([video.overlaps for video in videos]) > 0.5


def test_wrong_data_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert certainty.main(["--data", str(tmp_path), "--model", "m"]) == 2
    assert "error: no OTB" in capsys.readouterr().err


def test_model_without_the_table_is_not_fitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, base in (("OTB", 1), ("UAV123_10fps", 0), ("clips", 1)):
        write_otb(tmp_path / name, "Car", moving(3), index_base=base)
    command = ["--data", str(tmp_path), "--model", "mobilenetv3_online", "--runtime", "onnx", "--kinds", "whole"]
    assert certainty.main([*command, "--fit"]) == 2
    assert "error: mobilenetv3_online has no table [score] to fit: give it that of" in capsys.readouterr().err


def test_sequences_of_one_name_in_two_sets_are_measured_each_and_written_where_no_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    write_otb(tmp_path / "OTB", "Car", moving(12, step=0))
    write_otb(tmp_path / "UAV123_10fps", "Car", moving(12, step=3), index_base=0)
    write_otb(tmp_path / "clips", "cup", moving(12, step=0))
    monkeypatch.setattr(certainty, "make_tracker", lambda *_: StillTracker())
    written, drawn_to = tmp_path / "new" / "out.md", tmp_path / "other" / "plot.png"
    options = ["--kinds", "whole", "--out", str(written), "--plot", str(drawn_to)]
    assert certainty.main(["--data", str(tmp_path), "--model", "m", *options]) == 0
    assert written.read_text() == capsys.readouterr().out and drawn_to.is_file()
    (row,) = (line for line in written.read_text().splitlines() if line.startswith("| whole"))
    videos, frames, bad, overlap = (cell.strip() for cell in row.strip("|").split("|")[1:5])
    # of 12 px, after steps of 3: 9/15, 6/18, 3/21, then nothing
    assert (videos, frames, bad) == ("3", "33", "8")
    assert float(overlap) == pytest.approx((1 + 1 + (9 / 15 + 6 / 18 + 3 / 21) / 11) / 3, abs=1e-3)


def test_report_has_a_row_a_kind_and_one_of_all() -> None:
    whole = [known("whole/a/0", [0.9, 0.9, 0.05, float("nan")], [2])]
    splices = [known("splices/b/6", [0.8] * 5 + [0.0] * GAP + [0.9] * 40, [6])]
    lines = list(certainty.report({"whole": whole, "splices": splices}))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[2][:4] == ["whole", "1", "4", "1"]
    assert rows[2][4] == "0.617"  # (.9 + .9 + .05) / 3
    assert rows[2][7:] == ["0.000", "1.000"]
    assert rows[4][:4] == ["all", "2", "89", "41"]
    assert rows[-1] == ["splices", "1", "1.00", "1.00", "1.00"]
