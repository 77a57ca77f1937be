"""The commands that compare pictures and search them."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import cv2
import numpy as np
import pytest

from tests.verifiers import THRESHOLD, thing, write_weights
from tracker import cli_verify
from tracker import verifier as verifier_module
from tracker.cli import main
from tracker.data.pair_lists import ListedPair
from tracker.picture_index import read_index
from tracker.verifier import Verifier

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "drawn.safetensors"
    return str(write_weights(path, {"verify_threshold": THRESHOLD}))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Write four things, each in three pictures that hardly differ: thing/picture.png."""
    for seed in range(4):
        (tmp_path / "pictures" / str(seed)).mkdir(parents=True)
        for at in range(3):
            moved = np.roll(thing(seed), 2 * at, axis=1)
            cv2.imwrite(str(tmp_path / "pictures" / str(seed) / f"{at}.png"), moved[..., ::-1])
    return tmp_path / "pictures"


def verify(model: str, *arguments: str | Path) -> int:
    return main(["verify", *map(str, arguments), "--model", model, "--runtime", "torch", "--threads", "1"])


# ---- verify ----


def test_status_is_the_verdict(model: str, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(model, pictures / "0" / "0.png", pictures / "0" / "1.png") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("similarity  0.9")
    assert second == "verdict     same (threshold 0.9700)"
    assert verify(model, pictures / "0" / "0.png", pictures / "1" / "0.png") == 1
    assert capsys.readouterr().out.splitlines()[1] == "verdict     different (threshold 0.9700)"


def test_threshold_and_boxes_are_taken(model: str, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = pictures / "0" / "0.png", pictures / "1" / "0.png"
    assert verify(model, a, b, "--threshold", "0.5") == 0
    assert verify(model, a, a, "--threshold", "1.01") == 1
    capsys.readouterr()
    wide = np.hstack([thing(0), thing(1)])
    cv2.imwrite(str(pictures / "wide.png"), wide[..., ::-1])
    said = []
    for box in ("0,0,96,96", "96,0,96,96"):
        verify(model, pictures / "wide.png", b, "--box-a", box)
        said.append(float(capsys.readouterr().out.split()[1]))
        verify(model, b, pictures / "wide.png", "--box-b", box)
        assert float(capsys.readouterr().out.split()[1]) == said[-1]
    assert said[1] > said[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("0/0.png", "none.png"), "cannot read image {}/none.png: No such file or directory"),
        (("0/0.png", "broken.png"), "cannot read image {}/broken.png: it is damaged or not an image"),
        (("dot.png", "0/0.png"), "{}/dot.png: an object of 1x1 pixels is too small"),
        (("0/0.png", "0/1.png", "--box-a", "1,2,3"), "--box-a must be X,Y,W,H in pixels"),
        (("0/0.png", "0/1.png", "--box-b", "500,2,30,30"), "{}/0/1.png: box x,y,w,h = 500,2,30,30 lies outside"),
        (("0/0.png", "0/1.png", "--box-b", "nan,2,30,30"), "box must be finite"),
        (("0/0.png", "0/1.png", "--threshold", "nan"), "a threshold must be a number"),
        (("0/0.png",), "Missing argument 'B'"),
    ],
)
def test_wrong_input_is_neither_same_nor_different(
    model: str, pictures: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    (pictures / "broken.png").write_bytes(b"broken")
    cv2.imwrite(str(pictures / "dot.png"), np.zeros((1, 1, 3), np.uint8))
    given = [pictures / each if each.endswith(".png") else each for each in arguments]
    assert verify(model, *given) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message.format(pictures) in err and err.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX pipes")
def test_an_answer_that_nobody_reads_is_neither_same_nor_different(model: str, pictures: Path) -> None:
    picture = str(pictures / "0" / "0.png")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "tracker", "verify", picture, picture, "--model", model]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == 2
    assert done.stderr.startswith("siamtrack: error: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("error", [RuntimeError("the graph broke"), MemoryError(), cv2.error("no memory")])
def test_failure_is_neither_same_nor_different(
    model: str, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Verifier, "embed", fail)
    assert verify(model, pictures / "0" / "0.png", pictures / "0" / "1.png") == 2
    assert capsys.readouterr().err.startswith("siamtrack: error: ")


def test_model_that_cannot_compare_is_refused(
    pictures: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert verify("mobilenetv3_online", pictures / "0" / "0.png", pictures / "0" / "1.png") == 2
    assert "no embedding head, so it cannot compare" in capsys.readouterr().err
    bare = str(write_weights(tmp_path / "bare.safetensors", {}))
    assert verify(bare, pictures / "0" / "0.png", pictures / "0" / "1.png") == 2
    assert "no threshold of its own; give one" in capsys.readouterr().err
    assert verify(bare, pictures / "0" / "0.png", pictures / "0" / "1.png", "--threshold", "0.9") == 0


# ---- verify-pairs ----


def listing(pictures: Path) -> Path:
    rows = [f"{a}/{i}.png,{a}/{j}.png,1" for a in range(4) for i in range(3) for j in range(i)]
    rows += [f"{a}/{i}.png,{b}/{j}.png,0" for a in range(4) for b in range(a) for i in range(3) for j in range(3)]
    path = pictures / "pairs.csv"
    path.write_text("\n".join(["a,b,same", *rows]))
    return path


def pairs(model: str, *arguments: str | Path) -> int:
    return main(["verify-pairs", *map(str, arguments), "--model", model, "--runtime", "torch", "--threads", "1"])


def test_pairs_are_measured(model: str, pictures: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert pairs(model, listing(pictures), "--false-accepts", "0.1", "--plot", tmp_path / "roc.png") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "pairs         12 same, 54 different",
        "AUC           1.0000 (1.0000 to 1.0000)",
        "EER           0.0000 (0.0000 to 0.0000)",
    ]  # and no TAR@FAR 1%: of 54 pairs that is none
    assert lines[3] == "threshold     0.9700 of the model: accepts 100.00% of the same, 0.00% of the different"
    assert lines[4].endswith("as asked for: accepts 100.00% of the same, 9.26% of the different")  # 5 of 54
    assert len(lines) == 5
    assert cv2.imread(str(tmp_path / "roc.png")) is not None


def test_true_accepts_are_told_where_there_are_pairs_enough(
    model: str, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = listing(pictures)
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *rows, *rows]))
    assert pairs(model, path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3] == "TAR@FAR 1.0%  1.0000 (1.0000 to 1.0000)"
    assert not any("0.1%" in line for line in lines)


