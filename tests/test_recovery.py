import tracemalloc
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from tracker.config import RecoveryConfig
from tracker.decode import Candidate
from tracker.geometry import Box, CropGeometry
from tracker.recovery import Recovery, places_to_search
from tracker.runtime import Seen

CONFIG = RecoveryConfig(regions=3, accept=0.6, step=0.5, scales=(1.0, 1.5))
FRAME_HW = (240, 320)
BOX = Box(60.0, 50.0, 30.0, 20.0)
SIDE = 100.0
COUNT = 5 * 7 + 4 * 5  # squares of steps of 50 and 75 px


def test_first_place_is_always_where_it_was_last_sure() -> None:
    for turn in range(30):
        places = places_to_search(BOX, SIDE, FRAME_HW, turn, CONFIG)
        assert len(places) == 3 and places[0] == BOX


def all_places(turns: int) -> list[Box]:
    return [place for turn in range(turns) for place in places_to_search(BOX, SIDE, FRAME_HW, turn, CONFIG)[1:]]


def test_sweeps_cover_the_frame_and_begin_anew() -> None:
    places = all_places(COUNT)
    assert len(set(places)) == COUNT
    assert places[COUNT:] == places[:COUNT]
    for scale, sweep in ((1.0, places[:35]), (1.5, places[35:COUNT])):
        assert all((place.w, place.h) == (30.0 * scale, 20.0 * scale) for place in sweep)
        # Any point of the frame lies within half a step of the middle of a square, on each axis.
        for x in np.linspace(0, FRAME_HW[1], 33):
            for y in np.linspace(0, FRAME_HW[0], 25):
                reach = SIDE * scale * CONFIG.step / 2
                assert any(abs(place.cx - x) <= reach and abs(place.cy - y) <= reach for place in sweep)


def test_sweep_goes_outwards() -> None:
    distances = [np.hypot(place.cx - BOX.cx, place.cy - BOX.cy) for place in all_places(17)]
    assert distances == sorted(distances)


def test_a_square_larger_than_the_frame_is_one_place() -> None:
    places = places_to_search(BOX, 10_000.0, FRAME_HW, 0, replace(CONFIG, scales=(1.0,)))
    assert [(place.cx, place.cy) for place in places] == [(60.0, 50.0), (160.0, 120.0), (160.0, 120.0)]


def test_a_tiny_object_is_looked_for_all_over_a_large_frame_in_little_memory() -> None:
    tracemalloc.start()
    try:
        every = [
            place
            for turn in range(0, 40_000, 40)
            for place in places_to_search(Box(9.0, 9.0, 1.0, 1.0), 3.0, (2160, 3840), turn, CONFIG)
        ]
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    cells = {(int(place.cx // 240), int(place.cy // 240)) for place in every if place.w == 1.0}
    assert len(cells) == 16 * 9  # none of the frame is left out


@dataclass
class OneBrightSpot:
    """See a spot in a frame that is dark elsewhere; how likely it is the object says its brightness."""

    size: int = 64

    def __post_init__(self) -> None:
        self.runtime = self
        self.looks = 0

    def regions(self, box: Box) -> list[CropGeometry]:
        return [CropGeometry(box.cx, box.cy, 100.0 * box.w / BOX.w, self.size)]

    def code(self, model: str) -> None:
        assert model == "the object"

    def see(self, crops: list[np.ndarray], codes: list[object]) -> Seen:
        assert codes == []
        self.looks += len(crops)
        return Seen(np.stack([crop.transpose(2, 0, 1)[:1] / 255.0 for crop in crops]))

    def regained(self, model: str) -> str:
        return model

    def look(self, model: str, seen: Seen, size_wh: tuple[float, float]) -> Candidate:
        map_ = seen.maps[0, 0]
        row, column = np.unravel_index(int(map_.argmax()), map_.shape)
        middle = self.size / 2
        return Candidate(float(column) + 0.5 - middle, float(row) + 0.5 - middle, *size_wh, float(map_.max()))


def frame(brightness: int, x: int = 250, y: int = 190) -> np.ndarray:
    made = np.zeros((*FRAME_HW, 3), np.uint8)
    made[y - 4 : y + 4, x - 4 : x + 4] = brightness
    return made


def search(recovery: Recovery, picture: np.ndarray, turns: int) -> tuple[int, Box, float] | None:
    for turn in range(turns):
        found = recovery.search(picture, (0.0, 0.0, 0.0), BOX, "the object", turn)
        if found is not None:
            return turn, *found
    return None


def test_what_is_likely_enough_is_found_anywhere() -> None:
    recovery = Recovery(OneBrightSpot(), CONFIG)  # type: ignore[arg-type]
    found = search(recovery, frame(200), COUNT)
    assert found is not None
    turn, box, score = found
    assert turn < 18  # half of the first sweep's squares
    assert (box.cx, box.cy) == pytest.approx((250, 190), abs=5)
    assert (box.w, box.h) == pytest.approx((30, 20))
    assert score == pytest.approx(200 / 255)


def test_what_came_back_to_its_place_is_found_at_once() -> None:
    seeker = OneBrightSpot()
    found = search(Recovery(seeker, CONFIG), frame(200, x=70, y=45), 1)  # type: ignore[arg-type]
    assert found is not None and found[0] == 0
    assert (found[1].cx, found[1].cy) == pytest.approx((70, 45), abs=5)  # a spot of 8 px, by its first corner
    assert seeker.looks == CONFIG.regions


def test_what_is_not_likely_enough_is_left() -> None:
    assert search(Recovery(OneBrightSpot(), CONFIG), frame(140), 2 * COUNT) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"regions": 0}, r"recovery\.regions must be 1 or more, got 0"),
        ({"step": 0.0}, r"recovery\.step must be above 0, got 0\.0"),
        ({"scales": ()}, r"recovery\.scales must be one or more above 0, got \[\]"),
        ({"scales": (1.0, -1.0)}, r"recovery\.scales must be one or more above 0, got \[1\.0, -1\.0\]"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_lost(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Recovery(OneBrightSpot(), replace(CONFIG, **changed))  # type: ignore[arg-type]
