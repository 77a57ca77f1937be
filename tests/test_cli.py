import csv
import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import av
import cv2
import numpy as np
import pytest
import typer
from rich import markup

import tracker
from tracker import cli, zoo
from tracker.cli import main
from tracker.frames import open_frames
from tracker.geometry import Box
from tracker.interface import Frame, Prediction
from tracker.video_writer import VideoWriter

ROOT = Path(__file__).parents[1]
SIDE = 16  # of the coloured squares
SETTINGS: list[tuple[str, ...]] = []  # that trackers were loaded with, the last one last


class ColourTracker:
    """Follow the square whose colour channel is brightest in the initial box; lost where the channel is dark."""

    def __init__(self) -> None:
        self.channel = 0
        self.box = Box(0, 0, 0, 0)

    def fork(self) -> "ColourTracker":
        return ColourTracker()

    def init(self, frame: Frame, box: Box) -> None:
        self.channel = int(frame[int(box.cy), int(box.cx)].argmax())
        self.box = box

    def update(self, frame: Frame) -> Prediction:
        rows, columns = np.nonzero(frame[..., self.channel] > 128)
        if not len(rows):
            return Prediction(self.box, 0.1, True)
        self.box = Box(columns.mean() + 0.5, rows.mean() + 0.5, self.box.w, self.box.h)
        return Prediction(self.box, 0.9, False)


def update_many(trackers: Sequence[ColourTracker], frame: Frame) -> list[Prediction]:
    return [each.update(frame) for each in trackers]


def module(name: str, **members: object) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(members)
    return made


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | None, str]]:
    """Replace the network by ColourTracker; return the (model, device) that were asked for."""
    calls: list[tuple[str | None, str]] = []

    def load_tracker(model: str | None, device: str, overrides: Sequence[str], **_: object) -> ColourTracker:
        SETTINGS.append(tuple(overrides))
        if model == "unknown":
            raise ValueError("unknown model 'unknown'")
        calls.append((model, device))
        return ColourTracker()

    cards = [
        SimpleNamespace(
            name="fast", size_bytes=9_300_000, description="small", metrics={"update_ms": 9.76, "otb_auc": 0.5514}
        ),
        SimpleNamespace(name="new", size_bytes=1_000_000, description="not measured", metrics={}),
    ]
    monkeypatch.setitem(sys.modules, "tracker.builder", module("tracker.builder", load_tracker=load_tracker))
    monkeypatch.setattr(zoo, "zoo", lambda: cards)
    monkeypatch.setitem(
        sys.modules, "tracker.siamese_tracker", module("tracker.siamese_tracker", update_many=update_many)
    )
    return calls


def scene(index: int) -> Frame:
    """Return a red square that moves right 2 px a frame and a green one that moves down 1 px; red is gone at 15-19."""
    frame = np.zeros((96, 128, 3), np.uint8)
    if not 15 <= index < 20:
        frame[20 : 20 + SIDE, 10 + 2 * index : 10 + 2 * index + SIDE, 0] = 255
    frame[40 + index : 40 + index + SIDE, 90 : 90 + SIDE, 1] = 255
    return frame


