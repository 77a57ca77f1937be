"""Read response maps: where the object is and how large, in pixels of the search crop."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.config import RPNConfig, ScaleSearchConfig
from tracker.geometry import Box, CropGeometry, Number, context_side

Response = NDArray[np.float32]

BoxUVWH = tuple[float, float, float, float]  # the centre less the crop's middle, and the size, crop pixels
Moves = tuple[float, float, float, float]  # (dx, dy) over the size, and the log growth of both sides

_CONTEXT = 0.5  # of the squares whose sides are compared for a change of size: half of w + h, as in the paper
_FLAT = 1e-4  # logits that differ by less are equal: the interpolation's rounding is below it


@dataclass(frozen=True, slots=True)
class Candidate:
    """Hold what a decoder found: the centre's offset from the crop's middle and the size, in crop pixels."""

    du: float
    dv: float
    w: float
    h: float
    score: float

    @property
    def box_uvwh(self) -> BoxUVWH:
        """The box: its centre less the crop's middle, and its size."""
        return self.du, self.dv, self.w, self.h

    def scored(self, score: float) -> "Candidate":
        """Return the same box with another score."""
        return Candidate(self.du, self.dv, self.w, self.h, score)

    def in_frame(self, region: CropGeometry) -> Box:
        """Return the box in pixels of the frame that the crop was cut from."""
        middle = region.size / 2
        return region.box_to_frame(Box(middle + self.du, middle + self.dv, self.w, self.h))


def moved(box: BoxUVWH, by: Moves) -> BoxUVWH:
    """Return a box moved."""
    u, v, w, h = box
    dx, dy, dw, dh = by
    return u + dx * w, v + dy * h, w * math.exp(dw), h * math.exp(dh)


def moves_between(box: BoxUVWH, other: BoxUVWH) -> Moves:
    """Return the moves that lead from a box to another one: the inverse of `moved`."""
    u, v, w, h = box
    x, y, width, height = other
    return (x - u) / w, (y - v) / h, math.log(width / w), math.log(height / h)


def typical_moves(moves: Sequence[Moves], largest: float, share: float) -> Moves:
    """Return the share of their median, each of its parts held within `largest`: what a given box means."""
    dx, dy, dw, dh = (share * np.median(moves, axis=0).clip(-largest, largest)).tolist()
    return dx, dy, dw, dh


@cache
def cosine_window(cells: int) -> Response:
    """Return a Hann window (cells, cells) that sums to 1 and is nowhere zero; made once a size and read-only."""
    hann = np.hanning(cells + 2)[1:-1]
    product = np.outer(hann, hann)
    window: Response = (product / product.sum()).astype(np.float32)
    window.flags.writeable = False
    return window


def windowed(scores: Response, influence: float) -> Response:
    """Return scores (h, h), none negative, lowered away from the middle: by up to the share `influence` at the rim."""
    return scores * _window_weights(len(scores), influence)


@cache
def _window_weights(cells: int, influence: float) -> Response:
    window = cosine_window(cells)
    weights: Response = 1 - influence + influence * window / window.max()
    weights.flags.writeable = False
    return weights


def check_finite(answer: float) -> None:
    """Raise ValueError for an answer that is no number, which no frame gives."""
    if not math.isfinite(answer):
        raise ValueError("the features are not finite: the weight file is broken, or the precision too low")


