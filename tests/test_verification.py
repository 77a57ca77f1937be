"""Figures of a verifier, against hand arithmetic, plain loops and scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics

from tracker.verification import (
    Interval,
    RocCurve,
    area,
    best_threshold,
    bootstrap,
    calibration_error,
    equal_error_rate,
    fold_accuracy,
    intervals,
    reliability,
    roc_curve,
    threshold_above,
    threshold_for,
    true_accepts_at,
)

SAME, DIFFERENT = np.array([0.9, 0.8, 0.6, 0.3]), np.array([0.7, 0.4, 0.2, 0.1])


def drawn(seed: int, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return similarities with ties: 80 of same pairs and 120 of different ones."""
    rng = np.random.default_rng(seed)
    return rng.normal(0.6, 0.2, 80).round(decimals), rng.normal(0.3, 0.2, 120).round(decimals)


def test_curve_is_that_of_the_hand() -> None:
    curve = roc_curve(SAME, DIFFERENT)
    assert curve.thresholds.tolist() == [np.inf, 0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.2, 0.1]
    assert curve.true_accepts.tolist() == [0, 0.25, 0.5, 0.5, 0.75, 0.75, 1, 1, 1]
    assert curve.false_accepts.tolist() == [0, 0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 1]
    assert area(curve) == (4 + 4 + 3 + 2) / 16  # of 16 couples: how many different pairs each same one beats
    assert equal_error_rate(curve) == 0.25  # at 0.6: one of four wrong on either side
    assert true_accepts_at(curve, 0.0) == 0.5
    assert true_accepts_at(curve, 0.25) == 0.75
    assert threshold_for(curve, 0.0) == 0.8
    assert threshold_for(curve, 0.3) == 0.6


