"""How a tracker behaves, on the shipped models and on videos whose truth is known."""

import numpy as np
import pytest

from tests.videos import GROUND, moving, paint
from tracker.builder import load_tracker
from tracker.geometry import Box, iou
from tracker.interface import Frame
from tracker.siamese_tracker import SiameseTracker, update_many
from tracker.zoo import zoo

MODELS = [card.name for card in zoo()]
START = Box(80, 80, 44, 52)
loaded: dict[str, SiameseTracker] = {}


@pytest.fixture(params=MODELS)
def tracker(request: pytest.FixtureRequest) -> SiameseTracker:
    """Return a fresh tracker of each model; the networks are loaded once."""
    if request.param not in loaded:
        loaded[request.param] = load_tracker(request.param, device="cpu")
    return loaded[request.param].fork()


def overlaps(tracker: SiameseTracker, video: list[tuple[Frame, Box]]) -> list[float]:
    tracker.init(*video[0])
    return [iou(tracker.update(frame).box, truth) for frame, truth in video[1:]]


def test_the_zoo_is_not_empty() -> None:
    assert MODELS


@pytest.mark.parametrize(
    ("step", "growth"), [((0.0, 0.0), 1.0), ((6.0, 3.0), 1.0), ((-1.5, 4.0), 1.0), ((2.0, 2.0), 1.02)]
)
def test_it_follows(tracker: SiameseTracker, step: tuple[float, float], growth: float) -> None:
    found = overlaps(tracker, list(moving(12, step, growth)))
    assert min(found) > 0.6
    assert np.mean(found) > 0.75


def test_a_still_object_keeps_its_box(tracker: SiameseTracker) -> None:
    assert min(overlaps(tracker, [(paint(START), START)] * 8)) > 0.85


def test_the_score_falls_when_the_object_is_gone_and_it_says_lost(tracker: SiameseTracker) -> None:
    video = list(moving(6, (3.0, 0.0)))
    tracker.init(*video[0])
    seen = [tracker.update(frame) for frame, _ in video[1:]]
    gone = [tracker.update(GROUND) for _ in range(10)]
    assert min(p.score for p in seen) > max(p.score for p in gone[2:])
    assert not any(p.lost for p in seen)
    assert all(0 <= p.score <= 1 for p in seen + gone)


def test_it_finds_the_object_when_it_comes_back_near_by(tracker: SiameseTracker) -> None:
    video = list(moving(6, (2.0, 1.0)))
    tracker.init(*video[0])
    for frame, _ in video[1:]:
        tracker.update(frame)
    for _ in range(3):
        tracker.update(GROUND)
    back = Box(94, 88, 44, 52)
    found = [tracker.update(paint(back)) for _ in range(4)]
    assert iou(found[-1].box, back) > 0.6
    assert not found[-1].lost


def test_an_object_that_leaves_is_held_at_the_border(tracker: SiameseTracker) -> None:
    video = list(moving(14, (-12.0, 0.0)))
    tracker.init(*video[0])
    for frame, _ in video[1:]:
        x, y, w, h = tracker.update(frame).box.to_xywh()
        assert x >= 0
        assert y >= 0
        assert x + w <= frame.shape[1]
        assert y + h <= frame.shape[0]
        assert w > 0
        assert h > 0


def test_init_twice_is_as_fresh(tracker: SiameseTracker) -> None:
    video = list(moving(5, (4.0, 2.0)))
    fresh = tracker.fork()
    fresh.init(*video[0])
    tracker.init(paint(Box(200, 120, 60, 40)), Box(200, 120, 60, 40))
    tracker.update(video[3][0])
    tracker.init(*video[0])
    for frame, _ in video[1:]:
        assert tracker.update(frame) == fresh.update(frame)


