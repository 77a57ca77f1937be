"""Reader of videos with masks, as DAVIS and YouTube-VOS have them; boxes are made of the masks."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from tracker.data.tracks import BoxXYWH, ObjectTrack, TrackFrame, UnreadablePictureError, read_image
from tracker.file_names import folders_below, shown_files

_SIZE = re.compile(r"(\d+)p|Full-Resolution")  # as DAVIS calls its folders
_VOID = 0xE0E0C0  # colour 255 of the palette of Pascal VOC, which these sets have: of no object


def read_masks(root: Path) -> Iterator[ObjectTrack]:
    """Yield the tracks of Annotations/[<size>/]<name>/*.png and JPEGImages/[<size>/]<name>/*.jpg.

    Each colour of a mask is an object, but for black and that of 255, void; pixels count from 0. Frames without a mask
    are left out. A video that is there in several sizes (480p, 1080p, Full-Resolution) is read once, in the smallest.
    Raises ValueError for a root without any, and for a mask that cannot be read.
    """
    notes = root / "Annotations"
    folders = _in_one_size((folder for folder in folders_below(notes) if shown_files(folder, ".png")), notes)
    if not folders:
        raise ValueError(f"{root} holds no masks: expected Annotations/<name>/*.png and JPEGImages/<name>/*.jpg")
    for folder in folders:
        frames: dict[int, list[TrackFrame]] = defaultdict(list)
        for path in shown_files(folder, ".png"):
            image = root / "JPEGImages" / folder.relative_to(notes) / f"{path.stem}.jpg"
            for colour, box in _boxes_of(path):
                frames[colour].append(TrackFrame(image, box))
        name = folder.relative_to(notes).as_posix()
        yield from (ObjectTrack("", name, "object", tuple(of_one)) for _, of_one in sorted(frames.items()))


def _in_one_size(folders: Iterable[Path], notes: Path) -> list[Path]:
    """Return the folders of masks in the order of their names, the smallest alone of those of one video."""
    smallest: dict[tuple[str, ...], tuple[float, Path]] = {}
    for folder in folders:
        parts = folder.relative_to(notes).parts
        size = _SIZE.fullmatch(parts[0]) if len(parts) > 1 else None
        video = ("", *parts[1:]) if size else parts  # a video of no size is none of those that have one
        lines = float(size[1]) if size and size[1] else math.inf
        smallest[video] = min(smallest.get(video, (math.inf, folder)), (lines, folder))
    return sorted(folder for _, folder in smallest.values())


def _boxes_of(path: Path) -> Iterator[tuple[int, BoxXYWH]]:
    try:
        mask = read_image(path)  # a palette is looked up
    except UnreadablePictureError:
        raise ValueError(f"cannot read the mask {path}") from None
    codes = mask.astype(np.int64) @ np.array([65536, 256, 1])
    for code in np.unique(codes[(codes > 0) & (codes != _VOID)]):
        rows, columns = np.nonzero(codes == code)
        x, y = float(columns.min()), float(rows.min())
        yield int(code), (x, y, float(columns.max()) + 1 - x, float(rows.max()) + 1 - y)
