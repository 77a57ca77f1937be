"""The Siamese tracker: a localiser, which has the network, and the state of one target."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tracker.config import LostConfig
from tracker.crop import Fill, cut, mean_colour
from tracker.decode import Candidate
from tracker.frames import as_rgb_uint8
from tracker.geometry import Box, CropGeometry, check_initial_box
from tracker.interface import Frame, Prediction
from tracker.localisers import Localiser
from tracker.recovery import Recovery
from tracker.threads import one_blas_thread


@dataclass(frozen=True, slots=True)
class Sure:
    """Hold what was known of a target when its score was last above `lost.leave`, and how long it has been lost."""

    box: Box
    model: Any
    lost_frames: int


@dataclass(frozen=True, slots=True)
class TrackState:
    """Hold all that a target needs between two frames."""

    box: Box
    model: Any  # what the localiser learned of the target
    fill: Fill
    frame_index: int
    doubtful: int  # frames in a row with a score below `lost.enter`
    lost: bool
    sure: Sure

    def advanced(self, box: Box, score: float, model: Any, config: LostConfig) -> "TrackState":  # noqa: ANN401
        """Return the state after a frame: the new box and model, and the verdict, with hysteresis."""
        doubtful = self.doubtful + 1 if score < config.enter else 0
        lost = score < config.leave if self.lost else doubtful >= config.patience
        if lost:
            sure = replace(self.sure, lost_frames=self.sure.lost_frames + 1)
        else:
            sure = Sure(box, model, 0) if score >= config.leave else replace(self.sure, lost_frames=0)
        return TrackState(box, model, self.fill, self.frame_index + 1, doubtful, lost, sure)


class SiameseTracker:
    """Follow one object. Trackers made by `fork` share the network; no state is shared."""

    def __init__(self, localiser: Localiser, lost: LostConfig, recovery: Recovery | None = None) -> None:
        """Build a tracker without a target; with `recovery` it searches for one that is lost."""
        self.localiser = localiser
        self.lost = lost
        self.recovery = recovery
        self.state: TrackState | None = None

    def fork(self) -> "SiameseTracker":
        """Return another tracker on the same network, without a target."""
        return SiameseTracker(self.localiser, self.lost, self.recovery)

    def init(self, frame: Frame, box: Box) -> None:
        """Learn the object that `box` marks in `frame` (H, W, 3) RGB uint8.

        Grey, alpha and 16-bit frames are converted as `frames.as_rgb_uint8` says. Raises ValueError for a frame or box
        that cannot be tracked.
        """
        frame = as_rgb_uint8(frame)
        box = Box(float(box.cx), float(box.cy), float(box.w), float(box.h))  # NumPy's scalars would spread float64
        check_initial_box(box, frame.shape[:2])
        fill = mean_colour(frame)
        with one_blas_thread():
            model = self.localiser.learn(frame, box, fill)
        self.state = TrackState(box, model, fill, 0, doubtful=0, lost=False, sure=Sure(box, model, 0))

    def update(self, frame: Frame) -> Prediction:
        """Find the object in the next frame, RGB uint8; the frame may differ in size from the ones before."""
        return update_many([self], frame)[0]

    def _advance(self, frame: Frame, region: CropGeometry, candidate: Candidate, model: Any) -> Prediction:  # noqa: ANN401
        box, score = candidate.in_frame(region).held_in(frame.shape[:2]), candidate.score
        state = _state_of(self).advanced(box, score, model, self.lost)
        if state.lost and self.recovery is not None:
            sure = state.sure
            found = self.recovery.search(frame, state.fill, sure.box, sure.model, sure.lost_frames - 1)
            if found is not None and found.score > score:  # it stays lost until the next frame confirms the place
                box, score = found.box.held_in(frame.shape[:2]), found.score
                state = replace(state, box=box, model=self.recovery.seeker.regained(sure.model))
        self.state = state
        return Prediction(box.clipped(frame.shape[:2]), score, state.lost)


def update_many(trackers: Sequence[SiameseTracker], frame: Frame) -> list[Prediction]:
    """Update several trackers that share a network on one frame: their crops go through it as one batch.

    The boxes are those of updating each alone. Raises RuntimeError before `init`, ValueError where the trackers do not
    share a network.
    """
    if not trackers:
        return []
    localiser = trackers[0].localiser
    if any(tracker.localiser is not localiser for tracker in trackers):
        raise ValueError("trackers updated together must share a network: make them with fork()")
    frame = as_rgb_uint8(frame)
    states = [_state_of(tracker) for tracker in trackers]
    regions = [localiser.regions(state.box) for state in states]
    crops = [cut(frame, region, state.fill) for state, own in zip(states, regions, strict=True) for region in own]
    codes = [localiser.code(state.model) for state, own in zip(states, regions, strict=True) for _ in own]
    seen = localiser.runtime.see(crops, [code for code in codes if code is not None])
    predictions = []
    first = 0
    with one_blas_thread():
        for tracker, state, own in zip(trackers, states, regions, strict=True):
            candidate, index, model = localiser.locate(state.model, seen.part(first, len(own)), state.box)
            first += len(own)
            predictions.append(tracker._advance(frame, own[index], candidate, model))
    return predictions


def _state_of(tracker: SiameseTracker) -> TrackState:
    if tracker.state is None:
        raise RuntimeError("update before init: call init(frame, box) with the first frame")
    return tracker.state
