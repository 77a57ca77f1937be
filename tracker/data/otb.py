"""Reader of the OTB layout: <root>/<name>/img/*.jpg and <root>/<name>/groundtruth_rect.txt.

OTB's own files count pixels from 1. Other data sets in the same layout may count from 0: the caller says so.
"""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracker.data.sequence import Sequence, list_images, read_boxes

_log = logging.getLogger(__name__)

# Videos of which OTB annotates a part only: first frame (0-based) and the one after the last, as its page says.
_ANNOTATED = {
    "david": (299, 770),
    "football1": (0, 74),
    "freeman3": (0, 460),
    "freeman4": (0, 283),
    "diving": (0, 215),
}


def read_otb(root: Path, index_base: int = 1) -> list[Sequence]:
    """Return the sequences below `root`, any number of them, sorted by name.

    A folder with several ground truth files (Jogging, Skating2) gives one sequence each, `name.1`, `name.2`; empty
    files are passed over. Raises ValueError for a missing root, one without sequences, or a damaged sequence.
    """
    if not root.is_dir():
        raise ValueError(f"no folder {root}; give the folder that holds OTB's sequence folders")
    sequences = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        truths = [path for path in sorted(folder.glob("groundtruth*.txt")) if path.read_text(errors="replace").strip()]
        for number, truth in enumerate(truths, 1):
            name = folder.name if len(truths) == 1 else f"{folder.name}.{number}"
            sequences.append(_read_sequence(name, folder, read_boxes(truth, index_base)))
    if not sequences:
        raise ValueError(f"{root} holds no OTB sequence: expected <name>/img/*.jpg and <name>/groundtruth_rect.txt")
    return sequences


def _read_sequence(name: str, folder: Path, boxes: NDArray[np.float64]) -> Sequence:
    images = list_images(folder / "img")
    if len(images) < len(boxes):
        raise ValueError(f"{folder / 'img'} holds {len(images)} images for {len(boxes)} boxes; unpack {name} again")
    if len(images) > len(boxes):
        first, end = _ANNOTATED.get(folder.name.lower(), (0, len(boxes)))
        part = images[first:end]
        if len(part) != len(boxes) or folder.name.lower() not in _ANNOTATED:
            _log.warning("%s: %d images but %d boxes; the last images are left out", name, len(images), len(boxes))
            part = images[: len(boxes)]
        images = part
    return Sequence(name, images, boxes)
