"""Draw training pairs as the network sees them: before a long run, and with its answers during one."""

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from tracker.data.pairs import Pairs
from tracker.interface import Frame

_POSITIVE, _NEGATIVE, _FOUND = (0, 230, 118), (255, 48, 48), (255, 214, 0)  # RGB
_COLUMNS = 3  # templates side by side, each with its searches

Answers = tuple[Tensor, Tensor]  # of the searches of one template: scores (K, h, w) in [0, 1], best boxes (K, 4)


def pair_sheet(pairs: Sequence[Pairs], answers: Sequence[Answers] = ()) -> Frame:
    """Return a picture of pairs: each template with its searches, the object's box green, another object's red.

    With answers the box that was found is yellow, and below each search lie its scores, white where they are 1.
    """
    rows = [_strip(pair, answers[at] if answers else None) for at, pair in enumerate(pairs)]
    height, width = rows[0].shape[:2]
    lines = -(-len(rows) // _COLUMNS)
    sheet = np.zeros((lines * height, min(len(rows), _COLUMNS) * width, 3), np.uint8)
    for at, row in enumerate(rows):
        top, left = at // _COLUMNS * height, at % _COLUMNS * width
        sheet[top : top + height, left : left + width] = row
    return sheet


def _strip(pair: Pairs, answers: Answers | None) -> Frame:
    template = _drawn(_picture(pair.template), pair.template_box, _POSITIVE)
    searches = []
    for at, (search, box, positive) in enumerate(zip(pair.searches, pair.boxes, pair.positive, strict=True)):
        picture = _drawn(_picture(search), box, _POSITIVE if positive else _NEGATIVE)
        if answers is not None:
            scores, boxes = answers
            picture = np.vstack([_drawn(picture, boxes[at], _FOUND), _map(scores[at], picture.shape[1])])
        searches.append(picture)
    height = max(image.shape[0] for image in (template, *searches))
    below = [np.pad(image, ((0, height - image.shape[0]), (0, 0), (0, 0))) for image in (template, *searches)]
    return np.hstack(below)


def _picture(image: Tensor) -> Frame:
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def _map(scores: Tensor, side: int) -> Frame:
    grey = np.rint(scores.numpy() * 255).astype(np.uint8)
    return np.repeat(cv2.resize(grey, (side, side), interpolation=cv2.INTER_NEAREST)[..., np.newaxis], 3, axis=2)


def _drawn(picture: Frame, box_uvwh: Tensor, colour: tuple[int, int, int]) -> Frame:
    u, v, w, h = box_uvwh.tolist()
    middle = picture.shape[1] / 2
    corners = [round(middle + value) for value in (u - w / 2, v - h / 2, u + w / 2, v + h / 2)]
    cv2.rectangle(picture, (corners[0], corners[1]), (corners[2], corners[3]), colour, 1)
    return picture
