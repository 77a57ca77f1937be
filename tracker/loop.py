"""The tracking loop: frames in, (frame, prediction) out, and the meter that times the updates."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from tracker.geometry import Box
from tracker.interface import Frame, Prediction, Tracker

AnyTracker = TypeVar("AnyTracker", bound=Tracker)

_KEPT_UPDATES = 100_000  # an hour of video; bounds the memory of a camera that runs for weeks


@dataclass(frozen=True, slots=True)
class Latency:
    """Sum up how long updates took: median and 95th percentile, and updates a second (their number by their time)."""

    median_ms: float
    p95_ms: float
    fps: float


class LatencyMeter:
    """Collect the time of each update; the first one warms up caches and is left out. Keeps the last 100,000."""

    def __init__(self) -> None:
        """Start without figures."""
        self._seconds: deque[float] = deque(maxlen=_KEPT_UPDATES)
        self._warm = False

    def add(self, seconds: float) -> None:
        """Take in the time of one update, in seconds."""
        if self._warm:
            self._seconds.append(seconds)
        self._warm = True

    def latency(self) -> Latency | None:
        """Return the figures so far, or None before the second update."""
        if not self._seconds:
            return None
        median, p95 = np.percentile(self._seconds, [50, 95])
        total = sum(self._seconds)
        return Latency(float(median) * 1e3, float(p95) * 1e3, len(self._seconds) / max(total, 1e-9))


def track(
    tracker: Tracker, frames: Iterable[Frame], box: Box, meter: LatencyMeter | None = None
) -> Iterator[tuple[Frame, Prediction]]:
    """Follow the object that `box` marks in the first frame; yield each frame with its prediction.

    The first item is the first frame with the given box, score 1 and not lost. Raises ValueError for a box that does
    not lie in the first frame.
    """
    for frame, predictions in track_many([tracker], frames, [box], _update_each, meter):
        yield frame, predictions[0]


def _update_each(trackers: Sequence[Tracker], frame: Frame) -> list[Prediction]:
    return [tracker.update(frame) for tracker in trackers]


def track_many(
    trackers: Sequence[AnyTracker],
    frames: Iterable[Frame],
    boxes: Sequence[Box],
    update_many: Callable[[Sequence[AnyTracker], Frame], list[Prediction]],
    meter: LatencyMeter | None = None,
) -> Iterator[tuple[Frame, list[Prediction]]]:
    """Follow one object with each tracker; yield each frame with the predictions, in the order of the boxes.

    `update_many` updates all trackers on a frame, such as `siamese_tracker.update_many` in one forward pass. The meter
    times that call alone: no reading, drawing or writing, and not `init`.
    """
    if len(trackers) != len(boxes):
        raise ValueError(f"give one box a tracker, got {len(trackers)} trackers and {len(boxes)} boxes")
    remaining = iter(frames)
    for frame in remaining:
        for tracker, box in zip(trackers, boxes, strict=True):
            tracker.init(frame, box)
        yield frame, [Prediction(box, 1.0, False) for box in boxes]
        break
    for frame in remaining:
        begin = time.perf_counter()
        predictions = update_many(trackers, frame)
        if meter is not None:
            meter.add(time.perf_counter() - begin)
        yield frame, predictions
