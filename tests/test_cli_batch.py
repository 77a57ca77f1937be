import csv
import multiprocessing
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from tests.batches import BROKEN, CALM, KILLED, LOST, SLOW, ColourTracker, draw_video, load_tracker, update_each
from tracker.batch_folder import BatchFolder
from tracker.cli import main
from tracker.whole_file import LOCK

ROOT = Path(__file__).parent.parent
CLIP = ROOT / "tracker" / "assets" / "demo.mp4"
CELLS = "8,8,16,12"


def module(name: str, **members: object) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(members)
    return made


@pytest.fixture
def fake_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the network by ColourTracker, here and in the processes, which import it from its own module."""
    builder = module("tracker.builder", load_tracker=load_tracker, choose_runtime=lambda *_: "onnx")
    siamese = module("tracker.siamese_tracker", SiameseTracker=ColourTracker, update_many=update_each)
    monkeypatch.setitem(sys.modules, "tracker.builder", builder)
    monkeypatch.setitem(sys.modules, "tracker.siamese_tracker", siamese)


def draw_batch(folder: Path, kinds: dict[str, int]) -> Path:
    rows = [f"{draw_video(folder, name, kind).name},{CELLS}" for name, kind in kinds.items()]
    path = folder / "list.csv"
    path.write_text("\n".join(["video,x,y,w,h", *rows, ""]))
    return path


def results(out: Path) -> dict[str, tuple[str, int, int, str]]:
    with (out / "results.csv").open(newline="") as file:
        return {
            row["name"]: (row["status"], int(row["frames"]), int(row["lost_frames"]), row["error"])
            for row in csv.DictReader(file)
        }


# ---- all goes well ----


def test_all_videos_are_tracked_and_counted(
    tmp_path: Path, fake_tracker: None, capsys: pytest.CaptureFixture[str]
) -> None:
    listing, out = draw_batch(tmp_path, {"a": CALM, "b": LOST}), tmp_path / "new" / "out"
    assert main(["batch", str(listing), "--out", str(out), "--workers", "1", "--save-videos"]) == 0
    assert results(out) == {"a": ("done", 4, 0, ""), "b": ("done", 4, 3, "")}
    assert {path.name for path in out.iterdir()} - {LOCK} == {
        *("a.csv", "a.mp4", "b.csv", "b.mp4"),
        *("results.csv", "batch.json"),
    }
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out.startswith("videos   2 done, 0 were done before, 0 failed\nframes   8, ")
    assert f"wrote    {out / 'results.csv'}, and a table of boxes a video beside it\n" in output.out


def test_the_same_command_goes_on(tmp_path: Path, fake_tracker: None, capsys: pytest.CaptureFixture[str]) -> None:
    listing, out = draw_batch(tmp_path, {"a": CALM, "b": CALM}), tmp_path / "out"
    command = ["batch", str(listing), "--out", str(out), "--workers", "1"]
    (tmp_path / "b").rename(tmp_path / "later")
    assert main(command) == 1
    (tmp_path / "later").rename(tmp_path / "b")
    stamp = (out / "a.csv").stat().st_mtime_ns
    capsys.readouterr()
    assert main(command) == 0
    assert (out / "a.csv").stat().st_mtime_ns == stamp
    assert capsys.readouterr().err == "siamtrack: 1 of 2 videos are done already\n"
    assert main([*command, "--quiet"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out.startswith("videos   0 done, 2 were done before, 0 failed\n")


def test_boxes_are_those_of_the_track_command(tmp_path: Path) -> None:
    listing, out = tmp_path / "list.csv", tmp_path / "out"
    rows = ["132,111,95,87", "60,60,50,40"]
    listing.write_text("video,x,y,w,h,start,end,name\n" + "".join(f"{CLIP},{row},3,12,clip\n" for row in rows))
    model = ["--model", "siamrpn_mobile", "--runtime", "onnx"]
    assert main(["batch", str(listing), "--out", str(out), "--workers", "2", *model]) == 0
    targets = [part for row in rows for part in ("--init", row)]
    cut = ["--start", "3", "--end", "12", "--threads", "1"]
    assert main(["track", str(CLIP), *targets, *cut, "--boxes", str(tmp_path / "alone.csv"), *model]) == 0
    assert (out / "clip.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()


# ---- some fail: status 1, the rest is done ----


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_what_fails_does_not_stop_the_rest(
    tmp_path: Path, fake_tracker: None, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = {"killer": KILLED, "broken": CALM, "a": CALM, "strange": BROKEN, "b": CALM}
    listing, out = draw_batch(tmp_path, kinds), tmp_path / "out"
    (tmp_path / "broken" / "2.png").write_bytes(b"damaged")
    header, *lines = listing.read_text().splitlines()
    lines = [f"{header},name,start", *(f"{line},," for line in lines), f"gone.mp4,{CELLS},,", "b,500,8,16,12,outside,1"]
    listing.write_text("\n".join(lines))
    assert main(["batch", str(listing), "--out", str(out), "--workers", "2"]) == 1
    found = results(out)
    assert list(found) == ["killer", "broken", "a", "strange", "b", "gone", "outside"]
    assert (
        {name for name, row in found.items() if row[0] == "done"} == {"a", "b"} == {p.stem for p in out.glob("?.csv")}
    )
    told = {
        "killer": "its process died twice, by signal 9 (Killed)",
        "broken": "2.png",
        "strange": "RuntimeError: the runtime fails",
        "gone": "no such file or folder",
        "outside": "lies outside the 64x48 frame",
    }
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == len(told)
    for name, what in told.items():
        assert found[name][0] == "failed" and what in found[name][3]
        assert any(line.startswith(f"siamtrack: error: {name}: ") and what in line for line in errors)
    assert found["broken"][1] == 2


def test_many_failures_are_cut_short(tmp_path: Path, fake_tracker: None, capsys: pytest.CaptureFixture[str]) -> None:
    listing, out = tmp_path / "list.csv", tmp_path / "out"
    listing.write_text("video,x,y,w,h\n" + "".join(f"gone{number}.mp4,{CELLS}\n" for number in range(22)))
    assert main(["batch", str(listing), "--out", str(out), "--workers", "1"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 21
    assert errors[-1] == f"siamtrack: error: 2 more failed, see {out / 'results.csv'}"


def test_a_full_disk_is_told_once(
    tmp_path: Path, fake_tracker: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(BatchFolder, "add", full)
    monkeypatch.setattr(BatchFolder, "close", full)
    listing = draw_batch(tmp_path, {"a": CALM, "b": CALM})
    assert main(["batch", str(listing), "--out", str(tmp_path / "out"), "--workers", "1"]) == 1
    output = capsys.readouterr()
    assert output.err == "siamtrack: error: no space left; the same command goes on from here\n"
    assert output.out.startswith("videos   0 done, 0 were done before, 0 failed\n")
    assert not multiprocessing.active_children()


# ---- wrong use: status 2, nothing written ----


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["LIST"], "Missing option '--out'"),
        (["gone.csv", "--out", "out"], "cannot read gone.csv"),
        (["LIST", "--out", "out", "--on", "cloud"], "--on must be local, ray or ray://host:port, got 'cloud'"),
        (["LIST", "--out", "out", "--on", "ray", "--device", "cuda"], "on Ray videos are tracked on the CPU"),
        (["LIST", "--out", "out", "--on", "ray"], "Ray is not installed: pip install 'siamtrack[ray]'"),
        (["LIST", "--out", "out", "--workers", "0"], "--workers"),
        (["LIST", "--out", "out", "--model", "unknown"], "unknown model 'unknown'"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(
    arguments: list[str],
    told: str,
    fake_tracker: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    listing = draw_batch(tmp_path, {"a": CALM})
    assert main(["batch", *(str(listing) if part == "LIST" else part for part in arguments)]) == 2
    output = capsys.readouterr()
    assert output.err.startswith("siamtrack: error: ") and told in output.err and output.err.count("\n") == 1
    assert output.out == ""
    assert not (tmp_path / "out").exists()


def test_another_model_or_setting_is_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listing, out = tmp_path / "list.csv", tmp_path / "out"
    listing.write_text(f"video,x,y,w,h,end\n{CLIP},132,111,95,87,3\n")
    command = ["batch", str(listing), "--out", str(out), "--workers", "1", "--runtime", "onnx"]
    assert main([*command, "--set", "bogus.key=1"]) == 2
    assert "bogus" in capsys.readouterr().err and not out.exists()
    assert main(command) == 0
    before = (out / "results.csv").read_text()
    assert main([*command, "--set", "lost.patience=9"]) == 2
    assert "holds results of settings none, not lost.patience=9" in capsys.readouterr().err
    assert main([*command, "--model", "mobilenetv3_online"]) == 2
    assert "model siamrpn_mobile, not mobilenetv3_online" in capsys.readouterr().err
    assert (out / "results.csv").read_text() == before


# ---- stopped: status 130 after Ctrl-C; what is done stays ----

PROGRAM = """
import signal
import sys
from types import ModuleType

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # inherited as ignored by what runs in the background
    from tests.batches import ColourTracker, load_tracker, update_each
    for name in ("tracker.builder", "tracker.siamese_tracker"):
        sys.modules[name] = ModuleType(name)
    sys.modules["tracker.builder"].load_tracker = load_tracker
    sys.modules["tracker.builder"].choose_runtime = lambda *_: "onnx"
    sys.modules["tracker.siamese_tracker"].SiameseTracker = ColourTracker
    sys.modules["tracker.siamese_tracker"].update_many = update_each
    from tracker.cli import main
    sys.exit(main(sys.argv[1:]))
