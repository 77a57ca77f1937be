import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import digits, sequences
from benchmarks.sequences import judge, mean_and_spread, parse_series, read_series, splits

HEADER = "# of a test\n@problemName P\n@classLabel true 1 2\n@data\n"


def test_a_series_file_is_read_channel_by_channel() -> None:
    found = parse_series(HEADER + "1,2,3:4,5,6:b\n\n7,8:9,10:a\n")
    assert [label for _, label in found] == ["b", "a"]
    assert found[0][0].tolist() == [[1, 4], [2, 5], [3, 6]]
    assert found[1][0].tolist() == [[7, 9], [8, 10]]


def test_both_parts_of_a_set_are_read_and_a_missing_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sets.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data/P/P_TEST.ts", HEADER + "2,2:1\n")
        archive.writestr("data/P/P_TRAIN.ts", HEADER + "1,1:1\n")
        archive.writestr("data/Q/Q_TRAIN.ts", HEADER + "1,1:1\n")
    train, test = read_series(path, "P")
    assert (train[0][0][0, 0], test[0][0][0, 0]) == (1, 2)
    with pytest.raises(ValueError, match="holds no Q_TEST.ts"):
        read_series(path, "Q")


def test_a_third_of_the_classes_is_left_out_at_a_time() -> None:
    train = [(np.zeros((2, 1), np.float32), label) for label in "abcdef"]
    test = [(np.ones((2, 1), np.float32), label) for label in "abcdef"]
    found = list(splits(train, test))
    assert [name for name, *_ in found] == ["known", "third1", "third2", "third3"]
    assert found[0][1:] == (train, test)
    for (_, known, held), left_out in zip(found[1:], ("ad", "be", "cf"), strict=True):
        assert {label for _, label in held} == set(left_out)
        assert {label for _, label in known} == set("abcdef") - set(left_out)
        assert len(known) == 8 and len(held) == 4


def test_pairs_are_judged_by_their_distance() -> None:
    vectors = np.array([[0.0, 0.0], [0.0, 0.1], [5.0, 0.0], [5.0, 0.2]])
    assert judge(vectors, np.array([0, 0, 1, 1])) == (1.0, 0.0)
    assert judge(vectors, np.array([0, 1, 0, 1])).auc < 0.5


def test_mean_and_spread_are_standardised() -> None:
    facts = mean_and_spread([np.array([[0.0], [2.0]], np.float32), np.array([[3.0], [3.0], [3.0]], np.float32)])
    assert facts.tolist() == [[-1, 1], [1, -1]]


@pytest.fixture
def tracks(tmp_path: Path) -> Path:
    """Return a folder of 40 plain objects, each of a colour of its own, over 16 frames of a video of its own."""
    root = tmp_path / "tracks"
    root.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(40):
        colour = rng.integers(0, 256, 3)
        frames = []
        for at in range(16):
            image = np.full((20, 24, 3), colour, np.uint8)
            cv2.imwrite(str(root / f"{number}-{at}.png"), image)
            frames.append({"image": f"{number}-{at}.png", "box": [4, 4, 10, 8]})
        rows.append({"video": str(number), "track": "0", "class": "thing", "frames": frames})
    (root / "tracks.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return root


def test_the_report_has_a_row_for_each_encoder(tracks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "sets.zip", "w") as archive:
        for part in ("TRAIN", "TEST"):
            lines = [
                ",".join(f"{label + value:.2f}" for value in rng.random(4)) + f":{label}"
                for label in range(6)
                for _ in range(3)
            ]
            archive.writestr(f"P/P_{part}.ts", HEADER + "\n".join(lines))
    monkeypatch.setattr(sequences, "_SETS", ("P",))
    monkeypatch.setattr(sequences, "_BATCH", (4, 2))
    out = tmp_path / "report.md"
    arguments = ["--series", str(tmp_path / "sets.zip"), "--tracks", str(tracks), "--steps", "30", "--clip-steps", "30"]
    assert sequences.main([*arguments, "--out", str(out)]) == 0
    rows = [line.split(" | ") for line in out.read_text().splitlines() if line.startswith(("| P", "| tracks"))]
    names = [(row[0].strip("| "), row[1]) for row in rows]
    learned = [("P", encoder) for encoder in ("lstm", "time_delay") for _ in range(2)]
    shown = [("tracks", "one picture"), ("tracks", "mean of eight"), ("tracks", "clip")]
    assert names == [("P", "mean and spread"), *learned, *shown]
    assert all(float(row[3]) > 0.9 for row in rows[1:5])  # steps of 0 to 1 around levels 1 apart
    assert float(rows[6][5]) > 0.9  # colours


def test_a_character_becomes_cells_as_digits_are() -> None:
    drawn = np.zeros((105, 105), np.uint8)
    drawn[20:80, 50:52] = 255  # a thin upright stroke
    cells = digits.as_digit(drawn, stroke=4.0)
    assert cells.shape == (8, 8) and 150 < cells.max() <= 240
    assert (cells.sum(0) > 0).sum() <= 2 and (cells.sum(1) > 0).all()  # it fills the height, a cell or two wide
    assert not digits.as_digit(np.zeros((105, 105), np.uint8), 4.0).any()
