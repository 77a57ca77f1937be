"""A localiser that finds what a test says, and a network that only counts what it is shown."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tracker.crop import Fill
from tracker.decode import BoxUVWH, Candidate
from tracker.geometry import Box, CropGeometry
from tracker.interface import Frame
from tracker.runtime import Code, Seen


class Blind:
    """See nothing, but note how many crops each batch has, and of which size."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.sizes: list[int] = []

    def see(self, crops: Sequence[Frame], codes: Sequence[Code]) -> Seen:
        """Return maps without content, one a crop."""
        self.batches.append(len(crops))
        self.sizes.append(len(crops[0]))
        return Seen(np.zeros((len(crops), 1, 1, 1), np.float32))


@dataclass
class Scripted:
    """Find what a script says: how far the object moved, and the score, of each look in turn; models are scores."""

    looks: list[tuple[float, float]]
    down: float = 0.0  # of each move, beside the way across
    frame_per_crop: float = 1.0
    runtime: Any = field(default_factory=Blind)
    around: list[Box] = field(default_factory=list)
    last: list[tuple[float, float]] = field(default_factory=list)  # where it was in each crop before, from the middle

    def learn(self, frame: Frame, box: Box, fill: Fill) -> tuple[float, ...]:
        """Return a model that has learned nothing."""
        return ()

    def regions(self, box: Box) -> list[CropGeometry]:
        """Return one square of 100 crop pixels, and note around what."""
        self.around.append(box)
        return [CropGeometry(box.cx, box.cy, 100.0 * self.frame_per_crop, 100)]

    def code(self, model: tuple[float, ...]) -> None:
        """Return none: there is no head."""

    def locate(self, model: tuple[float, ...], seen: Seen, last: BoxUVWH) -> tuple[Candidate, int, tuple[float, ...]]:
        """Return the next candidate of the script, and a model that has learned its score."""
        self.last.append(last[:2])
        shift, score = self.looks.pop(0)
        return Candidate(last[0] + shift, last[1] + self.down * shift, *last[2:], score), 0, (*model, score)
