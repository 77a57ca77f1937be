"""Turn tracks into training pairs: a template crop and search crops that do or do not show the same object."""

import logging
import math
import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import Dataset

from tracker.crop import cut, mean_colour
from tracker.data.augment import Camera, Chances, disturb, draw_camera, jitter_colour, paste, stretch, taken_by
from tracker.data.track_pool import TrackPool
from tracker.data.tracks import ShownObject, Track, UnreadablePictureError
from tracker.geometry import Box, CropGeometry, search_side
from tracker.interface import Frame

_log = logging.getLogger(__name__)

_DRAWS = 10  # in place of one that met a picture that cannot be read; more in a row are no accident


@dataclass(frozen=True, slots=True)
class PairConfig:
    """Say how pairs are drawn and cut. Shares and chances are in [0, 1]; sizes and shifts in crop pixels."""

    template_size: int
    search_size: int
    context: float
    searches_per_template: int
    max_gap: int  # frames between template and search
    still_share: float  # of the templates, from tracks of one frame
    negative_share: float  # of the searches, showing another object
    same_class_share: float  # of the negatives, of the template's class
    max_shift: float
    max_scale: float  # largest factor on the size of the crop, and its inverse the smallest
    colour: float
    grey_chance: float
    blur_chance: float
    cover_chance: float
    template_shift: float  # largest shift of the template, crop pixels
    template_max_scale: float
    max_stretch: float  # largest factor on the search's width, and its inverse on the height
    distractor_chance: float  # of another object pasted beside or over the one in the search
    background_chance: float  # of another picture around the search's, where the crop reaches out of it
    camera: Camera = Camera()  # chances that template and searches are all grey, dark, noisy or coarse


class Pairs(NamedTuple):
    """Hold one template with its K searches, or a batch of them (then with a leading N)."""

    template: Tensor  # (3, T, T) uint8
    searches: Tensor  # (K, 3, S, S) uint8
    template_box: Tensor  # (4,), object (u, v) less the crop's middle, and its (w, h), crop pixels
    boxes: Tensor  # (K, 4), the same of the searches
    positive: Tensor  # (K,) bool

    @property
    def samples(self) -> int:
        """Number of pairs."""
        return self.positive.numel()


class Skips:
    """Count the draws that met a picture that cannot be read, in all processes that prepare pairs."""

    def __init__(self) -> None:
        self._count = multiprocessing.Value("q", 0)

    def __int__(self) -> int:
        return int(self._count.value)

    def add(self) -> None:
        """Count one more."""
        with self._count.get_lock():
            self._count.value += 1


class PairDataset(Dataset[Pairs]):
    """Draw pairs from tracks. Item i depends on the seed and i alone, so a resumed run sees what it would have seen.

    A draw that meets a picture that cannot be read is replaced by another one, and counted in `skipped`.
    """

    def __init__(
        self, tracks: Sequence[Track], weights: Mapping[str, float], config: PairConfig, seed: int, length: int
    ) -> None:
        """Weigh the tracks by their source as `TrackPool` does. Raises ValueError as that does."""
        self.drawer = PairDrawer(TrackPool(tracks, weights, config.still_share, config.same_class_share), config)
        self.seed = seed
        self.length = length
        self._skips = Skips()

    @property
    def skipped(self) -> int:
        """Number of draws so far that met a picture that cannot be read, in all processes."""
        return int(self._skips)

    def __len__(self) -> int:
        """Return the number of templates."""
        return self.length

    def __getitem__(self, index: int) -> Pairs:
        """Return template `index` with its searches. Raises ValueError where every draw meets unreadable pictures."""
        if not 0 <= index < self.length:
            raise IndexError(index)
        return self.drawer.draw(self.seed, index, self._skips)


