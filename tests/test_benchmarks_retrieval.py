from pathlib import Path

import numpy as np
import pytest

from benchmarks import retrieval
from benchmarks.retrieval import drawn_vectors, main, questions_about


def test_questions_are_vectors_of_the_index_disturbed() -> None:
    vectors = drawn_vectors(500, seed=0)
    asked = questions_about(vectors)
    assert vectors.shape == (500, 128) and vectors.dtype == asked.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    best = np.sort(asked @ vectors.T, axis=1)
    assert (best[:, -1] > 0.9).all() and (best[:, -2] < best[:, -1] - 0.05).all()


def test_report_has_a_row_a_size_and_says_where_faiss_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "find_spec", lambda name: None)
    out = tmp_path / "r.md"
    assert main(["--sizes", "50", "2000", "--out", str(out)]) == 0
    rows = [line.split(" | ") for line in out.read_text(encoding="utf-8").splitlines()[-2:]]
    assert [row[0] for row in rows] == ["| 50", "| 2,000"]
    assert all(row[-3:] == ["-", "-", "- |"] for row in rows)
    assert all(float(row[3]) > 0 for row in rows)
    with pytest.raises(SystemExit):
        main(["--sizes", "5"])
