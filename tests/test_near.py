"""Searching a smaller square while the object hardly moves, and all of it where the answer is doubtful."""

import numpy as np
import pytest

from tests.scripted import Scripted
from tests.videos import paint
from tracker.builder import load_tracker
from tracker.config import LookAgainConfig, LostConfig, NearConfig
from tracker.geometry import Box, CropGeometry, iou
from tracker.siamese_tracker import SiameseTracker, update_many

FRAME = np.zeros((200, 300, 3), np.uint8)
LOST = LostConfig(enter=0.3, leave=0.5, patience=2)
NEAR = NearConfig(size=60, moved=0.1, score=0.8)
START = Box(100.0, 100.0, 20.0, 20.0)
NAN = float("nan")


def follower(
    *looks: tuple[float, float], near: NearConfig | None = NEAR, again: LookAgainConfig | None = None
) -> tuple[SiameseTracker, Scripted]:
    """Return a tracker after `init`, which takes a look of its own where there is something to get ready."""
    localiser = Scripted([(0.0, 0.5), *looks] if near else list(looks))
    tracker = SiameseTracker(localiser, LOST, look_again=again, near=near)
    tracker.init(FRAME, START)
    localiser.runtime.sizes.clear()
    localiser.runtime.batches.clear()
    return tracker, localiser


def sizes(*looks: tuple[float, float], frames: int, near: NearConfig | None = NEAR) -> list[int]:
    """Return the sizes of all crops of some frames."""
    tracker, localiser = follower(*looks, near=near)
    for _ in range(frames):
        tracker.update(FRAME)
    assert not localiser.looks
    found: list[int] = localiser.runtime.sizes
    return found


def test_after_a_calm_frame_a_smaller_square_is_searched() -> None:
    assert sizes((1.9, 0.9), (1.9, 0.9), (1.9, 0.9), frames=3) == [100, 60, 60]


@pytest.mark.parametrize("first", [(2.1, 0.9), (-2.1, 0.9), (1.9, 0.79)])
def test_after_a_move_or_a_doubtful_answer_all_is_searched(first: tuple[float, float]) -> None:
    assert sizes(first, (0.0, 0.9), frames=2) == [100, 100]


def test_a_move_seen_well_counts_for_the_next_frame() -> None:
    assert sizes((0.0, 0.9), (5.0, 0.9), (0.0, 0.9), (0.0, 0.9), frames=4) == [100, 60, 100, 60]


def test_a_doubtful_answer_near_is_replaced_by_that_of_the_whole_square() -> None:
    tracker, localiser = follower((0.0, 0.9), (1.0, 0.79), (8.0, 0.6))
    tracker.update(FRAME)
    found = tracker.update(FRAME)
    assert localiser.runtime.sizes == [100, 60, 100]
    assert [box.cx for box in localiser.around[1:]] == [100.0, 100.0, 100.0]  # the last place, not what was doubted
    assert (found.box.cx, found.score) == (108.0, 0.6)
    assert tracker.state is not None
    assert tracker.state.model == (0.9, 0.6)  # of the near look nothing was learned


def test_what_is_near_has_the_same_scale() -> None:
    assert CropGeometry(10.0, 20.0, 300.0, 100).narrowed(60) == CropGeometry(10.0, 20.0, 180.0, 60)


def test_what_moved_far_is_looked_at_again_in_the_whole_square() -> None:
    again = LookAgainConfig(moved=0.3, drop=0.1)
    tracker, localiser = follower((0.0, 0.9), (8.0, 0.9), (1.0, 0.9), again=again)
    tracker.update(FRAME)
    assert tracker.update(FRAME).box.cx == 109.0
    assert localiser.runtime.sizes == [100, 60, 100]


def test_squares_begin_and_end_between_pixels() -> None:
    tracker, localiser = follower((0.37, 0.9), (0.2, 0.9), (0.3, 0.9))
    localiser.frame_per_crop = 4.0
    for _ in range(3):
        tracker.update(FRAME)
    assert tracker.state is not None
    assert tracker.state.box.cx == pytest.approx(100.0 + 4 * (0.37 + 0.2 + 0.3))
    # The first is that of `init`; then the object is where it was, but the squares' middles are at 100, 101 and 102.
    assert [u for u, _ in localiser.last] == pytest.approx([0.0, 0.0, 0.37 - 0.25, 0.57 - 0.5])


def test_without_the_table_all_is_searched_always() -> None:
    assert sizes((0.0, 0.9), (0.0, 0.9), frames=2, near=None) == [100, 100]


