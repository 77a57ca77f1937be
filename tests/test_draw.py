import numpy as np
import pytest
from numpy.typing import NDArray

from tracker.draw import draw_predictions
from tracker.geometry import Box
from tracker.interface import Frame, Prediction


def grey_frame(height: int = 240, width: int = 320) -> Frame:
    return np.full((height, width, 3), 90, np.uint8)


def changed(before: Frame, after: Frame) -> NDArray[np.bool_]:
    return np.asarray((before != after).any(axis=2))


def test_the_frame_itself_is_not_drawn_on() -> None:
    frame = grey_frame()
    drawn = draw_predictions(frame, [Prediction(Box(100, 100, 50, 40), 0.9, False)], 7)
    assert (frame == 90).all()
    assert drawn.shape == frame.shape
    assert drawn.dtype == np.uint8


def test_outline_runs_along_the_first_and_last_pixel_of_the_box() -> None:
    frame = grey_frame()
    drawn = changed(frame, draw_predictions(frame, [Prediction(Box.from_xywh(100, 90, 50, 40), 0.9, False)]))
    assert drawn[90, 100:150].all()
    assert drawn[129, 100:150].all()
    assert drawn[90:130, 100].all()
    assert drawn[90:130, 149].all()
    assert not drawn[92:128, 102:148].any()
    assert not drawn[:, 151:].any()
    assert not drawn[131:].any()


def test_lost_is_red_and_dashed() -> None:
    frame = grey_frame()
    drawn = draw_predictions(frame, [Prediction(Box.from_xywh(100, 90, 80, 80), 0.1, True)])
    bottom = drawn[169, 100:180]
    touched = (bottom != 90).any(axis=1)
    assert 0.3 < touched.mean() < 0.8
    red, green, blue = bottom[touched].T.astype(int)
    assert (red > green + 100).all()
    assert (red > blue + 100).all()


def test_lines_grow_with_the_frame() -> None:
    def thickness(height: int) -> int:
        frame = grey_frame(height, height)
        box = Prediction(Box(height / 2, height / 2, height / 4, height / 4), 0.9, False)
        column = changed(frame, draw_predictions(frame, [box]))[height // 2, : height // 2]
        return int(column.sum())

    assert thickness(120) == 1
    assert thickness(480) < thickness(2160) <= 12


def test_several_targets_have_their_own_colours() -> None:
    frame = grey_frame()
    boxes = [Box.from_xywh(20 + 100 * i, 100, 50, 40) for i in range(3)]
    drawn = draw_predictions(frame, [Prediction(box, 0.9, False) for box in boxes])
    assert len({tuple(drawn[139, 40 + 100 * i]) for i in range(3)}) == 3


def test_frame_number_is_in_the_top_left_corner() -> None:
    frame = grey_frame()
    drawn = changed(frame, draw_predictions(frame, [], 1234))
    assert drawn[:20, :40].any()
    assert not drawn[40:].any()
    assert not drawn[:, 120:].any()


@pytest.mark.parametrize("size_hw", [(240, 320), (2, 2), (1, 40), (40, 1)])
@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize(
    "box", [Box(-500, -500, 20, 20), Box(5000, 50, 9, 9), Box(0, 0, 400, 400), Box(1, 1, 0.01, 0.01)]
)
def test_any_box_in_any_frame_can_be_drawn(size_hw: tuple[int, int], lost: bool, box: Box) -> None:
    assert draw_predictions(grey_frame(*size_hw), [Prediction(box, 0.5, lost)], 0).shape == (*size_hw, 3)
