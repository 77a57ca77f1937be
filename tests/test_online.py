import math
from dataclasses import replace

import numpy as np
import pytest

from tests.tolerances import assert_close
from tracker.builder import load_tracker
from tracker.config import BoxRegressionConfig, OnlineConfig
from tracker.geometry import Box
from tracker.models import online_filter
from tracker.online import BoxModel, PlaceModel, parabola_peak, rate_of

BOX = BoxRegressionConfig(
    channels=3,
    cells=8,
    context=1.5,
    moves=64,
    shift=0.15,
    growth=0.15,
    stretch=0.1,
    stretch_trust=1.0,
    ridge=0.01,
    rate=0.1,
    first_weight=0.5,
)
CONFIG = OnlineConfig(
    search_factor=2.5,
    search_size=241,
    channels=6,
    kernel=3,
    ridge=0.01,
    label_sigma=0.2,
    min_sigma=8.0,
    rate=0.1,
    first_weight=0.25,
    first_frames=10,
    trust=0.4,
    gate=0.5,
    window_influence=0.3,
    box=BOX,
)
STRIDE = 16


PATTERN = np.random.default_rng(99).random((8, 3, 3)).astype(np.float32)


def deep_features(row: int, column: int, seed: int = 0) -> np.ndarray:
    """Return a map (1, 8, 17, 17) of noise with a fixed pattern around a cell."""
    features = 0.3 * np.random.default_rng(seed).random((1, 8, 17, 17)).astype(np.float32)
    features[0, :, row - 1 : row + 2, column - 1 : column + 2] += PATTERN
    return features


def place_of(row: int, column: int) -> tuple[float, float]:
    return (column - 8.0) * STRIDE, (row - 8.0) * STRIDE


def learned_place(model: PlaceModel):  # noqa: ANN201 - the state's type is the model's own
    return model.learn_first(deep_features(8, 8), np.ones(1, np.float32), side=60.0)


def test_the_answer_peaks_where_the_pattern_moved() -> None:
    model = PlaceModel(CONFIG, STRIDE)
    _, answers = model.answer(learned_place(model), deep_features(4, 11, seed=1))
    assert divmod(int(answers.argmax()), 17) == (4, 11)


def test_the_first_frame_answers_one() -> None:
    model = PlaceModel(CONFIG, STRIDE)
    assert model.answer(learned_place(model), deep_features(8, 8))[1].max() == pytest.approx(1.0, rel=1e-5)


def test_learning_keeps_the_sums_of_all_samples_by_age() -> None:
    model = PlaceModel(CONFIG, STRIDE)
    first = state = learned_place(model)
    samples = [(deep_features(2 + i, 9, seed=i), place_of(2 + i, 9)) for i in range(12)]
    sums, moment = first.first_correlation, first.first_moment
    for features, offset in samples:
        projected, _ = model.answer(state, features)
        state = model.learn(state, projected, offset)
        labels = online_filter.gaussian_labels(np.array([offset]) / STRIDE + 9, 19, np.array([0.2 * 60.0 / STRIDE]))
        sample = projected / np.linalg.norm(projected)
        one, one_moment = online_filter.normal_equations(sample, labels, np.ones(1), 3)
        sums, moment = 0.9 * sums + 0.1 * one, 0.9 * moment + 0.1 * one_moment
    assert state.learned == 12
    assert_close(state.correlation, sums, "float32")
    # After `first_frames` the first frame keeps its quarter.
    blended = online_filter.gram(0.75 * sums + 0.25 * first.first_correlation)
    blended_moment = (0.75 * moment + 0.25 * first.first_moment).astype(np.float32)
    wanted = online_filter.solve(blended.astype(np.float32), blended_moment, 0.01)
    assert np.abs(state.weights - wanted).max() < 1e-3 * np.abs(wanted).max()


def test_after_the_first_frames_one_is_learned_for_several() -> None:
    model = PlaceModel(replace(CONFIG, learn_every=3, first_frames=4), STRIDE)
    state = learned_place(model)
    due, learned = [], []
    for i in range(12):
        before, sample = state, model.answer(state, deep_features(4, 9, seed=i))[0]
        due.append(model.due(state, sample))
        state = model.learn(state, sample, place_of(4, 9))
        learned.append(state.learned)
        assert (state.weights is before.weights) == (due[-1] == 0)
    assert due == [1, 1, 1, 1, 0, 0, 3, 0, 0, 3, 0, 0]
    assert learned == [1, 2, 3, 4, 4, 4, 7, 7, 7, 10, 10, 10]


def test_no_frame_is_no_pace() -> None:
    with pytest.raises(ValueError, match="online.learn_every must be 1 frame or more, got 0"):
        PlaceModel(replace(CONFIG, learn_every=0), STRIDE)
    with pytest.raises(ValueError, match="online.learn_near must be 0 or more frames, got -1"):
        PlaceModel(replace(CONFIG, learn_near=-1), STRIDE)


