from pathlib import Path

import pytest

from benchmarks import batch
from tests.batches import recipe


def test_all_copies_are_tracked(tmp_path: Path) -> None:
    jobs = batch.copies(tmp_path, 3, end=4)
    found = batch.measure(recipe(tmp_path / "out"), jobs, workers=2)
    assert found.frames == 12 and found.start_s > 0 and found.seconds > 0
    assert {path.name for path in (tmp_path / "out").glob("?.csv")} == {"0.csv", "1.csv", "2.csv"}


def test_a_failure_ends_the_measurement(tmp_path: Path) -> None:
    jobs = batch.copies(tmp_path, 1)
    Path(jobs[0].video).unlink()
    with pytest.raises(ValueError, match="0: no such file or folder"):
        batch.measure(recipe(tmp_path / "out"), jobs, workers=1)


def test_report_has_a_row_a_number_of_workers() -> None:
    lines = list(batch.report("mobilenetv3_online", "onnx", [1, 2], 2, 5))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    assert [row[0] for row in rows] == ["workers", "1", "2"]
    assert rows[1][3] == "1.00"
    assert all(float(cell) > 0 for row in rows[1:] for cell in row)


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(SystemExit):
        batch.main(["--workers", "0"])
