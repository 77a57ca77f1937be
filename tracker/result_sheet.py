"""Draw a search on one picture: what was asked with and what was found."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from tracker.geometry import Box
from tracker.interface import Frame

_TILE = 192  # pixels, of a picture
_STRIP = 36  # pixels, of the two lines of text below it
_FRAME = 3  # pixels, of the coloured line around it
_COLUMNS = 6
_LETTERS = 30  # of a line
_ASKED, _SAME, _OTHER = (255, 214, 0), (0, 230, 118), (110, 110, 110)  # RGB
_GROUND = 32
_FONT = cv2.FONT_HERSHEY_SIMPLEX


class Shown(NamedTuple):
    """Hold what was found."""

    picture: Frame | None  # None: it is gone
    name: str
    similarity: float
    same: bool  # it has a green frame then


def result_sheet(query: Frame, box: Box | None, found: Sequence[Shown]) -> Frame:
    """Return a sheet of tiles: the picture that was asked with, the box drawn in it, then each one found."""
    marked = query.copy()
    if box is not None:
        x, y, w, h = box.to_xywh()
        width = max(1, round(2 * max(query.shape[:2]) / _TILE))  # two pixels on the tile
        cv2.rectangle(marked, (round(x), round(y)), (round(x + w), round(y + h)), _ASKED, width)
    tiles = [_tile(marked, ("asked", ""), _ASKED)]
    for one in found:
        text = (f"{one.similarity:.3f}{' same' if one.same else ''}", one.name)
        tiles.append(_tile(one.picture, text, _SAME if one.same else _OTHER))
    columns = min(len(tiles), _COLUMNS)
    tiles += [np.full_like(tiles[0], _GROUND)] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[first : first + columns]) for first in range(0, len(tiles), columns)]
    return np.vstack(rows)


def _tile(picture: Frame | None, text: tuple[str, str], colour: tuple[int, int, int]) -> Frame:
    tile = np.full((_TILE + _STRIP, _TILE, 3), _GROUND, np.uint8)
    room = _TILE - 2 * _FRAME
    if picture is not None:
        height, width = picture.shape[:2]
        scale = room / max(height, width)
        size_wh = max(round(width * scale), 1), max(round(height * scale), 1)
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        small = cv2.resize(picture, size_wh, interpolation=way)
        top, left = (_TILE - size_wh[1]) // 2, (_TILE - size_wh[0]) // 2
        tile[top : top + size_wh[1], left : left + size_wh[0]] = small
    cv2.rectangle(tile, (1, 1), (_TILE - 2, _TILE - 2), colour, _FRAME - 1)
    for line, words in enumerate(text):
        plain = words.encode("ascii", "replace").decode()  # all that the font has
        short = plain if len(plain) <= _LETTERS else f"..{plain[2 - _LETTERS :]}"
        cv2.putText(tile, short, (4, _TILE + 13 + 16 * line), _FONT, 0.36, (230, 230, 230), 1, cv2.LINE_AA)
    return tile