@pytest.mark.parametrize(("near", "wanted"), [(0, [1, 0, 2, 0, 2, 0, 2, 0]), (5, [1, 0, 0, 0, 0, 5, 0, 2])])
def test_from_smaller_squares_it_learns_at_a_pace_of_its_own(near: int, wanted: list[int]) -> None:
    """The last two frames show the whole square again: what waited is made up for with the next one."""
    model = PlaceModel(replace(CONFIG, learn_every=2, learn_near=near, first_frames=1), STRIDE)
    state, due = learned_place(model), []
    for i in range(8):
        maps = deep_features(4, 9, seed=i)
        sample = model.answer(state, maps[:, :, 3:-3, 3:-3] if 0 < i < 6 else maps)[0]
        due.append(model.due(state, sample))
        state = model.learn(state, sample, place_of(4, 9))
    assert due == wanted


def test_a_smaller_square_answers_and_is_learned_as_the_whole_one() -> None:
    model = PlaceModel(replace(CONFIG, rate=1.0), STRIDE)
    state = learned_place(model)
    maps = deep_features(8, 8, seed=1)
    (projected, whole), (smaller, answers) = (model.answer(state, m) for m in (maps, maps[:, :, 3:-3, 3:-3]))
    assert_close(smaller, projected[:, :, 3:-3, 3:-3], "float32")
    # Both have the same energy a cell in the mean, of which the object has more in what is smaller.
    factor = np.linalg.norm(smaller) / np.linalg.norm(projected) * 17 / 11
    assert answers.max() * factor == pytest.approx(whole.max(), rel=1e-3)
    for shown, energy in ((projected, 1.0), (smaller, (11 / 17) ** 2)):
        learned = model.learn(state, shown, place_of(8, 8))
        assert np.trace(learned.correlation[2, 2]) == pytest.approx(energy, rel=1e-5)


def test_one_frame_for_several_weighs_as_much_as_they_do() -> None:
    every, seldom = (PlaceModel(replace(CONFIG, first_frames=1, learn_every=n), STRIDE) for n in (1, 3))
    shown = deep_features(4, 9, seed=1)
    start = every.learn(learned_place(every), every.answer(learned_place(every), shown)[0], place_of(8, 8))
    states = [start, start]
    for _ in range(3):  # the same frame: the mean is the same by either way
        sample = every.answer(states[0], shown)[0]
        states = [m.learn(s, sample, place_of(4, 9)) for m, s in zip((every, seldom), states, strict=True)]
    one, other = states
    assert one.learned == other.learned == 4
    assert_close(other.correlation, one.correlation, "float32")
    assert np.abs(other.weights - one.weights).max() < 1e-3 * np.abs(one.weights).max()


def test_the_first_frame_weighs_most_at_first() -> None:
    model = PlaceModel(CONFIG, STRIDE)
    first = learned_place(model)
    other = model.answer(first, deep_features(3, 3, seed=7))[0]
    once = model.learn(first, other, place_of(12, 12))  # a wrong lesson
    answers = model.answer(once, deep_features(8, 8, seed=1))[1]
    assert divmod(int(answers.argmax()), 17) == (8, 8)


def test_a_hard_to_see_pattern_is_told_from_a_look_alike_after_learning() -> None:
    """What a fixed template cannot: the ground's own pattern is learned to be ground."""
    model = PlaceModel(CONFIG, STRIDE)
    both = deep_features(8, 8)
    both[0, :, 2:5, 2:5] += np.float32(0.85) * PATTERN
    state = model.learn_first(both, np.ones(1, np.float32), side=60.0)
    answers = model.answer(state, both)[1]
    fixed = online_filter.project(both, state.projection)
    template = fixed[0, :, 7:10, 7:10]
    plain = online_filter.respond(fixed, template.transpose(1, 2, 0).reshape(-1), 3)[0]
    assert answers[3, 3] / answers[8, 8] < 0.95 * plain[3, 3] / plain[8, 8]


def fine_features(centre: tuple[float, float], size: tuple[float, float]) -> np.ndarray:
    """Return a map (1, 3, 31, 31), stride 8, with a blob; centre in pixels from the middle, size in pixels."""
    at = (np.arange(31.0) - 15) * 8
    down, across = (np.exp(-(((at - centre[axis]) / size[axis] * 2.0) ** 2)) for axis in (1, 0))
    blob = np.outer(down, across)
    return np.stack([blob, np.sqrt(blob), np.full_like(blob, 0.2)])[np.newaxis].astype(np.float32)


