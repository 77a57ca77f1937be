"""The Siamese tracker: a localiser, which has the network, and the state of one target."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from tracker.config import LookAgainConfig, LostConfig, NearConfig
from tracker.crop import Fill, cut, mean_colour
from tracker.frames import as_rgb_uint8
from tracker.geometry import Box, CropGeometry, centre_distance, check_initial_box
from tracker.interface import Frame, Prediction
from tracker.localisers import Localiser, own_region
from tracker.recovery import Recovery
from tracker.threads import one_blas_thread


class Sure(NamedTuple):
    """Hold what was known of a target when its score was last above `lost.leave`, and how long it has been lost."""

    box: Box
    model: Any
    lost_frames: int


class TrackState(NamedTuple):
    """Hold all that a target needs between two frames."""

    box: Box
    model: Any  # what the localiser learned of the target
    fill: Fill
    frame_index: int
    doubtful: int  # frames in a row with a score below `lost.enter`
    lost: bool
    sure: Sure
    calm: bool = False  # whether it hardly moved in the last frame, as `near` says: a smaller square is searched next

    def advanced(self, box: Box, score: float, model: Any, config: LostConfig) -> "TrackState":  # noqa: ANN401
        """Return the state after a frame: the new box and model, and the verdict, with hysteresis."""
        doubtful = self.doubtful + 1 if score < config.enter else 0
        lost = score < config.leave if self.lost else doubtful >= config.patience
        if lost:
            sure = self.sure._replace(lost_frames=self.sure.lost_frames + 1)
        else:
            sure = Sure(box, model, 0) if score >= config.leave else self.sure._replace(lost_frames=0)
        return TrackState(box, model, self.fill, self.frame_index + 1, doubtful, lost, sure)


class Look(NamedTuple):
    """Hold what was found in a frame: the box, its centre inside the frame, its score, and the target's model then."""

    box: Box
    score: float
    model: Any


class SiameseTracker:
    """Follow one object. Trackers made by `fork` share the network; no state is shared."""

    def __init__(
        self,
        localiser: Localiser,
        lost: LostConfig,
        recovery: Recovery | None = None,
        look_again: LookAgainConfig | None = None,
        near: NearConfig | None = None,
    ) -> None:
        """Build a tracker without a target; with `recovery` it searches for one that is lost.

        With `near` it searches a smaller square while the object hardly moves, and in the same frame all of it where
        the answer is doubtful. With `look_again` it searches a frame again where the object moved far: the network sees
        best what is in the middle, and the search's window and its size are those of the place before. Raises
        ValueError for settings out of range.
        """
        if lost.patience < 1:
            raise ValueError(f"lost.patience must be 1 frame or more, got {lost.patience}")
        if look_again is not None and not look_again.moved > 0:
            raise ValueError(f"look_again.moved must be above 0, got {look_again.moved}")
        if look_again is not None and not 0 <= look_again.drop <= 1:
            raise ValueError(f"look_again.drop must be 0 to 1, got {look_again.drop}")
        if near is not None and not near.moved > 0:
            raise ValueError(f"near.moved must be above 0, got {near.moved}")
        if near is not None and not 0 <= near.score <= 1:
            raise ValueError(f"near.score must be 0 to 1, got {near.score}")
        self.localiser = localiser
        self.lost = lost
        self.recovery = recovery
        self.look_again = look_again
        self.near = near
        self.state: TrackState | None = None

    def fork(self) -> "SiameseTracker":
        """Return another tracker on the same network, without a target."""
        return SiameseTracker(self.localiser, self.lost, self.recovery, self.look_again, self.near)

    def init(self, frame: Frame, box: Box) -> None:
        """Learn the object that `box` marks in `frame` (H, W, 3) RGB uint8.

        Grey, alpha and 16-bit frames are converted as `frames.as_rgb_uint8` says. Raises ValueError for a frame or box
        that cannot be tracked.
        """
        frame = as_rgb_uint8(frame)
        if not isinstance(box, Box):
            raise ValueError(f"box must be a Box, such as Box.from_xywh(x, y, w, h), got {type(box).__name__}")
        box = Box(float(box.cx), float(box.cy), float(box.w), float(box.h))  # NumPy's scalars would spread float64
        check_initial_box(box, frame.shape[:2])
        fill = mean_colour(frame)
        with one_blas_thread():
            model = self.localiser.learn(frame, box, fill)
            self.state = TrackState(box, model, fill, 0, doubtful=0, lost=False, sure=Sure(box, model, 0))
            if self.near is not None:  # what computes squares of that size gets ready here, not while frames wait
                _search([_Task(self, box, near=True)], frame)

    def update(self, frame: Frame) -> Prediction:
        """Find the object in the next frame, RGB uint8; the frame may differ in size from the ones before."""
        return update_many([self], frame)[0]

    def _moved(self, look: Look) -> float:
        """Return how far the object moved, over its size."""
        last = _state_of(self).box
        return centre_distance(look.box, last) / math.sqrt(last.w * last.h)

    def _far(self, look: Look) -> bool:
        return self.look_again is not None and self._moved(look) > self.look_again.moved

    def _sees(self, look: Look) -> bool:
        return self.near is not None and look.score >= self.near.score

    def _better(self, first: Look, second: Look) -> Look:
        """Return the second look, around the place of the first, unless there is less to see.

        No score is higher for it; what the model learns, it learns from the look that is returned.
        """
        assert self.look_again is not None
        if second.score < first.score - self.look_again.drop:
            return first
        # What lies in the middle answers more, a wrong thing as well.
        return second._replace(score=min(first.score, second.score))

    def _advance(self, frame: Frame, look: Look) -> Prediction:
        box, score, model = look
        state = _state_of(self).advanced(box, score, model, self.lost)
        if self.near is not None and self._sees(look) and self._moved(look) < self.near.moved:
            state = state._replace(calm=not state.lost)
        if state.lost and self.recovery is not None:
            sure = state.sure
            found = self.recovery.search(frame, state.fill, sure.box, sure.model, sure.lost_frames - 1)
            if found is not None and found.score > score:  # it stays lost until the next frame confirms the place
                box, score = found.box.held_in(frame.shape[:2]), found.score
                state = state._replace(box=box, model=self.recovery.seeker.regained(sure.model))
        self.state = state
        return Prediction(box.clipped(frame.shape[:2]), score, state.lost)


