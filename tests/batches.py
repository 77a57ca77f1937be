"""Batches for tests: pictures as videos, and a tracker that does what their colour says; other processes import it."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tracker.batch_video import Recipe
from tracker.geometry import Box, check_initial_box
from tracker.interface import Frame, Prediction
from tracker.manifest import VideoJob

SIZE_HW = (48, 64)
CALM, LOST, KILLED, BROKEN, SLOW = range(5)  # red value of a video's pixels, in steps of ten
STEP = 10
BOX = Box.from_xywh(8, 8, 16, 12)


class ColourTracker:
    """Move the box one pixel right a frame; do what the first frame's colour says."""

    def __init__(self) -> None:
        self.box = BOX
        self.kind = CALM

    def fork(self) -> "ColourTracker":
        return ColourTracker()

    def init(self, frame: Frame, box: Box) -> None:
        check_initial_box(box, frame.shape[:2])
        self.box, self.kind = box, int(frame[0, 0, 0]) // STEP
        if self.kind == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)

    def update(self, frame: Frame) -> Prediction:
        if self.kind == BROKEN:
            raise RuntimeError("the runtime\nfails")
        if self.kind == SLOW:
            time.sleep(0.2)
        self.box = Box(self.box.cx + 1, self.box.cy, self.box.w, self.box.h)
        return Prediction(self.box, 0.5, self.kind == LOST)


def update_each(trackers: Sequence[ColourTracker], frame: Frame) -> list[Prediction]:
    return [tracker.update(frame) for tracker in trackers]


def load_tracker(*_: object, **__: object) -> ColourTracker:
    return ColourTracker()


def recipe(out: Path, save_videos: bool = False) -> Recipe[ColourTracker]:
    out.mkdir(exist_ok=True)
    return Recipe(load_tracker, ColourTracker.fork, update_each, out, save_videos)


def draw_video(folder: Path, name: str, kind: int = CALM, frames: int = 4) -> Path:
    """Write a folder of pictures, which counts as a video."""
    video = folder / name
    video.mkdir(parents=True)
    picture = np.zeros((*SIZE_HW, 3), np.uint8)
    picture[..., 2] = kind * STEP  # red, for OpenCV
    for index in range(frames):
        cv2.imwrite(str(video / f"{index}.png"), picture)
    return video


def job_for(video: Path, *boxes: Box, start: int = 0, end: int | None = None) -> VideoJob:
    return VideoJob(video.name, str(video), boxes or (BOX,), start, end)
