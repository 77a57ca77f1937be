"""Scores of a track against ground truth, and of a tracker's own score: numpy only.

Boxes are (n, 4) arrays x, y, w, h in pixels. A frame whose ground truth is NaN (the object is absent) counts in no
score; a predicted box that is not finite counts as a miss. Success and precision are those of OTB (Wu, Lim and Yang,
TPAMI 2015) with 21 overlap thresholds and the first frame counted; average overlap and success rate at one threshold
are those of GOT-10k (Huang, Zhao and Huang, TPAMI 2021), taken here over the same frames.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_THRESHOLDS = 21  # overlap 0, 0.05 ... 1: with `overlap > t` a perfect track scores 20/21
_RADIUS_PX = 20.0  # the distance at which precision is quoted


@dataclass(frozen=True, slots=True)
class TrackScore:
    """Hold the scores of one track, or their mean over several; all but `frames` are in [0, 1]."""

    frames: int  # those with ground truth
    success_auc: float
    precision: float  # at 20 px
    ao: float  # average overlap
    sr_50: float
    sr_75: float


def overlaps(boxes_xywh: Floats, truth_xywh: Floats) -> Floats:
    """Return the intersection over union of each pair of rows, shape (n,): NaN where the truth is NaN."""
    boxes_xywh = _finite(boxes_xywh)
    low = np.maximum(boxes_xywh[:, :2], truth_xywh[:, :2])
    high = np.minimum(boxes_xywh[:, :2] + boxes_xywh[:, 2:], truth_xywh[:, :2] + truth_xywh[:, 2:])
    inter = np.prod(np.clip(high - low, 0, None), axis=1)
    union = np.prod(boxes_xywh[:, 2:], axis=1) + np.prod(truth_xywh[:, 2:], axis=1) - inter
    # two boxes without area have no union: they do not overlap
    result = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
    # equal boxes can come out a rounding error above 1, which would pass the threshold that none should pass
    return np.where(present(truth_xywh), np.minimum(result, 1.0), np.nan)


def centre_errors(boxes_xywh: Floats, truth_xywh: Floats) -> Floats:
    """Return the distance of the centres in pixels, shape (n,): NaN where the truth is NaN, inf for no finite box."""
    boxes_xywh = _finite(boxes_xywh)
    offsets = (boxes_xywh[:, :2] + boxes_xywh[:, 2:] / 2) - (truth_xywh[:, :2] + truth_xywh[:, 2:] / 2)
    errors = np.hypot(offsets[:, 0], offsets[:, 1])
    return np.where(present(truth_xywh), np.where(np.isnan(errors), np.inf, errors), np.nan)


def present(truth_xywh: Floats) -> NDArray[np.bool_]:
    """Return which rows are boxes, shape (n,): a row with a NaN says that the object is absent or unknown."""
    return np.asarray(~np.isnan(truth_xywh).any(axis=1))


def success_auc(boxes_xywh: Floats, truth_xywh: Floats) -> float:
    """Return the mean, over 21 thresholds t in [0, 1], of the share of frames with overlap > t."""
    values = _known(overlaps(boxes_xywh, truth_xywh))
    return float(np.mean(values[:, None] > np.linspace(0, 1, _THRESHOLDS)))


def precision(boxes_xywh: Floats, truth_xywh: Floats) -> float:
    """Return the share of frames whose centre is at most 20 px from the true one."""
    return float(np.mean(_known(centre_errors(boxes_xywh, truth_xywh)) <= _RADIUS_PX))


def average_overlap(boxes_xywh: Floats, truth_xywh: Floats) -> float:
    """Return the mean overlap (AO)."""
    return float(np.mean(_known(overlaps(boxes_xywh, truth_xywh))))


def success_rate(boxes_xywh: Floats, truth_xywh: Floats, threshold: float) -> float:
    """Return the share of frames with an overlap above the threshold (SR)."""
    return float(np.mean(_known(overlaps(boxes_xywh, truth_xywh)) > threshold))


def score_track(boxes_xywh: Floats, truth_xywh: Floats) -> TrackScore:
    """Return every score of one track. Raises ValueError for different lengths or when no frame has ground truth."""
    if boxes_xywh.shape != truth_xywh.shape:
        raise ValueError(f"{len(boxes_xywh)} boxes cannot be scored against {len(truth_xywh)} of ground truth")
    return TrackScore(
        frames=int(present(truth_xywh).sum()),
        success_auc=success_auc(boxes_xywh, truth_xywh),
        precision=precision(boxes_xywh, truth_xywh),
        ao=average_overlap(boxes_xywh, truth_xywh),
        sr_50=success_rate(boxes_xywh, truth_xywh, 0.5),
        sr_75=success_rate(boxes_xywh, truth_xywh, 0.75),
    )


def mean_score(scores: Iterable[TrackScore]) -> TrackScore:
    """Return the mean of track scores, each track counting once whatever its length; frames are added up."""
    rows = list(scores)
    if not rows:
        raise ValueError("no track to take the mean score of")
    return TrackScore(
        frames=sum(row.frames for row in rows),
        success_auc=float(np.mean([row.success_auc for row in rows])),
        precision=float(np.mean([row.precision for row in rows])),
        ao=float(np.mean([row.ao for row in rows])),
        sr_50=float(np.mean([row.sr_50 for row in rows])),
        sr_75=float(np.mean([row.sr_75 for row in rows])),
    )


def score_auroc(scores: Floats, overlaps: Floats) -> float:
    """Return how well a tracker's score tells hits (overlap > 0.5) from misses (overlap < 0.1), in [0, 1].

    It is the chance that a hit has the higher score of a random hit and miss, ties counting half: the area under the
    ROC curve. Both arrays have shape (n,); frames whose score or overlap is NaN count in neither class. NaN when a
    class is empty.
    """
    known = ~np.isnan(scores)
    hits = scores[known & (overlaps > 0.5)]
    misses = np.sort(scores[known & (overlaps < 0.1)])
    if not len(hits) or not len(misses):
        return float("nan")
    below = np.searchsorted(misses, hits, side="left") + np.searchsorted(misses, hits, side="right")
    return float(below.mean() / (2 * len(misses)))


def _finite(boxes_xywh: Floats) -> Floats:
    # NaN goes through the arithmetic silently, inf - inf does not
    return np.where(np.isfinite(boxes_xywh).all(axis=1, keepdims=True), boxes_xywh, np.nan)


def _known(values: Floats) -> Floats:
    known = values[~np.isnan(values)]
    if not len(known):
        raise ValueError("no frame has ground truth, so there is nothing to score")
    return known
