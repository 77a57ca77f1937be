"""Show a tracker the same videos through a worse camera: in grey, dark, noisy, or with a third of the pixels."""

import numpy as np

from tracker.data.augment import Camera, taken_by
from tracker.evaluation import TrackerFactory
from tracker.geometry import Box
from tracker.interface import Frame, Prediction, Tracker

CAMERAS = {
    "grey": Camera(grey=1.0),
    "dark": Camera(dark=2.0),
    "noisy": Camera(noise=20.0),
    "coarse": Camera(coarse=1.5),  # of 640x480, what 226x170 show
}


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
