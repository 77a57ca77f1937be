"""Boxes that are read again. The map of the tests says where each of its cells is, so a window tells its own box."""

from dataclasses import replace

import numpy as np
import pytest

from tests.tolerances import assert_close
from tracker.config import RefineConfig
from tracker.decode import Candidate
from tracker.models.windows import REFINER_CELLS, REFINER_CONTEXT
from tracker.refinement import BoxUVWH, Refinement, refined_candidate
from tracker.runtime import Array, Seen

CONFIG = RefineConfig(trust=0.4, share=1.0, passes=1, calibration=1.0)
FIRST = (0.0, 0.0, 48.0, 64.0)
OBJECT = (10.0, -6.0, 52.0, 60.0)  # in a later crop


def outline() -> Array:
    """Return a map (2, 25, 25) of each cell's u and v, pixels."""
    there = (np.arange(25, dtype=np.float32) - 12) * 8
    return np.stack([np.broadcast_to(there, (25, 25)), np.broadcast_to(there[:, None], (25, 25))])


class KnowingRuntime:
    """Move each window's box onto the object, and from there by a habit of its own."""

    refines = True

    def __init__(self, box: BoxUVWH, habit: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)) -> None:
        self.box = box
        self.habit = np.array(habit)
        self.templates: list[Array] = []

    def refine(self, template: Array, windows: Array) -> Array:
        assert template.shape == windows.shape and windows.flags.c_contiguous and windows.dtype == np.float32
        self.templates.append(template)
        return np.array([self._move(window) for window in windows], np.float32)

    def _move(self, window: Array) -> Array:
        inner = (REFINER_CELLS - 1) / REFINER_CELLS * REFINER_CONTEXT  # from the first cell to the last, over the box
        centre = window.mean(axis=(1, 2))
        size = np.array([np.ptp(window[0, 0]), np.ptp(window[1, :, 0])]) / inner
        u, v, w, h = self.box
        return np.hstack([(np.array([u, v]) - centre) / size, np.log(np.array([w, h]) / size)]) + self.habit


class BlindRuntime(KnowingRuntime):
    refines = False


def make(runtime: KnowingRuntime, config: RefineConfig = CONFIG) -> Refinement:
    return Refinement(runtime, config)  # type: ignore[arg-type]


def near(box: BoxUVWH, by: float) -> BoxUVWH:
    u, v, w, h = box
    return u + by * w, v - by * h, w * (1 + by), h / (1 + by)


def test_box_is_moved_onto_the_object() -> None:
    runtime = KnowingRuntime(FIRST)
    refinement = make(runtime)
    target = refinement.start(outline()[None], [FIRST])
    runtime.box = OBJECT
    assert_close(refinement.refine(target, outline(), near(OBJECT, 0.1)), OBJECT, "float32")
    assert max(map(abs, target.calibration)) < 1e-5
    assert all(np.array_equal(template, target.window) for template in runtime.templates)


def test_share_of_the_correction_is_followed() -> None:
    runtime = KnowingRuntime(FIRST)
    whole, half = make(runtime), make(runtime, replace(CONFIG, share=0.5))
    target = whole.start(outline()[None], [FIRST])
    runtime.box = OBJECT
    start = near(OBJECT, 0.1)
    found = half.refine(target, outline(), start)
    between = [(a + b) / 2 for a, b in zip(start[:2], OBJECT[:2], strict=True)]
    sizes = [(a * b) ** 0.5 for a, b in zip(start[2:], OBJECT[2:], strict=True)]
    assert_close(found, between + sizes, "float32")


@pytest.mark.parametrize(("calibration", "left"), [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)])
def test_what_the_given_box_means_beyond_the_refiners_is_kept(calibration: float, left: float) -> None:
    habit = (0.0, 0.05, 0.1, -0.12)
    runtime = KnowingRuntime(FIRST, habit)
    refinement = make(runtime, replace(CONFIG, calibration=calibration))
    target = refinement.start(outline()[None], [FIRST])
    runtime.box = OBJECT
    u, v, w, h = refinement.refine(target, outline(), OBJECT)
    assert_close((w, h), [52.0 * np.exp(0.1 * left), 60.0 * np.exp(-0.12 * left)], "float32")
    assert u == pytest.approx(10.0, abs=1e-3)
    assert v == pytest.approx(-6.0 + 0.05 * 60.0 * left, abs=0.4)  # the share is of another height


