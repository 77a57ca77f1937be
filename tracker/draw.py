"""Draw predictions on a frame, and write pictures."""

from collections.abc import Sequence
from pathlib import Path

import cv2

from tracker.geometry import Box
from tracker.interface import Frame, Prediction

Colour = tuple[int, int, int]  # RGB

# Bright, and apart from each other also to colour-blind eyes; no red, which says that a target is lost.
_TARGET_COLOURS: tuple[Colour, ...] = (
    (0, 230, 118),
    (64, 169, 255),
    (255, 214, 0),
    (213, 128, 255),
    (0, 229, 255),
    (255, 145, 77),
)
_LOST_COLOUR: Colour = (255, 48, 48)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def write_picture(path: Path, picture: Frame) -> None:
    """Write a picture in the format that the file's ending names. Raises ValueError where it cannot."""
    try:
        written = cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    except cv2.error as error:  # an ending that OpenCV does not know
        raise ValueError(f"cannot write {path}: name a .png or .jpg file") from error
    if not written:
        raise ValueError(f"cannot write {path}: is there such a folder, and may you write there?")


def draw_predictions(frame: Frame, predictions: Sequence[Prediction], frame_number: int | None = None) -> Frame:
    """Return a copy of the frame with each box, its score and, where there are several, the number of its target.

    A lost target has a dashed red box. Lines and letters grow with the frame.
    """
    image = frame.copy()
    width = max(1, round(min(image.shape[:2]) / 240))
    for target, prediction in enumerate(predictions):
        colour = _LOST_COLOUR if prediction.lost else _TARGET_COLOURS[target % len(_TARGET_COLOURS)]
        left, top, right, bottom = _outline(prediction.box)
        if prediction.lost:
            _dashed_rectangle(image, (left, top, right, bottom), colour, width)
        else:
            cv2.rectangle(image, (left, top), (right, bottom), colour, width)
        number = f"{target}: " if len(predictions) > 1 else ""
        text = f"{number}{prediction.score:.2f}{' lost' if prediction.lost else ''}"
        _label(image, text, (left, top), colour, width)
    if frame_number is not None:
        _label(image, str(frame_number), (0, 0), (255, 255, 255), width)
    return image


def _outline(box: Box) -> tuple[int, int, int, int]:
    """Return the indices of the first and last column and row that the box covers: left, top, right, bottom."""
    x, y, w, h = box.to_xywh()
    return round(x), round(y), max(round(x), round(x + w) - 1), max(round(y), round(y + h) - 1)


def _dashed_rectangle(image: Frame, sides: tuple[int, int, int, int], colour: Colour, width: int) -> None:
    left, top, right, bottom = sides
    dash = max(4, 4 * width)
    for x in range(left, right + 1, 2 * dash):
        for y in (top, bottom):
            cv2.line(image, (x, y), (min(x + dash - 1, right), y), colour, width)
    for y in range(top, bottom + 1, 2 * dash):
        for x in (left, right):
            cv2.line(image, (x, y), (x, min(y + dash - 1, bottom)), colour, width)


def _label(image: Frame, text: str, corner: tuple[int, int], colour: Colour, width: int) -> None:
    """Write dark text on a plate of the colour above a box corner, moved inside the frame."""
    scale = max(0.35, min(image.shape[:2]) / 900)
    stroke = max(1, round(scale * 1.5))
    (text_w, text_h), baseline = cv2.getTextSize(text, _FONT, scale, stroke)
    plate_w, plate_h = text_w + 2 * width + 2, text_h + baseline + 2 * width
    x = min(max(corner[0], 0), max(image.shape[1] - plate_w, 0))
    y = min(max(corner[1] - plate_h, 0), max(image.shape[0] - plate_h, 0))
    cv2.rectangle(image, (x, y), (x + plate_w - 1, y + plate_h - 1), colour, cv2.FILLED)
    cv2.putText(image, text, (x + width + 1, y + width + text_h), _FONT, scale, (0, 0, 0), stroke, cv2.LINE_AA)
