"""Views of the first frame that a target is learned from: what it may look like next."""

from dataclasses import dataclass

import numpy as np

from tracker.crop import Fill, cut
from tracker.data.augment import turn
from tracker.geometry import CropGeometry
from tracker.interface import Frame


@dataclass(frozen=True, slots=True)
class View:
    """Describe a view of the first frame to learn from: a crop scaled, turned or mirrored, and its weight."""

    scale: float = 1.0
    turn: float = 0.0  # degrees
    mirrored: bool = False
    weight: float = 1.0


VIEWS = (
    View(weight=3.0),  # what is really there; first, since the box is learned from it
    View(mirrored=True),
    *(View(turn=degrees) for degrees in (-10.0, 10.0)),
    *(View(scale=factor) for factor in (0.9, 1.1)),
    # Turns of 20 degrees and moved crops do not pay: the filter is convolutional, so it sees every shift in one view.
)


def cut_views(frame: Frame, region: CropGeometry, fill: Fill) -> list[Frame]:
    """Return the crop of each of VIEWS; the object in the middle of the region is in the middle of all of them."""
    return [cut_view(frame, region, fill, view) for view in VIEWS]


def cut_view(frame: Frame, region: CropGeometry, fill: Fill, view: View) -> Frame:
    """Return the view's crop; the middle of the region stays in the middle."""
    crop = cut(frame, CropGeometry(region.cx, region.cy, region.side * view.scale, region.size), fill)
    if view.turn:
        crop = turn(crop, view.turn, fill)
    return np.ascontiguousarray(crop[:, ::-1]) if view.mirrored else crop
