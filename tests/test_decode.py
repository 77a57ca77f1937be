from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from tests import reference
from tests.tolerances import assert_close
from tracker.config import RPNConfig, ScaleSearchConfig
from tracker.decode import (
    Candidate,
    Proposals,
    Response,
    ResponsePyramid,
    best_proposal,
    cosine_window,
    moved,
    moves_between,
    resampled,
    second_peak,
    typical_moves,
)

STRIDE = 8
CELLS = 17
SIZE = (60.0, 40.0)
CONFIG = ScaleSearchConfig(
    scales=3, scale_step=1.05, scale_penalty=0.97, size_smoothing=0.6, window_influence=0.2, upsample=16
)
PIXEL = STRIDE / CONFIG.upsample  # crop pixels in one pixel of the enlarged response


def peak(row: float, column: float, height: float = 6.0, floor: float = -3.0) -> Response:
    """Return a response with a round peak, two cells wide, at a place counted in cells from the middle."""
    offsets = np.arange(CELLS) - (CELLS - 1) / 2
    distance = (offsets[:, None] - row) ** 2 + (offsets[None, :] - column) ** 2
    return (floor + height * np.exp(-distance / 8)).astype(np.float32)


def flat(level: float) -> Response:
    return np.full((CELLS, CELLS), level, np.float32)


