"""Boxes, square crops and their maps: pure maths in continuous pixels.

A pixel with index i covers [i, i + 1); its centre is i + 0.5. Frames and crops use the same convention, so the map
between them is one scale and one shift, and it has an exact inverse.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # plain numbers need no NumPy, and `siamtrack --help` stays quick without it
    import numpy as np
    from numpy.typing import NDArray

_SMALL = 128.0  # side of a square, frame pixels

Number = TypeVar("Number", float, "NDArray[np.float32]")


@dataclass(frozen=True, slots=True)
class Box:
    """Hold an axis-aligned box in frame pixels: centre (cx, cy) and size (w, h)."""

    cx: float
    cy: float
    w: float
    h: float

    @classmethod
    def from_xywh(cls, x: float, y: float, w: float, h: float) -> "Box":
        """Build a box from its left edge, top edge, width and height, in 0-based frame pixels."""
        return cls(x + w / 2, y + h / 2, w, h)

    @classmethod
    def parse(cls, text: str) -> "Box":
        """Read "X,Y,W,H". Raises ValueError for anything but four numbers."""
        x, y, w, h = (float(part) for part in text.split(","))
        return cls.from_xywh(x, y, w, h)

    def to_xywh(self) -> tuple[float, float, float, float]:
        """Return left edge, top edge, width and height, in 0-based frame pixels."""
        return self.cx - self.w / 2, self.cy - self.h / 2, self.w, self.h

    def held_in(self, size_hw: tuple[int, int]) -> "Box":
        """Return the box with its centre inside a frame of size (height, width) and no side longer than the frame's.

        The size of a box that reaches out of the frame stays: an object does not shrink by leaving.
        """
        height, width = size_hw
        cx, cy = min(max(self.cx, 0.0), float(width)), min(max(self.cy, 0.0), float(height))
        return Box(cx, cy, min(self.w, float(width)), min(self.h, float(height)))

    def clipped(self, size_hw: tuple[int, int], min_side: float = 2.0) -> "Box":
        """Return the part of the box that lies inside a frame of size (height, width).

        A box that has left the frame is held at its border with `min_side` pixels visible, so that the search can see
        the object come back.
        """
        height, width = size_hw
        x0, x1 = _clip_span(self.cx - self.w / 2, self.cx + self.w / 2, width, min_side)
        y0, y1 = _clip_span(self.cy - self.h / 2, self.cy + self.h / 2, height, min_side)
        return Box((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0)


def _clip_span(low: float, high: float, limit: float, min_side: float) -> tuple[float, float]:
    least = min(min_side, limit)
    low = min(max(low, 0.0), limit - least)
    high = max(min(high, limit), least)
    return low, max(high, low + least)


def check_initial_box(box: Box, size_hw: tuple[int, int]) -> None:
    """Raise ValueError unless the box is finite and a pixel large, and touches a frame of size (height, width)."""
    x, y, w, h = box.to_xywh()
    if not all(math.isfinite(value) for value in (x, y, w, h)):
        raise ValueError(f"box must be finite, got x,y,w,h = {x:g},{y:g},{w:g},{h:g}")
    if w <= 0 or h <= 0:
        raise ValueError(f"box must have a positive width and height, got w,h = {w:g},{h:g}")
    if w * h < 1:
        raise ValueError(f"box w,h = {w:g},{h:g} has less than a pixel; give it in pixels, not in shares of the frame")
    height, width = size_hw
    if x + w <= 0 or y + h <= 0 or x >= width or y >= height:
        raise ValueError(
            f"box x,y,w,h = {x:g},{y:g},{w:g},{h:g} lies outside the {width}x{height} frame; give a box inside it"
        )
    if w > width or h > height:
        raise ValueError(f"box w,h = {w:g},{h:g} is larger than the {width}x{height} frame; give a box that fits it")


def iou(a: Box, b: Box) -> float:
    """Return intersection over union of two boxes, in [0, 1]."""
    inter_w = min(a.cx + a.w / 2, b.cx + b.w / 2) - max(a.cx - a.w / 2, b.cx - b.w / 2)
    inter_h = min(a.cy + a.h / 2, b.cy + b.h / 2) - max(a.cy - a.h / 2, b.cy - b.h / 2)
    if inter_w <= 0 or inter_h <= 0:
        return 0.0
    inter = inter_w * inter_h
    return inter / (a.w * a.h + b.w * b.h - inter)


def share_inside(box: Box, size_hw: tuple[int, int]) -> float:
    """Return the share of a box's area that lies in a frame of size (height, width)."""
    x, y, w, h = box.to_xywh()
    inside_w = min(x + w, size_hw[1]) - max(x, 0.0)
    inside_h = min(y + h, size_hw[0]) - max(y, 0.0)
    area = w * h  # 0 where both sides are tiny
    return max(inside_w, 0.0) * max(inside_h, 0.0) / area if area else 0.0