@pytest.mark.parametrize(
    ("different", "rate", "said"),
    [
        ((0.81234, 0.1), 0.0, "0.8124 as asked for: accepts 100.00% of the same, 0.00% of the different"),
        ((1.0, 0.1), 0.0, "1.0001 as asked for: accepts 0.00% of the same, 0.00% of the different"),
        ((0.81234, 0.1), 0.5, "0.1001 as asked for: accepts 100.00% of the same, 50.00% of the different"),
    ],
)
def test_threshold_does_what_is_said_of_it_when_it_is_typed_in(
    different: tuple[float, ...], rate: float, said: str
) -> None:
    listed = [ListedPair(Path("a"), Path("b"), same) for same in (True, False, False)]
    similarities = np.array([0.9, *different])
    *_, line = cli_verify._figures(similarities, listed, None, rate)
    assert line.endswith(said)
    assert (similarities[1:] >= float(line.split()[1])).sum() <= rate * 2


def test_plot_that_cannot_be_written_is_refused_before_pictures_are_read(
    model: str, pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier_module, "read_image", None)
    assert pairs(model, listing(pictures), "--plot", pictures / "nowhere" / "roc.png") == 2
    out, err = capsys.readouterr()
    assert out == "" and "there is no folder" in err


def test_folds_of_lfw_are_judged(model: str, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(4):
        for at in range(3):
            (pictures / str(seed) / f"{at}.png").rename(pictures / str(seed) / f"{seed}_{at:04d}.jpg")
    lines = [f"{seed}\t0\t1\n{seed}\t2\t{(seed + 1) % 4}\t0" for seed in range(4)]
    (pictures.parent / "pairs.txt").write_text("\n".join(["4\t1", *lines]))
    assert pairs(model, pictures.parent / "pairs.txt", "--images", pictures) == 0
    said = capsys.readouterr().out
    assert re.search(r"^accuracy      \d\.\d{4} \(\d\.\d{4} to \d\.\d{4}\) over 4 folds$", said, re.MULTILINE), said


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b,c\n", (), "line 1: the header must be a,b,same"),
        ("a,b,same\n0/0.png,none.png,1\n", (), "line 2: there is no picture"),
        ("a,b,same\n0/0.png,0/1.png,1\n0/0.png,broken.png,0\n", (), "broken.png: it is damaged or not an image"),
        ("a,b,same\n0/0.png,0/1.png,1\n", (), "no pairs that are different"),
        ("a,b,same\n0/0.png,1/1.png,0\n", (), "no pairs that are same"),
        ("a,b,same\n0/0.png,0/1.png,1\n", ("--false-accepts", "2"), "--false-accepts must be in [0, 1], got 2.0"),
    ],
)
def test_wrong_pairs_are_refused(
    model: str,
    pictures: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    options: tuple[str, ...],
    message: str,
) -> None:
    (pictures / "broken.png").write_bytes(b"broken")
    (pictures / "wrong.csv").write_text(text)
    assert pairs(model, pictures / "wrong.csv", *options) == 2
    assert message in capsys.readouterr().err


