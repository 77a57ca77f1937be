"""Siamese visual object tracking: follow one thing through a video, or tell whether two pictures show the same.

    from tracker import Box, load_tracker, open_frames, track

    tracker = load_tracker()
    for frame, prediction in track(tracker, open_frames("video.mp4"), Box.from_xywh(120, 80, 64, 96)):
        print(prediction.box.to_xywh(), prediction.score, prediction.lost)

Frames are RGB uint8 (H, W, 3); boxes are pixels of the frame, 0-based.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracker.builder import load_tracker as load_tracker
    from tracker.frames import open_frames as open_frames
    from tracker.frames import read_image as read_image
    from tracker.geometry import Box as Box
    from tracker.interface import Prediction as Prediction
    from tracker.loop import track as track
    from tracker.verifier import load_verifier as load_verifier

__version__ = "0.1.0"
__all__ = ["Box", "Prediction", "load_tracker", "load_verifier", "open_frames", "read_image", "track"]

_HOMES = {
    "Box": "tracker.geometry",
    "Prediction": "tracker.interface",
    "load_tracker": "tracker.builder",
    "load_verifier": "tracker.verifier",
    "open_frames": "tracker.frames",
    "read_image": "tracker.frames",
    "track": "tracker.loop",
}


def __getattr__(name: str) -> object:  # PEP 562: what a name needs is imported when it is asked for
    if name not in _HOMES:
        raise AttributeError(f"module 'tracker' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
