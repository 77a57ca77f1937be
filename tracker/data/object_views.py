"""Show objects of tracks as a tracker would see them, again and again: what an embedding head learns from."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from tracker.crop import cut, mean_colour
from tracker.data.augment import Chances, disturb
from tracker.data.tracks import ObjectTrack, UnreadablePictureError, read_image
from tracker.geometry import Box, CropGeometry
from tracker.interface import Frame

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ViewConfig:
    """Say how an object is shown; shifts over the half of the crop that the object leaves free, chances in [0, 1]."""

    frames_per_track: int = 10  # spread over the track
    views_per_frame: int = 2
    views_per_still: int = 3
    max_scale: float = 1.15
    shift: float = 0.3  # of the crop's side less the object's
    colour: float = 0.2
    grey_chance: float = 0.05
    blur_chance: float = 0.15
    cover_chance: float = 0.1
    alone_chance: float = 0.25  # without surroundings: a picture that was cut out is to be known too
    box_shift: float = 0.05  # deviation of the box from the true one, as a tracker's is: of its size
    box_stretch: float = 0.08  # the same, of the log of its sides

    def views(self, track: ObjectTrack) -> int:
        """Return how many views each frame of a track has."""
        return self.views_per_still if len(track.frames) == 1 else self.views_per_frame

    def count(self, track: ObjectTrack) -> int:
        """Return how many views a track has, if all its pictures can be read."""
        return self.views(track) * len(spread(len(track.frames), self.frames_per_track))


class View(NamedTuple):
    """Hold a crop and the box in it: centre less the crop's middle, and size, crop pixels."""

    crop: Frame
    box_uvwh: tuple[float, float, float, float]


class FrameViews(NamedTuple):
    """Hold the views of one frame of track number `track`, which is frame number `frame` of it."""

    track: int
    frame: int
    views: list[View]


def show_objects(
    tracks: Sequence[ObjectTrack], region_of: Callable[[Box], CropGeometry], config: ViewConfig, rng: Generator
) -> Iterator[FrameViews]:
    """Yield the views of frames of each track; region_of: the square that a tracker would cut around a box.

    Frames whose picture cannot be read are left out with a warning.
    """
    for number, track in enumerate(tracks):
        for at in spread(len(track.frames), config.frames_per_track):
            try:
                image = read_image(track.frames[at].image)
            except UnreadablePictureError as error:
                _log.warning("%s: left out", error)
                continue
            box = Box.from_xywh(*track.frames[at].box_xywh)
            views = [_show(image, box, region_of(box), config, rng) for _ in range(config.views(track))]
            yield FrameViews(number, at, views)


def spread(length: int, count: int) -> NDArray[np.int64]:
    """Return up to `count` places in a row of `length`, evenly spread, the ends among them."""
    return np.unique(np.linspace(0, length - 1, min(length, count)).round().astype(np.int64))


def _show(image: Frame, box: Box, plain: CropGeometry, config: ViewConfig, rng: Generator) -> View:
    side = plain.side * config.max_scale ** rng.uniform(-1, 1)
    shift_x, shift_y = config.shift * max(side - max(box.w, box.h), 0.0) / 2 * rng.uniform(-1, 1, 2)
    region = CropGeometry(box.cx - shift_x, box.cy - shift_y, side, plain.size)
    chances = Chances(config.grey_chance, config.blur_chance, config.cover_chance)
    crop = disturb(cut(image, region, mean_colour(image)), rng, config.colour, chances)
    shown = region.box_to_crop(box)
    if rng.random() < config.alone_chance:
        crop = _alone(crop, shown)
    w, h = shown.w * np.exp(config.box_stretch * rng.normal()), shown.h * np.exp(config.box_stretch * rng.normal())
    u = shown.cx - plain.size / 2 + config.box_shift * shown.w * rng.normal()
    v = shown.cy - plain.size / 2 + config.box_shift * shown.h * rng.normal()
    return View(crop, (float(u), float(v), float(w), float(h)))


def _alone(crop: Frame, box: Box) -> Frame:
    """Return the crop with its mean colour outside the box."""
    x, y, w, h = box.to_xywh()
    inside = slice(max(round(y), 0), max(round(y + h), 1)), slice(max(round(x), 0), max(round(x + w), 1))
    alone = np.empty_like(crop)
    alone[:] = np.round(mean_colour(crop)).astype(np.uint8)
    alone[inside] = crop[inside]
    return alone
