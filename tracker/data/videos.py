"""Readers of data sets with one object a video and its box in each frame: LaSOT, TrackingNet, VOT."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracker.data.sequence import list_images, read_boxes
from tracker.data.tracks import ObjectTrack, track_of
from tracker.file_names import shown_files


def read_lasot(root: Path) -> Iterator[ObjectTrack]:
    """Yield the tracks of LaSOT: <class>/<class>-<n>/img/*.jpg and groundtruth.txt, which counts pixels from 1.

    Frames that full_occlusion.txt or out_of_view.txt names are left out. Raises ValueError for a root without any, and
    for a damaged sequence.
    """
    folders = sorted({path.parent for path in root.glob("*/groundtruth.txt")} | _parents(root, "*/*/groundtruth.txt"))
    _expect(folders, root, "LaSOT", "<class>/<class>-<n>/groundtruth.txt")
    for folder in folders:
        boxes = read_boxes(folder / "groundtruth.txt", index_base=1)
        hidden = _flags(folder / "full_occlusion.txt", len(boxes)) | _flags(folder / "out_of_view.txt", len(boxes))
        boxes[hidden] = np.nan
        yield track_of(folder.name, folder.name.rpartition("-")[0] or folder.name, list_images(folder / "img"), boxes)


def read_trackingnet(root: Path) -> Iterator[ObjectTrack]:
    """Yield the tracks of TrackingNet: <part>/anno/<name>.txt and <part>/frames/<name>/<n>.jpg; both count from 0.

    Raises ValueError for a root without any, and for a damaged sequence.
    """
    folders = sorted(root.glob("*/anno")) or [root / "anno"]
    truths = [truth for folder in folders for truth in shown_files(folder, ".txt")]
    _expect(truths, root, "TrackingNet", "<part>/anno/<name>.txt and <part>/frames/<name>/0.jpg")
    for truth in truths:
        images = list_images(truth.parent.parent / "frames" / truth.stem)
        yield track_of(truth.stem, "object", images, read_boxes(truth, index_base=0))


def read_vot(root: Path) -> Iterator[ObjectTrack]:
    """Yield the tracks of VOT: <name>/color/*.jpg or <name>/*.jpg, and groundtruth.txt, which counts from 0.

    A line of eight numbers is a polygon; its box is the smallest that holds it. Raises ValueError for a root without
    any sequence, and for lines that are neither, such as the masks of VOT2020 and later.
    """
    truths = sorted(root.glob("*/groundtruth.txt"))
    _expect(truths, root, "VOT", "<name>/groundtruth.txt")
    for truth in truths:
        folder = truth.parent
        images = list_images(folder / "color") or list_images(folder)
        yield track_of(folder.name, "object", images, _read_polygons(truth))


def _read_polygons(path: Path) -> NDArray[np.float64]:
    boxes = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = [float(field) for field in re.split(r"[,\s]+", line.strip())]
        except ValueError:
            values = []
        if len(values) == 8:
            xs, ys = values[0::2], values[1::2]
            values = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        if len(values) != 4:
            raise ValueError(f"{path} line {number}: expected 4 or 8 numbers, got {line.strip()[:60]!r}")
        boxes.append(values)
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def _flags(path: Path, count: int) -> NDArray[np.bool_]:
    if not path.is_file():
        return np.zeros(count, bool)
    flags = np.array([field == "1" for field in re.split(r"[,\s]+", path.read_text().strip())])
    if len(flags) != count:
        raise ValueError(f"{path} must hold one number for each of {count} frames")
    return flags


def _parents(root: Path, pattern: str) -> set[Path]:
    return {path.parent for path in root.glob(pattern)}


def _expect(found: list[Path], root: Path, name: str, layout: str) -> None:
    if not found:
        raise ValueError(f"{root} holds nothing of {name}: expected {layout}")
