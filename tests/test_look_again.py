"""Searching a frame a second time, around what was found there, where that is far from the last place."""

import numpy as np
import pytest

from tests.scripted import Scripted
from tests.videos import paint
from tracker.builder import load_tracker
from tracker.config import LookAgainConfig, LostConfig
from tracker.geometry import Box, iou
from tracker.siamese_tracker import SiameseTracker, update_many

FRAME = np.zeros((200, 300, 3), np.uint8)
LOST = LostConfig(enter=0.3, leave=0.5, patience=2)
AGAIN = LookAgainConfig(moved=0.3, drop=0.1)
START = Box(100.0, 100.0, 20.0, 20.0)


def follower(*looks: tuple[float, float], again: LookAgainConfig | None = AGAIN) -> tuple[SiameseTracker, Scripted]:
    localiser = Scripted(list(looks))
    tracker = SiameseTracker(localiser, LOST, look_again=again)
    tracker.init(FRAME, START)
    return tracker, localiser


def test_what_moved_far_is_looked_at_again_where_it_was_found() -> None:
    tracker, localiser = follower((8.0, 0.9), (2.0, 0.95))
    found = tracker.update(FRAME)
    assert [box.cx for box in localiser.around] == [100.0, 108.0]
    assert found.box.cx == 110.0
    assert found.score == 0.9  # what lies in the middle answers more: the second look does not make it surer
    assert localiser.runtime.batches == [1, 1]
    assert tracker.state is not None
    assert tracker.state.model == (0.95,)  # learned from the second look alone
    assert tracker.state.frame_index == 1


def test_a_worse_second_look_makes_it_less_sure() -> None:
    tracker, _ = follower((8.0, 0.9), (2.0, 0.85))
    assert tracker.update(FRAME).score == 0.85


def test_what_answers_much_less_is_not_taken() -> None:
    tracker, localiser = follower((8.0, 0.9), (2.0, 0.79))
    found = tracker.update(FRAME)
    assert len(localiser.around) == 2
    assert (found.box.cx, found.score) == (108.0, 0.9)
    assert tracker.state is not None
    assert tracker.state.model == (0.9,)


def test_what_hardly_moved_is_looked_at_once() -> None:
    tracker, localiser = follower((5.9, 0.9), (5.9, 0.9))
    assert tracker.update(FRAME).box.cx == 105.9
    assert tracker.update(FRAME).box.cx == pytest.approx(111.8)
    assert len(localiser.around) == 2


@pytest.mark.parametrize(("shift", "looks"), [(2.9, 1), (3.1, 2)])
def test_distance_is_of_both_ways_and_over_the_mean_side(shift: float, looks: int) -> None:
    """A box of 10x40 has a mean side of 20, of which .3 is 6."""
    localiser = Scripted([(2 * shift * 5**-0.5, 0.9)] * 2, down=2.0)  # twice the shift, twice as far down as across
    tracker = SiameseTracker(localiser, LOST, look_again=AGAIN)
    tracker.init(FRAME, Box(100.0, 100.0, 10.0, 40.0))
    tracker.update(FRAME)
    assert len(localiser.around) == looks


def test_without_the_table_each_frame_is_searched_once() -> None:
    tracker, localiser = follower((30.0, 0.9), again=None)
    assert tracker.update(FRAME).box.cx == 130.0
    assert len(localiser.around) == 1


def test_the_second_look_stays_in_the_frame() -> None:
    tracker, localiser = follower((-130.0, 0.9), (0.0, 0.9))
    tracker.update(FRAME)
    assert localiser.around[1].cx == 0.0


def test_what_leaves_the_frame_is_not_searched_twice_at_its_border() -> None:
    tracker, localiser = follower((-95.0, 0.9), (-10.0, 0.9), (-60.0, 0.9))
    tracker.update(FRAME)
    tracker.update(FRAME)
    assert [box.cx for box in localiser.around] == [100.0, 5.0, 0.0]


def test_the_default_model_looks_again() -> None:
    tracker = load_tracker(device="cpu")
    assert tracker.recovery is not None
    assert tracker.look_again == tracker.fork().look_again == LookAgainConfig(moved=0.3, drop=0.1)


def test_one_of_several_that_jumps_is_followed_as_if_alone() -> None:
    places = [Box(80.0, 80.0, 44.0, 52.0), Box(240.0, 160.0, 40.0, 30.0)]
    first, second = paint(places[0]), paint(Box(125.0, 100.0, 62.0, 44.0))
    shared = load_tracker(device="cpu")
    alone, together = [shared.fork() for _ in places], [shared.fork() for _ in places]
    for tracker, box in zip(alone + together, places * 2, strict=True):
        tracker.init(first, box)
    for one, found in zip(alone, update_many(together, second), strict=True):
        wanted = one.update(second)
        assert found.box.to_xywh() == pytest.approx(wanted.box.to_xywh(), abs=0.5)
        assert found.score == pytest.approx(wanted.score, abs=0.05)


def test_it_looks_once_more_and_not_for_ever() -> None:
    tracker, localiser = follower((30.0, 0.9), (30.0, 0.9))
    assert tracker.update(FRAME).box.cx == 160.0
    assert len(localiser.around) == 2


def test_of_several_targets_those_that_moved_far_are_looked_at_again() -> None:
    first, localiser = follower((1.0, 0.9), (8.0, 0.9), (-8.0, 0.7), (2.0, 0.9), (-2.0, 0.8))
    together = [first, first.fork(), first.fork()]
    for tracker in together[1:]:
        tracker.init(FRAME, START)
    found = update_many(together, FRAME)
    assert [one.box.cx for one in found] == [101.0, 110.0, 90.0]
    assert [one.score for one in found] == [0.9, 0.9, 0.7]
    assert localiser.runtime.batches == [3, 2]


def test_a_fork_looks_again_too() -> None:
    tracker, localiser = follower((8.0, 0.9), (2.0, 0.9))
    fork = tracker.fork()
    fork.init(FRAME, START)
    assert fork.update(FRAME).box.cx == 110.0
    assert len(localiser.around) == 2


NAN = float("nan")


@pytest.mark.parametrize("config", [LookAgainConfig(*pair) for pair in ((0, 0.1), (NAN, 0.1), (0.3, -0.1), (0.3, NAN))])
def test_settings_out_of_range_are_refused(config: LookAgainConfig) -> None:
    with pytest.raises(ValueError, match="look_again"):
        follower(again=config)


def test_a_jump_is_followed_with_a_second_look() -> None:
    """The object moves by its size and turns in one frame: the second look finds its box."""
    jumped = Box(125.0, 100.0, 62.0, 44.0)
    overlaps = []
    for overrides in (["look_again=false"], ["look_again={moved=0.3,drop=0.1}"]):
        tracker = load_tracker(device="cpu", overrides=["recovery=false", *overrides])
        tracker.init(paint(Box(80.0, 80.0, 44.0, 52.0)), Box(80.0, 80.0, 44.0, 52.0))
        overlaps.append(iou(tracker.update(paint(jumped)).box, jumped))
    assert overlaps[1] > 0.8
    assert overlaps[1] > overlaps[0] + 0.1
