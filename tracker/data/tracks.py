"""Read training tracks from JSON lines: one object followed over pictures of one video."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.interface import Frame

BoxXYWH = tuple[float, float, float, float]  # left, top, width and height, 0-based pixels


class UnreadablePictureError(ValueError):
    """Say which picture of a track cannot be read."""


class ShownObject(Protocol):
    """What a track has of each frame: the object's box, and a way to its picture."""

    @property
    def box_xywh(self) -> BoxXYWH:
        """The object's box (x, y, w, h), 0-based pixels of the picture."""

    def read(self) -> Frame:
        """Return the picture (H, W, 3), RGB. Raises UnreadablePictureError naming one that cannot be read."""


class Track(Protocol):
    """What pairs are drawn from: one object over the frames of one video, wherever its pictures are."""

    @property
    def source(self) -> str:
        """Name of the set."""

    @property
    def video(self) -> str:
        """Name of the video."""

    @property
    def label(self) -> str:
        """What kind of thing it is."""

    @property
    def frames(self) -> Sequence[ShownObject]:
        """The frames in order of time; a still has one."""


@dataclass(frozen=True, slots=True)
class TrackFrame:
    """Hold one picture of a track: its path and the object's box (x, y, w, h), 0-based pixels of that picture."""

    image: Path
    box_xywh: BoxXYWH

    def read(self) -> Frame:
        """Return the picture (H, W, 3), RGB. Raises UnreadablePictureError naming one that cannot be read."""
        return read_image(self.image)


@dataclass(frozen=True, slots=True)
class ObjectTrack:
    """Hold one object over the frames of one video, in order of time; a still has one frame."""

    source: str
    video: str
    label: str
    frames: tuple[TrackFrame, ...]


def read_image(path: Path) -> Frame:
    """Return a picture, RGB. Raises UnreadablePictureError naming one that cannot be read."""
    try:
        return decode(path.read_bytes(), str(path))  # cv2.imread would fill up with grey what was cut off
    except OSError as error:
        raise UnreadablePictureError(f"cannot read the training picture {path} ({error.strerror})") from error


def decode(content: bytes, name: str) -> Frame:
    """Return the picture that a file holds, RGB. Raises UnreadablePictureError naming one that cannot be decoded."""
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB) if content else None
    except cv2.error:  # its header promises more pixels than OpenCV takes
        image = None
    if image is None:
        raise UnreadablePictureError(f"cannot read the training picture {name}")
    return image  # type: ignore[return-value]


def read_tracks(index: Path) -> list[ObjectTrack]:
    """Read a file of JSON lines {"video", "track", "class", "frames": [{"image", "box"}]}; "set" is optional.

    Image paths are relative to the file's folder. Frames whose box is empty are left out, and so are tracks that keep
    no frame. Raises ValueError naming file and line for anything else that does not fit.
    """
    tracks = []
    for number, line in enumerate(read_lines(index), 1):
        try:
            track = parse_track(line, index.parent)
        except ValueError as error:
            raise ValueError(f"{index}, line {number}: {error}") from error
        if track.frames:
            tracks.append(track)
    if not tracks:
        raise ValueError(f"no tracks in {index}")
    return tracks


def read_lines(index: Path) -> list[str]:
    """Return the lines of an index of tracks. Raises ValueError where it cannot be read."""
    try:
        lines = index.read_text(encoding="utf-8-sig").split("\n")  # splitlines would end some lines inside of a name
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the tracks in {index}: {error}") from error
    return lines if lines[-1] else lines[:-1]


def parse_track(line: str, folder: Path) -> ObjectTrack:
    """Return the track of one line; image paths are relative to `folder`, frames with an empty box are left out.

    Raises ValueError for what is no track.
    """
    try:
        row = json.loads(line)
        frames = tuple(
            TrackFrame(folder / frame["image"], parse_box(frame["box"]))
            for frame in row["frames"]
            if frame["box"][2] > 0 and frame["box"][3] > 0
        )
        source, video, label = (_text(value) for value in (row.get("set", ""), row["video"], row["class"]))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"not a track ({type(error).__name__}: {error})") from error
    return ObjectTrack(source, video, label, frames)


def track_of(video: str, label: str, images: Sequence[Path], boxes: NDArray[np.float64]) -> ObjectTrack:
    """Return the track of one object with a box (n, 4) in each picture; frames with NaN or an empty box are left out.

    Pictures beyond the last box have none. Raises ValueError for more boxes than pictures.
    """
    if len(images) < len(boxes):
        raise ValueError(f"{video} has {len(images)} images for {len(boxes)} boxes; unpack it again")
    frames = tuple(
        TrackFrame(image, (float(x), float(y), float(w), float(h)))
        for image, (x, y, w, h) in zip(images, boxes, strict=False)
        if np.isfinite([x, y, w, h]).all() and w > 0 and h > 0
    )
    return ObjectTrack("", video, label, frames)


def parse_box(values: Sequence[float]) -> BoxXYWH:
    """Return the box of an index (x, y, w, h) as finite numbers. Raises ValueError for anything else."""
    x, y, w, h = (float(value) for value in values)
    if not all(math.isfinite(value) for value in (x, y, w, h)):
        raise ValueError(f"the box {values} is not finite")
    return x, y, w, h


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} should be text")
    return value