# ---- index and search ----


def index(model: str, *arguments: str | Path) -> int:
    return main(["index", *map(str, arguments), "--model", model, "--runtime", "torch", "--threads", "1"])


def search(model: str, *arguments: str | Path) -> int:
    return main(["search", *map(str, arguments), "--model", model, "--runtime", "torch", "--threads", "1"])


def test_folder_is_searched_by_example(
    model: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, sheet = tmp_path / "index", tmp_path / "sheet.png"
    assert index(model, pictures, "--out", out) == 0
    said = capsys.readouterr().out
    assert said == f"12 pictures in {out}: 12 embedded, 0 as they were, 0 gone; 0 cannot be used\n"
    cv2.imwrite(str(tmp_path / "asked.png"), np.roll(thing(2), 1, axis=0)[..., ::-1])
    assert search(model, tmp_path / "asked.png", "--index", out, "--top", "4", "--sheet", sheet) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {path for _, verdict, path in lines if verdict == "same"} == {
        str(pictures / f"2/{at}.png") for at in range(3)
    }
    assert lines[3][1] == "different"
    assert [float(line[0]) for line in lines] == sorted((float(line[0]) for line in lines), reverse=True)
    picture = cv2.imread(str(sheet))
    assert picture is not None and picture.shape[1] == 5 * 192


def test_index_is_brought_up_to_date(
    model: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "index"
    assert index(model, pictures, "--out", out) == 0
    shutil.copy(pictures / "0" / "0.png", pictures / "new.png")
    shutil.rmtree(pictures / "3")
    (pictures / "1" / "0.png").write_bytes(b"broken")
    capsys.readouterr()
    assert index(model, pictures, "--out", out) == 0
    said, err = capsys.readouterr()
    assert said == f"9 pictures in {out}: 1 embedded, 8 as they were, 4 gone; 1 cannot be used\n"
    assert err.count("left out: ") == 1 and "1/0.png: it is damaged or not an image" in err
    assert "new.png" in read_index(out).names and "3/0.png" not in read_index(out).names
    assert search(model, pictures / "0" / "0.png", "--index", out, "--box", "0,0,90,90", "--threshold", "0") == 0
    assert capsys.readouterr().out.count("same") == 5


def test_index_that_is_stopped_while_it_is_written_loses_nothing(
    model: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, stops = np.savez, [signal.SIGTERM, signal.SIGINT]

    def write(file: IO[bytes], **arrays: np.ndarray) -> None:
        if stops:
            signal.raise_signal(stops.pop(0))
        plain(file, **arrays)

    monkeypatch.setattr("tracker.picture_index.np.savez", write)
    assert index(model, pictures, "--out", tmp_path / "index") == 130
    assert "stopped early" in capsys.readouterr().err
    assert index(model, pictures, "--out", tmp_path / "index") == 0
    assert " 0 embedded" in capsys.readouterr().out


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_index_that_was_stopped_goes_on(
    model: str,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stop: signal.Signals,
) -> None:
    out = tmp_path / "index"
    plain, read = verifier_module.read_image, []

    def read_some(path: Path) -> np.ndarray:
        if len(read) == 5:
            signal.raise_signal(stop)
        read.append(path)
        return plain(path)

    monkeypatch.setattr(verifier_module, "read_image", read_some)
    assert index(model, pictures, "--out", out) == 130
    assert "stopped early; the same command goes on from here" in capsys.readouterr().err
    assert len(read_index(out).names) == 5
    monkeypatch.setattr(verifier_module, "read_image", plain)
    assert index(model, pictures, "--out", out) == 0
    assert "7 embedded, 5 as they were" in capsys.readouterr().out


def test_index_of_another_model_is_refused(
    model: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "index"
    assert index(model, pictures, "--out", out) == 0
    before = out.read_bytes()
    other = str(write_weights(tmp_path / "other.safetensors", {}, seed=1))
    for status in (index(other, pictures, "--out", out), search(other, pictures / "0" / "0.png", "--index", out)):
        assert status == 2
    assert capsys.readouterr().err.count(f"made with another model, {model}") == 2
    assert out.read_bytes() == before


def test_sheet_is_not_written_over_what_is_read(
    model: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, asked = tmp_path / "index.png", pictures / "0" / "0.png"  # an index may be called so
    assert index(model, pictures, "--out", found) == 0
    (tmp_path / "link.png").symlink_to(asked)
    capsys.readouterr()
    before = asked.read_bytes(), found.read_bytes()
    for sheet in (asked, tmp_path / "link.png", found):
        assert search(model, asked, "--index", found, "--sheet", sheet) == 2
        out, err = capsys.readouterr()
        assert out == "" and f"{sheet} is the source itself" in err
    assert (asked.read_bytes(), found.read_bytes()) == before
    assert search(model, asked, "--index", found, "--sheet", tmp_path / "nowhere" / "sheet.png") == 2
    assert "there is no folder" in capsys.readouterr().err


def test_what_is_no_index_is_not_written_over(
    model: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    assert index(model, pictures, "--out", notes) == 2
    assert search(model, pictures / "0" / "0.png", "--index", notes) == 2
    assert capsys.readouterr().err.count("is no index of pictures") == 2
    assert notes.read_text() == "mine"
    assert index(model, notes, "--out", tmp_path / "index") == 2
    assert index(model, pictures, "--out", tmp_path / "nowhere" / "index") == 2
    err = capsys.readouterr().err
    assert "notes.txt is no folder" in err and "there is no folder" in err
    empty = tmp_path / "empty"
    empty.mkdir()
    assert index(model, empty, "--out", tmp_path / "index") == 0
    assert search(model, pictures / "0" / "0.png", "--index", tmp_path / "index") == 2
    assert "the index holds no pictures" in capsys.readouterr().err


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys; from tracker.cli import main; status = main(['verify', '--help']); "
        "print(status, *({'torch', 'cv2', 'av', 'onnxruntime', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "0", done.stdout + done.stderr
    assert "Exit status: 0 the same, 1 different, 2 wrong use or input." in done.stdout