def centre_distance(a: Box, b: Box) -> float:
    """Return the distance between the centres of two boxes, in pixels."""
    return math.hypot(a.cx - b.cx, a.cy - b.cy)


def context_side(w: Number, h: Number, context: float) -> Number:
    """Return the side of the square that holds a w x h object with its surroundings; of arrays one by one.

    With p = context * (w + h) the side is sqrt((w + p) * (h + p)): Bertinetto et al. 2016, section 2.5, where the
    margin on each side is a quarter of w + h, so context = 0.5.
    """
    pad = context * (w + h)
    return ((w + pad) * (h + pad)) ** 0.5  # type: ignore[no-any-return, return-value]


@dataclass(frozen=True, slots=True)
class CropGeometry:
    """Map a square of the frame, centre (cx, cy) and side in frame pixels, to a crop of size x size pixels."""

    cx: float
    cy: float
    side: float
    size: int

    @property
    def frame_per_crop(self) -> float:
        """Frame pixels in one crop pixel."""
        return self.side / self.size

    def narrowed(self, size: int) -> "CropGeometry":
        """Return the square around the same centre, at the same scale, whose crop has that size."""
        return CropGeometry(self.cx, self.cy, self.frame_per_crop * size, size)

    def on_pixels(self) -> "CropGeometry":
        """Return the nearest square whose edges lie between pixels of the frame: it can be cut faster, see `crop.cut`.

        Its centre is up to half a pixel off, its scale up to half a pixel over the side. Of a small one, which shows a
        small object, that would be much (benchmarks/experiments.md): it stays as it is.
        """
        if self.side < _SMALL:
            return self
        side = round(self.side)
        left, top = round(self.cx - side / 2), round(self.cy - side / 2)
        return CropGeometry(left + side / 2, top + side / 2, float(side), self.size)

    def to_crop(self, x: float, y: float) -> tuple[float, float]:
        """Map a frame point to crop pixels."""
        return (
            (x - self.cx) / self.frame_per_crop + self.size / 2,
            (y - self.cy) / self.frame_per_crop + self.size / 2,
        )

    def to_frame(self, u: float, v: float) -> tuple[float, float]:
        """Map a crop point to frame pixels: the exact inverse of `to_crop`."""
        return (
            (u - self.size / 2) * self.frame_per_crop + self.cx,
            (v - self.size / 2) * self.frame_per_crop + self.cy,
        )

    def box_to_crop(self, box: Box) -> Box:
        """Map a frame box to crop pixels."""
        u, v = self.to_crop(box.cx, box.cy)
        return Box(u, v, box.w / self.frame_per_crop, box.h / self.frame_per_crop)

    def centred(self, box: Box) -> tuple[float, float, float, float]:
        """Map a frame box to crop pixels: its centre less the crop's middle, and its size."""
        shown = self.box_to_crop(box)
        return shown.cx - self.size / 2, shown.cy - self.size / 2, shown.w, shown.h

    def box_to_frame(self, box: Box) -> Box:
        """Map a crop box to frame pixels: the exact inverse of `box_to_crop`."""
        x, y = self.to_frame(box.cx, box.cy)
        return Box(x, y, box.w * self.frame_per_crop, box.h * self.frame_per_crop)


def search_side(w: float, h: float, context: float, template_size: int, search_size: int) -> float:
    """Return the side, in frame pixels, of the search square at the scale that gives the template its size."""
    return context_side(w, h, context) * search_size / template_size
