import pytest

from tracker.geometry import Box
from tracker.interface import Prediction
from tracker.tally import Tally

BOX = Box(1, 1, 2, 2)


def run(lost: str, first: int = 0) -> Tally:
    """Return the tally of one target, lost where a letter is x."""
    tally = Tally(1)
    for number, letter in enumerate(lost, first):
        tally.add(number, [Prediction(BOX, 0.5, letter == "x")])
    return tally


def test_spans_hold_the_first_and_last_lost_frame() -> None:
    tally = run("..xxx.x.", first=10)
    assert tally.spans == [[(12, 14), (16, 16)]]
    assert tally.frames == 8 and tally.lost == [4]
    assert tally.told(0) == "4 frames: 12-14, 16"


@pytest.mark.parametrize(("lost", "told"), [("...", "no frame"), ("x..", "1 frame: 0"), ("xx", "2 frames: 0-1")])
def test_what_is_told(lost: str, told: str) -> None:
    assert run(lost).told(0) == told


def test_many_spans_are_cut_short() -> None:
    assert run("x." * 9).told(0, longest=2) == "9 frames: 0, 2 and 7 spans more"


def test_frames_that_were_left_out_part_spans() -> None:
    tally = Tally(1)
    for number in (4, 6):
        tally.add(number, [Prediction(BOX, 0.1, True)])
    assert tally.spans == [[(4, 4), (6, 6)]]


def test_all_are_lost_only_together() -> None:
    tally = Tally(2)
    seen, lost = Prediction(BOX, 0.9, False), Prediction(BOX, 0.1, True)
    tally.add(0, [lost, seen])
    assert not tally.all_lost
    tally.add(1, [lost, lost])
    assert tally.all_lost
    tally.add(2, [seen, lost])
    assert not tally.all_lost
    assert tally.spans == [[(0, 1)], [(1, 2)]]
