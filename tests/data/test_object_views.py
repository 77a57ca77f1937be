import logging
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tracker.data.object_views import View, ViewConfig, show_objects, spread
from tracker.data.tracks import ObjectTrack, TrackFrame
from tracker.geometry import Box, CropGeometry

PLAIN = ViewConfig(
    max_scale=1.0,
    shift=0.0,
    colour=0.0,
    grey_chance=0.0,
    blur_chance=0.0,
    cover_chance=0.0,
    alone_chance=0.0,
    box_shift=0.0,
    box_stretch=0.0,
)
BOX = (40.0, 30.0, 20.0, 12.0)  # x, y, w, h


def region_of(box: Box) -> CropGeometry:
    return CropGeometry(box.cx, box.cy, 60.0, 120)  # two pixels of the crop a pixel of the frame


def track(folder: Path, frames: int, name: str = "a") -> ObjectTrack:
    found = []
    for i in range(frames):
        picture = np.full((90, 110, 3), (10, 20, 30), np.uint8)
        picture[30:42, 40:60] = (200, 150, 100)
        path = folder / f"{name}{i}.png"
        cv2.imwrite(str(path), picture[..., ::-1])
        found.append(TrackFrame(path, BOX))
    return ObjectTrack("set", name, "thing", tuple(found))


def views(config: ViewConfig, *tracks: ObjectTrack, seed: int = 0) -> list[View]:
    rng = np.random.default_rng(seed)
    return [view for shown in show_objects(tracks, region_of, config, rng) for view in shown.views]


def test_plain_view_is_the_trackers_crop(tmp_path: Path) -> None:
    view = views(PLAIN, track(tmp_path, 1))[0]
    assert view.crop.shape == (120, 120, 3)
    assert view.box_uvwh == pytest.approx((0, 0, 40, 24))
    assert view.crop[60, 60].tolist() == [200, 150, 100]
    assert view.crop[60, 90].tolist() == [10, 20, 30]


@pytest.mark.parametrize("seed", range(5))
def test_box_follows_the_object_when_it_is_moved_and_scaled(tmp_path: Path, seed: int) -> None:
    config = replace(PLAIN, shift=0.6, max_scale=1.4)
    for view in views(config, track(tmp_path, 2), seed=seed):
        rows, columns = np.nonzero(view.crop[..., 0] > 105)
        found = (columns.mean() + 0.5 - 60, rows.mean() + 0.5 - 60, np.ptp(columns) + 1, np.ptp(rows) + 1)
        assert view.box_uvwh == pytest.approx(found, abs=1.1)


def test_an_object_alone_has_no_surroundings(tmp_path: Path) -> None:
    view = views(replace(PLAIN, alone_chance=1.0), track(tmp_path, 1))[0]
    inside = np.zeros((120, 120), bool)
    inside[48:72, 40:80] = True
    outside = view.crop[~inside]
    assert (outside == outside[0]).all() and outside[0].tolist() != [10, 20, 30]
    assert view.crop[60, 60].tolist() == [200, 150, 100]


def test_box_is_about_where_the_object_is(tmp_path: Path) -> None:
    config = replace(PLAIN, box_shift=0.05, box_stretch=0.08, views_per_frame=200)
    found = np.array([view.box_uvwh for view in views(config, track(tmp_path, 2))])
    assert found.std(axis=0) == pytest.approx([0.05 * 40, 0.05 * 24, 0.08 * 40, 0.08 * 24], rel=0.2)
    assert np.median(found, axis=0) == pytest.approx([0, 0, 40, 24], abs=0.5)


def test_numbers_of_views_are_as_counted(tmp_path: Path) -> None:
    video, still = track(tmp_path, 30), track(tmp_path, 1, "still")
    shown = list(show_objects([video, still], region_of, ViewConfig(), np.random.default_rng(0)))
    assert sum(len(each.views) for each in shown) == ViewConfig().count(video) + ViewConfig().count(still) == 23
    assert [each.frame for each in shown] == [*spread(30, 10), 0]
    assert {each.track for each in shown} == {0, 1}


def test_spread_takes_the_ends() -> None:
    assert spread(30, 4).tolist() == [0, 10, 19, 29]
    assert spread(3, 10).tolist() == [0, 1, 2]


def test_same_seed_shows_the_same(tmp_path: Path) -> None:
    first, second = (views(ViewConfig(), track(tmp_path, 3), seed=7) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.crop, b.crop) and a.box_uvwh == b.box_uvwh


def test_broken_picture_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    video = track(tmp_path, 3)
    video.frames[1].image.write_bytes(b"no picture")
    with caplog.at_level(logging.WARNING):
        shown = list(show_objects([video], region_of, PLAIN, np.random.default_rng(0)))
    assert [each.frame for each in shown] == [0, 2]
    assert video.frames[1].image.name in caplog.text