class ResponsePyramid:
    """Decode the scale search of SiamFC: one response a scale, the best scale and place win."""

    def __init__(self, config: ScaleSearchConfig, stride: int) -> None:
        self.config = config
        self.stride = stride
        middle = config.scales // 2
        exponents = np.arange(config.scales) - middle
        self.factors: tuple[float, ...] = tuple(float(config.scale_step**e) for e in exponents)
        self._penalties = np.where(exponents == 0, 1.0, config.scale_penalty)

    def decode(
        self, responses: Response, size_wh: tuple[float, float], answers: Response | None = None
    ) -> tuple[Candidate, int]:
        """Return the candidate and the index of its scale.

        responses: (scales, h, h) logits, one a scale factor in `factors`. size_wh: of the object in crop pixels. The
        candidate's size is smoothed, in pixels of the crop of the scale that won. answers: (scales, a, a) of an online
        filter with the same stride, about 1 on the object. Raises ValueError for responses that are not finite.
        """
        config = self.config
        cells = responses.shape[-1] * config.upsample
        large = [cv2.resize(r, (cells, cells), interpolation=cv2.INTER_CUBIC) for r in responses]
        floor = min(float(r.min()) for r in large)  # penalties act on heights above it: logits may be negative
        heights = np.array([(float(r.max()) - floor) * p for r, p in zip(large, self._penalties, strict=True)])
        check_finite(float(heights.max()))
        middle = config.scales // 2
        scale = int(np.argmax(heights)) if heights.max() > heights[middle] + _FLAT else middle
        response = large[scale]
        likely = _logistic(response)
        if answers is None:
            lifted = response - response.min()
            ranked = config.window_influence * cosine_window(cells)
            if lifted.max() > _FLAT:
                ranked = ranked + (1 - config.window_influence) * lifted / lifted.sum()
        else:
            spread = np.maximum(self._spread(answers[scale], cells), np.float32(0))
            likely += config.filter_share * (spread - likely)
            ranked = windowed(likely, config.window_influence)
        row, column = np.unravel_index(int(np.argmax(ranked)), ranked.shape)
        pixel = self.stride / config.upsample
        factor = self.factors[scale]
        # In the crop of this scale the object would keep its size; the smoothed size lies between that and 1 / factor.
        size = config.size_smoothing + (1 - config.size_smoothing) / factor
        candidate = Candidate(
            du=(float(column) + 0.5 - cells / 2) * pixel,
            dv=(float(row) + 0.5 - cells / 2) * pixel,
            w=size_wh[0] * size,
            h=size_wh[1] * size,
            score=min(max(float(likely[row, column]), 0.0), 1.0),
        )
        return candidate, scale

    def _spread(self, answers: Response, cells: int) -> Response:
        """Return the middle (cells, cells) of answers, enlarged as the responses are."""
        side = len(answers) * self.config.upsample
        large = cv2.resize(answers, (side, side), interpolation=cv2.INTER_CUBIC)
        middle = (side - 1) / 2  # of the indices; it may lie between two
        return cv2.getRectSubPix(large, (cells, cells), (middle, middle))  # type: ignore[return-value]


def resampled(answers: Response, cells: int, step: float) -> Response:
    """Return answers (h, h) interpolated bicubically to (cells, cells), `step` of its own apart, around its middle."""
    weights = _cubic_weights(len(answers), cells, step)
    spread: Response = np.asarray(weights @ answers @ weights.T, np.float32)
    return spread


@cache
def _cubic_weights(count: int, cells: int, step: float) -> Response:
    """Return the weights (cells, count) of cubic convolution (Keys 1981, a = -0.75) at places `step` apart."""
    at = (count - 1) / 2 + step * (np.arange(cells) - (cells - 1) / 2)
    first = np.floor(at).astype(int)
    weights = np.zeros((cells, count))
    for tap in range(-1, 3):
        distance = np.abs(at - (first + tap))
        near = ((1.25 * distance - 2.25) * distance) * distance + 1
        far = ((-0.75 * distance + 3.75) * distance - 6) * distance + 3
        column = np.clip(first + tap, 0, count - 1)  # the border goes on
        np.add.at(weights, (np.arange(cells), column), np.where(distance <= 1, near, far))
    fixed: Response = weights.astype(np.float32)
    fixed.flags.writeable = False
    return fixed


def _logistic(logits: Response) -> Response:
    return np.asarray((1 + np.tanh(logits / 2)) / 2, np.float32)  # without overflow


