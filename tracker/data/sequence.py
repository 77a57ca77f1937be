"""A video with ground truth, as every reader of a data set returns it, and what the readers share."""

from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracker.file_names import natural_order
from tracker.geometry import Box

_IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """Hold a video as image files in order, and the object's box in each.

    `boxes_xywh` is (n, 4) float64: left, top, width, height in 0-based frame pixels, one row an image; NaN where the
    object is absent or its box is not published.
    """

    name: str
    image_paths: tuple[Path, ...]
    boxes_xywh: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Raise ValueError unless there is one row of four numbers for each image, and at least one image."""
        if not self.image_paths:
            raise ValueError(f"sequence {self.name} has no images")
        if self.boxes_xywh.shape != (len(self.image_paths), 4):
            raise ValueError(
                f"sequence {self.name} has {len(self.image_paths)} images and boxes of shape {self.boxes_xywh.shape}"
            )

    def first_box(self) -> Box:
        """Return the box that starts a tracker. Raises ValueError if the object is absent in the first frame."""
        if np.isnan(self.boxes_xywh[0]).any():
            raise ValueError(f"sequence {self.name} has no box in its first frame, so no tracker can start on it")
        return Box.from_xywh(*(float(value) for value in self.boxes_xywh[0]))

    def head(self, frames: int) -> "Sequence":
        """Return the first `frames` frames of the sequence, or all of it if it is shorter."""
        return replace(self, image_paths=self.image_paths[:frames], boxes_xywh=self.boxes_xywh[:frames])


def check_followable(sequences: Items[Sequence]) -> None:
    """Raise ValueError naming a sequence in which nothing can be tracked: of one frame, or absent in the first."""
    for sequence in sequences:
        if len(sequence.image_paths) < 2:
            raise ValueError(f"sequence {sequence.name} has one frame only, so there is nothing to track; leave it out")
        sequence.first_box()  # says what is wrong if the object is absent at the start


def list_images(folder: Path) -> tuple[Path, ...]:
    """Return the JPEG and PNG files of a folder in natural order; hidden files are no frames."""
    if not folder.is_dir():
        return ()
    files = (path for path in folder.iterdir() if not path.name.startswith("."))
    return tuple(natural_order(path for path in files if path.suffix.lower() in _IMAGE_SUFFIXES))


def read_boxes(path: Path, index_base: int) -> NDArray[np.float64]:
    """Read x, y, w, h a line, separated by commas, tabs, semicolons or spaces: (n, 4), x and y made 0-based.

    `index_base` is what the file calls the first pixel, 0 or 1. Raises ValueError with the file and line for anything
    but four numbers.
    """
    if index_base not in (0, 1):
        raise ValueError(f"index base must be 0 or 1, got {index_base}")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        fields = line.replace(",", " ").replace(";", " ").split()
        if not fields:
            continue
        try:
            row = [float(field) for field in fields]
        except ValueError:
            row = []
        if len(row) != 4:
            raise ValueError(f"{path} line {number}: expected x, y, w, h, got {line.strip()[:60]!r}")
        rows.append(row)
    boxes = np.array(rows, dtype=np.float64).reshape(-1, 4)
    boxes[:, :2] -= index_base
    return boxes


def select(sequences: Items[Sequence], names: Items[str]) -> list[Sequence]:
    """Return the named sequences in the order of the data set. Raises ValueError for a name that is not there."""
    known = [sequence.name for sequence in sequences]
    for name in names:
        if name not in known:
            listed = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
            raise ValueError(f"no sequence {name!r} in the data set; it has {listed}")
    return [sequence for sequence in sequences if sequence.name in names]
