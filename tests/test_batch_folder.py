import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.batches import draw_video, job_for, recipe
from tracker import whole_file
from tracker.batch_folder import COLUMNS, BatchFolder, Maker, model_digest
from tracker.batch_video import PART, Outcome, VideoWorker
from tracker.exported import CARD, digest
from tracker.manifest import VideoJob
from tracker.whole_file import LOCK
from tracker.zoo import find_graphs, find_weights

MAKER = Maker("fast", "f00d", "onnx", ("recovery=false",), "1.0.0")


def three_jobs(folder: Path) -> list[VideoJob]:
    return [job_for(draw_video(folder, name)) for name in "abc"]


def track(
    out: Path, jobs: list[VideoJob], maker: Maker = MAKER, save_videos: bool = False, stop: int = 99
) -> list[str]:
    """Do what is pending, at most `stop` jobs; return their names."""
    order = recipe(out, save_videos)
    folder = BatchFolder(out, maker)
    rest = folder.pending(jobs, order, [])
    with folder.begin(rest, order):
        worker = VideoWorker(order)
        for job in rest[:stop]:
            folder.add(job, worker.run(job))
        folder.close(jobs)
    return [job.name for job in rest[:stop]]


def record(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def listed(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()} - {LOCK}


def test_a_folder_in_which_another_batch_is_at_work_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_file, "_WAIT_S", 0.05)
    jobs, out = three_jobs(tmp_path), tmp_path / "out"
    with BatchFolder(out, MAKER).begin(jobs, recipe(out)):
        (out / f"{PART}a").mkdir()
        with pytest.raises(ValueError, match="another process is at work in .*out; let it end"):
            track(out, jobs)
        assert (out / f"{PART}a").is_dir()
    assert track(out, jobs) == ["a", "b", "c"]


def test_what_another_batch_did_since_the_record_was_read_is_not_lost(tmp_path: Path) -> None:
    jobs, out = three_jobs(tmp_path), tmp_path / "out"
    late = BatchFolder(out, MAKER)
    rest = late.pending(jobs[1:], recipe(out), [])
    assert track(out, jobs[:1]) == ["a"]
    with pytest.raises(ValueError, match="another batch was at work in .*out until now"), late.begin(rest, recipe(out)):
        pass
    assert [row["name"] for row in record(out)] == ["a"]
    assert track(out, jobs) == ["b", "c"]


def test_error_of_several_lines_is_one_cell(tmp_path: Path) -> None:
    jobs, out = three_jobs(tmp_path), tmp_path / "out"
    folder = BatchFolder(out, MAKER)
    with folder.begin(jobs, recipe(out)):
        folder.add(jobs[0], Outcome("a", False, 0, 0, 0.5, "one\u2028two"))
    BatchFolder(out, MAKER).close(jobs)
    assert [row["error"] for row in record(out)] == ["one\u2028two"]


def test_the_record_has_a_row_a_job_in_their_order(tmp_path: Path) -> None:
    jobs, out = three_jobs(tmp_path), tmp_path / "out"
    folder = BatchFolder(out, MAKER)
    with folder.begin(jobs, recipe(out)):
        folder.add(jobs[2], Outcome("c", True, 4, 1, 2.25, ""))
        folder.add(jobs[0], Outcome("a", False, 2, 0, 0.5, 'no "room", none'))
    assert [row["name"] for row in record(out)] == ["c", "a"]  # as it was done: whoever looks sees it at once
    folder.close(jobs)
    assert (out / "results.csv").read_text().splitlines() == [
        ",".join(COLUMNS),
        f'a,failed,2,0,0.50,"no ""room"", none",{jobs[0].digest()}',
        f"c,done,4,1,2.25,,{jobs[2].digest()}",
    ]
    assert json.loads((out / "batch.json").read_text()) == {
        "model": "fast",
        "sha256": "f00d",
        "runtime": "onnx",
        "settings": ["recovery=false"],
        "version": "1.0.0",
    }


def test_a_stopped_run_goes_on_and_failures_are_tried_again(tmp_path: Path) -> None:
    jobs, out = three_jobs(tmp_path), tmp_path / "out"
    broken = tmp_path / "b" / "1.png"
    content = broken.read_bytes()
    broken.write_bytes(b"damaged")
    assert track(out, jobs, stop=2) == ["a", "b"]
    assert [(row["name"], row["status"]) for row in record(out)] == [("a", "done"), ("b", "failed")]
    broken.write_bytes(content)
    assert track(out, jobs) == ["b", "c"]
    assert {row["status"] for row in record(out)} == {"done"}
    assert track(out, jobs) == []


def test_a_changed_row_is_tracked_again(tmp_path: Path) -> None:
    jobs, out = three_jobs(tmp_path), tmp_path / "out"
    track(out, jobs)
    before = (out / "b.csv").read_text()
    changed = [jobs[0], replace(jobs[1], end=2), jobs[2]]
    assert track(out, changed) == ["b"]
    assert len((out / "b.csv").read_text()) < len(before)


