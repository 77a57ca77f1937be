import numpy as np
import pytest
from numpy.typing import NDArray

from tests import reference
from tests.tolerances import assert_close
from tracker.crop import cut, mean_colour
from tracker.geometry import CropGeometry
from tracker.interface import Frame

FILL = (10.4, 20.6, 200.0)
REGIONS = [
    CropGeometry(40, 30, 31, 31),
    CropGeometry(40.37, 30.81, 31, 31),
    CropGeometry(40.37, 30.81, 9.3, 31),
    CropGeometry(39.6, 29.5, 50.3, 31),
    CropGeometry(40.5, 30.5, 59.9, 16),
    CropGeometry(41.3, 28.7, 2.1, 32),
    *(CropGeometry(40.5, 30.5, side, 31) for side in (31.0, 43.0, 59.0)),  # of whole pixels
    CropGeometry(40.0, 30.0, 40.0, 20),
]


def noise(height: int, width: int, seed: int = 0) -> Frame:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def sample_places(region: CropGeometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return frame x of each crop column and frame y of each crop row, at the pixels' centres."""
    middles = [region.to_frame(k + 0.5, k + 0.5) for k in range(region.size)]
    return np.array([x for x, _ in middles]), np.array([y for _, y in middles])


@pytest.mark.parametrize("region", REGIONS, ids=str)
def test_ramp_keeps_its_coordinates(region: CropGeometry) -> None:
    ys, xs = np.mgrid[0:60, 0:80].astype(np.float32) + np.float32(0.5)  # the value of a pixel is its centre
    crop = cut(np.dstack([xs, ys, xs]), region, FILL)
    want_x, want_y = sample_places(region)
    assert_close(crop[..., 0], np.tile(want_x, (region.size, 1)), "crop_px")
    assert_close(crop[..., 1], np.tile(want_y[:, None], region.size), "crop_px")


@pytest.mark.parametrize("region", REGIONS, ids=str)
def test_ramp_of_bytes_keeps_its_coordinates(region: CropGeometry) -> None:
    steep = 16  # grey levels a pixel, so that a level is a sixteenth of a pixel; half of that is lost to rounding
    seen = []
    for axis, want in enumerate(sample_places(region)):
        for start in range(0, 80, 8):
            levels = np.clip(steep * (np.arange(80) + 0.5 - start), 0, 255).astype(np.uint8)
            plane = np.tile(levels, (80, 1)) if axis == 0 else np.tile(levels[:, None], (1, 80))
            crop = cut(np.dstack([plane] * 3)[:60], region, FILL)
            values = (crop[region.size // 2, :, 0] if axis == 0 else crop[:, region.size // 2, 0]).astype(float)
            unclipped = (want > start + 1) & (want < start + 14)
            seen.append(values[unclipped] / steep + start - want[unclipped])
    assert_close(np.concatenate(seen), np.zeros(sum(map(len, seen))), "crop_px")
    assert sum(map(len, seen)) >= 2 * region.size


@pytest.mark.parametrize(
    "region", [*REGIONS[:4], CropGeometry(3.3, 58.2, 40.7, 23), CropGeometry(79, -2, 12.2, 23)], ids=str
)
def test_crop_is_the_bilinear_interpolation(region: CropGeometry) -> None:
    frame = noise(60, 80)
    truth = reference.bilinear_crop(
        frame.astype(np.float64), (region.cx, region.cy), region.side, region.size, np.array(FILL)
    )
    crop = cut(frame, region, FILL)
    assert crop.shape == (region.size, region.size, 3)
    assert crop.dtype == np.uint8
    assert np.abs(crop - truth).max() <= 1  # half of it is the rounding to bytes


@pytest.mark.parametrize("region", [CropGeometry(40.5, 30.5, 9, 31), CropGeometry(60.5, 40.5, 39, 78)], ids=str)
def test_magnified_whole_pixels_are_interpolated_but_for_the_rim(region: CropGeometry) -> None:
    frame = noise(60, 80)
    rim = int(0.5 / region.frame_per_crop) + 1  # there the neighbours outside the square count, which are not read
    truth = reference.bilinear_crop(
        frame.astype(np.float64), (region.cx, region.cy), region.side, region.size, np.array(FILL)
    )
    off = np.abs(cut(frame, region, FILL) - truth)
    assert off[rim:-rim, rim:-rim].max() <= 1
    assert off.max() > 1


def test_whole_pixels_are_copied() -> None:
    frame = noise(60, 80)
    assert np.array_equal(cut(frame, CropGeometry(40, 30, 20, 20), FILL), frame[20:40, 30:50])


@pytest.mark.parametrize(("cx", "cy"), [(-30, 30), (110, 30), (40, -30), (40, 90), (1e6, -1e6), (96.1, 30)])
def test_square_outside_the_frame_is_all_fill(cx: float, cy: float) -> None:
    crop = cut(noise(60, 80), CropGeometry(cx, cy, 32, 16), FILL)
    assert crop.dtype == np.uint8
    assert np.array_equal(crop, np.broadcast_to(np.array([10, 21, 200], np.uint8), (16, 16, 3)))


def test_part_outside_the_frame_is_fill() -> None:
    frame = noise(60, 80)
    crop = cut(frame, CropGeometry(80, 60, 20, 20), FILL)
    assert np.array_equal(crop[:10, :10], frame[50:, 70:])
    assert (crop[10:] == (10, 21, 200)).all()
    assert (crop[:, 10:] == (10, 21, 200)).all()


class Watched:
    """Stand in for a frame too large for any memory and keep what was read of it."""

    def __init__(self, height: int, width: int) -> None:
        self.shape = (height, width, 3)
        self.read: list[tuple[int, int]] = []

    def __getitem__(self, key: tuple[slice, slice]) -> Frame:
        (top, bottom, _), (left, right, _) = (part.indices(n) for part, n in zip(key, self.shape, strict=False))
        self.read.append((bottom - top, right - left))
        return np.full((bottom - top, right - left, 3), 77, np.uint8)


@pytest.mark.parametrize("place", [(10.0, 10.0), (500_000.3, 700_000.7), (999_990.0, 999_990.0)])
def test_only_the_square_is_read(place: tuple[float, float]) -> None:
    frame = Watched(1_000_000, 1_000_000)
    crop = cut(frame, CropGeometry(*place, 50, 31), FILL)  # type: ignore[arg-type]
    assert (crop[11:20, 11:20] == 77).all()
    ((height, width),) = frame.read
    assert 0 < height <= 56
    assert 0 < width <= 56


def test_frame_wider_than_opencv_can_warp() -> None:
    frame = np.zeros((50, 40_000, 3), np.uint8)
    frame[:, -80:] = noise(50, 80)
    region = CropGeometry(39_960.3, 25.2, 40, 31)
    near = CropGeometry(region.cx - 39_920, region.cy, region.side, region.size)
    assert np.array_equal(cut(frame, region, FILL), cut(frame[:, 39_920:], near, FILL))


def test_frame_is_not_changed_and_may_be_a_view() -> None:
    frame = noise(60, 160)[:, ::2]
    before = frame.copy()
    crop = cut(frame, REGIONS[3], FILL)
    assert np.array_equal(crop, cut(before, REGIONS[3], FILL))
    assert np.array_equal(frame, before)


def test_mean_colour_is_in_the_order_of_the_frame() -> None:
    frame = noise(7, 9)
    assert_close(mean_colour(frame), frame.reshape(-1, 3).mean(axis=0), "float64")
    assert mean_colour(np.full((4, 4, 3), (1, 2, 3), np.uint8)) == (1, 2, 3)


def test_object_is_found_where_the_geometry_says() -> None:
    frame = np.zeros((60, 80, 3), np.uint8)
    frame[20:26, 50:58] = 255  # its centre is (54, 23)
    region = CropGeometry(47.3, 30.9, 37.7, 127)
    crop = cut(frame, region, (0, 0, 0))[..., 0].astype(np.float64)
    middles = np.arange(127) + 0.5
    found = (crop.sum(0) @ middles / crop.sum(), crop.sum(1) @ middles / crop.sum())
    assert_close(found, region.to_crop(54, 23), "crop_px")
