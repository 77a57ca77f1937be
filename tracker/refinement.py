"""Correct boxes with a network's refiner: what lies in a box now beside what lay in the first frame's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tracker.config import RefineConfig
from tracker.decode import BoxUVWH, Candidate, Moves, moved, moves_between, typical_moves
from tracker.models.windows import refiner_window
from tracker.runtime import FINE_STRIDE, Array, Runtime, Seen

_MOST_PASSES = 8
_SMALLEST = 2.0  # side of a refined box, crop pixels: below, a window holds nothing
_LARGEST = 0.25  # move that is followed: the refiner was trained on little more
_CALIBRATION_LARGEST = 0.3
_TRIES = 8  # of the first frame's box, moved, in each crop
_SHIFT, _GROWTH = 0.06, 0.08  # their standard deviations


@dataclass(frozen=True, slots=True)
class RefinedTarget:
    """Hold what is known of a target: the window over its first box, and what that box means."""

    window: Array  # (1, c, n, n)
    calibration: Moves  # from the refiner's box to the given one


class Refinement:
    """Refine boxes in what a runtime sees; stateless beside its settings."""

    def __init__(self, runtime: Runtime, config: RefineConfig) -> None:
        """Take runtime and settings. Raises ValueError where the network has no refiner, or for bad settings."""
        if not runtime.refines:
            raise ValueError("the table [refine] needs a network with a refiner, see model.refiner; or leave it out")
        if not 1 <= config.passes <= _MOST_PASSES:
            raise ValueError(f"refine.passes must be 1 to {_MOST_PASSES}, got {config.passes}")
        for name, value in (("share", config.share), ("calibration", config.calibration)):
            if not 0 <= value <= 1:
                raise ValueError(f"refine.{name} must be 0 to 1, got {value}")
        if not config.settled >= 0:
            raise ValueError(f"refine.settled must be 0 or more, got {config.settled}")
        self.runtime = runtime
        self.config = config
        drawn = np.random.default_rng(0).standard_normal((_TRIES // 2, 4)) * (_SHIFT, _SHIFT, _GROWTH, _GROWTH)
        self._tries = [(float(a), float(b), float(c), float(d)) for a, b, c, d in np.concatenate([drawn, -drawn])]

    def start(self, outlines: Array, boxes: Sequence[BoxUVWH]) -> RefinedTarget:
        """Return what is to be known of a target that lies at `boxes` in crops of the first frame, the plain one first.

        outlines: (N, c, h, w), of these crops. The calibration is the median, over all crops and some moves of the box,
        of what the refiner's answer lacks of the given box: people differ in what they draw a box around.
        """
        window = refiner_window(outlines[0], boxes[0], FINE_STRIDE)[np.newaxis]
        off = [
            moves_between(self._refined(window, outline, moved(box, by)), box)
            for outline, box in zip(outlines, boxes, strict=True)
            for by in self._tries
        ]
        return RefinedTarget(window, typical_moves(off, _CALIBRATION_LARGEST, self.config.calibration))

    def refine(self, target: RefinedTarget, outline: Array, box: BoxUVWH) -> BoxUVWH:
        """Return a box, found in a crop with that outline (c, h, w), as it was read again.

        Raises ValueError where the refiner's answer is no number: its weights are broken.
        """
        found = moved(self._refined(target.window, outline, box), target.calibration)
        share = self.config.share
        if share < 1:
            dx, dy, dw, dh = moves_between(box, found)
            found = moved(box, (share * dx, share * dy, share * dw, share * dh))
        u, v, w, h = found
        return u, v, max(w, min(_SMALLEST, box[2])), max(h, min(_SMALLEST, box[3]))

    def _refined(self, template: Array, outline: Array, box: BoxUVWH) -> BoxUVWH:
        """Return a box moved as the refiner says, pass after pass, until it hardly moves."""
        for _ in range(self.config.passes):
            window = refiner_window(outline, box, FINE_STRIDE)[np.newaxis]
            moves = self.runtime.refine(template, window)[0].tolist()
            if not all(map(math.isfinite, moves)):
                raise ValueError("the refiner's answer is not finite: the weight file is broken")
            dx, dy, dw, dh = (min(max(by, -_LARGEST), _LARGEST) for by in moves)
            box = moved(box, (dx, dy, dw, dh))
            if max(map(abs, moves)) < self.config.settled:
                break
        return box


def refined_candidate(
    refinement: Refinement | None, target: RefinedTarget | None, seen: Seen, candidate: Candidate, region: int = 0
) -> Candidate:
    """Return what was found in one of the regions seen, its box read again where there is a refiner and it is sure."""
    if refinement is None or target is None or candidate.score < refinement.config.trust:
        return candidate
    assert seen.outline is not None
    return Candidate(*refinement.refine(target, seen.outline[region], candidate.box_uvwh), candidate.score)
