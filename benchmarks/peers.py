"""Other people's trackers behind our Tracker protocol, to race against: those of OpenCV.

They are compared with, never shipped. TrackerNano needs the two ONNX files of NanoTrack v2, TrackerVit the one of
VitTrack; CSRT, KCF and MOSSE need the contrib build of OpenCV.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from tracker.geometry import Box, check_initial_box
from tracker.interface import Frame, Prediction, Tracker

PEERS = ("nano", "vit", "mil", "csrt", "kcf", "mosse")
_FILES = {
    "nano": ("nanotrack_backbone_sim.onnx", "nanotrack_head_sim.onnx"),
    "vit": ("object_tracking_vittrack_2023sep.onnx",),
}


def make_peer(name: str, files: Path | None = None) -> Tracker:
    """Return a tracker of OpenCV by its name in PEERS; `files` is the folder of the networks of TrackerNano and Vit.

    Raises ValueError for an unknown name, missing files, or a tracker that this build of OpenCV lacks.
    """
    if name not in PEERS:
        raise ValueError(f"unknown peer {name!r}; there are {', '.join(PEERS)}")
    if name in _FILES:
        return OpenCVTracker(_with_networks(name, files))
    legacy = getattr(cv2, "legacy", None)  # where OpenCV keeps what it no longer works on
    kind = getattr(legacy if name == "mosse" else cv2, f"Tracker{name.upper()}", None)
    if kind is None:
        raise ValueError(f"this OpenCV {cv2.__version__} has no {name.upper()} tracker; install opencv-contrib-python")
    return OpenCVTracker(kind.create)


class OpenCVTracker:
    """Follow one object with a tracker of OpenCV, made anew by `create` at each `init`.

    OpenCV's interface takes and gives whole pixels. The score is getTrackingScore; a tracker without one says -1 or has
    no such method, and the score is then whether it reports success.
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
        score = float(self._tracker.getTrackingScore()) if hasattr(self._tracker, "getTrackingScore") else -1.0
        return Prediction(self._box, score if score >= 0 else float(found), not found)


def _with_networks(name: str, files: Path | None) -> Callable[[], Any]:
    names = _FILES[name]
    if files is None or not all((files / each).is_file() for each in names):
        raise ValueError(f"the {name} tracker needs a folder with {' and '.join(names)}, got {files and files.name}")
    paths = [str(files / each) for each in names]
    if name == "nano":
        nano = cv2.TrackerNano_Params()
        nano.backbone, nano.neckhead = paths
        return partial(cv2.TrackerNano.create, nano)
    vit = cv2.TrackerVit_Params()
    vit.net = paths[0]
    return partial(cv2.TrackerVit.create, vit)


def _bgr(frame: Frame) -> Frame:
    return cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
