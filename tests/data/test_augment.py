from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from tracker.data.augment import (
    Camera,
    Chances,
    Crop,
    blur_motion,
    cover,
    disturb,
    draw_camera,
    jitter_colour,
    paste,
    stretch,
    taken_by,
    to_grey,
    turn,
)

GREY_SHARES = (0.299, 0.587, 0.114)  # ITU-R BT.601

RANDOM = {
    "colour": partial(jitter_colour, strength=0.3),
    "blur": partial(blur_motion, max_length=9),
    "cover": partial(cover, max_share=0.5),
    "all": partial(disturb, colour=0.2, chances=Chances(grey=0.5, blur=0.5, cover=0.5)),
}


def noise(side: int = 40, low: int = 0, high: int = 256) -> Crop:
    return np.random.default_rng(0).integers(low, high, (side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", RANDOM)
def test_result_depends_on_crop_and_generator_alone(name: str) -> None:
    augment: Callable[[Crop, np.random.Generator], Crop] = RANDOM[name]
    crop = noise()
    before = crop.copy()
    first, again, other = (augment(crop, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert first.shape == crop.shape
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, crop)
    assert np.array_equal(crop, before)


@pytest.mark.parametrize("seed", range(8))
def test_colour_is_saturation_then_contrast_then_brightness(seed: int) -> None:
    crop = noise(low=60, high=180)
    factors = 1 + 0.25 * np.random.default_rng(seed).uniform(-1, 1, 3)
    brightness, contrast, saturation = factors
    value = crop.astype(np.float64)
    grey = (value @ GREY_SHARES)[..., None]
    value = grey + saturation * (value - grey)
    value = crop.mean() + contrast * (value - crop.mean())
    truth = np.clip(brightness * value, 0, 255)
    assert np.abs(jitter_colour(crop, np.random.default_rng(seed), 0.25) - truth).max() < 1


def test_colour_without_strength_is_the_crop() -> None:
    assert np.array_equal(jitter_colour(noise(), np.random.default_rng(0), 0.0), noise())


def test_colour_saturates_instead_of_wrapping() -> None:
    crop = np.full((4, 4, 3), 255, np.uint8)
    crop[:2] = 0
    for seed in range(20):
        moved = jitter_colour(crop, np.random.default_rng(seed), 0.5)
        assert moved[2:].min() > moved[:2].max()


def test_grey_keeps_the_luminance() -> None:
    grey = to_grey(noise())
    assert grey.dtype == np.uint8
    assert np.ptp(grey, axis=2).max() == 0
    assert np.abs(grey[..., 0] - noise() @ GREY_SHARES).max() <= 0.51
    assert np.array_equal(to_grey(grey), grey)


@pytest.mark.parametrize("seed", range(8))
def test_blur_spreads_a_point_along_a_line(seed: int) -> None:
    crop = np.zeros((41, 41, 3), np.uint8)
    crop[20, 20] = 240
    blurred = blur_motion(crop, np.random.default_rng(seed), max_length=9)
    rows, columns = np.nonzero(blurred[..., 0])
    assert 3 <= len(rows) <= 2 * 9
    assert max(np.ptp(rows), np.ptp(columns)) <= 8
    assert abs(blurred[..., 0].sum(dtype=int) - 240) <= len(rows)  # each is rounded
    # All lie within a pixel of the line through them, and the line passes the point.
    places = np.stack([columns - columns.mean(), rows - rows.mean()])
    assert np.linalg.svd(places, compute_uv=False)[1] / np.sqrt(len(rows)) < 0.5
    assert np.hypot(columns.mean() - 20, rows.mean() - 20) <= np.sqrt(0.5) + 1e-9


def test_blur_keeps_what_is_plain() -> None:
    crop = np.full((20, 20, 3), (10, 200, 90), np.uint8)
    for seed in range(10):
        assert np.array_equal(blur_motion(crop, np.random.default_rng(seed), max_length=9), crop)


def test_blur_takes_all_lengths_up_to_the_longest() -> None:
    crop = np.zeros((41, 41, 3), np.uint8)
    crop[20, 20] = 255
    lengths = set()
    for seed in range(60):
        rows, columns = np.nonzero(blur_motion(crop, np.random.default_rng(seed), max_length=6)[..., 0])
        if not np.ptp(rows):  # a horizontal line shows its length
            lengths.add(len(columns))
    assert lengths <= {3, 4, 5, 6}
    assert lengths


@pytest.mark.parametrize("seed", range(8))
def test_cover_is_one_rectangle_of_one_colour(seed: int) -> None:
    crop = noise(side=60)
    covered = cover(crop, np.random.default_rng(seed), max_share=0.4)
    rows, columns = np.nonzero((covered != crop).any(axis=2))
    inside = covered[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert (inside == inside[0, 0]).all()
    assert 3 <= inside.shape[0] <= 24
    assert 3 <= inside.shape[1] <= 24


def test_cover_reaches_every_edge() -> None:
    crop = np.zeros((10, 10, 3), np.uint8)
    touched = np.zeros((10, 10), bool)
    for seed in range(300):
        touched |= cover(crop, np.random.default_rng(seed), max_share=0.5).any(axis=2)
    assert touched.all()


@pytest.mark.parametrize("side", [40, 41])
@pytest.mark.parametrize("quarters", [-1, 0, 1, 2])
def test_quarter_turns_are_exact_and_anticlockwise(side: int, quarters: int) -> None:
    crop = noise(side)
    turned = turn(crop, 90.0 * quarters, (0, 0, 0))
    inner = slice(1, -1)  # at the very border a rounding error lets in some fill
    assert np.abs(turned.astype(int) - np.rot90(crop, quarters))[inner, inner].max() <= 1


def test_turn_moves_the_object_as_trigonometry_says() -> None:
    crop = np.zeros((61, 61, 3), np.uint8)
    crop[29:32, 49:52] = 255  # 20 px to the right of the middle
    values = turn(crop, 30.0, (0, 0, 0))[..., 0].astype(float)
    places = np.arange(61) - 30
    found = (values.sum(0) @ places / values.sum(), values.sum(1) @ places / values.sum())
    assert np.allclose(found, (20 * np.cos(np.pi / 6), -20 * np.sin(np.pi / 6)), atol=0.05)


def test_turn_fills_the_corners() -> None:
    turned = turn(np.full((40, 40, 3), 200, np.uint8), 45.0, (10, 20, 30))
    for corner in (turned[0, 0], turned[0, -1], turned[-1, 0], turned[-1, -1]):
        assert corner.tolist() == [10, 20, 30]
    assert (turned[15:25, 15:25] == 200).all()


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_stretch_moves_each_point_by_its_factor(factor: float) -> None:
    ramp = np.zeros((101, 101, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(101), np.arange(101)[:, None]  # value = coordinate
    out = stretch(ramp, factor, 61).astype(np.float64)
    offsets = np.arange(61) - 30
    assert np.abs(out[30, :, 0] - (50 + offsets / factor)).max() <= 0.5 + 1e-6  # rounded to whole values
    assert np.abs(out[:, 30, 1] - (50 + offsets * factor)).max() <= 0.5 + 1e-6


def test_paste_lays_an_ellipse_with_a_soft_rim() -> None:
    crop, patch = np.full((40, 40, 3), 10, np.uint8), np.full((8, 12, 3), 210, np.uint8)
    out = paste(crop, patch, (10, 14, 20, 10))
    assert (crop == 10).all()
    assert out[19, 20, 0] >= 209
    assert {out[14, 10, 0], out[14, 29, 0], out[23, 10, 0], out[23, 29, 0]} == {10}  # the corners
    outside = out.copy()
    outside[14:24, 10:30] = 10
    assert (outside == 10).all()
    assert 0.6 < (out[14:24, 10:30, 0].astype(float) - 10).mean() / 200 < np.pi / 4
    assert len(np.unique(out[19, 10:20, 0])) >= 3


@pytest.mark.parametrize("box", [(-9.0, -5.0, 12.0, 8.0), (35.0, 36.0, 30.0, 30.0), (-30.0, 0.0, 20.0, 20.0)])
def test_paste_may_reach_out_of_the_crop(box: tuple[float, float, float, float]) -> None:
    large = paste(np.zeros((140, 140, 3), np.uint8), noise(9), (box[0] + 50, box[1] + 50, *box[2:]))
    assert np.array_equal(paste(np.zeros((40, 40, 3), np.uint8), noise(9), box), large[50:90, 50:90])


def test_each_disturbance_has_its_own_chance() -> None:
    crop = noise()
    plain, grey, blurred, covered = (
        disturb(crop, np.random.default_rng(3), 0.0, chances)
        for chances in (Chances(0, 0, 0), Chances(1, 0, 0), Chances(0, 1, 0), Chances(0, 0, 1))
    )
    assert np.array_equal(plain, crop)
    assert np.array_equal(grey, to_grey(crop))
    changed = [(found != crop).any(axis=2) for found in (blurred, covered)]
    assert changed[0].mean() > 0.9  # noise changes wherever it is blurred
    rows, columns = np.nonzero(changed[1])
    assert 0 < changed[1].mean() <= 0.31 and changed[1].sum() > 0.8 * np.ptp(rows) * np.ptp(columns)  # one rectangle


def test_each_of_a_cameras_faults_has_its_own_chance() -> None:
    def drawn(chances: Camera) -> list[Camera]:
        rng = np.random.default_rng(0)
        return [draw_camera(rng, chances) for _ in range(400)]

    for at, field in enumerate(Camera._fields):
        cameras = drawn(Camera(**{field: 0.3}))
        assert all(value == 0 for camera in cameras for other, value in enumerate(camera) if other != at)
        assert 0.2 < np.mean([camera[at] > 0 for camera in cameras]) < 0.4
    assert {camera.grey for camera in drawn(Camera(grey=0.5))} == {0.0, 1.0}
    halved = [camera.dark for camera in drawn(Camera(dark=1.0))]
    assert 0 <= min(halved) < 0.1 and 2.4 < max(halved) <= 2.5


def test_no_chance_draws_nothing() -> None:
    rng = np.random.default_rng(0)
    assert draw_camera(rng, Camera()) == Camera()
    assert rng.random() == np.random.default_rng(0).random()
    crop = noise()
    assert taken_by(crop, rng, Camera()) is crop


def test_a_camera_halves_the_light_and_adds_its_noise() -> None:
    plain = np.full((90, 80, 3), (200, 120, 40), np.uint8)
    rng = np.random.default_rng(0)
    assert (taken_by(plain, rng, Camera(dark=1.0)) == (100, 60, 20)).all()
    grey = taken_by(plain, rng, Camera(grey=1.0))
    assert (grey == grey[0, 0, 0]).all()
    grainy = taken_by(plain, rng, Camera(noise=10.0)).astype(float) - plain
    assert grainy.shape == plain.shape and np.abs(grainy.mean(axis=(0, 1))).max() < 0.5
    assert grainy.std(axis=(0, 1)) == pytest.approx(np.full(3, 10.0), rel=0.05)
    both = taken_by(plain, rng, Camera(grey=1.0, noise=10.0))
    assert (both[..., 0] == both[..., 1]).all() and (both[..., 0] == both[..., 2]).all()  # the noise of one sensor
    assert not np.array_equal(both, taken_by(plain, rng, Camera(grey=1.0, noise=10.0)))


def test_a_coarse_camera_has_few_pixels_and_their_noise() -> None:
    crop = noise()
    rng = np.random.default_rng(0)
    coarse = taken_by(crop, rng, Camera(coarse=1.0))
    assert coarse.shape == crop.shape and coarse.dtype == np.uint8
    middle = np.s_[4:-4, 4:-4]
    few = crop.reshape(crop.shape[0] // 2, 2, crop.shape[1] // 2, 2, 3).mean(axis=(1, 3))
    again = coarse.reshape(*few.shape[:1], 2, few.shape[1], 2, 3).mean(axis=(1, 3))
    # Each pixel of four is as it was but for its neighbours, which enlarging mixes in.
    assert np.corrcoef(few[middle].ravel(), again[middle].ravel())[0, 1] > 0.9
    plain = np.full((96, 80, 3), 128, np.uint8)
    assert (taken_by(plain, rng, Camera(coarse=1.6)) == plain).all()
    grain = taken_by(plain, rng, Camera(noise=20.0, coarse=1.5)).astype(float)
    fine = taken_by(plain, rng, Camera(noise=20.0)).astype(float)
    likeness = [np.corrcoef(taken[:, 1:].ravel(), taken[:, :-1].ravel())[0, 1] for taken in (grain, fine)]
    assert likeness[0] > 0.6 and abs(likeness[1]) < 0.05  # of a pixel and the next one


def test_a_coarse_crop_of_any_size_stays_a_crop() -> None:
    for shape in ((1, 1, 3), (2, 7, 3), (129, 129, 3)):
        assert taken_by(np.full(shape, 9, np.uint8), np.random.default_rng(0), Camera(coarse=1.6)).shape == shape
