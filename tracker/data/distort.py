"""Distortion of small pictures: the strokes of another hand."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Distortion:
    """Say how far a picture is distorted; each amount is drawn anew between its two signs."""

    rotate: float  # degrees
    shear: float  # sideways over upwards
    scale: float  # log of the factor on width, and apart from it on height
    shift: float  # over the picture's side
    bend: float  # over the side, standard deviation of the shifts of a 4x4 grid that is laid over the picture
    stroke_chance: float  # of strokes made thicker or softer


def distort(planes: NDArray[np.uint8], how: Distortion, rng: Generator) -> NDArray[np.uint8]:
    """Return a picture (C, S, S) turned, sheared, scaled, shifted and bent; what comes in from outside is 0."""
    image = np.ascontiguousarray(planes.transpose(1, 2, 0))
    size = image.shape[0]
    middle = (size - 1) / 2
    matrix = _matrix(how, rng)
    shift = rng.uniform(-1, 1, 2) * how.shift * size
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) - np.float32(middle)
    across = matrix[0, 0] * columns + matrix[0, 1] * rows + (middle + shift[0])
    down = matrix[1, 0] * columns + matrix[1, 1] * rows + (middle + shift[1])
    if how.bend:
        grid = rng.standard_normal((4, 4, 2)).astype(np.float32) * np.float32(how.bend * size)
        bends = cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
        across, down = across + bends[..., 0], down + bends[..., 1]
    moved = cv2.remap(image, across.astype(np.float32), down.astype(np.float32), cv2.INTER_LINEAR)
    if rng.random() < how.stroke_chance:
        thicker = rng.random() < 0.5
        moved = cv2.dilate(moved, np.ones((2, 2), np.uint8)) if thicker else cv2.GaussianBlur(moved, (3, 3), 0)
    return moved.reshape(image.shape).transpose(2, 0, 1)  # type: ignore[return-value]


def _matrix(how: Distortion, rng: Generator) -> NDArray[np.float64]:
    """Return the 2x2 map from places in the result to places in the picture."""
    angle = math.radians(rng.uniform(-how.rotate, how.rotate))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    shear = np.array([[1.0, rng.uniform(-how.shear, how.shear)], [0.0, 1.0]])
    return np.asarray(turn @ shear @ np.diag(np.exp(rng.uniform(-how.scale, how.scale, 2))))
