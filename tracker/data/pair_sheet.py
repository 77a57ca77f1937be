"""Draw training pairs as the network sees them, to look at before a long run."""

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from tracker.data.pairs import Pairs
from tracker.interface import Frame

_POSITIVE, _NEGATIVE = (0, 230, 118), (255, 48, 48)  # RGB
_COLUMNS = 3  # templates side by side, each with its searches


def pair_sheet(pairs: Sequence[Pairs]) -> Frame:
    """Return a picture of pairs: each template with its searches, the object's box green, another object's red."""
    rows = [_strip(pair) for pair in pairs]
    height, width = rows[0].shape[:2]
    lines = -(-len(rows) // _COLUMNS)
    sheet = np.zeros((lines * height, min(len(rows), _COLUMNS) * width, 3), np.uint8)
    for at, row in enumerate(rows):
        top, left = at // _COLUMNS * height, at % _COLUMNS * width
        sheet[top : top + height, left : left + width] = row
    return sheet


def _strip(pair: Pairs) -> Frame:
    template = _drawn(pair.template, pair.template_box, _POSITIVE)
    searches = [
        _drawn(search, box, _POSITIVE if positive else _NEGATIVE)
        for search, box, positive in zip(pair.searches, pair.boxes, pair.positive, strict=True)
    ]
    height = max(image.shape[0] for image in (template, *searches))
    below = [np.pad(image, ((0, height - image.shape[0]), (0, 0), (0, 0))) for image in (template, *searches)]
    return np.hstack(below)


def _drawn(image: Tensor, box_uvwh: Tensor, colour: tuple[int, int, int]) -> Frame:
    picture = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    u, v, w, h = box_uvwh.tolist()
    middle = picture.shape[0] / 2
    corners = [round(middle + value) for value in (u - w / 2, v - h / 2, u + w / 2, v + h / 2)]
    cv2.rectangle(picture, (corners[0], corners[1]), (corners[2], corners[3]), colour, 1)
    return picture
