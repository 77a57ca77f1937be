import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from tracker.pipeline import ReadAhead, WriteBehind


class FakeFrames:
    """Give pictures of their own number; a gate holds back those from `gate_at` on."""

    def __init__(self, count: int, live: bool = False, fail_at: int | None = None) -> None:
        self.live = live
        self.index = -1
        self.time = 0.0
        self.count = count
        self.fail_at = fail_at
        self.given = 0
        self.gates: dict[int, threading.Event] = {}

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        number = self.index + 1
        if number in self.gates:
            assert self.gates[number].wait(5)
        if number == self.fail_at:
            raise OSError("the stream broke off")
        if number == self.count:
            raise StopIteration
        self.index, self.time, self.given = number, number / 10, number + 1
        return np.full((2, 2, 3), number, np.uint8)


def wait_until(true: object) -> None:
    end = time.monotonic() + 5
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.001)


def test_all_frames_of_a_file_come_in_order_with_their_times() -> None:
    found = []
    with ReadAhead(FakeFrames(20)) as reader:  # type: ignore[arg-type]
        for image in reader:
            found.append((int(image[0, 0, 0]), reader.index, reader.time))
            time.sleep(0.001)
    assert found == [(i, i, i / 10) for i in range(20)]
    assert reader.dropped == 0


def test_it_reads_ahead_but_not_far() -> None:
    frames = FakeFrames(100)
    with ReadAhead(frames) as reader:  # type: ignore[arg-type]
        next(reader)
        wait_until(lambda: frames.given >= 5)
        time.sleep(0.02)
        assert frames.given <= 6  # the one given, four that wait and one in hand
        assert reader.index == 0  # whatever was read since
    before = frames.given
    time.sleep(0.02)
    assert frames.given == before  # nothing is read on after the end


def test_of_a_live_source_the_newest_frame_is_given() -> None:
    frames = FakeFrames(10, live=True)
    frames.gates = {1: threading.Event(), 7: threading.Event()}
    with ReadAhead(frames) as reader:  # type: ignore[arg-type]
        assert int(next(reader)[0, 0, 0]) == 0
        frames.gates[1].set()
        wait_until(lambda: frames.given == 7)  # 1 to 6 came while frame 0 was tracked
        wait_until(lambda: reader.dropped == 5)
        assert int(next(reader)[0, 0, 0]) == 6
        assert (reader.index, reader.time) == (6, 0.6)
        frames.gates[7].set()
        rest = [int(image[0, 0, 0]) for image in reader]
    assert rest[-1] == 9
    assert reader.dropped == 5 + 3 - len(rest)


def test_what_reading_raises_comes_after_the_frames_before_it() -> None:
    with ReadAhead(FakeFrames(9, fail_at=3)) as reader:  # type: ignore[arg-type]
        assert [int(next(reader)[0, 0, 0]) for _ in range(3)] == [0, 1, 2]
        for _ in range(2):
            with pytest.raises(OSError, match="broke off"):
                next(reader)


def test_it_goes_on_where_the_source_stands() -> None:
    frames = FakeFrames(5)
    next(frames)
    with ReadAhead(frames) as reader:  # type: ignore[arg-type]
        assert (reader.index, reader.time) == (0, 0.0)
        assert [int(image[0, 0, 0]) for image in reader] == [1, 2, 3, 4]


def test_without_a_frame_asked_for_no_thread_starts() -> None:
    before = threading.active_count()
    with ReadAhead(FakeFrames(5)):  # type: ignore[arg-type]
        assert threading.active_count() == before


def test_jobs_are_done_in_order_and_all_before_the_end() -> None:
    done: list[int] = []
    with WriteBehind() as jobs:
        for number in range(30):
            jobs.submit(lambda number=number: (time.sleep(0.001), done.append(number))[1])
    assert done == list(range(30))


def test_who_hands_in_jobs_waits_for_no_single_one_but_for_many() -> None:
    gate = threading.Event()
    with WriteBehind() as jobs:
        for _ in range(8):
            jobs.submit(gate.wait)
        threading.Timer(0.05, gate.set).start()
        began = time.monotonic()
        jobs.submit(gate.wait)  # the ninth waits for the first
        assert time.monotonic() - began > 0.02


def fail() -> None:
    raise OSError("the disk is full")


def test_failure_comes_back_at_the_next_job_or_at_the_end() -> None:
    with pytest.raises(OSError, match="disk is full"), WriteBehind() as jobs:
        jobs.submit(fail)
    with WriteBehind() as jobs:
        jobs.submit(fail)
        with pytest.raises(OSError, match="disk is full"):
            for _ in range(1000):
                jobs.submit(lambda: time.sleep(0.001))
