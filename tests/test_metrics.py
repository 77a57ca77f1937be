import os
from pathlib import Path

import numpy as np
import pytest

from tests.drawn_sequences import moving
from tracker.data.otb import read_otb
from tracker.data.sequence import read_boxes
from tracker.geometry import Box, centre_distance, iou
from tracker.metrics import (
    TrackScore,
    average_overlap,
    centre_errors,
    mean_score,
    overlaps,
    precision,
    score_auroc,
    score_track,
    success_auc,
    success_rate,
)

ABSENT = [np.nan] * 4


def random_boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.concatenate([rng.uniform(0, 60, (n, 2)), rng.uniform(5, 50, (n, 2))], axis=1)


def test_overlap_and_centre_error_are_those_of_the_geometry() -> None:
    rng = np.random.default_rng(1)
    a, b = random_boxes(rng, 200), random_boxes(rng, 200)
    pairs = [(Box.from_xywh(*row), Box.from_xywh(*other)) for row, other in zip(a, b, strict=True)]
    np.testing.assert_allclose(overlaps(a, b), [iou(*pair) for pair in pairs], rtol=0, atol=1e-12)
    np.testing.assert_allclose(centre_errors(a, b), [centre_distance(*pair) for pair in pairs], rtol=0, atol=1e-9)


def test_a_perfect_track_has_the_ideal_scores() -> None:
    truth = moving(6)
    # overlap > t holds for all of the 21 thresholds but t = 1
    assert score_track(truth, truth) == TrackScore(6, pytest.approx(20 / 21), 1.0, 1.0, 1.0, 1.0)


def test_rounding_lifts_no_overlap_above_one() -> None:
    boxes = random_boxes(np.random.default_rng(3), 1000)
    assert overlaps(boxes, boxes).max() == 1.0


def test_a_still_track_scores_what_a_hand_computes() -> None:
    truth = moving(3, step=10, w=20, h=20)
    still = np.repeat(truth[:1], 3, axis=0)
    # overlaps 1, 10*20 / (800 - 200) = 1/3 and 0; thresholds below them: 20, 7 (0 .. 0.30) and 0 of 21
    np.testing.assert_allclose(overlaps(still, truth), [1, 1 / 3, 0])
    assert success_auc(still, truth) == pytest.approx((20 + 7 + 0) / (3 * 21))
    assert average_overlap(still, truth) == pytest.approx((1 + 1 / 3) / 3)
    assert success_rate(still, truth, 0.3) == pytest.approx(2 / 3)
    assert precision(still, truth) == 1.0  # 20 px is within 20 px
    assert precision(still - [0.01, 0, 0, 0], truth) == pytest.approx(2 / 3)


def test_an_overlap_equal_to_the_threshold_is_no_success() -> None:
    truth = np.array([[0.0, 0, 20, 10]])
    assert success_rate(np.array([[0.0, 0, 10, 10]]), truth, 0.5) == 0.0


def test_frames_without_truth_count_in_no_score() -> None:
    truth = moving(6)
    boxes = truth + [2, 1, 0, 0]
    absent = truth.copy()
    absent[[2, 4]] = ABSENT
    kept = [0, 1, 3, 5]
    assert score_track(boxes, absent) == score_track(boxes[kept], truth[kept])
    assert np.isnan(overlaps(boxes, absent)[[2, 4]]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_box_that_is_not_finite_is_a_miss(value: float) -> None:
    truth = moving(2)
    boxes = truth.copy()
    boxes[1, :] = value
    assert score_track(boxes, truth) == TrackScore(2, pytest.approx(10 / 21), 0.5, 0.5, 0.5, 0.5)


def test_boxes_without_area_do_not_overlap() -> None:
    nothing = np.array([[3.0, 3, 0, 0]])
    assert overlaps(nothing, nothing).tolist() == [0.0]


@pytest.mark.parametrize(
    ("boxes", "truth", "message"),
    [(moving(3), moving(4), "3 boxes cannot be scored against 4"), (moving(1), np.array([ABSENT]), "no frame has")],
)
def test_what_cannot_be_scored_is_an_error(boxes: np.ndarray, truth: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_track(boxes, truth)


def test_the_mean_counts_each_track_once() -> None:
    long, short = score_track(moving(9), moving(9)), score_track(moving(1), moving(1, x=500))
    mean = mean_score([long, short])
    assert (mean.frames, mean.precision, mean.ao) == (10, 0.5, 0.5)
    with pytest.raises(ValueError, match="no track"):
        mean_score([])


def test_auroc_is_the_chance_that_a_hit_outscores_a_miss() -> None:
    rng = np.random.default_rng(2)
    scores = rng.integers(0, 6, 80) / 5  # few values: many ties
    values = rng.uniform(0, 1, 80)
    hits, misses = scores[values > 0.5], scores[values < 0.1]
    slow = np.mean([(hit > miss) + 0.5 * (hit == miss) for hit in hits for miss in misses])
    assert score_auroc(scores, values) == pytest.approx(slow)
    assert 0.2 < slow < 0.8


def test_auroc_leaves_out_middling_and_unknown_frames() -> None:
    values = np.array([0.9, 0.8, 0.05, 0.3, np.nan, 0.9])
    scores = np.array([0.7, 0.6, 0.2, 1.0, 1.0, np.nan])
    assert score_auroc(scores, values) == 1.0
    assert np.isnan(score_auroc(scores[:2], values[:2]))  # no miss to tell apart


# The published boxes of these trackers, scored by their files' first rows and all; the figures are those that the
# data's own description gives: mean success AUC and precision@20px over seven sequences of OTB.
PUBLISHED = {
    "SiamBAN": (0.737, 1.00),
    "SiamRPN++": (0.717, 0.992),
    "DaSiamRPN": (0.659, 0.979),
    "SiamRPN": (0.652, 0.979),
    "CSRDCF": (0.608, 0.823),
    "SiamFC": (0.607, 0.857),
    "kcf": (0.406, 0.668),
}


@pytest.mark.data
@pytest.mark.parametrize("tracker", PUBLISHED)
def test_published_boxes_have_their_published_scores(tracker: str) -> None:
    root = Path(os.environ["SIAMTRACK_DATA"]) / "eval"
    sequences = read_otb(root / "OTB")
    assert len(sequences) == 7
    # all the files count pixels as the ground truth does, from 1
    boxes = [read_boxes(root / "published" / tracker / f"{sequence.name}.txt", 1) for sequence in sequences]
    score = mean_score(score_track(b, sequence.boxes_xywh) for b, sequence in zip(boxes, sequences, strict=True))
    assert (score.success_auc, score.precision) == pytest.approx(PUBLISHED[tracker], abs=0.0006)