def test_a_new_target_starts_with_the_whole_square() -> None:
    tracker, localiser = follower((0.0, 0.9), (0.0, 0.5), (0.0, 0.9))
    tracker.update(FRAME)
    tracker.init(FRAME, START)
    localiser.runtime.sizes.clear()
    tracker.update(FRAME)
    assert localiser.runtime.sizes == [100]


def test_what_is_lost_is_searched_for_in_all_of_the_square() -> None:
    lenient = NearConfig(size=60, moved=0.1, score=0.2)
    assert sizes((0.0, 0.25), (0.0, 0.25), (0.0, 0.4), (0.0, 0.6), (0.0, 0.6), frames=5, near=lenient) == [
        *(100, 60),  # then it is lost, by a score below `lost.enter` for two frames,
        *(100, 100),  # until one is above `lost.leave`
        60,
    ]


def test_trackers_of_one_network_may_search_squares_of_their_own() -> None:
    first, localiser = follower((0.0, 0.9))
    other = SiameseTracker(localiser, LOST, near=NearConfig(size=40, moved=0.1, score=0.8))
    localiser.looks = [(0.0, 0.5), (0.0, 0.9), (0.0, 0.9), (1.0, 0.9), (0.5, 0.9)]
    other.init(FRAME, START)
    localiser.runtime.sizes.clear()
    update_many([first, other], FRAME)
    assert [one.box.cx for one in update_many([first, other], FRAME)] == [101.0, 100.5]
    assert localiser.runtime.sizes == [100, 60, 40]


def test_of_several_targets_each_is_searched_as_it_moves() -> None:
    """Squares of one size are one batch; answers go back to whom they belong."""
    first, localiser = follower((0.0, 0.9), (0.0, 0.5), (0.0, 0.5))
    first.update(FRAME)
    together = [first.fork(), first, first.fork()]
    for tracker in (together[0], together[2]):
        tracker.init(FRAME, START)
    localiser.runtime.sizes.clear()
    localiser.runtime.batches.clear()
    localiser.looks = [(1.0, 0.85), (3.0, 0.95), (2.0, 0.9)]  # both in the whole square, then the one near
    found = update_many(together, FRAME)
    assert [one.box.cx for one in found] == [101.0, 102.0, 103.0]
    assert [one.score for one in found] == [0.85, 0.9, 0.95]
    assert (localiser.runtime.sizes, localiser.runtime.batches) == ([100, 60], [2, 1])


@pytest.mark.parametrize("pair", [(0.0, 0.5), (NAN, 0.5), (0.1, -0.1), (0.1, 1.1), (0.1, NAN)])
def test_settings_out_of_range_are_refused(pair: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"near\.(moved|score) must be"):
        follower(near=NearConfig(60, *pair))


@pytest.mark.parametrize("size", [113, 128, 144, 193, 209])
def test_a_square_of_another_grid_or_none_smaller_is_refused(size: int) -> None:
    with pytest.raises(
        ValueError, match=rf"near.size must be 129 or more, and the search's 193 less a .* 16, got {size}"
    ):
        load_tracker(device="cpu", overrides=[f"near={{size={size},moved=0.1,score=0.9}}"])


@pytest.mark.parametrize(("model", "size"), [("mobilenetv3_online", 145), ("siamfc_alexnet", 175)])
def test_a_model_without_anchors_searches_near_too(model: str, size: int) -> None:
    box = Box(80.0, 80.0, 44.0, 52.0)
    tracker = load_tracker(model, "cpu", [f"near={{size={size},moved=0.1,score=0.3}}"])
    tracker.init(paint(box), box)
    for _ in range(3):
        found = tracker.update(paint(box))
    assert tracker.state is not None and tracker.state.calm
    assert iou(found.box, box) > 0.6


def test_a_shipped_model_finds_near_what_it_finds_in_all() -> None:
    """The object stays: after the first frame it is searched for in the smaller square, and its box is as good."""
    box = Box(160.0, 120.0, 44.0, 52.0)
    found = []
    for override in ("near=false", "near={size=145,moved=0.1,score=0.5}"):
        tracker = load_tracker(device="cpu", overrides=[override])
        tracker.init(paint(box), box)
        predictions = [tracker.update(paint(box)) for _ in range(12)]
        assert all(iou(one.box, box) > 0.9 for one in predictions)
        found.append(predictions[-1])
    assert abs(found[0].score - found[1].score) < 0.03