class PairDrawer:
    """Draw and cut pairs out of a pool of tracks; where the pool comes from is another's business."""

    def __init__(self, pool: TrackPool, config: PairConfig) -> None:
        self.pool = pool
        self.config = config
        self.template_view = _View(config.template_size, config.template_shift, config.template_max_scale)
        self.search_view = _View(
            config.search_size, config.max_shift, config.max_scale, config.max_stretch, config.background_chance
        )

    def draw(self, seed: int, index: int, skips: Skips) -> Pairs:
        """Return a template with its searches: which, the pool, the seed and the index say.

        A draw that meets a picture that cannot be read is added to `skips`, and another one takes its place. Raises
        ValueError where every one of them does.
        """
        for draw in range(_DRAWS):
            try:
                return self._draw(np.random.default_rng((seed, index, draw) if draw else (seed, index)))
            except UnreadablePictureError as error:
                failure = error
                skips.add()
                _log.warning("%s: another pair is drawn", error)
        raise ValueError(f"{_DRAWS} draws in a row met pictures that cannot be read; the last: {failure}")

    def _draw(self, rng: Generator) -> Pairs:
        config = self.config
        track = self.pool.pick(rng)
        first = int(rng.integers(len(track.frames)))
        template = self._cut(track.frames[first], self.template_view, track, rng)
        searches = []
        positive = []
        for _ in range(config.searches_per_template):
            other = self.pool.pick_other(track, rng) if rng.random() < config.negative_share else None
            frame = _near(track, first, config.max_gap, rng) if other is None else _any_frame(other, rng)
            searches.append(self._distract(self._cut(frame, self.search_view, track, rng), track, rng))
            positive.append(other is None)
        camera = draw_camera(rng, config.camera)
        template, *searches = (shown.taken_by(camera, rng) for shown in (template, *searches))
        if rng.random() < 0.5:  # all crops together: the object keeps its side
            template, searches = template.flipped(), [search.flipped() for search in searches]
        return Pairs(
            to_batch([template.image])[0],
            to_batch([search.image for search in searches]),
            torch.tensor(template.box_uvwh, dtype=torch.float32),
            torch.tensor([search.box_uvwh for search in searches], dtype=torch.float32),
            torch.tensor(positive),
        )

    def _cut(self, frame: ShownObject, view: "_View", track: Track, rng: Generator) -> "_Shown":
        """Return the augmented crop and where it shows the object; `track` is what no background may show."""
        config = self.config
        image = frame.read()
        box = Box.from_xywh(*frame.box_xywh)
        scale = view.max_scale ** rng.uniform(-1, 1)
        per_crop = search_side(box.w, box.h, config.context, config.template_size, 1) * scale
        du, dv = view.max_shift * rng.uniform(-1, 1, 2)
        wider = view.max_stretch ** rng.uniform(-1, 1) if view.max_stretch > 1 else 1.0
        # What is stretched is cut with a margin, so that the stretched crop is full.
        margin = math.ceil(view.size * (max(wider, 1 / wider) - 1) / 2)
        size = view.size + 2 * margin
        region = CropGeometry(box.cx - du * per_crop / wider, box.cy - dv * per_crop * wider, size * per_crop, size)
        crop = cut(image, region, mean_colour(image))
        if rng.random() < view.background_chance:
            crop = self._surround(crop, region, image.shape, track, rng)
        if wider != 1:
            crop = stretch(crop, wider, view.size)
        chances = Chances(config.grey_chance, config.blur_chance, config.cover_chance)
        crop = disturb(crop, rng, config.colour, chances)
        return _Shown(crop, (du, dv, box.w / per_crop * wider, box.h / per_crop / wider))

    def _surround(
        self, crop: Frame, region: CropGeometry, shape: tuple[int, ...], track: Track, rng: Generator
    ) -> Frame:
        """Return the crop with another picture where it reaches out of its own: mean colour would tell the object."""
        (x0, y0), (x1, y1) = region.to_crop(0, 0), region.to_crop(shape[1], shape[0])
        left, top, right, bottom = math.ceil(x0), math.ceil(y0), math.floor(x1), math.floor(y1)
        if left <= 0 and top <= 0 and right >= region.size and bottom >= region.size:
            return crop
        other = self.pool.pick_other(track, rng) or self.pool.pick(rng)
        if other.video == track.video:
            return crop
        image = _any_frame(other, rng).read()
        height, width = image.shape[:2]
        side = min(height, width) * rng.uniform(0.7, 1.0)  # inside the picture: there is no plain colour
        cx = side / 2 + rng.random() * (width - side)
        cy = side / 2 + rng.random() * (height - side)
        around = cut(image, CropGeometry(cx, cy, side, region.size), mean_colour(image))
        inside = (slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0)))
        around[inside] = crop[inside]
        return around

    def _distract(self, search: "_Shown", track: Track, rng: Generator) -> "_Shown":
        """Return the search with another object pasted in, by chance: as large as the true one, beside or over it."""
        if rng.random() >= self.config.distractor_chance:
            return search
        other = self.pool.pick_other(track, rng)
        if other is None:
            return search
        frame = _any_frame(other, rng)
        image = frame.read()
        x, y, w, h = (round(value) for value in frame.box_xywh)
        patch = image[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)]
        if patch.shape[0] < 4 or patch.shape[1] < 4:
            return search
        patch = jitter_colour(patch, rng, self.config.colour)
        du, dv, width, height = search.box_uvwh
        size = rng.uniform(0.6, 1.3) * (width * height / (patch.shape[0] * patch.shape[1])) ** 0.5
        w, h = max(size * patch.shape[1], 4.0), max(size * patch.shape[0], 4.0)
        # Its centre lies 0.55 to 1.6 half sizes of both from the object's: from half over it to well beside it.
        angle, reach = rng.uniform(0, 2 * math.pi), rng.uniform(0.55, 1.6)
        u = du + reach * math.cos(angle) * (width + w) / 2
        v = dv + reach * math.sin(angle) * (height + h) / 2
        middle = self.config.search_size / 2
        pasted = paste(search.image, patch, (middle + u - w / 2, middle + v - h / 2, w, h))
        return replace(search, image=pasted)


@dataclass(frozen=True, slots=True)
class _View:
    """Say how a crop is cut; see `PairConfig` for the meaning."""

    size: int
    max_shift: float
    max_scale: float
    max_stretch: float = 1.0
    background_chance: float = 0.0


@dataclass(frozen=True, slots=True)
class _Shown:
    """Hold a crop and the object in it: centre less the crop's middle, and size, crop pixels."""

    image: Frame
    box_uvwh: tuple[float, float, float, float]

    def taken_by(self, camera: Camera, rng: Generator) -> "_Shown":
        return replace(self, image=taken_by(self.image, rng, camera))

    def flipped(self) -> "_Shown":
        u, v, w, h = self.box_uvwh
        return _Shown(self.image[:, ::-1], (-u, v, w, h))


def _near(track: Track, first: int, max_gap: int, rng: Generator) -> ShownObject:
    low, high = max(first - max_gap, 0), min(first + max_gap, len(track.frames) - 1)
    return track.frames[int(rng.integers(low, high + 1))]


def _any_frame(track: Track, rng: Generator) -> ShownObject:
    return track.frames[int(rng.integers(len(track.frames)))]


def to_batch(crops: Sequence[Frame]) -> Tensor:
    """Stack crops into a uint8 tensor (N, 3, size, size), channels last in memory."""
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)  # a view: the bytes stay (N, H, W, 3)