@pytest.mark.parametrize("seed", range(5))
def test_area_is_the_share_of_couples_in_order(seed: int) -> None:
    same, different = drawn(seed)
    won = sum((a > b) + 0.5 * (a == b) for a in same for b in different)
    labels, values = np.repeat([1, 0], [80, 120]), np.concatenate([same, different])
    found = area(roc_curve(same, different))
    assert found == pytest.approx(won / (80 * 120), abs=1e-12)
    assert found == pytest.approx(metrics.roc_auc_score(labels, values), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_curve_is_that_of_scikit_learn(seed: int) -> None:
    same, different = drawn(seed)
    labels, values = np.repeat([1, 0], [80, 120]), np.concatenate([same, different])
    false, true, thresholds = metrics.roc_curve(labels, values, drop_intermediate=False)
    curve = roc_curve(same, different)
    assert np.allclose(curve.false_accepts, false) and np.allclose(curve.true_accepts, true)
    assert np.array_equal(curve.thresholds[1:], thresholds[1:])


@pytest.mark.parametrize("seed", range(5))
def test_equal_error_rate_is_where_a_fine_walk_crosses(seed: int) -> None:
    same, different = drawn(seed)
    curve = roc_curve(same, different)
    walk = np.linspace(0, 1, 200_001)  # along the curve, straight between its points
    at = np.interp(walk, np.linspace(0, 1, len(curve.thresholds)), curve.false_accepts)
    refused = 1 - np.interp(walk, np.linspace(0, 1, len(curve.thresholds)), curve.true_accepts)
    crossing = at[np.argmin(np.abs(at - refused))]
    assert equal_error_rate(curve) == pytest.approx(crossing, abs=1e-4)


def test_perfect_and_useless_similarities() -> None:
    perfect, useless = roc_curve(np.array([0.9]), np.array([0.1])), roc_curve(np.array([0.5]), np.array([0.5]))
    assert (area(perfect), equal_error_rate(perfect)) == (1, 0)
    assert (area(useless), equal_error_rate(useless)) == (0.5, 0.5)
    assert true_accepts_at(useless, 0.99) == 0
    assert threshold_for(useless, 0.99) == np.inf


@pytest.mark.parametrize("count", [100, 1000, 3000])
def test_rate_that_is_just_met_counts(count: int) -> None:
    different = np.arange(count) / count
    admitted = count // 100
    curve = roc_curve(np.array([different[-admitted], 2.0]), different)
    assert true_accepts_at(curve, 0.01) == 1.0


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_threshold_admits_the_wanted_share_and_no_lower_one_does(seed: int, rate: float) -> None:
    same, different = drawn(seed)
    threshold = threshold_above(different, rate)
    assert (different >= threshold).mean() <= rate
    lower = sorted({value for value in different.tolist() if value < threshold}, reverse=True)
    assert not lower or (different >= lower[0]).mean() > rate
    assert (same >= threshold).mean() == true_accepts_at(roc_curve(same, different), rate)


@pytest.mark.parametrize(
    ("different", "rate", "message"),
    [
        ([], 0.1, "pairs that are different, all finite"),
        ([0.1, np.nan], 0.1, "pairs that are different, all finite"),
        ([0.1], 1.1, r"in \[0, 1\], got 1.1"),
        ([0.1], np.nan, r"in \[0, 1\], got nan"),
    ],
)
def test_threshold_of_nothing_is_refused(different: list[float], rate: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        threshold_above(np.array(different), rate)


def test_what_cannot_make_a_curve_is_refused() -> None:
    with pytest.raises(ValueError, match="no pairs that are same"):
        roc_curve(np.array([]), DIFFERENT)
    with pytest.raises(ValueError, match="no pairs that are different"):
        roc_curve(SAME, np.array([]))
    with pytest.raises(ValueError, match="that are different are not finite"):
        roc_curve(SAME, np.array([0.1, np.inf]))
    for rate in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="rate of false accepts"):
            threshold_for(roc_curve(SAME, DIFFERENT), rate)


def test_best_threshold_calls_most_pairs_right() -> None:
    for seed in range(5):
        same, different = drawn(seed)
        values, truth = np.concatenate([same, different]), np.repeat([True, False], [80, 120])
        shares = {t: float(np.mean((values >= t) == truth)) for t in [np.inf, *values.tolist()]}
        best = max(shares.values())
        assert best_threshold(values, truth) == max(t for t, share in shares.items() if share == best)


def test_folds_are_judged_by_the_others() -> None:
    similarities = np.array([0.9, 0.1, 0.8, 0.2, 0.15, 0.7])
    same = np.array([True, False, True, False, True, False])
    folds = np.array([0, 0, 1, 1, 2, 2])
    # Without fold 0 the strictest best threshold is 0.8, which tells both of fold 0; without fold 1 it is 0.9, which
    # refuses 0.8; without fold 2 it is 0.8, which refuses 0.15. The deviation of 1, 1/2 and 1/2 is 12 ** -0.5.
    found = fold_accuracy(similarities, same, folds)
    assert found.value == pytest.approx(2 / 3)
    half = 1.96 * 12**-0.5 / 3**0.5
    assert (found.low, found.high) == pytest.approx((2 / 3 - half, 2 / 3 + half))
    with pytest.raises(ValueError, match="at least two"):
        fold_accuracy(similarities, same, np.zeros(6, int))


def test_bootstrap_spreads_as_the_pairs_do() -> None:
    same, different = drawn(0)
    auc, eer = bootstrap(same, different, [area, equal_error_rate], np.random.default_rng(0))
    curve = roc_curve(same, different)
    assert (auc.value, eer.value) == (area(curve), equal_error_rate(curve))
    assert auc.low < auc.value < auc.high and eer.low <= eer.value <= eer.high
    again = bootstrap(same, different, [area, equal_error_rate], np.random.default_rng(0))
    assert again == [auc, eer]
    # Hanley and McNeil 1982, eq. 1: the standard error of the area.
    a = auc.value
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    error = ((a * (1 - a) + 79 * (q1 - a * a) + 119 * (q2 - a * a)) / (80 * 120)) ** 0.5
    assert auc.high - auc.low == pytest.approx(2 * 1.96 * error, rel=0.3)


def test_interval_is_of_the_curves_that_were_drawn() -> None:
    def made(share: float) -> RocCurve:
        return RocCurve(np.array([np.inf, 0.0]), np.array([0.0, 1.0]), np.array([share, 1.0]))

    (found,) = intervals(made(0.5), [made(share) for share in np.linspace(0, 1, 41)], [area])
    assert found == Interval(0.75, pytest.approx(0.5125), pytest.approx(0.9875))


def test_calibration_error_is_that_of_the_hand() -> None:
    chances, outcomes = np.array([0.95, 0.85, 0.15, 0.05, 1.0]), np.array([True, False, False, True, True])
    assert reliability(chances, outcomes, bins=2) == [
        (pytest.approx(0.1), 0.5, 2),
        (pytest.approx(2.8 / 3), pytest.approx(2 / 3), 3),
    ]
    assert calibration_error(chances, outcomes, bins=2) == pytest.approx((2 * 0.4 + 3 * (2.8 - 2) / 3) / 5)
    assert np.isnan(calibration_error(np.array([]), np.array([], bool)))


def test_chances_that_hold_have_no_calibration_error() -> None:
    rng = np.random.default_rng(0)
    chances = rng.random(200_000)
    assert calibration_error(chances, rng.random(200_000) < chances) < 0.01
    assert calibration_error(chances, rng.random(200_000) < chances**2) > 0.1
