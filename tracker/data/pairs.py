"""Turn tracks into training pairs: a template crop and search crops that do or do not show the same object."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import Dataset

from tracker.crop import cut, mean_colour, to_batch
from tracker.data.augment import blur_motion, cover, jitter_colour, to_grey
from tracker.data.tracks import ObjectTrack, TrackFrame
from tracker.geometry import Box, CropGeometry, search_side
from tracker.interface import Frame


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


class Pairs(NamedTuple):
    """Hold one template with its K searches, or a batch of them (then with a leading N)."""

    template: Tensor  # (3, T, T) uint8
    searches: Tensor  # (K, 3, S, S) uint8
    centres: Tensor  # (K, 2), object (u, v) less the crop's middle, crop pixels
    positive: Tensor  # (K,) bool


class PairDataset(Dataset[Pairs]):
    """Draw pairs from tracks. Item i depends on the seed and i alone, so a resumed run sees what it would have seen."""

    def __init__(
        self, tracks: Sequence[ObjectTrack], weights: Mapping[str, float], config: PairConfig, seed: int, length: int
    ) -> None:
        """Weigh each track by `weights[track.source]` (1 where unnamed) times the root of its number of frames.

        A weight of 0 leaves a source out. Raises ValueError for a negative weight, or where no track is left.
        """
        if any(weight < 0 for weight in weights.values()):
            raise ValueError(f"weights of sources must not be negative, got {dict(weights)}")
        tracks = [track for track in tracks if weights.get(track.source, 1.0) > 0]
        if not tracks:
            raise ValueError("no track is left to draw from: the weight of every source is 0")
        self.config = config
        self.seed = seed
        self.length = length
        videos = [track for track in tracks if len(track.frames) > 1]
        stills = [track for track in tracks if len(track.frames) == 1]
        self.pools = [pool for pool in (_Pool(videos, weights), _Pool(stills, weights)) if pool.tracks]
        self.by_label: dict[str, list[ObjectTrack]] = defaultdict(list)
        for track in tracks:
            self.by_label[track.label.lower()].append(track)

    def __len__(self) -> int:
        """Return the number of templates."""
        return self.length

    def __getitem__(self, index: int) -> Pairs:
        """Return template `index` with its searches."""
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng((self.seed, index))
        config = self.config
        track = self._pick_pool(rng).pick(rng)
        first = int(rng.integers(len(track.frames)))
        template, _ = self._cut(track.frames[first], config.template_size, 0.25 * config.max_shift, rng)
        flip = bool(rng.random() < 0.5)  # both crops together: the object keeps its side
        searches, centres, positive = [], [], []
        for _ in range(config.searches_per_template):
            other = self._negative(track, rng) if rng.random() < config.negative_share else None
            frame = _near(track, first, config.max_gap, rng) if other is None else _any_frame(other, rng)
            search, centre = self._cut(frame, config.search_size, config.max_shift, rng)
            searches.append(search[:, ::-1] if flip else search)
            centres.append((-centre[0] if flip else centre[0], centre[1]))
            positive.append(other is None)
        return Pairs(
            to_batch([template[:, ::-1] if flip else template])[0],
            to_batch(searches),
            torch.tensor(centres, dtype=torch.float32),
            torch.tensor(positive),
        )

    def _pick_pool(self, rng: Generator) -> "_Pool":
        return self.pools[-1] if rng.random() < self.config.still_share else self.pools[0]

    def _negative(self, track: ObjectTrack, rng: Generator) -> ObjectTrack | None:
        """Return a track that shows another object, or None where the draw found none."""
        if rng.random() < self.config.same_class_share:
            alike = self.by_label[track.label.lower()]
            other = alike[int(rng.integers(len(alike)))]
        else:
            other = self._pick_pool(rng).pick(rng)
        return None if other.video == track.video else other

    def _cut(self, frame: TrackFrame, size: int, max_shift: float, rng: Generator) -> tuple[Frame, tuple[float, float]]:
        """Return the augmented crop and where the object's centre lies from its middle, in crop pixels."""
        config = self.config
        image = _read(frame.image)
        box = Box.from_xywh(*frame.box_xywh)
        scale = config.max_scale ** rng.uniform(-1, 1)
        side = search_side(box.w, box.h, config.context, config.template_size, size) * scale
        du, dv = max_shift * rng.uniform(-1, 1, 2)
        per_crop = side / size
        region = CropGeometry(box.cx - du * per_crop, box.cy - dv * per_crop, side, size)
        crop = cut(image, region, mean_colour(image))
        crop = jitter_colour(crop, rng, config.colour)
        if rng.random() < config.grey_chance:
            crop = to_grey(crop)
        if rng.random() < config.blur_chance:
            crop = blur_motion(crop, rng, max_length=9)
        if rng.random() < config.cover_chance:
            crop = cover(crop, rng, max_share=0.3)
        return crop, (du, dv)


class _Pool:
    """Draw tracks by weight."""

    def __init__(self, tracks: Sequence[ObjectTrack], weights: Mapping[str, float]) -> None:
        self.tracks = tracks
        raw = np.array([weights.get(track.source, 1.0) * len(track.frames) ** 0.5 for track in tracks])
        self.cumulative = np.cumsum(raw / raw.sum()) if len(tracks) else raw

    def pick(self, rng: Generator) -> ObjectTrack:
        at = int(np.searchsorted(self.cumulative, rng.random(), side="right"))
        return self.tracks[min(at, len(self.tracks) - 1)]


def _near(track: ObjectTrack, first: int, max_gap: int, rng: Generator) -> TrackFrame:
    low, high = max(first - max_gap, 0), min(first + max_gap, len(track.frames) - 1)
    return track.frames[int(rng.integers(low, high + 1))]


def _any_frame(track: ObjectTrack, rng: Generator) -> TrackFrame:
    return track.frames[int(rng.integers(len(track.frames)))]


def _read(path: Path) -> Frame:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError(f"cannot read the training picture {path}")
    return image  # type: ignore[return-value]
