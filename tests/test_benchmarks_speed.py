from pathlib import Path

import numpy as np
import pytest

from benchmarks import speed
from tests.videos import moving
from tracker.evaluation import TrackerFactory
from tracker.geometry import Box
from tracker.interface import Frame, Prediction


class Still:
    """Keep the first box."""

    def init(self, _frame: Frame, box: Box) -> None:
        self.box = box

    def update(self, _frame: Frame) -> Prediction:
        return Prediction(self.box, 1.0, False)


def entered() -> list[speed.Racer]:
    factory: TrackerFactory = Still
    return [speed.Racer("ours, onnx", factory(), 0.7), speed.Racer(speed.NANO, factory(), 0.669)]


def test_all_take_turns_and_the_first_round_is_not_counted() -> None:
    frames, boxes = zip(*moving(2 * speed.STRETCH + 2, (0.0, 0.0)), strict=True)
    racers = entered()
    speed.race(racers, frames, boxes, rounds=3)
    for racer in racers:
        assert len(racer.times_s) == 3 * speed.STRETCH
        assert len(racer.inits_s) == 3
        assert np.mean(racer.overlaps) == pytest.approx(1)


class Noting:
    """Say what the first pixel of each frame says: its number."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def init(self, frame: Frame, box: Box) -> None:
        self.seen = []

    def update(self, frame: Frame) -> Prediction:
        self.seen.append(int(frame[0, 0, 0]))
        return Prediction(Box(10.0 + self.seen[-1], 10.0, 4.0, 4.0), 1.0, False)


def test_a_short_clip_is_followed_there_and_back() -> None:
    frames = [np.full((8, 8, 3), number, np.uint8) for number in range(16)]
    boxes = [Box(10.0 + number, 10.0, 4.0, 4.0) for number in range(16)]
    noting = Noting()
    racer = speed.Racer("ours", noting, None)
    speed.race([racer], frames, boxes, rounds=1)
    assert noting.seen == [*range(1, 16), *range(14, 0, -1), *range(1, 12)]
    assert racer.overlaps == [1.0] * speed.STRETCH


def test_table_counts_in_times_of_nano_and_starts_with_the_fastest() -> None:
    slow, nano = entered()
    for racer, seconds in ((slow, 0.008), (nano, 0.004)):
        racer.times_s, racer.inits_s, racer.overlaps = [*[seconds] * 4, seconds + 0.01], [0.01], [0.9]
    lines = list(speed.table([slow, nano]))
    assert lines[2].startswith("| OpenCV nano | 4.00 | 6.00 | 12.00 | 1.00 | 10.0 | 0.669 | 0.90 |")
    assert lines[3].startswith("| ours, onnx | 8.00 | 10.00 | 16.00 | 2.00 | 10.0 | 0.700 |")


def test_picture_is_drawn(tmp_path: Path) -> None:
    racers = entered()
    for racer in racers:
        racer.times_s = [0.004]
    speed.draw(racers, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 1000


def test_what_is_not_there_is_told() -> None:
    found, missing = speed.racers(None)
    names = [racer.name for racer in found]
    assert "siamrpn_resnet18, onnx" in names and "OpenCV mil" in names
    assert any(line.startswith("OpenCV nano: the nano tracker needs a folder") for line in missing)