RED_AT_0, GREEN_AT_0 = "10,20,16,16", "90,40,16,16"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 25, (96, 128)) as writer:
        for index in range(30):
            writer.write(scene(index), index / 25)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "img"
    folder.mkdir()
    for index in range(12):
        cv2.imwrite(str(folder / f"{index}.png"), scene(index)[..., ::-1])
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def frame_count(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


# ---- track ----


def test_track_writes_video_and_boxes(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[tuple[str | None, str]]
) -> None:
    video, table = tmp_path / "out.mp4", tmp_path / "out.csv"
    assert main(["track", str(clip), "--init", RED_AT_0, "--save", str(video), "--boxes", str(table)]) == 0
    found = rows(table)
    assert [int(row["frame"]) for row in found] == list(range(30))
    assert [float(row["time"]) for row in found] == pytest.approx([i / 25 for i in range(30)], abs=1e-3)
    assert found[0]["score"] == "1.0000"
    for index, row in enumerate(found):
        assert int(row["lost"]) == (15 <= index < 20)
        if not 15 <= index < 20:
            expected = (10 + 2 * index, 20, 16, 16)
            assert [float(row[k]) for k in "xywh"] == pytest.approx(expected, abs=0.5)
    assert frame_count(video) == 30
    output = capsys.readouterr()
    assert "frames   30" in output.out
    assert "lost in  5 frames: 15-19\n" in output.out
    assert "median" in output.out
    assert f"wrote    {video}, {table}" in output.out
    assert output.err == ""
    assert asked == [(None, "auto")]


def test_boxes_are_drawn_in_the_video(clip: Path, tmp_path: Path) -> None:
    main(["track", str(clip), "--init", RED_AT_0, "--save", str(tmp_path / "out.mkv")])
    with av.open(str(tmp_path / "out.mkv")) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    below = frame[35, 12:24]  # the lowest row of the box, green over the red square
    assert (below[:, 1] > 100).all()


def test_saved_video_has_the_pixels_of_its_source(tmp_path: Path) -> None:
    source, saved = tmp_path / "source.mp4", tmp_path / "saved.mkv"
    with VideoWriter(source, 25, (96, 128), pixel_aspect=Fraction(4, 3)) as writer:
        for index in range(4):
            writer.write(scene(index), index / 25)
    assert main(["track", str(source), "--init", RED_AT_0, "--save", str(saved)]) == 0
    with open_frames(saved) as frames:
        next(frames)
        assert frames.pixel_aspect == Fraction(4, 3)


def test_several_targets_share_a_network(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "out.jsonl"
    assert main(["track", str(clip), "--init", RED_AT_0, "--init", GREEN_AT_0, "--boxes", str(table)]) == 0
    found = [json.loads(line) for line in table.read_text().splitlines()]
    assert [(row["frame"], row["target"]) for row in found] == [(i, t) for i in range(30) for t in range(2)]
    assert found[2 * 10]["x"] == pytest.approx(30, abs=0.5)
    assert found[2 * 29 + 1]["y"] == pytest.approx(69, abs=0.5)
    output = capsys.readouterr().out
    assert "lost in  target 0: 5 frames: 15-19\nlost in  target 1: no frame\n" in output


def test_stop_when_lost_ends_the_files_there(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "out.csv"
    assert main(["track", str(clip), "--init", RED_AT_0, "--boxes", str(table), "--stop-when-lost"]) == 3
    assert [int(row["lost"]) for row in rows(table)] == [0] * 15 + [1]
    output = capsys.readouterr()
    assert output.err == "siamtrack: lost in frame 15; the files end here\n"
    assert "frames   16" in output.out


def test_stop_when_lost_goes_on_while_one_target_is_followed(clip: Path, tmp_path: Path) -> None:
    table = tmp_path / "out.csv"
    targets = ["--init", RED_AT_0, "--init", GREEN_AT_0]
    assert main(["track", str(clip), *targets, "--boxes", str(table), "--stop-when-lost"]) == 0
    assert len(rows(table)) == 60


def test_recovery_can_be_left_out(clip: Path) -> None:
    main(["track", str(clip), "--init", RED_AT_0])
    main(["track", str(clip), "--init", RED_AT_0, "--no-recover"])
    assert SETTINGS[-2:] == [(), ("recovery=false",)]


def test_start_and_end_count_frames_of_the_source(clip: Path, tmp_path: Path) -> None:
    table = tmp_path / "out.csv"
    arguments = ["--init", "20,20,16,16", "--start", "5", "--end", "9", "--boxes", str(table)]
    assert main(["track", str(clip), *arguments]) == 0
    found = rows(table)
    assert [int(row["frame"]) for row in found] == [5, 6, 7, 8]
    assert float(found[0]["time"]) == pytest.approx(0.2, abs=1e-3)
    assert float(found[3]["x"]) == pytest.approx(26, abs=0.5)


def test_image_folder_and_glob(pictures: Path, tmp_path: Path) -> None:
    table = tmp_path / "out.csv"
    for source in (str(pictures), str(pictures / "*.png")):
        assert (
            main(["track", source, "--init", RED_AT_0, "--boxes", str(table), "--save", str(tmp_path / "o.avi")]) == 0
        )
        assert [float(row["x"]) for row in rows(table)] == [10 + 2 * i for i in range(12)]
        assert frame_count(tmp_path / "o.avi") == 12


def test_box_may_reach_out_of_the_frame(clip: Path) -> None:
    assert main(["track", str(clip), "--init", "-4,-3,20,30"]) == 0
    assert main(["track", str(clip), "--init=-4.5, 20, 32, 16.25"]) == 0


def test_without_outputs_the_summary_says_how_to_keep_the_result(
    clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["track", str(clip), "--init", RED_AT_0, "--quiet"]) == 0
    assert "wrote    nothing: add --save VIDEO or --boxes TABLE" in capsys.readouterr().out


def test_model_and_device_are_passed_on(clip: Path, asked: list[tuple[str | None, str]]) -> None:
    assert main(["track", str(clip), "--init", RED_AT_0, "--model", "fast", "--device", "cpu"]) == 0
    assert asked == [("fast", "cpu")]


# ---- wrong use: status 2, one line, nothing written ----


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["CLIP"], "give either --init X,Y,W,H or --select"),
        (["CLIP", "--init", "1,2,3,4", "--select"], "give either --init X,Y,W,H or --select"),
        (["CLIP", "--init", "1,2,3"], "--init must be X,Y,W,H in pixels, such as 120,80,64,48, got '1,2,3'"),
        (["CLIP", "--init", "a,b,c,d"], "got 'a,b,c,d'"),
        (["CLIP", "--init", "1,2,0,4"], "positive width and height"),
        (["CLIP", "--init", "1,2,nan,4"], "finite"),
        (["CLIP", "--init", "500,500,20,20"], "outside the 128x96 frame"),
        (["gone.mp4", "--init", "1,2,3,4"], "no such file or folder: gone.mp4"),
        (["CLIP", "--init", RED_AT_0, "--start", "99"], "start 99 is beyond the end"),
        (["CLIP", "--init", RED_AT_0, "--start", "9", "--end", "9"], "end must be greater than start"),
        (["CLIP", "--init", RED_AT_0, "--start", "x"], "--start"),
        (["CLIP", "--init", RED_AT_0, "--model", "unknown"], "unknown model 'unknown'"),
        (["CLIP", "--init", RED_AT_0, "--save", "out.gif"], "out.gif: the name must end in one of .mp4"),
        (["CLIP", "--init", RED_AT_0, "--save", "no/out.mp4"], "no/out.mp4: No such file or directory"),
        (["CLIP", "--init", RED_AT_0, "--boxes", "out.txt"], "out.txt: the name must end in .csv or .jsonl"),
        (["CLIP", "--init", RED_AT_0, "--save", "CLIP"], "is the source itself; write to another file"),
        (["CLIP", "--init", RED_AT_0, "--bogus"], "No such option: --bogus"),
        ([], "Missing argument 'SOURCE'"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(
    clip: Path,
    arguments: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    before = clip.read_bytes()
    assert main(["track", *(str(clip) if a == "CLIP" else a for a in arguments)]) == 2
    output = capsys.readouterr()
    assert output.err.startswith("siamtrack: error: ")
    assert told in output.err
    assert output.err.count("\n") == 1
    assert output.out == ""
    assert list(tmp_path.iterdir()) == [clip]
    assert clip.read_bytes() == before


def test_undecodable_source_is_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.mp4").write_text("no video")
    assert main(["track", str(tmp_path / "x.mp4"), "--init", RED_AT_0]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# ---- a failure on the way: status 1, complete files ----


def test_damaged_image_on_the_way_leaves_complete_files(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "7.png").write_bytes(b"damaged")
    video, table = tmp_path / "out.mp4", tmp_path / "out.csv"
    assert main(["track", str(pictures), "--init", RED_AT_0, "--save", str(video), "--boxes", str(table)]) == 1
    assert frame_count(video) == 7
    assert len(rows(table)) == 7
    output = capsys.readouterr()
    assert "7.png" in output.err
    assert output.err.count("\n") == 1
    assert "frames   7" in output.out


def test_source_that_was_cut_off_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    whole, cut = tmp_path / "whole.mkv", tmp_path / "cut.mkv"
    rng = np.random.default_rng(0)
    with VideoWriter(whole, 25, (96, 128)) as writer:
        for index in range(200):
            writer.write(rng.integers(0, 255, (96, 128, 3), np.uint8), index / 25)
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    for source, options in ((whole, []), (cut, ["--end", "20"])):
        assert main(["track", str(source), "--init", RED_AT_0, "-q", *options]) == 0
        assert capsys.readouterr().err == "" and not caplog.messages
    for start in (0, 20):
        caplog.clear()
        assert main(["track", str(cut), "--init", RED_AT_0, "-q", "--start", str(start)]) == 0
        frames = start + int(capsys.readouterr().out.split()[1].strip(","))
        assert caplog.messages == [f"{cut} ends after {frames} frames, where its header promises 200"]


def test_refused_command_leaves_the_boxes_of_before(clip: Path, tmp_path: Path) -> None:
    table = tmp_path / "boxes.csv"
    table.write_text("precious")
    video = tmp_path / "missing" / "out.mp4"
    assert main(["track", str(clip), "--init", RED_AT_0, "--boxes", str(table), "--save", str(video)]) == 2
    assert table.read_text() == "precious"


def test_source_that_changes_size_is_tracked_to_the_end(pictures: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(pictures / "7.png"), scene(7)[:80, :100, ::-1])
    assert main(["track", str(pictures), "--init", RED_AT_0, "--save", str(tmp_path / "out.mp4")]) == 0
    assert frame_count(tmp_path / "out.mp4") == 12


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("stop", [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")])
def test_ctrl_c_leaves_complete_files_and_a_summary(clip: Path, tmp_path: Path, stop: signal.Signals) -> None:
    video, table = tmp_path / "out.mp4", tmp_path / "out.csv"
    program = tmp_path / "slow.py"
    program.write_text(
        textwrap.dedent(
            """
            import sys, time
            from types import ModuleType
            from tracker.interface import Prediction
            from tracker.video_writer import VideoWriter

            class SlowTracker:
                def init(self, frame, box):
                    self.box = box

            def update_many(trackers, frame):
                print("tracking", flush=True)
                time.sleep(0.05)
                return [Prediction(each.box, 0.5, False) for each in trackers]

            def slow_close(self, close=VideoWriter.close):
                print("closing", flush=True)
                time.sleep(0.5)
                close(self)

            VideoWriter.close = slow_close
            for name in ("tracker.builder", "tracker.siamese_tracker"):
                sys.modules[name] = ModuleType(name)
            sys.modules["tracker.builder"].load_tracker = lambda model, device, **_: SlowTracker()
            sys.modules["tracker.siamese_tracker"].update_many = update_many
            from tracker.cli import main
            sys.exit(main(sys.argv[1:]))
            """
        )
    )
    arguments = ["track", str(clip), "--init", RED_AT_0, "--save", str(video), "--boxes", str(table)]
    with subprocess.Popen(
        [sys.executable, str(program), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        for _ in range(4):
            assert process.stdout.readline() == "tracking\n"
        process.send_signal(stop)
        while process.stdout.readline() == "tracking\n":
            pass
        process.send_signal(signal.SIGINT)  # impatience must not cut off the files
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    written = len(rows(table))
    assert 3 <= written < 30
    assert abs(frame_count(video) - written) <= 1  # the signal may come between the two
    assert table.read_text().endswith("\n")
    assert err == "siamtrack: stopped early; the files end here\n"
    assert f"wrote    {video}, {table}" in out


# ---- windows ----


class FakeWindow:
    """Show nothing; select the boxes given; stop after so many frames."""

    boxes: tuple[Box, ...] = (Box.from_xywh(10, 20, 16, 16),)
    stop_after = 1000

    def __init__(self, title: str, max_fps: float | None) -> None:
        self.shown = 0
        self.max_fps = max_fps
        self.closed = False
        opened.append(self)

    def show(self, frame: Frame) -> bool:
        self.shown += 1
        return self.shown < self.stop_after

    def freeze(self, frames: Iterator[Frame]) -> Frame | None:
        next(frames)
        return next(frames)

    def select_boxes(self, frame: Frame) -> list[Box]:
        return list(self.boxes)

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> "FakeWindow":
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


opened: list[FakeWindow] = []


@pytest.fixture
def fake_window(monkeypatch: pytest.MonkeyPatch) -> list[FakeWindow]:
    opened.clear()
    monkeypatch.setattr("tracker.window.Window", FakeWindow)
    return opened


def test_selected_boxes_are_tracked(clip: Path, tmp_path: Path, fake_window: list[FakeWindow]) -> None:
    table = tmp_path / "out.csv"
    assert main(["track", str(clip), "--select", "--boxes", str(table)]) == 0
    assert [float(row["x"]) for row in rows(table)][:3] == pytest.approx([10, 12, 14], abs=0.5)
    assert fake_window[0].shown == 0
    assert fake_window[0].closed


def test_no_selection_is_wrong_use(
    clip: Path,
    tmp_path: Path,
    fake_window: list[FakeWindow],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(FakeWindow, "boxes", ())
    assert main(["track", str(clip), "--select", "--boxes", str(tmp_path / "out.csv")]) == 2
    assert "no box was selected" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_show_ends_where_the_user_stops(
    clip: Path, tmp_path: Path, fake_window: list[FakeWindow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeWindow, "stop_after", 4)
    assert main(["track", str(clip), "--init", RED_AT_0, "--show", "--boxes", str(tmp_path / "out.csv")]) == 0
    assert fake_window[0].max_fps == 25
    assert len(rows(tmp_path / "out.csv")) == 4


def test_live_source_plays_until_the_user_freezes_it(
    tmp_path: Path, fake_window: list[FakeWindow], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [np.ascontiguousarray(scene(index)[..., ::-1]) for index in range(6)]
    camera = SimpleNamespace(
        isOpened=lambda: True,
        set=lambda key, value: True,
        get=lambda key: 30.0,
        read=lambda: (True, images.pop(0)) if images else (False, None),
        release=lambda: None,
    )
    monkeypatch.setattr(cv2, "VideoCapture", lambda index: camera)
    assert main(["track", "0", "--select", "--show", "--boxes", str(tmp_path / "out.csv")]) == 0
    found = [int(row["frame"]) for row in rows(tmp_path / "out.csv")]
    assert found[0] == 1 and found[-1] == 5  # between, a camera that does not wait drops what comes too fast
    assert found == sorted(set(found))
    assert fake_window[0].max_fps is None
    assert fake_window[0].shown == len(found)


def test_missing_pygame_is_wrong_use(
    clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    assert main(["track", str(clip), "--select"]) == 2
    assert "pip install 'siamtrack[live]'" in capsys.readouterr().err


# ---- the other commands ----


def test_models_lists_the_zoo(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "size", "update", "OTB", "AUC", "description"]
    assert lines[1].split() == ["fast", "9.3", "MB", "9.8", "ms", "0.551", "small"]
    assert lines[2].split() == ["new", "1.0", "MB", "-", "-", "not", "measured"]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"siamtrack {tracker.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_the_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("track", "models", "eval", "train", "Exit status"))


def test_unknown_command_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bogus"]) == 2
    assert capsys.readouterr().err == "siamtrack: error: No such command 'bogus'.\n"


def commands(group: typer.core.TyperGroup) -> Iterator[typer.core.TyperCommand]:
    for command in group.commands.values():
        if isinstance(command, typer.core.TyperGroup):
            yield from commands(command)
        else:
            yield cast(typer.core.TyperCommand, command)


def test_help_loses_no_words_to_markup() -> None:
    # Help is rich's markup: "[train]" is a tag there, and vanishes; "\\[train]" stays.
    told = [
        parameter.help
        for command in commands(cast(typer.core.TyperGroup, typer.main.get_command(cli._build_app())))
        for parameter in command.params
        if isinstance(parameter, typer.core.TyperArgument | typer.core.TyperOption) and parameter.help
    ]
    assert any("[" in text for text in told)
    assert [markup.render(text).plain for text in told] == [text.replace("\\[", "[") for text in told]


def test_help_says_every_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for status in ("0 done", "1 a failure", "2 wrong use", "3 lost with --stop-when-lost", "130 stopped"):
        assert status in text


@pytest.mark.parametrize("group", ["data", "encoder"])
def test_group_without_a_command_shows_its_help(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([group]) == 0
    output = capsys.readouterr()
    assert "Commands" in output.out
    assert output.err == ""


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    program = (
        "import sys; from tracker.cli import main; status = main(['track', '--help']); "
        "print(status, {'torch', 'cv2', 'av', 'numpy', 'pygame'} & set(sys.modules), file=sys.stderr)"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert finished.stderr == "0 set()\n"


def test_python_m_runs_the_command_line() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "tracker", "track"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert finished.returncode == 2
    assert finished.stderr == "siamtrack: error: Missing argument 'SOURCE'.\n"


def test_threads_and_runtime_can_be_given(monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    given: list[dict[str, object]] = []

    def load_tracker(_model: str | None, _device: str, **options: object) -> ColourTracker:
        given.append(options)
        return ColourTracker()

    monkeypatch.setattr(sys.modules["tracker.builder"], "load_tracker", load_tracker)
    command = ["track", str(clip), "--init", RED_AT_0]
    assert main([*command, "--threads", "3", "--runtime", "onnx"]) == 0
    assert given == [{"overrides": (), "runtime": "onnx", "threads": 3}]
