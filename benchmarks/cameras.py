"""Show a tracker the same videos through a worse camera: in grey, in a quarter of the light, or with noise."""

import numpy as np

from tracker.data.augment import Camera, taken_by
from tracker.evaluation import TrackerFactory
from tracker.geometry import Box
from tracker.interface import Frame, Prediction, Tracker

CAMERAS = {"grey": Camera(1.0, 0.0, 0.0), "dark": Camera(0.0, 2.0, 0.0), "noisy": Camera(0.0, 0.0, 20.0)}


class BehindCamera:
    """Track in what a camera shows of each frame; its noise is the same in each run."""

    def __init__(self, tracker: Tracker, camera: Camera) -> None:
        self._tracker = tracker
        self._camera = camera
        self._rng = np.random.default_rng(0)

    def init(self, frame: Frame, box: Box) -> None:
        """Learn the object, see `Tracker`."""
        self._rng = np.random.default_rng(0)
        self._tracker.init(taken_by(frame, self._rng, self._camera), box)

    def update(self, frame: Frame) -> Prediction:
        """Find the object, see `Tracker`; what the camera takes counts as time of the tracker."""
        return self._tracker.update(taken_by(frame, self._rng, self._camera))


def make_behind(factory: TrackerFactory, name: str) -> Tracker:
    """Return a tracker that sees through the camera of that name."""
    return BehindCamera(factory(), CAMERAS[name])
