import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.drawn_sequences import SquareTracker, StillTracker, draw, moving, write_got10k, write_otb
from tracker.data.got10k import read_got10k
from tracker.data.otb import read_otb
from tracker.data.sequence import Sequence
from tracker.evaluation import Track, follow, follow_sequence, map_sequences, read_frame
from tracker.geometry import Box
from tracker.interface import Frame, Prediction, Tracker
from tracker.metrics import score_track

toolkit = pytest.importorskip("tracker.evaluation_toolkit", reason="needs the eval extra", exc_type=ImportError)

ROOT = Path(__file__).parent.parent


def end_the_process(tracker: Tracker, sequence: Sequence) -> None:
    os._exit(3)


def three_sequences(root: Path) -> list[Sequence]:
    for name, frames in (("a", 4), ("b", 9), ("c", 6)):
        write_otb(root, name, moving(frames))
    return read_otb(root)


def test_a_tracker_that_sees_the_truth_repeats_it(tmp_path: Path) -> None:
    (sequence, *_) = three_sequences(tmp_path)
    track = follow_sequence(SquareTracker(), sequence)
    np.testing.assert_array_equal(track.boxes_xywh, sequence.boxes_xywh)
    assert np.isnan(track.scores[0]) and (track.scores[1:] == 0.9).all()
    assert (track.times_s > 0).all()


def test_the_first_row_is_the_box_that_was_given(tmp_path: Path) -> None:
    (sequence, *_) = three_sequences(tmp_path)
    track = follow(StillTracker(), sequence.image_paths, Box.from_xywh(1.25, 2.5, 3, 4))
    assert track.boxes_xywh.tolist() == [[1.25, 2.5, 3, 4]] * 4


def test_frames_are_rgb(tmp_path: Path) -> None:
    import cv2

    path = tmp_path / "bild \u00e4.png"
    path.write_bytes(cv2.imencode(".png", np.full((2, 3, 3), (0, 10, 250), np.uint8))[1].tobytes())  # BGR: red
    assert read_frame(path).tolist() == [[[250, 10, 0]] * 3] * 2


@pytest.mark.parametrize("content", [None, b"", b"no image"])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "0001.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read image .*0001\.jpg"):
        read_frame(path)


class CountingTracker(StillTracker):
    starts = 0

    def init(self, frame: Frame, box: Box) -> None:
        type(self).starts += 1
        super().init(frame, box)


def test_one_tracker_is_loaded_and_warmed_up_once(tmp_path: Path) -> None:
    loaded = []

    def load() -> Tracker:
        loaded.append(CountingTracker())
        return loaded[-1]

    CountingTracker.starts = 0
    done = [sequence.name for sequence, _ in map_sequences(load, follow_sequence, three_sequences(tmp_path), 1)]
    assert done == ["b", "c", "a"]  # the longest first
    assert (len(loaded), CountingTracker.starts) == (1, 1 + 3)


def test_two_processes_find_what_one_does(tmp_path: Path) -> None:
    sequences = three_sequences(tmp_path)

    def tracks(workers: int) -> dict[str, Track]:
        done = map_sequences(SquareTracker, follow_sequence, sequences, workers)
        return {sequence.name: track for sequence, track in done}

    one, two = tracks(1), tracks(2)
    assert sorted(one) == sorted(two) == ["a", "b", "c"]
    for name, track in one.items():
        np.testing.assert_array_equal(track.boxes_xywh, two[name].boxes_xywh)
        np.testing.assert_array_equal(track.scores, two[name].scores)


@pytest.mark.slow
def test_a_process_that_dies_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ChildProcessError, match="a worker process died"):
        list(map_sequences(StillTracker, end_the_process, three_sequences(tmp_path), 2))


