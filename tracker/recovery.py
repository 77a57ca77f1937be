"""Search for an object that was lost: where it was last sure, and step by step over the whole frame."""

import math
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tracker.config import RecoveryConfig
from tracker.crop import Fill, cut
from tracker.decode import Candidate
from tracker.geometry import Box, CropGeometry
from tracker.interface import Frame
from tracker.runtime import Code, Runtime, Seen

_SWEEPS_KEPT = 32  # of different sizes of frame and object
_MOST_STEPS = 256  # across the frame: an object of a few pixels is looked for here and there


class Seeker(Protocol):
    """Say how likely an object is in a region, however it is found there; a `Localiser` with a calibrated score."""

    runtime: Runtime

    def regions(self, box: Box) -> list[CropGeometry]:
        """Return where to search for an object last seen at `box`; the first one is used."""

    def code(self, model: Any) -> Code | None:  # noqa: ANN401 - each localiser has its own model
        """Return the template's code that the head needs."""

    def look(self, model: Any, seen: Seen, size_wh: tuple[float, float]) -> Candidate:  # noqa: ANN401
        """Return the best place in one region for an object of about that size, crop pixels; its score is a chance."""

    def regained(self, model: Any) -> Any:  # noqa: ANN401
        """Return the model, of when the object was last sure, for the place where it was found."""


class Sighting(NamedTuple):
    """Hold a place, frame pixels, and the chance that the lost object is there."""

    box: Box
    score: float


class Recovery:
    """Search a few regions a frame; stateless beside its settings."""

    def __init__(self, seeker: Seeker, config: RecoveryConfig) -> None:
        """Take who looks, and the settings. Raises ValueError for those out of range."""
        if config.regions < 1:
            raise ValueError(f"recovery.regions must be 1 or more, got {config.regions}")
        if not config.step > 0:
            raise ValueError(f"recovery.step must be above 0, got {config.step}")
        if not config.scales or min(config.scales) <= 0:
            raise ValueError(f"recovery.scales must be one or more above 0, got {list(config.scales)}")
        self.seeker = seeker
        self.config = config

    def search(self, frame: Frame, fill: Fill, box: Box, model: Any, turn: int) -> Sighting | None:  # noqa: ANN401
        """Return the best place that is likely enough, in frame number `turn` since the loss, from 0; or None.

        box, model: of the object when it was last sure.
        """
        seeker = self.seeker
        side = seeker.regions(box)[0].side
        places = places_to_search(box, side, (frame.shape[0], frame.shape[1]), turn, self.config)
        regions = [seeker.regions(place)[0].on_pixels() for place in places]
        code = seeker.code(model)
        seen = seeker.runtime.see(
            [cut(frame, each, fill) for each in regions], [] if code is None else [code] * len(regions)
        )
        best = None
        for at, (place, region) in enumerate(zip(places, regions, strict=True)):
            shown = region.box_to_crop(place)
            found = seeker.look(model, seen.part(at, 1), (shown.w, shown.h))
            if found.score > max(self.config.accept, best.score if best else 0.0):
                best = Sighting(found.in_frame(region), found.score)
        return best


def places_to_search(box: Box, side: float, frame_hw: tuple[int, int], turn: int, config: RecoveryConfig) -> list[Box]:
    """Return the boxes around which to search in frame number `turn` since the loss, from 0.

    box: of the object when it was last sure. side: of the square that is searched around it, frame pixels. The first
    place is that box; the others go over the frame, from there outwards, in squares that lie over each other; when all
    of the frame was seen, again for an object of another size.
    """
    places = _sweeps(box, side, frame_hw, config)
    each = config.regions - 1  # beside the last place
    chosen = [places[at % len(places)].tolist() for at in range(turn * each, (turn + 1) * each)]
    return [box, *(Box(x, y, box.w * scale, box.h * scale) for x, y, scale in chosen)]


@lru_cache(_SWEEPS_KEPT)
def _sweeps(box: Box, side: float, frame_hw: tuple[int, int], config: RecoveryConfig) -> NDArray[np.float64]:
    """Return places (n, 3), as x, y and scale, whose squares cover the frame, the nearest first, size after size."""
    sweeps = []
    for scale in config.scales:
        rows, columns = (_centres(length, side * scale * config.step) for length in frame_hw)
        x, y = (part.ravel() for part in np.meshgrid(columns, rows))
        nearest = np.hypot(x - box.cx, y - box.cy).argsort(kind="stable")
        sweeps.append(np.stack([x[nearest], y[nearest], np.full(len(x), scale)], axis=1))
    places = np.concatenate(sweeps)
    places.flags.writeable = False
    return places


def _centres(length: float, step: float) -> NDArray[np.float64]:
    """Return centres from half a step inside one end to half a step inside the other, at most a step apart.

    No more than `_MOST_STEPS` of them: else a step is longer.
    """
    count = min(max(math.ceil(length / step), 1), _MOST_STEPS)
    return length * (np.arange(count) + 0.5) / count