def test_interleaved_targets_are_those_of_each_alone(tracker: SiameseTracker) -> None:
    boxes = [START, Box(200, 150, 40, 30), Box(250, 60, 50, 50)]
    video = [frame for frame, _ in moving(4, (4.0, 2.0))]
    alone, together = [tracker.fork() for _ in boxes], [tracker.fork() for _ in boxes]
    for one, other, box in zip(alone, together, boxes, strict=True):
        one.init(video[0], box)
        other.init(video[0], box)
    for frame in video[1:]:
        for one, prediction in zip(alone, update_many(together, frame), strict=True):
            wanted = one.update(frame)
            # One batch or three may sum in another order, and in bfloat16 that shows.
            assert np.hypot(prediction.box.cx - wanted.box.cx, prediction.box.cy - wanted.box.cy) < 1
            assert prediction.box.w == pytest.approx(wanted.box.w, rel=0.02)
            assert prediction.score == pytest.approx(wanted.score, abs=0.05)


def test_update_before_init_says_what_to_do(tracker: SiameseTracker) -> None:
    with pytest.raises(RuntimeError, match="call init"):
        tracker.update(GROUND)


def test_targets_of_two_networks_cannot_share_a_batch(tracker: SiameseTracker) -> None:
    with pytest.raises(ValueError, match="fork"):
        update_many([tracker, load_tracker(MODELS[0], device="cpu")], GROUND)


def test_a_patience_of_no_frames_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lost\.patience must be 1 frame or more, got 0"):
        load_tracker(device="cpu", overrides=["lost.patience=0"])


def test_nothing_to_update_is_no_error() -> None:
    assert update_many([], GROUND) == []


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (Box(80, 80, 0, 20), "positive"),
        (Box(80, 80, 20, -3), "positive"),
        (Box(float("nan"), 80, 20, 20), "finite"),
        (Box(900, 80, 20, 20), "outside"),
        (Box(80, 80, 900, 20), "larger"),
    ],
)
def test_bad_boxes_are_refused(tracker: SiameseTracker, box: Box, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tracker.init(GROUND, box)


@pytest.mark.parametrize("box", [(58, 54, 44, 52), np.array([58, 54, 44, 52]), None])
def test_what_is_no_box_is_refused(tracker: SiameseTracker, box: object) -> None:
    with pytest.raises(ValueError, match=r"box must be a Box, such as Box\.from_xywh\(x, y, w, h\), got "):
        tracker.init(GROUND, box)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "box",
    [
        Box.from_xywh(100, 100, 2, 2),
        Box.from_xywh(0, 0, 320, 240),
        Box.from_xywh(-20, 100, 40, 40),
        Box.from_xywh(50, 50, 200, 3),
    ],
)
def test_odd_boxes_give_finite_answers(tracker: SiameseTracker, box: Box) -> None:
    tracker.init(GROUND, box)
    for frame in (GROUND, np.roll(GROUND, 5, axis=1)):
        prediction = tracker.update(frame)
        assert np.isfinite([*prediction.box.to_xywh(), prediction.score]).all()


def test_a_frame_of_one_colour_gives_finite_answers(tracker: SiameseTracker) -> None:
    plain = np.full((120, 160, 3), 90, np.uint8)
    tracker.init(plain, Box(80, 60, 30, 30))
    for _ in range(3):
        prediction = tracker.update(plain)
        assert np.isfinite([*prediction.box.to_xywh(), prediction.score]).all()


def test_a_frame_of_another_size_is_read_as_it_is(tracker: SiameseTracker) -> None:
    video = list(moving(3, (2.0, 0.0)))
    tracker.init(*video[0])
    tracker.update(video[1][0])
    smaller = video[2][0][:200, :300]
    assert iou(tracker.update(np.ascontiguousarray(smaller)).box, video[2][1]) > 0.6


def test_grey_frames_are_converted(tracker: SiameseTracker) -> None:
    grey = paint(START)[..., 0]
    tracker.init(grey, START)
    assert iou(tracker.update(grey).box, START) > 0.8


def test_frames_that_are_no_images_are_refused(tracker: SiameseTracker) -> None:
    with pytest.raises(ValueError, match="frame"):
        tracker.init(GROUND.astype(np.float32), START)