PROGRAM = """
import sys
from pathlib import Path

from tests.drawn_sequences import StillTracker
from tracker.data.otb import read_otb
from tracker.evaluation import map_sequences


def say_so(tracker, sequence):
    Path(sys.argv[1], sequence.name, "begun").touch()


if __name__ == "__main__":
    for _ in map_sequences(StillTracker, say_so, read_otb(Path(sys.argv[1])), 2):
        input()  # for ever
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_processes_end_with_the_one_that_began_them(tmp_path: Path) -> None:
    three_sequences(tmp_path / "otb")
    program = tmp_path / "evaluate.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), str(tmp_path / "otb")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PYTHONPATH": str(ROOT)}
    ) as process:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("otb/*/begun"))) < 3:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.communicate(timeout=10)  # ends when no process holds the pipes


def test_an_error_names_the_sequence(tmp_path: Path) -> None:
    sequences = three_sequences(tmp_path)
    sequences[2].image_paths[3].write_bytes(b"")
    with pytest.raises(ValueError, match=r"sequence c: cannot read image .*0004\.png"):
        list(map_sequences(StillTracker, follow_sequence, sequences, 1))


def test_workers_are_at_least_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        list(map_sequences(StillTracker, follow_sequence, three_sequences(tmp_path), 0))


# The toolkit's experiments.


class LateTracker(SquareTracker):
    """See the square where it was a frame ago: neither ideal nor hopeless."""

    def init(self, frame: Frame, box: Box) -> None:
        super().init(frame, box)
        self.late = self.box

    def update(self, frame: Frame) -> Prediction:
        now = super().update(frame)
        late, self.late = self.late, now.box
        assert late is not None
        return Prediction(late, now.score, now.lost)


def run(tracker: Tracker, dataset: str, sequences: list[Sequence], folder: Path, base: int = 1) -> toolkit.Benchmark:
    benchmark = toolkit.Benchmark(dataset, "ours", folder, base, published=True)
    for sequence in sequences:
        toolkit.RunExperiment(benchmark)(tracker, sequence)
    return benchmark


@pytest.mark.parametrize("base", [0, 1])
def test_the_truth_has_the_ideal_scores_on_otb(tmp_path: Path, base: int) -> None:
    for name in ("Car", "Dog"):
        write_otb(tmp_path / "set", name, moving(5), base)
    sequences = read_otb(tmp_path / "set", base)
    benchmark = run(SquareTracker(), "otb", sequences, tmp_path / "out", base)  # fails in `init` in another base
    result = toolkit.report(benchmark, sequences)
    assert result.score.success_auc == pytest.approx(20 / 21)
    assert (result.score.precision, result.score.ao, result.score.sr_75) == (1.0, 1.0, 1.0)
    assert [row.name for row in result.rows] == ["Car", "Dog"]
    assert result.fps > 0
    # the records are in the index base of the data set, as are other people's
    record = (tmp_path / "out" / "OTB2015" / "ours" / "Car.txt").read_text().splitlines()
    assert record[0] == f"{5 + base:.3f},{7 + base:.3f},12.000,10.000"
    assert record[4] == f"{17 + base:.3f},{7 + base:.3f},12.000,10.000"


def test_the_toolkit_and_our_metrics_agree(tmp_path: Path) -> None:
    truth = moving(9, step=2, w=15)
    truth[[3, 7]] = np.nan  # the object is away: these frames count in no score
    write_otb(tmp_path / "set", "a", truth)
    write_otb(tmp_path / "set", "b", moving(6, step=4, x=2))
    sequences = read_otb(tmp_path / "set")
    result = toolkit.report(run(LateTracker(), "otb", sequences, tmp_path / "out"), sequences)
    for sequence, row in zip(sequences, result.rows, strict=True):
        ours = score_track(follow_sequence(LateTracker(), sequence).boxes_xywh, sequence.boxes_xywh)
        # the toolkit's own figures
        assert row.score.success_auc == pytest.approx(ours.success_auc, abs=1e-9)
        assert row.score.precision == pytest.approx(ours.precision, abs=1e-9)
        assert 0.3 < ours.success_auc < 0.9
    assert result.rows[0].score.frames == 7
    assert result.score.success_auc == pytest.approx(np.mean([row.score.success_auc for row in result.rows]))


def test_the_toolkit_and_our_metrics_agree_on_any_boxes(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    truth = np.concatenate([rng.uniform(0, 60, (300, 2)), rng.uniform(5, 50, (300, 2))], axis=1)
    boxes = truth + rng.normal(0, 8, truth.shape).clip(-25, 25) * [1, 1, 0.1, 0.1]
    paths = tuple(tmp_path / f"{i}.jpg" for i in range(300))
    benchmark = toolkit.Benchmark("otb", "ours", tmp_path / "out", 1, published=True)
    sequence = Sequence("a", paths, truth)
    boxes[0] = truth[0]
    benchmark.record_folder.mkdir(parents=True)
    np.savetxt(benchmark.record(sequence), boxes + [1, 1, 0, 0], fmt="%.9f", delimiter=",")
    score = toolkit.report(benchmark, [sequence]).score
    ours = score_track(boxes, truth)
    assert (score.success_auc, score.precision) == pytest.approx((ours.success_auc, ours.precision), abs=1e-9)
    assert 0.3 < ours.success_auc < 0.7 and 0.5 < ours.precision < 0.99


def test_got10k_leaves_out_the_first_frame_and_hidden_objects(tmp_path: Path) -> None:
    truth = moving(7, step=2)
    write_got10k(tmp_path / "set", "val", "a", truth, [8, 8, 8, 0, 8, 8, 8])
    write_got10k(tmp_path / "set", "val", "b", moving(4, step=6), [8, 8, 8, 8])
    sequences = read_got10k(tmp_path / "set")
    result = toolkit.report(run(LateTracker(), "got10k", sequences, tmp_path / "out"), sequences)
    tracks = [follow_sequence(LateTracker(), sequence).boxes_xywh[1:] for sequence in sequences]
    truths = [sequence.boxes_xywh[1:] for sequence in sequences]
    # over all frames at once: 5 of the one, 3 of the other
    ours = score_track(np.concatenate(tracks), np.concatenate(truths))
    figures = (result.score.ao, result.score.sr_50, result.score.sr_75)
    assert figures == pytest.approx((ours.ao, ours.sr_50, ours.sr_75), abs=1e-9)
    assert 0.2 < ours.ao < 0.9
    assert [row.score.frames for row in result.rows] == [5, 3]
    assert (tmp_path / "out" / "GOT-10k" / "ours" / "a" / "a_001.txt").is_file()
    assert (tmp_path / "out" / "GOT-10k" / "ours" / "a" / "a_time.txt").is_file()


def test_a_report_has_plots_and_a_table(tmp_path: Path) -> None:
    sequences = three_sequences(tmp_path / "set")
    benchmark = run(SquareTracker(), "otb", sequences, tmp_path / "out")
    toolkit.report(benchmark, sequences)
    names = {path.name for path in benchmark.report_folder.iterdir()}
    assert names == {"performance.json", "success_plots.png", "precision_plots.png", "sequences.csv"}
    table = (benchmark.report_folder / "sequences.csv").read_text().splitlines()
    assert table[0] == "sequence,frames,success_auc,precision,ao,sr_50,sr_75,fps"
    assert table[1].startswith("a,4,0.9524,1.0000,1.0000,1.0000,1.0000,")
    assert table[-1].startswith("mean,19,0.9524,1.0000,")


def test_the_records_of_a_test_split_are_packed(tmp_path: Path) -> None:
    import zipfile

    write_got10k(tmp_path / "set", "test", "a", moving(3), None)
    sequences = read_got10k(tmp_path / "set", "test")
    benchmark = toolkit.Benchmark("got10k", "ours", tmp_path / "out", 1, published=False)
    toolkit.RunExperiment(benchmark)(SquareTracker(), sequences[0])
    here = Path.cwd()
    assert toolkit.report(benchmark, sequences) is None
    assert Path.cwd() == here
    with zipfile.ZipFile(tmp_path / "out" / "GOT-10k" / "ours.zip") as archive:
        assert {"a/a_001.txt", "a/a_time.txt"} <= set(archive.namelist())


def test_only_whole_records_of_the_same_sequence_count(tmp_path: Path) -> None:
    sequences = three_sequences(tmp_path / "set")
    benchmark = run(SquareTracker(), "otb", sequences, tmp_path / "out")
    assert toolkit.pending(benchmark, sequences) == []
    record = benchmark.record(sequences[1])
    whole = record.read_text()
    broken = {
        "a row is missing": whole[: whole.rindex("\n", 0, -1) + 1],
        "a number is missing": whole.rstrip("\n").rpartition(",")[0] + "\n",
        "the last number is cut": whole[:-3],
        "empty": "",
        "another start": whole.replace("6.000,8.000", "5.000,7.000", 1),
    }
    for what, text in broken.items():
        record.write_text(text)
        assert toolkit.pending(benchmark, sequences) == [sequences[1]], what
        assert not record.exists(), what
    record.write_text(whole)
    assert toolkit.pending(benchmark, sequences) == []


class FailingTracker(StillTracker):
    def update(self, frame: Frame) -> Prediction:
        raise ValueError("no further")


def test_a_run_that_fails_leaves_no_record(tmp_path: Path) -> None:
    (sequence, *_) = three_sequences(tmp_path / "set")
    with pytest.raises(ValueError, match="no further"):
        run(FailingTracker(), "otb", [sequence], tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.txt"))


def test_a_report_without_a_record_says_so(tmp_path: Path) -> None:
    sequences = three_sequences(tmp_path / "set")
    benchmark = run(SquareTracker(), "otb", sequences[:2], tmp_path / "out")
    with pytest.raises(ValueError, match="no whole record of sequence c"):
        toolkit.report(benchmark, sequences)


def test_drawing_is_what_the_trackers_see(tmp_path: Path) -> None:
    draw(tmp_path / "empty.png", np.full(4, np.nan))
    with pytest.raises(ValueError, match="a mistake in the index base"):
        SquareTracker().init(read_frame(tmp_path / "empty.png"), Box(5, 5, 4, 4))
