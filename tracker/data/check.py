"""Look a set of training tracks over: what is in it, what is wrong with it, and what it looks like."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from tracker.crop import cut, mean_colour
from tracker.data.track_writer import LEAST_INSIDE
from tracker.data.tracks import (
    ObjectTrack,
    ShownObject,
    Track,
    TrackFrame,
    UnreadablePictureError,
    parse_track,
    read_lines,
)
from tracker.geometry import Box, CropGeometry, context_side, share_inside
from tracker.interface import Frame

_LEAST_SIDE = 4.0  # pixels: of a smaller object nothing can be learned
_TILE = 128  # pixels of a picture on the contact sheet
_TILES = 3  # of a track: its first frame, its middle one and its last
_COLUMNS = 4  # tracks side by side


@dataclass(frozen=True, slots=True)
class Problem:
    """Name what is wrong: in which line of the index, with which picture (empty: with the line itself), and how.

    What stands in a shard has line 0, and `image` names shard and picture; an index without lines is named itself.
    """

    line: int
    image: str
    what: str


@dataclass(frozen=True, slots=True)
class Findings:
    """Hold what is there, and what is wrong."""

    readable: list[ObjectTrack] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """Number of the frames of all tracks."""
        return sum(len(track.frames) for track in self.readable)

    @property
    def stills(self) -> int:
        """Number of tracks of one frame."""
        return sum(len(track.frames) == 1 for track in self.readable)

    @property
    def videos(self) -> set[str]:
        """Names of the videos."""
        return {track.video for track in self.readable}

    @property
    def labels(self) -> Counter[str]:
        """Number of tracks by class."""
        return Counter(track.label for track in self.readable)

    @property
    def sources(self) -> Counter[str]:
        """Number of tracks by set."""
        return Counter(track.source for track in self.readable)

    @property
    def tracks(self) -> int:
        """Number of tracks."""
        return len(self.readable)


def check_tracks(index: Path, progress: Callable[[float], None]) -> Findings:
    """Read every line and every picture of an index and return what is there; tell the share done after each line.

    Raises ValueError for an index that cannot be read. What is wrong inside it is a finding, not an error.
    """
    findings = Findings()
    first_seen: dict[tuple[str, TrackFrame], int] = {}
    lines = read_lines(index)
    if not lines:
        findings.problems.append(Problem(0, index.name, "there are no tracks in it"))
    for number, line in enumerate(lines, 1):
        try:
            track = parse_track(line, index.parent)
        except ValueError as error:
            findings.problems.append(Problem(number, "", str(error)))
        else:
            wrong = _look_at(track, index.parent)
            findings.problems.extend(Problem(number, image, what) for image, what in wrong)
            if track.frames:
                findings.readable.append(track)
                first = first_seen.setdefault((track.video, track.frames[0]), number)
                if first != number:
                    findings.problems.append(Problem(number, "", f"the track of line {first} again"))
        progress(number / len(lines))
    return findings


def _look_at(track: ObjectTrack, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (picture, what is wrong) of each frame."""
    if not track.frames:
        yield "", "no frame has a box"
    for frame in track.frames:
        for what in _wrong_with_file(frame):
            yield os.path.relpath(frame.image, folder), what


def _wrong_with_file(frame: TrackFrame) -> list[str]:
    return wrong_with(frame) if frame.image.is_file() else ["there is no such picture"]


def wrong_with(frame: ShownObject) -> list[str]:
    """Return what is wrong with a frame: its picture, or its box in it."""
    try:
        image = frame.read()
    except UnreadablePictureError:
        return ["the picture cannot be decoded"]
    x, y, w, h = frame.box_xywh
    height, width = image.shape[:2]
    shown = f"box {x:g},{y:g},{w:g},{h:g} in a picture of {width}x{height}"
    wrong = []
    if share_inside(Box.from_xywh(x, y, w, h), (height, width)) < LEAST_INSIDE:
        wrong.append(f"{shown}: less than half of it is in the picture")
    if min(w, h) < _LEAST_SIDE:
        wrong.append(f"{shown}: smaller than {_LEAST_SIDE:g} pixels")
    return wrong


def contact_sheet(tracks: Sequence[Track], count: int) -> Frame:
    """Return a picture of `count` tracks spread over the list: first, middle and last frame of each, with the box.

    Pictures that cannot be read, and boxes too large or too small to draw, are left grey.
    """
    count = min(count, len(tracks))
    chosen = [tracks[at] for at in np.linspace(0, len(tracks) - 1, count).astype(int)] if count else []
    rows = -(-max(count, 1) // _COLUMNS)
    sheet = np.full((rows * _TILE, _COLUMNS * _TILES * _TILE, 3), 96, np.uint8)
    for number, track in enumerate(chosen):
        last = len(track.frames) - 1
        for tile, at in enumerate((0, last // 2, last)):
            top = number // _COLUMNS * _TILE
            left = (number % _COLUMNS * _TILES + tile) * _TILE
            with suppress(UnreadablePictureError, ArithmeticError):
                sheet[top : top + _TILE, left : left + _TILE] = _tile(track.frames[at])
    return sheet


def _tile(frame: ShownObject) -> Frame:
    image = frame.read()
    box = Box.from_xywh(*frame.box_xywh)
    region = CropGeometry(box.cx, box.cy, 1.5 * context_side(box.w, box.h, 0.5), _TILE)
    tile = np.ascontiguousarray(cut(image, region, mean_colour(image)))
    shown = region.box_to_crop(box)
    x, y, w, h = shown.to_xywh()
    cv2.rectangle(tile, (round(x), round(y)), (round(x + w), round(y + h)), (0, 230, 118), 1)
    return tile
