from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from tracker import loop
from tracker.geometry import Box
from tracker.interface import Frame, Prediction
from tracker.loop import Latency, LatencyMeter, track, track_many

BOX = Box(5.0, 6.0, 4.0, 2.0)


def numbered_frames(count: int) -> Iterator[Frame]:
    return (np.full((8, 8, 3), index, np.uint8) for index in range(count))


class NumberTracker:
    """Answer with a box at (initial x + frame number) and a score that tells the calls so far."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.box = BOX

    def init(self, frame: Frame, box: Box) -> None:
        self.calls.append(f"init {frame[0, 0, 0]}")
        self.box = box

    def update(self, frame: Frame) -> Prediction:
        number = int(frame[0, 0, 0])
        self.calls.append(f"update {number}")
        return Prediction(Box(self.box.cx + number, self.box.cy, self.box.w, self.box.h), 0.5, number == 2)


def update_each(trackers: Sequence[NumberTracker], frame: Frame) -> list[Prediction]:
    return [tracker.update(frame) for tracker in trackers]


def test_first_item_is_the_given_box_then_one_update_a_frame() -> None:
    tracker = NumberTracker()
    items = list(track(tracker, numbered_frames(4), BOX))
    assert tracker.calls == ["init 0", "update 1", "update 2", "update 3"]
    assert [int(frame[0, 0, 0]) for frame, _ in items] == [0, 1, 2, 3]
    assert items[0][1] == Prediction(BOX, 1.0, False)
    assert [prediction.box.cx for _, prediction in items] == [5.0, 6.0, 7.0, 8.0]
    assert [prediction.lost for _, prediction in items] == [False, False, True, False]


def test_a_list_of_frames_is_not_begun_again() -> None:
    tracker = NumberTracker()
    assert len(list(track(tracker, list(numbered_frames(3)), BOX))) == 3
    assert tracker.calls == ["init 0", "update 1", "update 2"]


def test_frames_are_taken_one_at_a_time() -> None:
    taken: list[int] = []

    def watched() -> Iterator[Frame]:
        for index, frame in enumerate(numbered_frames(5)):
            taken.append(index)
            yield frame

    items = track(NumberTracker(), watched(), BOX)
    assert taken == []
    next(items)
    next(items)
    assert taken == [0, 1]


def test_no_frames_give_nothing() -> None:
    assert list(track(NumberTracker(), [], BOX)) == []


def test_many_targets_come_in_the_order_of_their_boxes() -> None:
    boxes = [BOX, Box(50.0, 6.0, 4.0, 2.0)]
    items = list(track_many([NumberTracker(), NumberTracker()], numbered_frames(3), boxes, update_each))
    assert [[p.box.cx for p in predictions] for _, predictions in items] == [[5.0, 50.0], [6.0, 51.0], [7.0, 52.0]]


def test_one_box_a_tracker() -> None:
    with pytest.raises(ValueError, match="got 1 trackers and 2 boxes"):
        list(track_many([NumberTracker()], numbered_frames(2), [BOX, BOX], update_each))


def test_the_clock_times_updates_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now)

    def spend(seconds: float) -> None:
        nonlocal now
        now += seconds

    class SlowTracker(NumberTracker):
        def init(self, frame: Frame, box: Box) -> None:
            spend(100)

        def update(self, frame: Frame) -> Prediction:
            number = int(frame[0, 0, 0])
            spend(50 if number == 1 else 0.010 if number < 20 else 0.040)  # the first one warms up
            return super().update(frame)

    def slow_frames() -> Iterator[Frame]:
        for frame in numbered_frames(22):
            spend(7)
            yield frame

    meter = LatencyMeter()
    for _ in track(SlowTracker(), slow_frames(), BOX, meter):
        spend(3)  # drawing and writing
    latency = meter.latency()
    assert latency is not None
    # 18 updates of 10 ms, 2 of 40 ms: the 95th percentile of 20 sorted values lies at place 18.05, counted from 0.
    assert latency.median_ms == pytest.approx(10, rel=1e-6)
    assert latency.p95_ms == pytest.approx(40, rel=1e-6)
    assert latency.fps == pytest.approx(20 / (18 * 0.010 + 2 * 0.040), rel=1e-6)


def test_meter_has_no_figures_before_the_second_update() -> None:
    meter = LatencyMeter()
    assert meter.latency() is None
    meter.add(9.0)
    assert meter.latency() is None
    meter.add(0.02)
    assert meter.latency() == Latency(pytest.approx(20.0), pytest.approx(20.0), pytest.approx(50.0))


def test_meter_keeps_the_latest_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_KEPT_UPDATES", 10)
    meter = LatencyMeter()
    for seconds in [1.0] * 50 + [0.001] * 10:
        meter.add(seconds)
    latency = meter.latency()
    assert latency is not None
    assert latency.p95_ms == pytest.approx(1.0)