def test_the_box_is_corrected_in_place_and_size() -> None:
    model = BoxModel(BOX, stride=8)
    state = model.learn_first(fine_features((0.0, 0.0), (60.0, 80.0)), Box(0, 0, 60, 80))
    _, box = model.correct(state, fine_features((6.0, -5.0), (68.0, 84.0)), Box(0, 0, 60, 80))
    assert box.cx == pytest.approx(6.0, abs=2.0)
    assert box.cy == pytest.approx(-5.0, abs=2.0)
    assert math.sqrt(box.w * box.h) == pytest.approx(math.sqrt(68 * 84), rel=0.03)
    assert box.w / box.h == pytest.approx(68 / 84, rel=0.04)


def test_corrections_stay_within_what_was_learned() -> None:
    model = BoxModel(BOX, stride=8)
    state = model.learn_first(fine_features((0.0, 0.0), (60.0, 80.0)), Box(0, 0, 60, 80))
    _, box = model.correct(
        state, 50 * np.random.default_rng(0).random((1, 3, 31, 31)).astype(np.float32), Box(0, 0, 60, 80)
    )
    assert abs(box.cx) <= 60 * 0.2251
    assert abs(math.log(box.w * box.h / 60 / 80)) <= 2 * 0.2251


def test_the_box_is_read_from_the_first_channels_alone() -> None:
    fine, later = fine_features((0.0, 0.0), (60.0, 80.0)), fine_features((6.0, -5.0), (68.0, 84.0))
    plain, reads = BoxModel(BOX, stride=8), BoxModel(replace(BOX, reads=fine.shape[1]), stride=8)
    wanted = plain.correct(plain.learn_first(fine, Box(0, 0, 60, 80)), later, Box(0, 0, 60, 80))[1]
    noise = np.random.default_rng(0).random((2, *fine.shape)).astype(np.float32) * 9
    more, later_more = np.concatenate([fine, noise[0]], axis=1), np.concatenate([later, noise[1]], axis=1)
    assert reads.correct(reads.learn_first(more, Box(0, 0, 60, 80)), later_more, Box(0, 0, 60, 80))[1] == wanted
    assert plain.correct(plain.learn_first(more, Box(0, 0, 60, 80)), later_more, Box(0, 0, 60, 80))[1] != wanted
    with pytest.raises(ValueError, match="online.box.reads must be 0 or more channels, got -1"):
        BoxModel(replace(BOX, reads=-1), stride=8)


def test_box_learning_blends_recent_and_first() -> None:
    model = BoxModel(BOX, stride=8)
    state = model.learn_first(fine_features((0.0, 0.0), (60.0, 80.0)), Box(0, 0, 60, 80))
    maps, _ = model.correct(state, fine_features((4.0, 0.0), (70.0, 70.0)), Box(0, 0, 60, 80))
    after = model.learn(state, maps, Box(4, 0, 70, 70), 1)
    assert after.first is state.first
    assert_close(after.current.weights, (after.recent.weights + state.first.weights) / 2, "float32")
    assert not np.array_equal(after.recent.weights, state.recent.weights)


@pytest.mark.parametrize(
    ("values", "wanted"), [([0.0, 1.0, 0.0], 0.0), ([0.5, 1.0, 0.9], 0.3333), ([1.0, 1.0, 1.0], 0.0)]
)
def test_the_peak_of_a_parabola(values: list[float], wanted: float) -> None:
    assert parabola_peak(np.array(values), 1) == pytest.approx(wanted, abs=1e-3)


def test_no_parabola_at_the_border() -> None:
    assert parabola_peak(np.array([1.0, 0.5, 0.2]), 0) == 0.0


def test_switching_learning_off_keeps_the_filters() -> None:
    """A gate that no frame reaches: what was learned on the first frame stays as it is."""
    from tests.videos import moving

    tracker = load_tracker("resnet18_online", device="cpu", overrides=["online.gate=2.0"])
    (frame, box), *rest = moving(3, (2.0, 0.0))
    tracker.init(frame, box)
    before = tracker.state
    for later, _ in rest:
        tracker.update(later)
    assert before is not None
    assert tracker.state is not None
    assert tracker.state.model is before.model


def test_a_box_is_learned_with_the_weight_of_several_frames() -> None:
    model = BoxModel(BOX, stride=8)
    first = once = model.learn_first(fine_features((0.0, 0.0), (60.0, 80.0)), Box(0, 0, 60, 80))
    grown = Box(0, 0, 66, 88)
    maps = model.correct(first, fine_features((0.0, 0.0), (66.0, 88.0)), grown)[0]
    for _ in range(3):
        once = model.learn(once, maps, grown, 1)
    at_once = model.learn(first, maps, grown, 3)
    assert_close(at_once.current.weights, once.current.weights, "float32")
    assert rate_of(0.1, 1) == pytest.approx(0.1) and rate_of(0.1, 3) == pytest.approx(0.271)
