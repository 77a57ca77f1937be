import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.drawn_sequences import SquareTracker, StillTracker, moving, write_got10k, write_otb
from tracker import builder, zoo
from tracker.cli import main
from tracker.interface import Tracker
from tracker.zoo import ModelCard

pytest.importorskip("got10k", reason="needs the eval extra")

TRACKERS = {"square": SquareTracker, "still": StillTracker}


def load(name: str, device: str, loaded: list[str], **_: object) -> Tracker:
    loaded.append(name)
    return TRACKERS.get(name, SquareTracker)()


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put trackers with known scores in place of the models; returns the names of those that get loaded."""
    cards = []
    for name in TRACKERS:
        path = tmp_path / f"{name}.safetensors"
        path.write_text(name)
        cards.append(ModelCard(name, path, 1, 1, "", {}))
    names: list[str] = []
    monkeypatch.setattr(zoo, "zoo", lambda: cards)
    monkeypatch.setattr(zoo, "weights_folder", lambda: tmp_path)
    monkeypatch.setattr(builder, "load_tracker", partial(load, loaded=names), raising=False)
    return names


@pytest.fixture
def otb(tmp_path: Path) -> Path:
    for name, frames in (("Car", 4), ("Dog", 6), ("Man", 5)):
        write_otb(tmp_path / "otb", name, moving(frames))
    return tmp_path / "otb"


def evaluate(root: Path, *options: str, dataset: str = "otb", model: str = "square") -> int:
    results = ["--results", str(root.parent / "out")]
    return main(["eval", "--dataset", dataset, "--root", str(root), "--model", model, *results, *options])


def test_part_of_otb_is_measured(otb: Path, loaded: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(otb) == 0
    out = capsys.readouterr().out
    assert "square on OTB2015" in out
    for name in ("Car", "Dog", "Man", "mean of 3"):
        (line,) = (line for line in out.splitlines() if name in line)
        assert "0.952" in line and line.count("1.000") == 4  # precision, AO, SR@0.5, SR@0.75
    assert (otb.parent / "out" / "reports" / "OTB2015" / "square" / "success_plots.png").is_file()
    assert "sequence Car" not in out and "Running tracker" not in out  # the toolkit is silent


def test_names_with_brackets_are_shown_whole(
    tmp_path: Path, loaded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_otb(tmp_path / "set", "dog [x7]", moving(4))
    assert evaluate(tmp_path / "set") == 0
    assert "dog [x7]" in capsys.readouterr().out


def test_a_still_tracker_is_worse(otb: Path, loaded: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(otb, "--sequences", "Dog", model="still") == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "mean of 1" in line)
    # w = 12, step = 3: overlaps 1, 9/15, 6/18, 3/21, 0, 0; thresholds below them 20 + 12 + 7 + 3 of 6 * 21;
    # distances 0, 3 .. 15 are all within 20 px
    assert f"{42 / 126:.3f}" in line and "1.000" in line and f"{(1 + 0.6 + 1 / 3 + 1 / 7) / 6:.3f}" in line


def test_a_second_run_does_nothing_and_says_the_same(
    otb: Path, loaded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(otb) == 0
    first = capsys.readouterr()
    records = {path: path.stat().st_mtime_ns for path in (otb.parent / "out" / "OTB2015").rglob("*.txt")}
    assert len(records) == 6 and loaded == ["square"]
    assert evaluate(otb) == 0
    second = capsys.readouterr()
    assert loaded == ["square"]  # not even the model is loaded
    assert "3 of 3 sequences are already in" in second.err
    assert second.out == first.out
    assert records == {path: path.stat().st_mtime_ns for path in records}


def test_a_half_written_record_is_made_again(otb: Path, loaded: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(otb) == 0
    folder = otb.parent / "out" / "OTB2015" / "square"
    whole = (folder / "Dog.txt").read_text()
    kept = (folder / "Car.txt").stat().st_mtime_ns
    (folder / "Dog.txt").write_text(whole[: len(whole) // 2])
    assert evaluate(otb) == 0
    assert (folder / "Dog.txt").read_text() == whole
    assert (folder / "Car.txt").stat().st_mtime_ns == kept
    assert "2 of 3 sequences are already in" in capsys.readouterr().err


def test_absent_objects_are_told(tmp_path: Path, loaded: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    truth = moving(5)
    truth[2:4] = np.nan
    write_otb(tmp_path / "set", "a", truth, index_base=0)
    assert evaluate(tmp_path / "set", "--index-base", "0") == 0
    out = capsys.readouterr().out
    assert "2 frames without the object count in no score" in out
    assert "0.952" in out


def test_a_weight_file_is_named_by_its_stem(otb: Path, loaded: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_text("1")
    assert evaluate(otb, model=str(tmp_path / "mine.safetensors")) == 0
    assert (tmp_path / "out" / "OTB2015" / "mine" / "Car.txt").is_file()


@pytest.mark.parametrize("model", [".", "../mine.v2"])
def test_a_folder_of_graphs_is_named_by_its_name(
    otb: Path, loaded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    folder = tmp_path / "mine.v2"
    folder.mkdir()
    shutil.copy(Path(__file__).parent.parent / "weights" / "graphs" / "mobilenetv3_online" / "model.json", folder)
    monkeypatch.chdir(folder)
    assert evaluate(otb, model=model) == 0
    assert (tmp_path / "out" / "OTB2015" / "mine.v2" / "Car.txt").is_file()


def test_results_of_other_weights_are_not_taken_for_these(
    otb: Path, loaded: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.safetensors").write_text("1")
    assert evaluate(otb, model=str(tmp_path / "mine.safetensors")) == 0
    (tmp_path / "mine.safetensors").write_text("2")
    told = "holds results of other weights, another runtime or another --index-base, named 'mine'; give another"
    for _ in range(2):
        assert evaluate(otb, model=str(tmp_path / "mine.safetensors")) == 2
        assert told in capsys.readouterr().err
        shutil.rmtree(tmp_path / "out" / "reports", ignore_errors=True)  # what says whose the boxes are


def test_results_with_another_index_base_are_not_taken_for_these(
    otb: Path, loaded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(otb) == 0
    assert evaluate(otb, "--index-base", "0") == 2
    assert "another --index-base" in capsys.readouterr().err


def test_got10k_has_ao_and_sr(tmp_path: Path, loaded: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    write_got10k(tmp_path / "got", "val", "a", moving(5), [8, 8, 0, 8, 8])
    write_got10k(tmp_path / "got", "test", "b", moving(3), None)
    assert evaluate(tmp_path / "got", dataset="got10k") == 0
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if "mean of 1" in line)
    assert line.count("1.000") == 4
    assert "1 frames without the object" in out


def test_what_could_not_be_scored_is_named_before_anything_is_tracked(
    tmp_path: Path, loaded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_got10k(tmp_path / "got", "val", "a", moving(5), [8] * 5)
    assert evaluate(tmp_path / "got", "--results", str(tmp_path / "out [1]"), dataset="got10k") == 2
    assert "no record with a [ in its path" in capsys.readouterr().err
    write_got10k(tmp_path / "got", "val", "b", moving(5), None)
    assert evaluate(tmp_path / "got", dataset="got10k") == 2
    assert "sequence b has no box after its first frame, others have; leave it out" in capsys.readouterr().err
    write_got10k(tmp_path / "got", "val", "b", moving(5) * np.nan, [8] * 5)
    assert evaluate(tmp_path / "got", dataset="got10k") == 2
    assert "sequence b has no box in its first frame" in capsys.readouterr().err
    assert not loaded and not (tmp_path / "out").exists()


def test_the_test_split_is_packed_for_the_server(
    tmp_path: Path, loaded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_got10k(tmp_path / "got", "val", "a", moving(5), [8] * 5)
    write_got10k(tmp_path / "got", "test", "b", moving(3), None)
    assert evaluate(tmp_path / "got", "--split", "test", dataset="got10k") == 0
    out = capsys.readouterr().out
    assert "no public ground truth: upload that file" in out
    assert (tmp_path / "out" / "GOT-10k" / "square.zip").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--root", "absent"], "no folder absent; give the folder that holds OTB's sequence folders"),
        (["--root", "."], ". holds no OTB sequence: expected <name>/img/"),
        (["--dataset", "got10k", "--root", "."], ". holds no GOT-10k sequence: expected <name>/"),
        (["--dataset", "vot"], "'vot' is not one of 'otb', 'got10k'"),
        (["--model", "best"], "unknown model 'best'; give a weight file or one of: square, still"),
        (["--sequences", "Cat"], "no sequence 'Cat' in the data set; it has Car, Dog, Man"),
        (["--sequences", "One"], "sequence One has one frame only"),
        (["--workers", "0"], "'--workers'"),
        (["--index-base", "2"], "'--index-base'"),
        (["--index-base", "0"], "a mistake in the index base"),
    ],
)
def test_mistakes_are_one_line(
    otb: Path,
    loaded: list[str],
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    if "One" in options:
        write_otb(otb, "One", moving(1))
    assert evaluate(otb, *options) == 2
    error = capsys.readouterr().err.strip()
    assert message in error.splitlines()[-1]
    assert "Traceback" not in error


def test_without_the_extra_the_message_says_what_to_install(
    otb: Path, loaded: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "tracker.evaluation_toolkit", raising=False)
    monkeypatch.setitem(sys.modules, "got10k.experiments", None)
    assert evaluate(otb) == 2
    assert "pip install 'siamtrack[eval]'" in capsys.readouterr().err


@pytest.mark.parametrize(("cause", "status"), [(KeyboardInterrupt(), 130), (OSError("no space left"), 1)])
def test_stopping_leaves_what_is_done(
    otb: Path,
    loaded: list[str],
    cause: BaseException,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    updates = iter(range(100))

    def stop_later(self: SquareTracker, frame: np.ndarray) -> object:
        if next(updates) == 8:  # one to warm up, five in Dog, then in the middle of Man
            raise cause
        return original(self, frame)

    original = SquareTracker.update
    monkeypatch.setattr(SquareTracker, "update", stop_later)
    assert evaluate(otb) == status
    assert "the same command goes on where it stopped" in capsys.readouterr().err
    assert [path.name for path in (otb.parent / "out" / "OTB2015" / "square").glob("*.txt")] == ["Dog.txt"]
    monkeypatch.setattr(SquareTracker, "update", original)
    assert evaluate(otb) == 0
    assert "1 of 3 sequences are already in" in capsys.readouterr().err