def test_a_stale_result_does_not_outlive_a_failure(tmp_path: Path) -> None:
    jobs, out = three_jobs(tmp_path), tmp_path / "out"
    track(out, jobs)
    changed = [jobs[0], replace(jobs[1], start=99), jobs[2]]
    assert track(out, changed) == ["b"]
    assert not (out / "b.csv").exists()
    assert "start 99 is beyond the end" in record(out)[1]["error"]


def test_missing_results_are_made_again(tmp_path: Path) -> None:
    jobs, out = three_jobs(tmp_path), tmp_path / "out"
    track(out, jobs)
    (out / "a.csv").unlink()
    assert track(out, jobs) == ["a"]
    assert track(out, jobs, save_videos=True) == ["a", "b", "c"]
    assert (out / "c.mp4").exists()


def test_rows_of_other_lists_stay(tmp_path: Path) -> None:
    jobs, out = three_jobs(tmp_path), tmp_path / "out"
    track(out, jobs[:1])
    track(out, jobs[1:])
    assert [row["name"] for row in record(out)] == ["b", "c", "a"]
    assert track(out, jobs) == []


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"sha256": "beef", "model": "new"}, "model fast, not new"),
        ({"sha256": "beef"}, "other weights"),
        ({"runtime": "torch"}, "runtime onnx, not torch"),
        ({"settings": ()}, "settings recovery=false, not none"),
        ({"version": "1.0.1"}, "version 1.0.0, not 1.0.1"),
    ],
)
def test_results_of_another_maker_are_refused(tmp_path: Path, other: dict[str, object], told: str) -> None:
    jobs, out = three_jobs(tmp_path), tmp_path / "out"
    track(out, jobs, stop=1)
    with pytest.raises(ValueError, match=f"holds results of {told}; give another --out"):
        track(out, jobs, replace(MAKER, **other))  # type: ignore[arg-type]
    assert track(out, jobs, replace(MAKER, model="alias")) == ["b", "c"]


def test_without_a_result_the_maker_may_change(tmp_path: Path) -> None:
    jobs, out = three_jobs(tmp_path), tmp_path / "out"
    track(out, jobs, stop=0)
    assert track(out, jobs, replace(MAKER, runtime="torch"), stop=1) == ["a"]


def test_a_record_that_was_cut_off_is_mended(tmp_path: Path) -> None:
    jobs, out = three_jobs(tmp_path), tmp_path / "out"
    track(out, jobs)
    path = out / "results.csv"
    whole = path.read_bytes()
    for cut in (whole[:-20], whole[:-4] + b"\n", whole[:-30] + b"\0" * 30):
        path.write_bytes(cut)
        assert track(out, jobs) == ["c"]
        assert path.read_bytes().count(b"\n") == 4


def test_what_killed_processes_left_is_deleted(tmp_path: Path) -> None:
    jobs, out = three_jobs(tmp_path), tmp_path / "out"
    (out / f"{PART}x").mkdir(parents=True)
    (out / f"{PART}x" / "a.csv").write_text("half")
    track(out, jobs)
    assert listed(out) == {"a.csv", "b.csv", "c.csv", "results.csv", "batch.json"}


def test_files_that_no_batch_made_are_not_replaced(tmp_path: Path) -> None:
    jobs, out = three_jobs(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "b.csv").write_text("precious")
    with pytest.raises(ValueError, match=r"b\.csv is there already, and no batch made it"):
        track(out, jobs)
    assert listed(out) == {"b.csv"}
    (out / "results.csv").write_text("my,own,results\n")
    with pytest.raises(ValueError, match=r"results\.csv is no record of a batch"):
        track(out, jobs)


def test_sources_are_not_replaced_either(tmp_path: Path) -> None:
    jobs, out = three_jobs(tmp_path), tmp_path / "out"
    track(out, jobs)
    clips = [VideoJob("x", str(out / "y.mp4"), jobs[0].boxes, 0, None), replace(jobs[0], name="y")]
    with pytest.raises(ValueError, match=r"y\.mp4 is read by this batch"):
        track(out, clips, save_videos=True)
    with pytest.raises(ValueError, match=r"list\.csv is read by this batch"):
        BatchFolder(out, MAKER).pending([replace(jobs[0], name="list")], recipe(out), [out / "list.csv"])


def test_a_record_that_does_not_say_its_maker_is_refused(tmp_path: Path) -> None:
    jobs, out = three_jobs(tmp_path), tmp_path / "out"
    track(out, jobs)
    for text in ("{", "{}", "[]", '{"settings": [], "colour": 1}'):
        (out / "batch.json").write_text(text)
        with pytest.raises(ValueError, match=r"batch\.json does not say what made this batch"):
            track(out, jobs)


def test_a_model_is_told_by_its_weights_or_its_graphs() -> None:
    graphs = find_graphs(None)
    assert graphs is not None
    assert model_digest(None, "torch") == digest(find_weights(None))
    assert model_digest(None, "onnx") == digest(graphs / CARD)
    with pytest.raises(ValueError, match="unknown model 'gone'"):
        model_digest("gone", "onnx")
