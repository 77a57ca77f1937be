"""Augmentations of RGB uint8 crops; every one takes the generator that it draws from."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Crop = NDArray[np.uint8]  # (S, S, 3), RGB


class Chances(NamedTuple):
    """Hold how likely each disturbance is, in [0, 1]."""

    grey: float
    blur: float
    cover: float


class Camera(NamedTuple):
    """Hold how a camera shows things: all crops that one object is learned from share it, as all frames of a video do.

    As chances, in [0, 1], see `draw_camera`; as drawn, see `taken_by`.
    """

    grey: float = 0.0
    dark: float = 0.0
    noise: float = 0.0
    coarse: float = 0.0


_DARKEST = 2.5  # times that the light is halved at most
_NOISIEST = 24.0  # standard deviation, of 255
_COARSEST = 1.6  # times that the pixels double in width at most


def draw_camera(rng: Generator, chances: Camera) -> Camera:
    """Return a camera: grey or not (1 or 0), and how strong each of its other faults is.

    These are how many times the light is halved, the noise's standard deviation, and how many times the pixels double
    in width. A chance of 0 draws nothing: who uses none of them sees what was seen without a camera.
    """
    dark, noise = _strength(rng, chances.dark, _DARKEST), _strength(rng, chances.noise, _NOISIEST)
    grey = float(chances.grey > 0 and rng.random() < chances.grey)
    return Camera(grey, dark, noise, _strength(rng, chances.coarse, _COARSEST))


def _strength(rng: Generator, chance: float, most: float) -> float:
    return most * float(rng.random()) if chance and rng.random() < chance else 0.0


def taken_by(crop: Crop, rng: Generator, camera: Camera) -> Crop:
    """Return the crop as a camera shows it; the noise of each crop is its own, and as coarse as its pixels."""
    if camera.grey:
        crop = to_grey(crop)
    if not camera.dark and not camera.noise and not camera.coarse:
        return crop
    height, width = crop.shape[:2]
    if camera.coarse:
        share = 0.5**camera.coarse
        few = max(round(width * share), 1), max(round(height * share), 1)
        crop = cv2.resize(crop, few, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    shown = crop * np.float32(0.5**camera.dark)
    if camera.noise:
        grain = rng.standard_normal((*crop.shape[:2], 1 if camera.grey else 3), np.float32)
        shown = shown + np.float32(camera.noise * 0.5 ** (camera.dark / 2)) * grain
    taken = np.asarray(np.rint(shown).clip(0, 255), np.uint8)
    return cv2.resize(taken, (width, height)) if camera.coarse else taken  # type: ignore[return-value]


def jitter_colour(crop: Crop, rng: Generator, strength: float) -> Crop:
    """Change brightness, contrast and saturation, each by a factor within 1 +- strength."""
    brightness, contrast, saturation = 1 + strength * rng.uniform(-1, 1, 3)
    gain = brightness * contrast
    offset = float(crop.mean()) * brightness * (1 - contrast)
    # Saturation mixes each pixel with its grey value (weights of ITU-R BT.601).
    to_grey = np.array([[0.299, 0.587, 0.114]] * 3)
    mix = gain * (saturation * np.eye(3) + (1 - saturation) * to_grey)
    matrix = np.hstack([mix, np.full((3, 1), offset)]).astype(np.float32)
    return cv2.transform(crop, matrix)  # type: ignore[return-value]


def to_grey(crop: Crop) -> Crop:
    """Return the crop without colour, still three channels."""
    return cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)  # type: ignore[return-value]


def blur_motion(crop: Crop, rng: Generator, max_length: int) -> Crop:
    """Blur along a line of random direction, 3 to `max_length` pixels long."""
    length = int(rng.integers(3, max_length + 1))
    kernel = np.zeros((length, length), np.float32)
    middle = (length - 1) / 2
    angle = rng.uniform(0, np.pi)
    reach = np.linspace(-middle, middle, 4 * length)
    columns = np.round(middle + reach * np.cos(angle)).astype(int)
    rows = np.round(middle + reach * np.sin(angle)).astype(int)
    kernel[rows, columns] = 1
    return cv2.filter2D(crop, -1, kernel / kernel.sum())  # type: ignore[return-value]


def cover(crop: Crop, rng: Generator, max_share: float) -> Crop:
    """Cover a random rectangle, up to `max_share` of the crop's side each way, with one random colour."""
    side = crop.shape[0]
    height, width = (int(side * share) for share in rng.uniform(0.05, max_share, 2))
    top = int(rng.integers(0, side - height + 1))
    left = int(rng.integers(0, side - width + 1))
    covered = crop.copy()
    covered[top : top + height, left : left + width] = rng.integers(0, 256, 3)
    return covered


def disturb(crop: Crop, rng: Generator, colour: float, chances: Chances) -> Crop:
    """Return the crop with its colours jittered and, each by its chance, grey, blurred by motion or covered in part."""
    crop = jitter_colour(crop, rng, colour)
    if rng.random() < chances.grey:
        crop = to_grey(crop)
    if rng.random() < chances.blur:
        crop = blur_motion(crop, rng, max_length=9)
    if rng.random() < chances.cover:
        crop = cover(crop, rng, max_share=0.3)
    return crop


def stretch(crop: Crop, factor: float, size: int) -> Crop:
    """Return the middle of the crop, size x size, made wider by `factor` and lower by as much around its middle."""
    middle = (crop.shape[0] - 1) / 2
    to = (size - 1) / 2
    # Output pixel (u, v) shows input pixel (middle + (u - to) / factor, middle + (v - to) * factor).
    matrix = np.array([[1 / factor, 0.0, middle - to / factor], [0.0, factor, middle - to * factor]])
    return cv2.warpAffine(  # type: ignore[return-value]
        crop, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )


def paste(crop: Crop, patch: Crop, box_xywh: tuple[float, float, float, float]) -> Crop:
    """Lay the ellipse inscribed in a patch (h, w, 3) over a box of the crop, pixels, with a soft rim."""
    side = crop.shape[0]
    x, y, w, h = (round(value) for value in box_xywh)
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, side), min(y + h, side)
    if x1 <= x0 or y1 <= y0:
        return crop
    resized = cv2.resize(patch, (w, h), interpolation=cv2.INTER_AREA if w < patch.shape[1] else cv2.INTER_LINEAR)
    across = (np.arange(w, dtype=np.float32) + 0.5) / w * 2 - 1
    down = (np.arange(h, dtype=np.float32) + 0.5) / h * 2 - 1
    radius = np.sqrt(across**2 + down[:, np.newaxis] ** 2)
    alpha = np.clip((1 - radius) * 5, 0, 1)[y0 - y : y1 - y, x0 - x : x1 - x, np.newaxis]
    pasted = crop.copy()
    under = pasted[y0:y1, x0:x1]
    pasted[y0:y1, x0:x1] = under + alpha * (resized[y0 - y : y1 - y, x0 - x : x1 - x].astype(np.float32) - under)
    return pasted


def turn(crop: Crop, degrees: float, fill: tuple[float, float, float]) -> Crop:
    """Turn the crop around its middle, anticlockwise; what comes from outside is `fill`."""
    side = crop.shape[0]
    middle = (side - 1) / 2  # of the pixels' indices, which is what OpenCV counts in
    matrix = cv2.getRotationMatrix2D((middle, middle), degrees, 1.0)
    return cv2.warpAffine(  # type: ignore[return-value]
        crop, matrix, (side, side), borderMode=cv2.BORDER_CONSTANT, borderValue=fill
    )
