"""Seeded videos whose truth is known: a textured patch over a textured ground."""

from collections.abc import Iterator

import cv2
import numpy as np

from tracker.geometry import Box
from tracker.interface import Frame

SIZE_HW = (240, 320)


def texture(height: int, width: int, seed: int, grain: int) -> Frame:
    """Return smooth coloured noise; `grain` is the size of its spots in pixels."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // grain + 2, width // grain + 2, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


GROUND = texture(*SIZE_HW, seed=1, grain=24)
OBJECT = texture(96, 96, seed=2, grain=12)


def paint(box: Box, ground: Frame = GROUND) -> Frame:
    """Return the ground with the object drawn to fill `box`; what lies outside the frame is cut off."""
    sx, sy = box.w / OBJECT.shape[1], box.h / OBJECT.shape[0]
    x, y, _, _ = box.to_xywh()
    matrix = np.array([[sx, 0, x + sx / 2 - 0.5], [0, sy, y + sy / 2 - 0.5]])
    frame = ground.copy()
    height, width = frame.shape[:2]
    cv2.warpAffine(OBJECT, matrix, (width, height), dst=frame, borderMode=cv2.BORDER_TRANSPARENT)
    return frame


def moving(frames: int, step: tuple[float, float], growth: float = 1.0) -> Iterator[tuple[Frame, Box]]:
    """Yield frames and truth of an object that starts at (80, 80) with 44 x 52 pixels."""
    for i in range(frames):
        box = Box(80 + i * step[0], 80 + i * step[1], 44 * growth**i, 52 * growth**i)
        yield paint(box), box