"""


def stop_in_third(folder: Path, stop: signal.Signals) -> tuple[list[str], int, str, str]:
    """Stop a batch while it tracks the third of four videos; return its command, status, output and errors."""
    listing, out = draw_batch(folder, {"a": CALM, "b": CALM, "slow": SLOW, "c": CALM}), folder / "out"
    for index in range(4, 100):  # 20 seconds
        (folder / "slow" / f"{index}.png").write_bytes((folder / "slow" / "0.png").read_bytes())
    program = folder / "batch.py"
    program.write_text(PROGRAM)
    command = [str(program), "batch", str(listing), "--out", str(out), "--workers", "1"]
    with subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    ) as process:
        deadline = time.monotonic() + 60
        while not list(out.glob(".part-*/slow.csv")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        process.send_signal(stop)
        output, errors = process.communicate(timeout=10)  # ends when no process holds the pipes
    return command[1:], process.returncode, output, errors


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_whole_files_and_no_process(tmp_path: Path, stop: signal.Signals) -> None:
    _, status, output, errors = stop_in_third(tmp_path, stop)
    assert status == 130
    assert errors == "siamtrack: stopped early; the same command goes on from here\n"
    assert output.startswith("videos   2 done, 0 were done before, 0 failed\n")
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} - {LOCK} == {"a.csv", "b.csv", "results.csv", "batch.json"}
    assert list(results(out)) == ["a", "b"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_run_that_is_killed_leaves_no_process_and_goes_on(tmp_path: Path, fake_tracker: None) -> None:
    command, *_ = stop_in_third(tmp_path, signal.SIGKILL)
    out = tmp_path / "out"
    assert list(results(out)) == ["a", "b"] and list(out.glob(".part-*"))
    stamp = (out / "a.csv").stat().st_mtime_ns
    for index in range(3, 100):
        (tmp_path / "slow" / f"{index}.png").unlink()
    assert main(command) == 0
    assert {path.name for path in out.iterdir()} - {LOCK} == {
        *("a.csv", "b.csv", "slow.csv", "c.csv"),
        *("results.csv", "batch.json"),
    }
    assert list(results(out)) == ["a", "b", "slow", "c"]
    assert (out / "a.csv").stat().st_mtime_ns == stamp
