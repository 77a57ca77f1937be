import json
import sys
from pathlib import Path

import pytest

from tracker.box_files import BoxWriter
from tracker.geometry import Box
from tracker.interface import Prediction

FIRST = Prediction(Box.from_xywh(10, 20, 30, 40), 1.0, False)
SECOND = Prediction(Box.from_xywh(-1.234, 0.006, 30.126, 40), 0.123456, True)


def test_csv_has_the_documented_columns(tmp_path: Path) -> None:
    with BoxWriter(tmp_path / "boxes.csv") as writer:
        writer.write(7, 0.28, [FIRST, SECOND])
        writer.write(8, 0.32001, [SECOND])
    assert (tmp_path / "boxes.csv").read_bytes().decode() == (
        "frame,time,target,x,y,w,h,score,lost\n"
        "7,0.2800,0,10.00,20.00,30.00,40.00,1.0000,0\n"
        "7,0.2800,1,-1.23,0.01,30.13,40.00,0.1235,1\n"
        "8,0.3200,0,-1.23,0.01,30.13,40.00,0.1235,1\n"
    )


def test_json_lines_have_the_documented_columns(tmp_path: Path) -> None:
    with BoxWriter(tmp_path / "boxes.JSONL") as writer:
        writer.write(7, 0.28, [FIRST, SECOND])
    rows = [json.loads(line) for line in (tmp_path / "boxes.JSONL").read_text().splitlines()]
    keys = ["frame", "time", "target", "x", "y", "w", "h", "score", "lost"]
    assert [list(row) for row in rows] == [keys, keys]
    assert list(rows[0].values()) == [7, 0.28, 0, 10.0, 20.0, 30.0, 40.0, 1.0, False]
    assert list(rows[1].values()) == [7, 0.28, 1, -1.23, 0.01, 30.13, 40.0, 0.1235, True]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_each_frame_is_readable_at_once(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"boxes{suffix}"
    header = 1 if suffix == ".csv" else 0
    with BoxWriter(path) as writer:
        for frame in range(3):
            writer.write(frame, frame / 30, [FIRST, SECOND])
            assert len(path.read_text().splitlines()) == header + 2 * (frame + 1)


@pytest.mark.parametrize("name", ["boxes.txt", "boxes", "csv"])
def test_unknown_extension_says_what_to_use(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}: the name must end in \.csv or \.jsonl"):
        BoxWriter(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_path_that_cannot_be_written_is_named_on_one_line(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot write .*boxes\.csv: No such file or directory$"):
        BoxWriter(tmp_path / "missing" / "boxes.csv")


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_full_disk_is_named_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "boxes.jsonl"
    path.symlink_to("/dev/full")
    writer = BoxWriter(path)
    with pytest.raises(OSError, match=r"cannot write .*boxes\.jsonl: No space left on device$"):
        writer.write(0, 0.0, [FIRST])
    writer.close()


def test_full_disk_leaves_whole_rows(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "boxes.csv"
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*boxes\.csv: File too large$"), BoxWriter(path) as writer:
            for frame in range(100):
                writer.write(frame, frame / 30, [FIRST, SECOND])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    text = path.read_text()
    assert 900 < len(text) <= 1000 and text.endswith("\n")
    assert text.count("\n") % 2 == 1  # the header, and both targets of each frame


@pytest.mark.parametrize("content", ["", "precious\n"])
def test_what_was_there_stays_until_the_first_frame(tmp_path: Path, content: str) -> None:
    path = tmp_path / "boxes.csv"
    if content:
        path.write_text(content)
    with BoxWriter(path):
        pass
    assert path.exists() == bool(content) and (not content or path.read_text() == content)
    with BoxWriter(path) as writer:
        writer.write(0, 0.0, [FIRST])
    assert path.read_text().startswith("frame,time") and "precious" not in path.read_text()
