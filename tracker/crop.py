"""Cut square crops from frames, with one interpolation."""

import math

import cv2
import numpy as np

from tracker.geometry import CropGeometry
from tracker.interface import Frame

Fill = tuple[float, float, float]  # RGB, 0..255


def mean_colour(frame: Frame) -> Fill:
    """Return the mean colour of a frame: what lies outside it in a crop (Bertinetto et al. 2016, section 2.5)."""
    red, green, blue, _ = cv2.mean(frame)
    return red, green, blue


def cut(frame: Frame, region: CropGeometry, fill: Fill) -> Frame:
    """Resample a square of the frame to a crop of shape (size, size, 3), bilinearly; outside the frame is `fill`.

    Only the pixels under the square are read, so the cost does not depend on the size of the frame. A square of whole
    pixels inside the frame takes half the time of another one; magnified, its outer half pixel repeats.
    """
    height, width = frame.shape[:2]
    half = region.side / 2
    left, top, right, bottom = edges = region.cx - half, region.cy - half, region.cx + half, region.cy + half
    inside = 0 <= left < right <= width and 0 <= top < bottom <= height
    if inside and all(edge.is_integer() for edge in edges):
        part = frame[int(top) : int(bottom), int(left) : int(right)]
        return cv2.resize(part, (region.size, region.size))  # type: ignore[return-value]
    x0, x1 = _span(left, right, width)
    y0, y1 = _span(top, bottom, height)
    if x1 <= x0 or y1 <= y0:
        return np.full((region.size, region.size, 3), np.round(fill), np.uint8)
    step = region.frame_per_crop
    # warpAffine samples at pixel centres counted from 0, the geometry counts them from 0.5: hence step / 2 - 0.5.
    shift_x, shift_y = left - x0 + step / 2 - 0.5, top - y0 + step / 2 - 0.5
    return cv2.warpAffine(  # type: ignore[return-value]
        frame[y0:y1, x0:x1],
        np.array([[step, 0.0, shift_x], [0.0, step, shift_y]]),
        (region.size, region.size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=fill,
    )


def _span(low: float, high: float, limit: int) -> tuple[int, int]:
    # Two pixels more than the square on each side: the interpolation reads one neighbour.
    return max(math.floor(low) - 2, 0), min(math.ceil(high) + 2, limit)
