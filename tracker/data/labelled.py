"""Samples with a class each, in memory: what an encoder learns from and is measured on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LabelledSamples:
    """Hold N samples and their classes.

    A picture is (C, S, S) uint8, a clip (T, C, S, S) uint8, a sequence (T, C) float32.
    """

    values: tuple[NDArray[np.generic], ...]
    labels: NDArray[np.int64]  # (N,), places in `names`
    names: tuple[str, ...]


def decode_picture(content: bytes, name: str, size: int, channels: int) -> NDArray[np.uint8]:
    """Return the picture (channels, size, size) that an image file holds: 1 channel is grey, 3 are RGB.

    Colour becomes grey by luminance and grey becomes three equal channels; palettes are resolved, transparency is
    dropped, 16 bits become 8 and black-and-white 0 and 255. The picture is stretched to a square, by area where it
    shrinks. Raises ValueError naming what is no picture, and for other numbers of channels.
    """
    if channels not in (1, 3):
        raise ValueError(f"pictures have 1 channel or 3, not {channels}")
    mode = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), mode) if content else None
    except cv2.error:  # more pixels than OpenCV takes, or than there is memory for
        image = None
    if image is None:
        raise ValueError(f"cannot read the picture {name}")
    if image.shape[:2] != (size, size):
        shrinks = max(image.shape[:2]) > size
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    planes = image.reshape(size, size, channels).transpose(2, 0, 1)
    return np.ascontiguousarray(planes, dtype=np.uint8)


def read_picture(path: Path, size: int, channels: int) -> NDArray[np.uint8]:
    """Return the picture of a file, see `decode_picture`. Raises ValueError naming a file that cannot be read."""
    try:
        return decode_picture(path.read_bytes(), str(path), size, channels)
    except OSError as error:
        raise ValueError(f"cannot read the picture {path}: {error}") from error


def gather(by_class: Sequence[tuple[str, Sequence[NDArray[np.generic]]]]) -> LabelledSamples:
    """Return the samples of named classes, in their order. Raises ValueError where there are none."""
    values = tuple(value for _, members in by_class for value in members)
    if not values:
        raise ValueError("there are no samples")
    labels = np.repeat(np.arange(len(by_class)), [len(members) for _, members in by_class])
    return LabelledSamples(values, labels, tuple(name for name, _ in by_class))


def with_rotations(samples: LabelledSamples) -> LabelledSamples:
    """Return samples of pictures and, as classes of their own, each class turned by 90, 180 and 270 degrees.

    Source: Santoro et al. 2016, section 4.1.
    """
    turned = [tuple(np.rot90(value, k, axes=(-2, -1)) for value in samples.values) for k in range(4)]
    labels = np.concatenate([samples.labels + k * len(samples.names) for k in range(4)])
    names = tuple(f"{name} turned {90 * k}" if k else name for k in range(4) for name in samples.names)
    return LabelledSamples(tuple(value for values in turned for value in values), labels, names)