@dataclass(frozen=True, slots=True)
class Proposals:
    """Hold a score and a box for each cell of the search crop, and what a given box means beyond such a box."""

    scores: Response  # (h, h)
    boxes: Response  # (4, h, h): (u, v) from the crop's middle and (w, h), pixels of the crop
    calibration: Moves = (0.0, 0.0, 0.0, 0.0)

    def sizes(self, cells: NDArray[np.intp]) -> tuple[Response, Response]:
        """Return width and height, calibrated, of the boxes of some cells, counted row by row."""
        *_, dw, dh = self.calibration
        w, h = self.boxes.reshape(4, -1)[2:, cells]
        return w * math.exp(dw), h * math.exp(dh)

    def box(self, cell: int) -> BoxUVWH:
        """Return the box of a cell, calibrated."""
        u, v, w, h = self.boxes.reshape(4, -1)[:, cell].tolist()
        return moved((u, v, w, h), self.calibration)


def best_proposal(proposals: Proposals, size_wh: tuple[float, float], config: RPNConfig) -> Candidate:
    """Return the best box after penalties for a sudden change of size or shape and for distance from the middle.

    size_wh: of the object in the last frame, crop pixels; the candidate's size lies between it and the box's, nearer
    to the box the better its score. Raises ValueError for scores that are not finite, which no frame gives. Source: Li
    et al. 2018, section 4.3.
    """
    bounds = windowed(proposals.scores, config.window_influence).ravel()
    best = int(bounds.argmax())  # of what is no number, where there is one
    highest = float(bounds[best])
    check_finite(highest)
    box = proposals.box(best)
    penalty = _penalty(box[2:], size_wh, config.penalty_k)
    # Penalties only lower a cell: one that without them is no better than the best with them cannot win.
    cells = np.flatnonzero(bounds >= highest * penalty)
    if len(cells) > 1:
        penalties = _penalty(proposals.sizes(cells), size_wh, config.penalty_k)
        at = int((bounds[cells] * penalties).argmax())
        best, penalty = int(cells[at]), float(penalties[at])
        box = proposals.box(best)
    (last_w, last_h), (du, dv, box_w, box_h) = size_wh, box
    score = min(max(float(proposals.scores.ravel()[best]), 0.0), 1.0)
    smoothing = config.size_smoothing * penalty * score
    return Candidate(du, dv, last_w + smoothing * (box_w - last_w), last_h + smoothing * (box_h - last_h), score)


def second_peak(scores: Response, candidate: Candidate, stride: int) -> float:
    """Return the best score (h, h) of a cell outside the candidate's box, 0 where all lie inside.

    At least a cell and a half on each side counts as inside: a peak is that wide.
    """
    beside, cells = scores.copy(), len(scores)
    rows = _within(candidate.dv, candidate.h, cells, stride)
    beside[rows, _within(candidate.du, candidate.w, cells, stride)] = 0.0
    return max(float(beside.max()), 0.0)


def _within(centre: float, side: float, cells: int, stride: int) -> slice:
    """Return which of the cells lie within a side of a box, and a cell and a half on each side of its centre."""
    middle, reach = centre / stride + (cells - 1) / 2, max(side / 2 / stride, 1.5)
    return slice(max(math.ceil(middle - reach), 0), max(math.floor(middle + reach) + 1, 0))


def value_near(scores: Response, candidate: Candidate, stride: int) -> float:
    """Return the largest of the scores (h, h) around the candidate's centre, a cell to each side."""
    row, column = (
        min(max(round(offset / stride + (len(scores) - 1) / 2), 0), len(scores) - 1)
        for offset in (candidate.dv, candidate.du)
    )
    return float(scores[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].max())


def _penalty(size_wh: tuple[Number, Number], last_wh: tuple[float, float], penalty_k: float) -> Number:
    """Return the factor for a box that differs from the last size: 1 where it does not, of arrays one by one."""
    (w, h), (last_w, last_h) = size_wh, last_wh
    one = isinstance(w, float)  # of which Python's own functions take a fifth of the time
    larger: Any = max if one else np.maximum
    exp: Any = math.exp if one else np.exp
    grown = context_side(w, h, _CONTEXT) / context_side(last_w, last_h, _CONTEXT)
    stretched = w / h / (last_w / last_h)
    change = larger(grown, 1 / grown) * larger(stretched, 1 / stretched)
    penalty: Number = exp(-penalty_k * (change - 1))
    return penalty