@pytest.mark.parametrize("cells", [1, 2, 17, 272])
def test_window_sums_to_one_and_is_highest_in_the_middle(cells: int) -> None:
    window = cosine_window(cells)
    assert window.shape == (cells, cells)
    assert_close(window.sum(dtype=np.float64), 1.0, "float32")
    assert window.min() > 0
    assert_close(window, window[::-1, ::-1], "float32")
    assert_close(window, window.T, "float32")
    assert window[cells // 2, cells // 2] == window.max()
    assert (np.diff(window[cells // 2, : (cells + 1) // 2]) > 0).all()


@pytest.mark.parametrize("place", [(0, 0), (3, -5), (-6, 2), (6, 6), (-2.5, 1.25), (0.1, 0.2)])
def test_planted_peak_gives_its_displacement(place: tuple[float, float]) -> None:
    pyramid = ResponsePyramid(replace(CONFIG, window_influence=0.0), STRIDE)
    row, column = place
    candidate, scale = pyramid.decode(np.stack([flat(-3), peak(row, column), flat(-3)]), SIZE)
    assert scale == 1
    on_cells = row % 1 == column % 1 == 0  # between cells, bicubic interpolation draws the peak towards one
    tolerance = PIXEL / 2 if on_cells else 1.5 * PIXEL
    assert abs(candidate.dv - row * STRIDE) <= tolerance + 1e-9
    assert abs(candidate.du - column * STRIDE) <= tolerance + 1e-9
    assert (candidate.w, candidate.h) == SIZE


@pytest.mark.parametrize("size", [1, 5, 9, 22])
def test_size_of_the_response_does_not_matter(size: int) -> None:
    responses = np.full((3, size, size), -1, np.float32)
    responses[1, 0, size - 1] = 4
    pyramid = ResponsePyramid(replace(CONFIG, window_influence=0.0, upsample=1), STRIDE)
    candidate, _ = pyramid.decode(responses, SIZE)
    assert (candidate.du, candidate.dv) == (STRIDE * (size - 1) / 2, -STRIDE * (size - 1) / 2)


@pytest.mark.parametrize("scales", [1, 3, 5])
def test_each_scale_wins_where_the_peak_is_its_own(scales: int) -> None:
    pyramid = ResponsePyramid(replace(CONFIG, scales=scales), STRIDE)
    assert_close(pyramid.factors, [1.05 ** (e - scales // 2) for e in range(scales)], "float64")
    for planted in range(scales):
        responses = np.stack([peak(0, 0, height=6 if e == planted else 4) for e in range(scales)])
        candidate, scale = pyramid.decode(responses, SIZE)
        assert scale == planted
        # In frame pixels the size moves from 1 towards the winning factor by the smoothing share.
        factor = pyramid.factors[planted]
        assert_close(candidate.w * factor, SIZE[0] * (0.4 + 0.6 * factor), "float64")
        assert_close(candidate.h * factor, SIZE[1] * (0.4 + 0.6 * factor), "float64")


@pytest.mark.parametrize("floor", [-50.0, -3.0, 0.0, 20.0])
def test_a_change_of_scale_must_be_worth_its_penalty(floor: float) -> None:
    pyramid = ResponsePyramid(CONFIG, STRIDE)
    for gain, winner in ((1.0, 1), (1.02, 1), (1.05, 2)):  # the penalty of 0.97 asks for 1 / 0.97 = 1.031
        responses = np.stack([peak(0, 0, 6, floor), peak(0, 0, 6, floor), peak(0, 0, 6 * gain, floor)])
        assert pyramid.decode(responses, SIZE)[1] == winner


def test_window_pulls_to_the_middle() -> None:
    two = np.maximum(peak(0, 1, height=5.8), peak(0, -7, height=6))
    responses = np.stack([flat(-3), two, flat(-3)])
    free, _ = ResponsePyramid(replace(CONFIG, window_influence=0.0), STRIDE).decode(responses, SIZE)
    held, _ = ResponsePyramid(CONFIG, STRIDE).decode(responses, SIZE)
    bound, _ = ResponsePyramid(replace(CONFIG, window_influence=1.0), STRIDE).decode(responses, SIZE)
    assert abs(free.du + 7 * STRIDE) < STRIDE / 2
    assert abs(held.du - STRIDE) < STRIDE / 2
    assert abs(bound.du) <= PIXEL / 2
    assert abs(bound.dv) <= PIXEL / 2


@pytest.mark.parametrize("level", [-100.0, -7.5, 3.0])
def test_level_of_the_logits_moves_nothing_but_the_score(level: float) -> None:
    pyramid = ResponsePyramid(CONFIG, STRIDE)
    responses = np.stack([peak(1, 2, 5), peak(2, 3, 6), peak(3, 4, 5)])
    brighter, scale = pyramid.decode(responses + np.float32(level), SIZE)
    still, same = pyramid.decode(responses, SIZE)
    assert scale == same
    assert abs(brighter.du - still.du) <= PIXEL
    assert abs(brighter.dv - still.dv) <= PIXEL
    assert (brighter.w, brighter.h) == (still.w, still.h)
    assert 0 <= brighter.score <= 1
    assert (brighter.score > still.score) == (level > 0)


def test_score_is_the_logistic_height_of_the_chosen_place() -> None:
    candidate, _ = ResponsePyramid(CONFIG, STRIDE).decode(np.stack([flat(-3), peak(0, 0), flat(-3)]), SIZE)
    assert abs(candidate.score - 1 / (1 + np.exp(-3.0))) < 1e-3  # the peak is 6 above -3


def test_flat_response_is_no_motion_and_no_change_of_size() -> None:
    for level in (0.0, 0.3, -0.7, -5.3, 12.34, -88.0, -800.0):
        candidate, scale = ResponsePyramid(CONFIG, STRIDE).decode(np.stack([flat(level)] * 3), SIZE)
        assert abs(candidate.du) <= PIXEL / 2
        assert abs(candidate.dv) <= PIXEL / 2
        assert scale == 1
        assert (candidate.w, candidate.h) == SIZE
        assert 0 <= candidate.score <= 1


def test_decoding_changes_neither_input_nor_later_results() -> None:
    pyramid = ResponsePyramid(CONFIG, STRIDE)
    responses = np.stack([peak(1, 2), peak(2, 3), peak(3, 4)])
    before = responses.copy()
    first = pyramid.decode(responses, SIZE)
    pyramid.decode(responses[:, :9, :9], SIZE)  # another size: its window is another one
    assert pyramid.decode(responses, SIZE) == first
    assert np.array_equal(responses, before)


@pytest.mark.parametrize("cells", [CELLS, CELLS + 5, CELLS + 6])
def test_filter_decides_by_its_share(cells: int) -> None:
    """The filter's map is wider than the response; the middles agree."""
    config = replace(CONFIG, window_influence=0.0)
    responses = np.stack([flat(-3), peak(-2, 3), flat(-3)])
    offsets = np.arange(cells) - (cells - 1) / 2
    answers = np.exp(-((offsets[:, None] - 4) ** 2 + (offsets[None, :] + 5) ** 2) / 8).astype(np.float32)
    for share, place, score in ((0.2, (-2, 3), 0.8 / (1 + np.exp(-3))), (0.8, (4, -5), 0.8 + 0.2 / (1 + np.exp(3)))):
        pyramid = ResponsePyramid(replace(config, filter_share=share), STRIDE)
        candidate, scale = pyramid.decode(responses, SIZE, np.stack([answers] * 3))
        assert scale == 1
        assert (candidate.dv, candidate.du) == pytest.approx((place[0] * STRIDE, place[1] * STRIDE), abs=1.5 * PIXEL)
        assert candidate.score == pytest.approx(score, abs=0.02)  # bicubic interpolation overshoots


def test_window_weighs_with_a_filter_too() -> None:
    two = np.maximum(peak(0, 1, height=5.8), peak(0, -7, height=6))
    responses, answers = np.stack([flat(-3), two, flat(-3)]), np.zeros((3, CELLS, CELLS), np.float32)
    free, _ = ResponsePyramid(replace(CONFIG, window_influence=0.0), STRIDE).decode(responses, SIZE, answers)
    held, _ = ResponsePyramid(CONFIG, STRIDE).decode(responses, SIZE, answers)
    assert abs(free.du + 7 * STRIDE) < STRIDE / 2
    assert abs(held.du - STRIDE) < STRIDE / 2


def test_moves_between_two_boxes_lead_from_one_to_the_other() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        box, other = ((*rng.uniform(-50, 50, 2).tolist(), *rng.uniform(1, 90, 2).tolist()) for _ in range(2))
        assert moved(box, moves_between(box, other)) == pytest.approx(other, rel=1e-12)
    assert moves_between((4.0, 2.0, 10.0, 20.0), (5.0, -2.0, 20.0, 10.0)) == pytest.approx(
        (0.1, -0.2, 0.6931, -0.6931), abs=1e-4
    )


def test_typical_moves_are_a_share_of_the_median_within_bounds() -> None:
    moves = [(0.1, 0.9, -0.2, 0.0), (0.3, 0.8, -0.9, 0.1), (0.2, 0.7, -0.8, 5.0)]
    assert typical_moves(moves, 0.5, 0.7) == pytest.approx((0.14, 0.35, -0.35, 0.07))


RPN = RPNConfig(filter_share=0.5, penalty_k=0.0, size_smoothing=1.0, window_influence=0.0, calibration=0.0, hold=0.0)


def proposals(
    scores: dict[tuple[int, int], float], sizes: dict[tuple[int, int], tuple[float, float]] | None = None
) -> Proposals:
    """Return boxes of SIZE on 9x9 cells of 8 px, with scores and other sizes for some of them."""
    offsets = (np.arange(9, dtype=np.float32) - 4) * 8
    boxes = np.empty((4, 9, 9), np.float32)
    boxes[0], boxes[1], boxes[2], boxes[3] = offsets, offsets[:, None], *SIZE
    values = np.full((9, 9), 0.05, np.float32)
    for at, score in scores.items():
        values[at] = score
    for at, size in (sizes or {}).items():
        boxes[2:, at[0], at[1]] = size
    return Proposals(values, boxes)


def test_best_score_gives_its_box() -> None:
    found = best_proposal(proposals({(2, 7): 1.0}, {(2, 7): (66.0, 44.0)}), SIZE, RPN)
    assert (found.du, found.dv, found.w, found.h, found.score) == (24, -16, 66, 44, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_an_error(value: float) -> None:
    with pytest.raises(ValueError, match="the features are not finite"):
        best_proposal(proposals({(2, 7): value}), SIZE, RPN)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scale", [0, 1, 2])
def test_responses_that_are_not_finite_are_an_error(value: float, scale: int) -> None:
    responses = np.stack([peak(0, 0)] * 3)
    responses[scale, 3, 4] = value
    with pytest.raises(ValueError, match="the features are not finite"):
        ResponsePyramid(CONFIG, STRIDE).decode(responses, SIZE)


def test_size_follows_by_smoothing_times_score() -> None:
    shown = proposals({(4, 4): 0.5}, {(4, 4): (70.0, 50.0)})
    found = best_proposal(shown, SIZE, replace(RPN, size_smoothing=0.4))
    assert (found.w, found.h) == pytest.approx((60 + 0.2 * 10, 40 + 0.2 * 10))


def test_sudden_change_of_size_or_shape_is_penalised() -> None:
    near, other = (4, 3), (4, 5)
    for size in ((30.0, 20.0), (120.0, 80.0), (40.0, 60.0)):
        shown = proposals({near: 0.7, other: 0.9}, {other: size})
        assert best_proposal(shown, SIZE, RPN).du == 8
        found = best_proposal(shown, SIZE, replace(RPN, penalty_k=0.5))
        assert (found.du, found.w, found.h) == (-8, *SIZE)
        assert found.score == pytest.approx(0.7)  # that of the cell, without penalty or window


def test_window_prefers_the_middle() -> None:
    shown = proposals({(4, 4): 0.7, (0, 0): 0.8})
    assert best_proposal(shown, SIZE, RPN).du == -32
    assert best_proposal(shown, SIZE, replace(RPN, window_influence=0.4)).du == 0


def test_filter_lies_over_the_response_also_where_half_a_pixel_is_between() -> None:
    config = replace(CONFIG, window_influence=0.0, filter_share=1.0, upsample=1)
    answers = np.zeros((CELLS + 5, CELLS + 5), np.float32)
    answers[12:14, 8:10] = 1.0  # around 2 cells below and 2 cells left of the middle, which lies between two cells
    candidate, _ = ResponsePyramid(config, STRIDE).decode(np.stack([flat(0)] * 3), SIZE, np.stack([answers] * 3))
    assert (candidate.du, candidate.dv) == (-2 * STRIDE, 2 * STRIDE)


def test_second_peak_is_the_best_outside_the_box() -> None:
    scores = np.full((9, 9), 0.1, np.float32)
    scores[4, 4], scores[4, 6], scores[1, 4] = 0.9, 0.7, 0.5  # the second is 16 px to the right, the third 24 px above
    for size, expected in (((20.0, 20.0), 0.7), ((34.0, 20.0), 0.5), ((34.0, 50.0), 0.1), ((500.0, 500.0), 0.0)):
        found = Candidate(0.0, 0.0, *size, 0.9)
        assert second_peak(scores, found, 8) == pytest.approx(expected)
    assert second_peak(scores, Candidate(0.0, 0.0, 1.0, 1.0, 0.9), 8) == pytest.approx(0.7)
    scores[4, 5] = 0.8  # beside the peak: part of it, however small the box
    assert second_peak(scores, Candidate(0.0, 0.0, 1.0, 1.0, 0.9), 8) == pytest.approx(0.7)
    assert second_peak(-scores, Candidate(0.0, 0.0, 1.0, 1.0, 0.9), 8) == 0.0


def test_second_peak_is_that_of_a_mask_wherever_the_box_lies() -> None:
    rng = np.random.default_rng(0)
    at = (np.arange(9) - 4) * 8.0
    for _ in range(200):
        scores = rng.random((9, 9)).astype(np.float32)
        du, dv, w, h = (*rng.uniform(-60, 60, 2), *rng.uniform(1, 70, 2))
        beside = (np.abs(at - du) > max(w / 2, 12)) | (np.abs(at - dv) > max(h / 2, 12))[:, None]
        assert second_peak(scores, Candidate(du, dv, w, h, 0.9), 8) == scores.max(where=beside, initial=0.0)


def test_best_proposal_is_that_of_a_loop_over_all_cells() -> None:
    rng = np.random.default_rng(1)
    config = replace(RPN, penalty_k=0.3, window_influence=0.4, size_smoothing=0.6)
    for _ in range(50):
        shown = proposals({}, {})
        shown.scores[:] = rng.random((9, 9))
        shown.boxes[2:] *= np.exp(0.4 * rng.standard_normal((2, 9, 9)))
        shown = replace(shown, calibration=(0.1, -0.2, 0.1, -0.1))
        found = best_proposal(shown, SIZE, config)
        wanted = reference.best_proposal(shown.scores, shown.boxes, shown.calibration, SIZE, (0.3, 0.4, 0.6))
        assert (*found.box_uvwh, found.score) == pytest.approx(wanted, rel=1e-5)


def test_score_stays_in_its_range() -> None:
    assert best_proposal(proposals({(1, 1): 1.4}), SIZE, RPN).score == 1
    low = proposals({})
    low.scores[:] = -0.2
    assert best_proposal(low, SIZE, RPN).score == 0


@pytest.mark.parametrize(("count", "cells"), [(17, 33), (5, 12)])
def test_resampled_answers_are_torch_s_bicubic_ones(count: int, cells: int) -> None:
    answers = np.random.default_rng(0).random((count, count)).astype(np.float32)
    torch_answers = torch.from_numpy(answers)[None, None]
    wanted = interpolate(torch_answers, (cells, cells), mode="bicubic", align_corners=True)[0, 0]
    assert_close(resampled(answers, cells, (count - 1) / (cells - 1)), wanted, "float32")
