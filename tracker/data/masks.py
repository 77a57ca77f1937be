"""Reader of videos with masks, as DAVIS and YouTube-VOS have them; boxes are made of the masks."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from tracker.data.tracks import ObjectTrack, TrackFrame


def read_masks(root: Path) -> Iterator[ObjectTrack]:
    """Yield the tracks of Annotations/[<size>/]<name>/*.png and JPEGImages/[<size>/]<name>/*.jpg.

    Each colour of a mask but black is an object; pixels count from 0. Frames without a mask are left out. Raises
    ValueError for a root without any, and for a mask that cannot be read.
    """
    notes = root / "Annotations"
    folders = sorted({path.parent for path in notes.rglob("*.png")})
    if not folders:
        raise ValueError(f"{root} holds no masks: expected Annotations/<name>/*.png and JPEGImages/<name>/*.jpg")
    for folder in folders:
        frames: dict[int, list[TrackFrame]] = defaultdict(list)
        for path in sorted(folder.glob("*.png")):
            image = root / "JPEGImages" / folder.relative_to(notes) / f"{path.stem}.jpg"
            for colour, box in _boxes_of(path):
                frames[colour].append(TrackFrame(image, box))
        name = folder.relative_to(notes).as_posix()
        yield from (ObjectTrack("", name, "object", tuple(of_one)) for _, of_one in sorted(frames.items()))


def _boxes_of(path: Path) -> Iterator[tuple[int, tuple[float, float, float, float]]]:
    mask = cv2.imread(str(path), cv2.IMREAD_COLOR)  # a palette is looked up
    if mask is None:
        raise ValueError(f"cannot read the mask {path}")
    codes = mask.astype(np.int64) @ np.array([1, 256, 65536])
    for code in np.unique(codes[codes > 0]):
        rows, columns = np.nonzero(codes == code)
        x, y = float(columns.min()), float(rows.min())
        yield int(code), (x, y, float(columns.max()) + 1 - x, float(rows.max()) + 1 - y)