def test_calibration_is_of_all_crops() -> None:
    runtime = KnowingRuntime(FIRST)
    refinement = make(runtime)
    # The runtime sees the object at FIRST in each crop; by what is given it is larger in two of three.
    given = [FIRST, (0.0, 0.0, 48.0 * 1.1, 64.0 * 1.1), (0.0, 0.0, 48.0 * 1.1, 64.0 * 1.1)]
    target = refinement.start(np.stack([outline()] * 3), given)
    assert_close(target.calibration[2:], [np.log(1.1)] * 2, "float32")


def test_large_corrections_are_cut_off() -> None:
    runtime = KnowingRuntime(FIRST)
    refinement = make(runtime)
    target = refinement.start(outline()[None], [FIRST])
    u, _, w, _ = refinement.refine(target, outline(), (-60.0, 0.0, 20.0, 64.0))
    assert u == pytest.approx(-60.0 + 0.25 * 20.0, abs=1e-3)
    assert w == pytest.approx(20.0 * np.exp(0.25), rel=1e-4)


def test_second_pass_reaches_what_the_first_may_not() -> None:
    runtime = KnowingRuntime(FIRST)
    once, twice = make(runtime), make(runtime, replace(CONFIG, passes=2))
    target = once.start(outline()[None], [FIRST])
    start = (-18.0, 0.0, 48.0, 64.0)  # .375 of its width away
    assert once.refine(target, outline(), start)[0] == pytest.approx(-18.0 + 0.25 * 48.0, abs=1e-3)
    assert_close(np.array(twice.refine(target, outline(), start)) + 1, np.array(FIRST) + 1, "float32")


@pytest.mark.parametrize(
    ("start", "windows"),
    [
        ((-18.0, 0.0, 48.0, 64.0), 2),
        ((18.0, 0.0, 48.0, 64.0), 2),
        ((0.0, 22.0, 48.0, 64.0), 2),
        ((0.0, 0.0, 48.0, 44.0), 2),
        ((-1.0, 0.0, 48.0, 64.0), 1),
    ],
)
def test_box_that_is_settled_is_not_read_once_more(start: BoxUVWH, windows: int) -> None:
    runtime = KnowingRuntime(FIRST)
    refinement = make(runtime, replace(CONFIG, passes=8, settled=0.2))
    target = refinement.start(outline()[None], [FIRST])
    runtime.templates.clear()
    found = refinement.refine(target, outline(), start)
    assert_close(np.array(found) + 1, np.array(FIRST) + 1, "float32")
    assert len(runtime.templates) == windows


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"settled": -0.1}, "refine.settled must be 0 or more"),
        ({"settled": float("nan")}, "refine.settled must be 0 or more"),
        ({"passes": 0}, "refine.passes must be 1 to 8, got 0"),
        ({"passes": 9}, "refine.passes must be 1 to 8, got 9"),
        ({"share": 1.5}, "refine.share must be 0 to 1"),
        ({"share": -0.1}, "refine.share must be 0 to 1"),
        ({"calibration": 2.0}, "refine.calibration must be 0 to 1"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes: dict[str, float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make(KnowingRuntime(FIRST), replace(CONFIG, **changes))


def test_box_does_not_shrink_to_nothing() -> None:
    runtime = KnowingRuntime(FIRST)
    refinement = make(runtime)
    target = refinement.start(outline()[None], [FIRST])
    box: BoxUVWH = FIRST
    runtime.box = (0.0, 0.0, 1e-6, 1e-6)
    for _ in range(100):
        box = refinement.refine(target, outline(), box)
    assert box[2:] == (2.0, 2.0)


def test_answers_that_are_not_numbers_are_an_error() -> None:
    runtime = KnowingRuntime(FIRST, (0.0, float("nan"), 0.0, 0.0))
    with pytest.raises(ValueError, match="not finite"):
        make(runtime).start(outline()[None], [FIRST])


def test_candidate_below_trust_or_without_a_refiner_stays() -> None:
    runtime = KnowingRuntime(FIRST)
    refinement = make(runtime)
    target = refinement.start(outline()[None], [FIRST])
    seen = Seen(np.zeros((2, 1, 1, 1), np.float32), outline=np.stack([outline() + 100, outline()]))
    sure, doubtful = (Candidate(*near(FIRST, 0.1), score) for score in (0.4, 0.39))
    assert refined_candidate(refinement, target, seen, doubtful, 1) is doubtful
    assert refined_candidate(None, target, seen, sure, 1) is sure
    assert refined_candidate(refinement, None, seen, sure, 1) is sure
    found = refined_candidate(refinement, target, seen, sure, 1)
    assert_close(np.array(found.box_uvwh) + 1, np.array(FIRST) + 1, "float32")
    assert found.score == 0.4


def test_network_without_a_refiner_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[refine\] needs a network with a refiner"):
        make(BlindRuntime(FIRST))
