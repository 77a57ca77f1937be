import math
from dataclasses import astuple

import numpy as np
import pytest

from tests import reference
from tests.tolerances import assert_close
from tracker.geometry import (
    Box,
    CropGeometry,
    centre_distance,
    check_initial_box,
    context_side,
    iou,
    search_side,
)

SIZE_HW = (48, 64)


def random_regions(count: int) -> list[CropGeometry]:
    """Return squares that reach far out of any frame, from a pixel to thousands."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 600, count)
    places = rng.uniform(-5000, 5000, (count, 2))
    sides = 10 ** rng.uniform(0, 3.5, count)
    return [
        CropGeometry(*place, side, int(size)) for place, side, size in zip(places.tolist(), sides, sizes, strict=True)
    ]


@pytest.mark.parametrize("region", random_regions(20), ids=range(20))
def test_there_and_back_again(region: CropGeometry) -> None:
    rng = np.random.default_rng(1)
    for point in rng.uniform(-3000, 3000, (50, 2)).tolist():
        assert_close(region.to_frame(*region.to_crop(*point)), point, "geometry_px")
        box = Box(*point, *rng.uniform(1, 500, 2).tolist())
        assert_close(astuple(region.box_to_frame(region.box_to_crop(box))), astuple(box), "geometry_px")


def test_crop_covers_its_square() -> None:
    region = CropGeometry(cx=30, cy=20, side=16, size=64)
    assert region.frame_per_crop == 0.25
    assert region.to_crop(30, 20) == (32, 32)
    assert region.to_crop(22, 12) == (0, 0)
    assert region.to_crop(38, 28) == (64, 64)
    assert region.to_frame(4, 60) == (23, 27)
    assert region.box_to_crop(Box(24, 22, 2, 3)) == Box(8, 40, 8, 12)
    assert region.box_to_frame(Box(8, 40, 8, 12)) == Box(24, 22, 2, 3)


@pytest.mark.parametrize("region", random_regions(20), ids=range(20))
def test_the_nearest_square_of_whole_pixels(region: CropGeometry) -> None:
    near = region.on_pixels()
    if region.side < 128:
        assert near is region
        return
    left, top = near.cx - near.side / 2, near.cy - near.side / 2
    assert (left, top, near.side) == (int(left), int(top), int(near.side))
    assert near.size == region.size
    assert max(abs(near.cx - region.cx), abs(near.cy - region.cy), abs(near.side - region.side)) <= 0.5
    assert near.on_pixels() == near
    point = region.cx + 3.3, region.cy - 2.1
    assert_close(near.to_frame(*near.to_crop(*point)), point, "geometry_px")


def test_box_in_a_crop_from_its_middle() -> None:
    region = CropGeometry(cx=30, cy=20, side=16, size=64)
    assert region.centred(Box(24, 22, 2, 3)) == (-24, 8, 8, 12)


def test_edges_and_centre_are_two_names_of_one_box() -> None:
    assert Box.from_xywh(0, 0, 10, 20) == Box(5, 10, 10, 20)
    assert Box(5, 10, 10, 20).to_xywh() == (0, 0, 10, 20)
    for xywh in np.random.default_rng(2).uniform(0.1, 2000, (50, 4)).tolist():
        assert_close(Box.from_xywh(*xywh).to_xywh(), xywh, "geometry_px")


@pytest.mark.parametrize(
    ("xywh", "clipped"),
    [
        ((10, 20, 30, 10), (10, 20, 30, 10)),
        ((-5, -5, 15, 10), (0, 0, 10, 5)),
        ((60, 40, 10, 10), (60, 40, 4, 8)),
        ((-10, -10, 500, 500), (0, 0, 64, 48)),
        ((-50, 20, 30, 10), (0, 20, 2, 10)),  # gone to the left: two columns stay in view
        ((90, 20, 30, 10), (62, 20, 2, 10)),
        ((10, -50, 30, 10), (10, 0, 30, 2)),
        ((10, 90, 30, 10), (10, 46, 30, 2)),
        ((10, 20, 0.5, 10), (10, 20, 2, 10)),  # shrunk to less than two pixels
        ((63.5, 20, 0.5, 10), (62, 20, 2, 10)),
    ],
)
def test_clipping(xywh: tuple[float, ...], clipped: tuple[float, ...]) -> None:
    assert_close(Box.from_xywh(*xywh).clipped(SIZE_HW).to_xywh(), clipped, "geometry_px")


def test_clipped_box_is_in_the_frame_and_stays_as_it_is() -> None:
    rng = np.random.default_rng(3)
    for size_hw in (SIZE_HW, (1, 1), (2, 7)):
        for xywh in zip(*rng.uniform(-150, 150, (2, 200)), *(10 ** rng.uniform(-3, 3, (2, 200))), strict=True):
            box = Box.from_xywh(*(float(value) for value in xywh)).clipped(size_hw)
            x, y, w, h = box.to_xywh()
            assert w >= min(2, size_hw[1]) - 1e-9
            assert h >= min(2, size_hw[0]) - 1e-9
            assert min(x, y) >= -1e-9
            assert x + w <= size_hw[1] + 1e-9
            assert y + h <= size_hw[0] + 1e-9
            assert_close(astuple(box.clipped(size_hw)), astuple(box), "geometry_px")


def test_iou_is_the_share_of_common_area() -> None:
    rng = np.random.default_rng(4)
    overlaps = 0
    for _ in range(60):
        a, b = ((*rng.integers(0, 8, 2).tolist(), *rng.integers(1, 8, 2).tolist()) for _ in range(2))
        value = iou(Box.from_xywh(*a), Box.from_xywh(*b))
        assert_close(value, reference.iou_by_counting(a, b, limit=16), "float64")
        assert value == iou(Box.from_xywh(*b), Box.from_xywh(*a))
        overlaps += value > 0
    assert 10 < overlaps < 60


def test_iou_at_its_ends() -> None:
    box = Box(10, 10, 4, 6)
    assert iou(box, box) == 1
    assert iou(box, Box(14, 10, 4, 6)) == 0  # a common edge
    assert iou(box, Box(100, 10, 4, 6)) == 0
    assert iou(box, Box(10, 10, 0, 0)) == 0
    assert iou(box, Box(10, 10, 2, 3)) == 0.25


def test_centre_distance() -> None:
    assert centre_distance(Box(1, 2, 9, 9), Box(4, 6, 1, 1)) == 5


def test_context_is_a_margin_of_the_mean_side() -> None:
    assert context_side(20, 20, context=0.5) == 40  # p = 20, sqrt(40 * 40)
    assert context_side(10, 30, context=0.5) == math.sqrt(30 * 50)  # p = 20
    assert context_side(10, 30, context=0) == math.sqrt(300)


@pytest.mark.parametrize(("w", "h"), [(20.0, 30.0), (3.5, 90.25)])
def test_object_has_the_same_size_in_both_crops(w: float, h: float) -> None:
    template = CropGeometry(0, 0, context_side(w, h, 0.5), 127)
    search = CropGeometry(0, 0, search_side(w, h, 0.5, 127, 255), 255)
    assert_close(search.frame_per_crop, template.frame_per_crop, "geometry_px")


@pytest.mark.parametrize(
    ("xywh", "complaint"),
    [
        ((math.nan, 0, 10, 10), "finite, got x,y,w,h = nan,0,10,10"),
        ((0, 0, math.inf, 10), "finite"),
        ((0, 0, 10, math.nan), "finite"),
        ((5, 5, 0, 10), "positive width and height, got w,h = 0,10"),
        ((5, 5, 10, -3), "positive width and height, got w,h = 10,-3"),
        ((64, 5, 10, 10), "x,y,w,h = 64,5,10,10 lies outside the 64x48 frame"),
        ((5, 48, 10, 10), "outside"),
        ((-10, 5, 10, 10), "outside"),
        ((5, -10, 10, 10), "outside"),
        ((0, 0, 65, 10), "w,h = 65,10 is larger than the 64x48 frame"),
        ((0, 0, 10, 49), "larger"),
    ],
)
def test_box_that_cannot_be_tracked_is_named(xywh: tuple[float, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        check_initial_box(Box.from_xywh(*xywh), SIZE_HW)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("xywh", [(0, 0, 64, 48), (-5, -5, 6, 6), (63, 47, 20, 20), (10.5, 3.25, 0.8, 1.25)])
def test_box_that_touches_the_frame_can_be_tracked(xywh: tuple[float, ...]) -> None:
    check_initial_box(Box.from_xywh(*xywh), SIZE_HW)


@pytest.mark.parametrize(
    ("box", "wanted"),
    [
        (Box(50, 40, 30, 20), Box(50, 40, 30, 20)),
        (Box(-8, 40, 30, 20), Box(0, 40, 30, 20)),
        (Box(130, 95, 30, 20), Box(100, 80, 30, 20)),
        (Box(50, 40, 300, 200), Box(50, 40, 100, 80)),
    ],
)
def test_a_held_box_keeps_its_size_and_its_centre_inside(box: Box, wanted: Box) -> None:
    assert box.held_in((80, 100)) == wanted
