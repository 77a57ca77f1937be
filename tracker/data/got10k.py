"""Reader of the GOT-10k layout: <root>/<split>/<name>/*.jpg, groundtruth.txt and, where published, cover.label.

The ground truth counts pixels from 1. The test split publishes the first box only.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracker.data.sequence import Sequence, list_images, read_boxes


def read_got10k(root: Path, split: str = "val", index_base: int = 1) -> list[Sequence]:
    """Return the sequences of a split that are on disk, in the order of its list.txt, or by name without one.

    `root` is the data set's folder or the split's own. Rows are NaN where cover.label says that nothing of the object
    is visible, and after the first row in a split whose other boxes are not published. Raises ValueError for a missing
    root, one without sequences, or a damaged sequence.
    """
    if not root.is_dir():
        raise ValueError(f"no folder {root}; give GOT-10k's folder, which holds val/ and test/")
    folder = root / split if (root / split).is_dir() else root
    listing = folder / "list.txt"
    names = _names(listing) if listing.is_file() else sorted(path.name for path in folder.iterdir())
    found = [folder / name for name in names if (folder / name / "groundtruth.txt").is_file()]
    if not found:
        raise ValueError(f"{folder} holds no GOT-10k sequence: expected <name>/*.jpg and <name>/groundtruth.txt")
    return [_read_sequence(path, index_base) for path in found]


def is_published(sequence: Sequence) -> bool:
    """Return whether the ground truth goes on after the first frame: it does not in the test split."""
    return bool(np.isfinite(sequence.boxes_xywh[1:]).any())


def _read_sequence(folder: Path, index_base: int) -> Sequence:
    images = list_images(folder)
    boxes = read_boxes(folder / "groundtruth.txt", index_base)
    if len(boxes) == 1 < len(images):
        boxes = np.concatenate([boxes, np.full((len(images) - 1, 4), np.nan)])
    elif len(boxes) != len(images):
        raise ValueError(f"{folder} holds {len(images)} images for {len(boxes)} boxes; unpack {folder.name} again")
    label = folder / "cover.label"
    if label.is_file():
        hidden = _covers(label, len(boxes)) == 0
        hidden[0] = False  # the box that starts a tracker stays, as in the toolkit
        boxes[hidden] = np.nan
    return Sequence(folder.name, images, boxes)


def _names(listing: Path) -> list[str]:
    lines = listing.read_text(encoding="utf-8-sig").splitlines()
    return [name for line in lines if (name := line.strip())]


def _covers(label: Path, frames: int) -> NDArray[np.float64]:
    # 0 (nothing visible) to 8 (all of it), one line a frame
    try:
        covers = np.array([float(field) for field in label.read_text().split()])
    except ValueError:
        covers = np.empty(0)
    if len(covers) != frames:
        raise ValueError(f"{label} must hold one number for each of {frames} frames; unpack {label.parent.name} again")
    return covers