def test_numpy_numbers_make_a_box_too(tracker: SiameseTracker) -> None:
    tracker.init(paint(START), Box.from_xywh(*np.array(START.to_xywh())))
    assert iou(tracker.update(paint(START)).box, START) > 0.8


def test_the_size_of_an_object_outlasts_the_border(tracker: SiameseTracker) -> None:
    """Half out of the frame only the visible part is reported; back inside the box is whole again."""
    out, back = [(80 - 12 * i, 80) for i in range(8)], [(8 + 12 * i, 80) for i in range(5)]
    (frame, box), *rest = ((paint(Box(x, y, 44, 52)), Box(x, y, 44, 52)) for x, y in out[:-1] + back)
    tracker.init(frame, box)
    found = [(tracker.update(later).box, truth) for later, truth in rest]
    at_border, truth = found[5]
    assert truth.cx - truth.w / 2 < 0
    assert at_border.w < 40
    assert iou(*found[-1]) > 0.7


@pytest.fixture(scope="module")
def recovering() -> SiameseTracker:
    """Return the default tracker, which searches for what it lost."""
    tracker = load_tracker(device="cpu")
    assert tracker.recovery is not None
    return tracker


def lose(tracker: SiameseTracker) -> None:
    """Show an object, then the ground alone until it is lost."""
    video = list(moving(6, (3.0, 0.0)))
    tracker.init(*video[0])
    for frame, _ in video[1:]:
        assert not tracker.update(frame).lost
    lost = [tracker.update(GROUND).lost for _ in range(10)]
    assert lost[-1]


AWAY = Box(250, 190, 44, 52)  # more than a search region from where it was


def test_an_object_that_comes_back_elsewhere_is_found(recovering: SiameseTracker) -> None:
    tracker = recovering.fork()
    lose(tracker)
    found = [tracker.update(paint(AWAY)) for _ in range(12)]
    assert iou(found[-1].box, AWAY) > 0.6
    assert not found[-1].lost
    assert found[-1].score > 0.8


def test_without_recovery_it_is_searched_for_where_it_was_alone(recovering: SiameseTracker) -> None:
    tracker = SiameseTracker(recovering.localiser, recovering.lost)
    lose(tracker)
    found = [tracker.update(paint(AWAY)) for _ in range(12)]
    assert found[-1].lost and iou(found[-1].box, AWAY) == 0


def test_what_is_not_lost_is_not_searched_for(recovering: SiameseTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    searches = []
    assert recovering.recovery is not None
    monkeypatch.setattr(type(recovering.recovery), "search", lambda *_: searches.append(1))
    tracker = recovering.fork()
    for frame, box in moving(8, (3.0, 1.0)):
        tracker.init(frame, box) if tracker.state is None else tracker.update(frame)
    assert not searches
    for _ in range(8):
        tracker.update(GROUND)
    assert searches


def test_another_thing_is_not_taken_for_the_lost_one(recovering: SiameseTracker) -> None:
    tracker = recovering.fork()
    lose(tracker)
    other = GROUND.copy()
    other[160:212, 230:274] = (250, 240, 40)  # a plain yellow thing of its size
    found = [tracker.update(other) for _ in range(20)]
    assert all(prediction.lost for prediction in found)
    back = [tracker.update(paint(AWAY)) for _ in range(12)]
    assert iou(back[-1].box, AWAY) > 0.6


def test_searching_trackers_do_not_disturb_each_other(recovering: SiameseTracker) -> None:
    lost, alone, beside = recovering.fork(), recovering.fork(), recovering.fork()
    lose(lost)
    video = list(moving(8, (3.0, 1.0)))
    alone.init(*video[0])
    beside.init(*video[0])
    for frame, _ in video[1:]:
        wanted = alone.update(frame)
        found = update_many([beside, lost], frame)[0]
        assert found.box.to_xywh() == pytest.approx(wanted.box.to_xywh(), abs=0.5)
