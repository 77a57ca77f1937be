"""Other people's trackers behind our Tracker protocol, to race against: those of OpenCV.

They are compared with, never shipped. TrackerNano needs the two ONNX files of NanoTrack v2; CSRT and KCF need the
contrib build of OpenCV.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from tracker.geometry import Box, check_initial_box
from tracker.interface import Frame, Prediction, Tracker

PEERS = ("nano", "mil", "csrt", "kcf")
_NANO_FILES = ("nanotrack_backbone_sim.onnx", "nanotrack_head_sim.onnx")


def make_peer(name: str, files: Path | None = None) -> Tracker:
    """Return a tracker of OpenCV by its name in PEERS; `files` is the folder of TrackerNano's networks.

    Raises ValueError for an unknown name, missing files, or a tracker that this build of OpenCV lacks.
    """
    if name not in PEERS:
        raise ValueError(f"unknown peer {name!r}; there are {', '.join(PEERS)}")
    if name == "nano":
        return OpenCVTracker(_nano(files))
    kind = getattr(cv2, f"Tracker{name.upper()}", None)
    if kind is None:
        raise ValueError(f"this OpenCV {cv2.__version__} has no {name.upper()} tracker; install opencv-contrib-python")
    return OpenCVTracker(kind.create)


class OpenCVTracker:
    """Follow one object with a tracker of OpenCV, made anew by `create` at each `init`.

    OpenCV's interface takes and gives whole pixels. The score is getTrackingScore; a tracker without one says -1, and
    the score is then whether it reports success.
    """

    def __init__(self, create: Callable[[], Any]) -> None:
        """Keep what makes OpenCV's tracker."""
        self._create = create
        self._tracker: Any = None
        self._box: Box | None = None

    def init(self, frame: Frame, box: Box) -> None:
        """Learn the object; the box is rounded to whole pixels, at least 1 wide and high."""
        check_initial_box(box, (frame.shape[0], frame.shape[1]))
        x, y, w, h = (round(value) for value in box.to_xywh())
        self._tracker = self._create()
        self._tracker.init(_bgr(frame), (x, y, max(w, 1), max(h, 1)))
        self._box = box

    def update(self, frame: Frame) -> Prediction:
        """Find the object; where OpenCV reports a failure the last box stays and `lost` is true."""
        if self._box is None:
            raise RuntimeError("update before init")
        found, rectangle = self._tracker.update(_bgr(frame))
        if found:
            self._box = Box.from_xywh(*(float(value) for value in rectangle))
        score = float(self._tracker.getTrackingScore())
        return Prediction(self._box, score if score >= 0 else float(found), not found)


def _nano(files: Path | None) -> Callable[[], Any]:
    if files is None or not all((files / name).is_file() for name in _NANO_FILES):
        raise ValueError(f"the nano tracker needs a folder with {' and '.join(_NANO_FILES)}, got {files}")
    params = cv2.TrackerNano_Params()
    params.backbone, params.neckhead = (str(files / name) for name in _NANO_FILES)
    return partial(cv2.TrackerNano.create, params)


def _bgr(frame: Frame) -> Frame:
    return cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
