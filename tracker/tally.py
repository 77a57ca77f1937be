"""Count what was tracked: frames, their pace, and when each target was lost."""

import time
from collections.abc import Sequence

from tracker.interface import Prediction


class Tally:
    """Add up the frames of one run."""

    def __init__(self, targets: int) -> None:
        """Start without frames."""
        self.frames = 0
        self.lost = [0] * targets  # frames
        self.spans: list[list[tuple[int, int]]] = [[] for _ in range(targets)]  # first and last lost frame
        self.all_lost = False  # in the last frame
        self._began = time.perf_counter()

    def add(self, number: int, predictions: Sequence[Prediction]) -> None:
        """Count a frame, which is number `number` of its source."""
        self.frames += 1
        self.all_lost = all(prediction.lost for prediction in predictions)
        for target, prediction in enumerate(predictions):
            if not prediction.lost:
                continue
            self.lost[target] += 1
            spans = self.spans[target]
            if spans and spans[-1][1] == number - 1:
                spans[-1] = (spans[-1][0], number)
            else:
                spans.append((number, number))

    def frames_a_second(self) -> float:
        """Return the rate of the whole run: reading, tracking, drawing and writing."""
        return self.frames / max(time.perf_counter() - self._began, 1e-9)

    def told(self, target: int, longest: int = 6) -> str:
        """Return how many frames a target was lost in and which: the first `longest` spans."""
        spans = self.spans[target]
        if not spans:
            return "no frame"
        listed = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans[:longest])
        count = self.lost[target]
        more = f" and {len(spans) - longest} spans more" if len(spans) > longest else ""
        return f"{count} frame{'s' if count > 1 else ''}: {listed}{more}"