def update_many(trackers: Sequence[SiameseTracker], frame: Frame) -> list[Prediction]:
    """Update several trackers that share a network on one frame: crops of one size go through it as one batch.

    The boxes are those of updating each alone. Raises RuntimeError before `init`, ValueError where the trackers do not
    share a network.
    """
    if not trackers:
        return []
    if any(tracker.localiser is not trackers[0].localiser for tracker in trackers):
        raise ValueError("trackers updated together must share a network: make them with fork()")
    frame = as_rgb_uint8(frame)
    states = [_state_of(tracker) for tracker in trackers]
    tasks = [_Task(tracker, state.box, state.calm) for tracker, state in zip(trackers, states, strict=True)]
    with one_blas_thread():
        looks = _search(tasks, frame)
        doubtful = [at for at, task in enumerate(tasks) if task.near and not task.tracker._sees(looks[at])]
        wide = [tasks[at]._replace(near=False) for at in doubtful]
        for at, look in zip(doubtful, _search(wide, frame), strict=True):
            looks[at] = look
        far = [at for at, look in enumerate(looks) if trackers[at]._far(look)]
        there = [_Task(trackers[at], looks[at].box) for at in far]
        for at, look in zip(far, _search(there, frame), strict=True):
            looks[at] = trackers[at]._better(looks[at], look)
        return [tracker._advance(frame, look) for tracker, look in zip(trackers, looks, strict=True)]


class _Task(NamedTuple):
    """Hold for whose target to search, around which box, and whether only near it."""

    tracker: SiameseTracker
    box: Box
    near: bool = False

    @property
    def regions(self) -> list[CropGeometry]:
        regions = self.tracker.localiser.regions(self.box)
        config = self.tracker.near
        if self.near and config:
            regions = [region.narrowed(config.size) for region in regions]
        return [region.on_pixels() for region in regions]


def _search(tasks: Sequence[_Task], frame: Frame) -> list[Look]:
    """Search for each task's target; squares of one size go through the network as one batch. No state changes."""
    regions = [task.regions for task in tasks]
    if len(tasks) <= 1:
        return _search_alike(tasks, regions, frame) if tasks else []
    alike: dict[int, list[int]] = {}
    for at, own in enumerate(regions):
        alike.setdefault(own[0].size, []).append(at)
    looks: dict[int, Look] = {}
    for group in alike.values():
        found = _search_alike([tasks[at] for at in group], [regions[at] for at in group], frame)
        looks |= zip(group, found, strict=True)
    return [looks[at] for at in range(len(tasks))]


def _search_alike(tasks: Sequence[_Task], regions: Sequence[list[CropGeometry]], frame: Frame) -> list[Look]:
    localiser = tasks[0].tracker.localiser
    states = [_state_of(task.tracker) for task in tasks]
    crops = [cut(frame, region, state.fill) for state, own in zip(states, regions, strict=True) for region in own]
    codes = [localiser.code(state.model) for state, own in zip(states, regions, strict=True) for _ in own]
    seen = localiser.runtime.see(crops, [code for code in codes if code is not None])
    looks = []
    first = 0
    for task, state, own in zip(tasks, states, regions, strict=True):
        last = own_region(own).centred(task.box)
        candidate, index, model = localiser.locate(state.model, seen.part(first, len(own)), last)
        first += len(own)
        looks.append(Look(candidate.in_frame(own[index]).held_in(frame.shape[:2]), candidate.score, model))
    return looks


def _state_of(tracker: SiameseTracker) -> TrackState:
    if tracker.state is None:
        raise RuntimeError("update before init: call init(frame, box) with the first frame")
    return tracker.state
