"""Figures of a verifier: how well similarities tell pairs of one thing from pairs of two. NumPy only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RocCurve:
    """Hold what each threshold would do, strictest first: pairs at or above it are called the same.

    Each array has shape (n,): thresholds, and the shares of different and of same pairs that are called the same.
    """

    thresholds: Floats  # the first is inf: nothing is the same
    false_accepts: Floats
    true_accepts: Floats


@dataclass(frozen=True, slots=True)
class Interval:
    """Hold a figure and the bounds that hold 95 % of it when the pairs are drawn again."""

    value: float
    low: float
    high: float


def roc_curve(same: Floats, different: Floats) -> RocCurve:
    """Return the curve of the similarities of pairs of one thing (n,) and of two (m,).

    Raises ValueError where a kind is missing or a similarity is not finite.
    """
    for name, values in (("same", same), ("different", different)):
        if not len(values):
            raise ValueError(f"there are no pairs that are {name}, so nothing can be told apart")
        if not np.isfinite(values).all():
            raise ValueError(f"similarities of pairs that are {name} are not finite")
    thresholds = np.unique(np.concatenate([same, different]))[::-1]
    accepted = [  # not 1 - refused / n: of 100 pairs one would be a hair more than 0.01
        (len(values) - np.searchsorted(np.sort(values), thresholds, side="left")) / len(values)
        for values in (different, same)
    ]
    return RocCurve(np.append(np.inf, thresholds), *(np.append(0.0, share) for share in accepted))


def area(curve: RocCurve) -> float:
    """Return the area under the curve: the chance that a same pair is more similar, ties counting half."""
    return float(np.trapezoid(curve.true_accepts, curve.false_accepts))


def equal_error_rate(curve: RocCurve) -> float:
    """Return the rate at which as many same pairs are refused as different ones accepted, between two thresholds."""
    gap = (1 - curve.true_accepts) - curve.false_accepts  # falls from 1 to -1
    after = int(np.argmax(gap <= 0))
    part = gap[after - 1] / (gap[after - 1] - gap[after])
    low, high = curve.false_accepts[after - 1 : after + 1]
    return float(low + part * (high - low))


def true_accepts_at(curve: RocCurve, false_accepts: float) -> float:
    """Return the share of same pairs accepted where at most that share of different ones is (TAR@FAR)."""
    return float(curve.true_accepts[_last_within(curve, false_accepts)])


def threshold_for(curve: RocCurve, false_accepts: float) -> float:
    """Return the lowest threshold that accepts at most that share of different pairs; inf where none does."""
    return float(curve.thresholds[_last_within(curve, false_accepts)])


def threshold_above(different: Floats, false_accepts: float) -> float:
    """Return the lowest threshold that accepts at most that share of pairs of two things (m,), whatever the others.

    Raises ValueError where there are none, one is not finite, or the rate is not in [0, 1].
    """
    if not 0 <= false_accepts <= 1:
        raise ValueError(f"a rate of false accepts must be in [0, 1], got {false_accepts}")
    if not len(different) or not np.isfinite(different).all():
        raise ValueError("a threshold needs similarities of pairs that are different, all finite")
    strictest = np.sort(different)[::-1]
    admitted = np.arange(1, len(strictest) + 1) / len(strictest) <= false_accepts
    refused = strictest[int(admitted.sum()) :]
    return float(np.nextafter(refused[0], np.inf)) if len(refused) else float(strictest[-1])


def _last_within(curve: RocCurve, false_accepts: float) -> int:
    if not 0 <= false_accepts <= 1:
        raise ValueError(f"a rate of false accepts must be in [0, 1], got {false_accepts}")
    return int(np.searchsorted(curve.false_accepts, false_accepts, side="right")) - 1


def bootstrap(
    same: Floats, different: Floats, figures: Sequence[Callable[[RocCurve], float]], rng: Generator, draws: int = 200
) -> list[Interval]:
    """Return figures of the curve with their intervals: both kinds of pairs are drawn again, with replacement."""
    drawn = [roc_curve(rng.choice(same, len(same)), rng.choice(different, len(different))) for _ in range(draws)]
    return intervals(roc_curve(same, different), drawn, figures)


def intervals(
    curve: RocCurve, drawn: Sequence[RocCurve], figures: Sequence[Callable[[RocCurve], float]]
) -> list[Interval]:
    """Return figures of a curve, each with its interval over curves of pairs that were drawn again."""
    spread = np.quantile([[figure(one) for figure in figures] for one in drawn], [0.025, 0.975], axis=0).T
    return [
        Interval(figure(curve), float(low), float(high)) for figure, (low, high) in zip(figures, spread, strict=True)
    ]


def fold_accuracy(similarities: Floats, same: NDArray[np.bool_], folds: NDArray[np.int64]) -> Interval:
    """Return the mean accuracy over folds, each judged by the threshold that is best on the others.

    similarities, same, folds: (n,), the last says which fold a pair is in. The interval is that of the mean over folds,
    1.96 standard errors. Source: Huang et al. 2007 (Labeled Faces in the Wild), section 4. Raises ValueError for fewer
    than two folds.
    """
    numbers = np.unique(folds)
    if len(numbers) < 2:
        raise ValueError("judging by folds needs at least two of them")
    accuracies = []
    for number in numbers:
        there = folds != number
        threshold = best_threshold(similarities[there], same[there])
        accuracies.append(float(np.mean((similarities[~there] >= threshold) == same[~there])))
    mean, error = float(np.mean(accuracies)), float(np.std(accuracies, ddof=1) / len(accuracies) ** 0.5)
    return Interval(mean, mean - 1.96 * error, mean + 1.96 * error)


def best_threshold(similarities: Floats, same: NDArray[np.bool_]) -> float:
    """Return the threshold that calls most pairs right; of equal ones the strictest."""
    curve = roc_curve(similarities[same], similarities[~same])
    right = curve.true_accepts * same.sum() + (1 - curve.false_accepts) * (~same).sum()
    return float(curve.thresholds[int(np.argmax(right))])


def calibration_error(chances: Floats, outcomes: NDArray[np.bool_], bins: int = 10) -> float:
    """Return the expected calibration error: the mean gap between a bin's mean chance and its share of hits.

    chances: (n,) in [0, 1]. Source: Guo et al. 2017, eq. 5.
    """
    rows = reliability(chances, outcomes, bins)
    total = sum(count for _, _, count in rows)
    return sum(count * abs(chance - share) for chance, share, count in rows) / total if total else float("nan")


def reliability(chances: Floats, outcomes: NDArray[np.bool_], bins: int = 10) -> list[tuple[float, float, int]]:
    """Return mean chance, share of hits and number of each bin of equal width that holds any."""
    places = np.minimum((chances * bins).astype(int), bins - 1)
    rows = []
    for place in range(bins):
        inside = places == place
        if inside.any():
            rows.append((float(chances[inside].mean()), float(outcomes[inside].mean()), int(inside.sum())))
    return rows
