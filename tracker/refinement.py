"""Correct boxes with a network's refiner: what lies in a box now beside what lay in the first frame's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tracker.config import RefineConfig
from tracker.decode import Candidate
from tracker.models.windows import REFINER_CELLS, REFINER_CONTEXT, sample_windows
from tracker.runtime import FINE_STRIDE, Array, Runtime, Seen

BoxUVWH = tuple[float, float, float, float]  # the centre less the crop's middle, and the size, crop pixels

_LARGEST = 0.25  # correction, over the size and of the log of it: the refiner was trained on little more
_CALIBRATION_LARGEST = 0.3
_TRIES = 8  # of the first frame's box, moved, in each crop
_SHIFT, _GROWTH = 0.06, 0.08  # their standard deviations


@dataclass(frozen=True, slots=True)
class RefinedTarget:
    """Hold what is known of a target: the window over its first box, and what that box means."""

    window: Array  # (1, c, n, n)
    calibration: Array  # (4,), given box less the refiner's: (dx, dy) over its size, log sizes


class Refinement:
    """Refine boxes in what a runtime sees; stateless beside its settings."""

    def __init__(self, runtime: Runtime, config: RefineConfig) -> None:
        """Take the runtime and the settings. Raises ValueError where the network has no refiner."""
        if not runtime.refines:
            raise ValueError('the table [refine] needs a network with model.refiner = "window", trained for it')
        self.runtime = runtime
        self.config = config
        drawn = np.random.default_rng(0).standard_normal((_TRIES // 2, 4)) * (_SHIFT, _SHIFT, _GROWTH, _GROWTH)
        self._tries = np.concatenate([drawn, -drawn]).astype(np.float32)

    def start(self, outlines: Array, boxes: Sequence[BoxUVWH]) -> RefinedTarget:
        """Return what is to be known of a target that lies at `boxes` in crops of the first frame, the plain one first.

        outlines: (N, c, h, w), of these crops. The calibration is the median, over all crops and some moves of the box,
        of what the refiner's answer lacks of the given box: people differ in what they draw a box around.
        """
        window = _windows(outlines[0], np.array(boxes[:1], np.float32))
        off = []
        for outline, box in zip(outlines, np.array(boxes, np.float32), strict=True):
            starts = _moved(box, self._tries)
            found = self._refined(window, outline, starts)
            off.append(np.hstack([(box[:2] - found[:, :2]) / found[:, 2:], np.log(box[2:] / found[:, 2:])]))
        typical = np.clip(np.median(np.concatenate(off), axis=0), -_CALIBRATION_LARGEST, _CALIBRATION_LARGEST)
        return RefinedTarget(window, (self.config.calibration * typical).astype(np.float32))

    def refine(self, target: RefinedTarget, outline: Array, box: BoxUVWH) -> BoxUVWH:
        """Return a box, found in a crop with that outline (c, h, w), as it was read again."""
        start = np.array([box], np.float32)
        found = _moved(self._refined(target.window, outline, start)[0], target.calibration[np.newaxis])[0]
        asked = np.hstack([(found[:2] - start[0, :2]) / start[0, 2:], np.log(found[2:] / start[0, 2:])])
        u, v, w, h = _moved(start[0], np.float32(self.config.share) * asked[np.newaxis])[0].tolist()
        return u, v, w, h

    def _refined(self, window: Array, outline: Array, boxes: Array) -> Array:
        """Return boxes (M, 4), each moved as the refiner says."""
        moves = self.runtime.refine(window, _windows(outline, boxes))
        return _moved(boxes, np.clip(moves, -_LARGEST, _LARGEST))


def refined_candidate(
    refinement: Refinement | None, target: RefinedTarget | None, seen: Seen, candidate: Candidate, region: int = 0
) -> Candidate:
    """Return what was found in one of the regions seen, its box read again where there is a refiner and it is sure."""
    if refinement is None or target is None or candidate.score < refinement.config.trust:
        return candidate
    assert seen.outline is not None
    return Candidate(*refinement.refine(target, seen.outline[region], candidate.box_uvwh), candidate.score)


def _windows(outline: Array, boxes: Array) -> Array:
    """Return the windows (M, c, n, n) over boxes (M, 4)."""
    stride = np.float32(FINE_STRIDE)
    sizes = boxes[:, 2:] * np.float32(REFINER_CONTEXT) / stride
    return np.ascontiguousarray(sample_windows(outline, boxes[:, :2] / stride, sizes, REFINER_CELLS).swapaxes(1, 2))


def _moved(boxes: Array, moves: Array) -> Array:
    """Return boxes (M, 4), or one for all, after moves (M, 4): over their size, and of the log of it."""
    return np.hstack([boxes[..., :2] + moves[:, :2] * boxes[..., 2:], boxes[..., 2:] * np.exp(moves[:, 2:])])
