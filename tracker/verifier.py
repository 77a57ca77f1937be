"""Say whether two pictures, or two places in pictures, show the same thing: one vector each, and their cosine."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.builder import RuntimeName, build_localiser, load_runtime
from tracker.crop import cut, mean_colour
from tracker.data.pair_lists import ListedPair
from tracker.frames import as_rgb_uint8, read_image
from tracker.geometry import Box, CropGeometry, check_initial_box
from tracker.interface import Frame
from tracker.localisers import Localiser, own_region
from tracker.runtime import embed_box
from tracker.verification import Floats

THRESHOLD = "verify_threshold"  # its name among the metrics of a weight file
_LEAST_SIDE = 4.0  # pixels of the picture: a smaller object has no features of its own
_COARSEST = 2.0  # picture pixels a crop pixel, beyond which sampling would skip some

Embedding = NDArray[np.float32]  # (D,), norm 1


class Verifier:
    """Embed objects and compare them; stateless beside the network."""

    def __init__(self, localiser: Localiser, threshold: float | None) -> None:
        """Take the network and what frames its objects, and the similarity from which on two are the same.

        Raises ValueError for a network without an embedding head.
        """
        if not localiser.runtime.embeds:
            raise ValueError("the model has no embedding head, so it cannot compare; choose another one")
        self.localiser = localiser
        self.threshold = threshold

    def embed(self, image: NDArray[Any], box: Box | None = None) -> Embedding:
        """Return the unit vector (D,) of the object that a box marks; without a box the picture is all object.

        image: RGB (H, W, 3) uint8 of any size; grey, alpha and uint16 are converted as in `frames.as_rgb_uint8`. What
        is larger than the network's crop is shrunk by area, and outside the picture is its mean colour. Raises
        ValueError for another array, a box outside it, an object under 4 pixels wide or high, and where the network
        gives numbers that are not finite.
        """
        frame = as_rgb_uint8(image)
        height, width = frame.shape[:2]
        marked = Box(width / 2, height / 2, width, height) if box is None else box
        check_initial_box(marked, (height, width))
        if min(marked.w, marked.h) < _LEAST_SIDE:
            raise ValueError(
                f"an object of {marked.w:g}x{marked.h:g} pixels is too small to be told from others; "
                f"it needs {_LEAST_SIDE:g} on each side"
            )
        runtime = self.localiser.runtime
        region = object_region(self.localiser, marked)
        shown = region.box_to_crop(marked)
        maps = runtime.see([_cut_sharp(frame, region)], ()).maps[0]
        vector = embed_box(runtime, maps, (0.0, 0.0, shown.w, shown.h))
        norm = float(np.linalg.norm(vector))
        if not (math.isfinite(norm) and norm > 0):
            raise ValueError("the embedding is not finite: the weight file is broken, or the precision too low")
        return np.asarray(vector / norm, np.float32)

    def similarity(self, a: Embedding, b: Embedding) -> float:
        """Return the cosine, in [-1, 1], of two vectors of `embed`. Raises ValueError for what cannot be compared."""
        if a.ndim != 1 or a.shape != b.shape:
            raise ValueError(f"vectors of shape {a.shape} and {b.shape} cannot be compared; use those of one model")
        found = float(a.astype(np.float64) @ b.astype(np.float64))
        if not math.isfinite(found):
            raise ValueError("a vector that is not finite cannot be compared")
        return min(max(found, -1.0), 1.0)

    def same(self, a: Embedding, b: Embedding, threshold: float | None = None) -> bool:
        """Return whether two vectors are as similar as the threshold or more; None: the one stored with the weights.

        Raises ValueError as `similarity` does, and as `chosen_threshold`.
        """
        return self.similarity(a, b) >= self.chosen_threshold(threshold)

    def chosen_threshold(self, threshold: float | None) -> float:
        """Return a threshold, for None the model's. Raises ValueError where it has none, and for NaN."""
        chosen = self.threshold if threshold is None else threshold
        if chosen is None:
            raise ValueError("the model has no threshold of its own; give one")
        if math.isnan(chosen):
            raise ValueError("a threshold must be a number")
        return chosen


def load_verifier(
    name_or_path: str | Path | None = None,
    device: str = "auto",
    runtime: RuntimeName = "auto",
    threads: int | None = None,
) -> Verifier:
    """Return a verifier with a zoo model, a weight file or a folder of exported graphs; see `builder.load_tracker`.

    Raises ValueError as that does, and for a model without an embedding head.
    """
    loaded = load_runtime(name_or_path, device, (), runtime, threads)
    return Verifier(build_localiser(loaded.runtime, loaded.config), loaded.metrics.get(THRESHOLD))


def object_region(localiser: Localiser, box: Box) -> CropGeometry:
    """Return the square that a tracker would cut around an object: what the embedding head was shown."""
    return own_region(localiser.regions(box))


def embed_file(verifier: Verifier, path: Path, box: Box | None = None) -> Embedding:
    """Return the vector of an image file, see `Verifier.embed`. Raises ValueError naming the file."""
    try:
        image = read_image(path)
    except OSError as error:
        raise ValueError(f"cannot read image {path}: {error.strerror or error}") from error
    except MemoryError as error:
        raise ValueError(f"cannot read image {path}: it takes more memory than there is") from error
    try:
        return verifier.embed(image, box)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def pair_similarities(verifier: Verifier, pairs: Sequence[ListedPair]) -> Floats:
    """Return the similarity (P,) of listed pictures; each is read and embedded once, however many pairs it is in.

    Raises ValueError naming a picture that cannot be read or embedded.
    """
    paths = {path for pair in pairs for path in (pair.first, pair.second)}
    vectors = {path: embed_file(verifier, path) for path in sorted(paths)}
    return np.array([verifier.similarity(vectors[pair.first], vectors[pair.second]) for pair in pairs])


def _cut_sharp(frame: Frame, region: CropGeometry) -> Frame:
    """Return the crop of a region; where it is much finer than the crop, it is first shrunk by area."""
    fill = mean_colour(frame)
    if region.frame_per_crop <= _COARSEST:
        return cut(frame, region, fill)
    half = region.side / 2
    (x0, x1), (y0, y1) = (
        (max(math.floor(centre - half), 0), min(math.ceil(centre + half), limit))
        for centre, limit in ((region.cx, frame.shape[1]), (region.cy, frame.shape[0]))
    )
    part = frame[y0:y1, x0:x1]
    size_wh = tuple(max(round(side / region.frame_per_crop), 1) for side in (x1 - x0, y1 - y0))
    shrunk = np.asarray(cv2.resize(part, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
    scale_x, scale_y = size_wh[0] / (x1 - x0), size_wh[1] / (y1 - y0)  # equal but for the rounding of the size
    place = CropGeometry((region.cx - x0) * scale_x, (region.cy - y0) * scale_y, region.size, region.size)
    return cut(shrunk, place, fill)
