"""What every tracker of this package is: `init` on one frame, `update` on each later one."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tracker.geometry import Box

Frame = NDArray[np.uint8]  # (H, W, 3), RGB


@dataclass(frozen=True, slots=True)
class Prediction:
    """Say where the object is: its box in frame pixels, a score in [0, 1] and whether the tracker is lost."""

    box: Box
    score: float
    lost: bool


class Tracker(Protocol):
    """Follow one object through frames of RGB uint8 of shape (H, W, 3)."""

    def init(self, frame: Frame, box: Box) -> None:
        """Learn the object that `box` marks in `frame`; starts afresh however often it is called.

        Raises ValueError for a frame or box that cannot be tracked.
        """

    def update(self, frame: Frame) -> Prediction:
        """Find the object in the next frame. Raises RuntimeError before `init`."""
