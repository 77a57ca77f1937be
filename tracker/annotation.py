"""Propose an object's boxes in a whole video from a few that were drawn by hand.

Between two keys (boxes given by hand) the object is tracked both ways, and the two tracks are blended: near a key its
own track counts for most. Where they disagree, neither can be trusted: that is where the next key is wanted.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from tracker.geometry import Box, check_initial_box, iou
from tracker.interface import Frame, Tracker

_LEAST_OVERLAP = 0.5  # of the tracks from both keys
_LEAST_SCORE = 0.3  # of a tracker that goes on alone; the default model calls itself lost below it
_QUALITY = 95  # of the JPEG files that frames are held as


class FrameList(Protocol):
    """Hold frames by their place."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, at: int, /) -> Frame:
        """Return one."""


class JpegFrames:
    """Hold a whole video in memory, each frame (H, W, 3) RGB as JPEG: about a tenth of its size."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        """Encode all frames."""
        self._files = [_encode(frame) for frame in frames]

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._files)

    def __getitem__(self, at: int) -> Frame:
        """Decode a frame."""
        return cv2.imdecode(np.frombuffer(self._files[at], np.uint8), cv2.IMREAD_COLOR_RGB)  # type: ignore[return-value]


def _encode(frame: Frame) -> bytes:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()


@dataclass(frozen=True, slots=True)
class Proposal:
    """Hold a box of a frame, how far it can be trusted, in [0, 1], and whether that is enough to keep it.

    trust is 1 at a key, between two keys the overlap of the two tracks, and after the last key the tracker's own score.
    """

    frame: int
    box: Box
    trust: float
    kept: bool


def propose(tracker: Tracker, frames: FrameList, keys: Mapping[int, Box]) -> list[Proposal]:
    """Return a proposal for each frame from the first key on, up to the last frame or to where the tracker is lost.

    keys: boxes by their place in `frames`. Raises ValueError for keys that do not lie in the frames, or none.
    """
    if not keys:
        raise ValueError("give at least one key: the box of the object in some frame")
    order = sorted(keys)
    if order[0] < 0 or order[-1] >= len(frames):
        raise ValueError(f"keys must lie in the {len(frames)} frames, counted from 0, got {order[0]} to {order[-1]}")
    for at in order:
        check_initial_box(keys[at], frames[at].shape[:2])
    proposals = []
    for first, last in zip(order, order[1:], strict=False):
        proposals.append(Proposal(first, keys[first], 1.0, True))
        proposals += _between(tracker, frames, (first, keys[first]), (last, keys[last]))
    proposals.append(Proposal(order[-1], keys[order[-1]], 1.0, True))
    return proposals + _after(tracker, frames, order[-1], keys[order[-1]])


def _between(tracker: Tracker, frames: FrameList, first: tuple[int, Box], last: tuple[int, Box]) -> list[Proposal]:
    forwards = _follow(tracker, frames, first[1], range(first[0], last[0]))
    backwards = _follow(tracker, frames, last[1], range(last[0], first[0], -1))
    proposals = []
    for at in range(first[0] + 1, last[0]):
        there, back = forwards[at], backwards[at]
        share = (at - first[0]) / (last[0] - first[0])  # of the track that comes back from the later key
        trust = iou(there, back)
        kept = trust >= _LEAST_OVERLAP
        box = _blend(there, back, share) if kept else (there if share < 0.5 else back)
        proposals.append(Proposal(at, box, trust, kept))
    return proposals


def _follow(tracker: Tracker, frames: FrameList, box: Box, places: range) -> dict[int, Box]:
    tracker.init(frames[places[0]], box)
    return {at: tracker.update(frames[at]).box for at in places[1:]}


def _after(tracker: Tracker, frames: FrameList, key: int, box: Box) -> list[Proposal]:
    tracker.init(frames[key], box)
    proposals = []
    for at in range(key + 1, len(frames)):
        prediction = tracker.update(frames[at])
        if prediction.lost:
            break
        proposals.append(Proposal(at, prediction.box, prediction.score, prediction.score >= _LEAST_SCORE))
    return proposals


def _blend(a: Box, b: Box, share: float) -> Box:
    """Return the box between two: `share` of b. Sizes are blended by their logs: half way from 1 to 4 is 2."""
    w, h = (math.exp((1 - share) * math.log(x) + share * math.log(y)) for x, y in ((a.w, b.w), (a.h, b.h)))
    return Box((1 - share) * a.cx + share * b.cx, (1 - share) * a.cy + share * b.cy, w, h)


def doubtful_spans(proposals: Sequence[Proposal]) -> list[tuple[int, int]]:
    """Return the spans of frames (first, last) that are not to be kept."""
    spans: list[tuple[int, int]] = []
    for proposal in proposals:
        if proposal.kept:
            continue
        if spans and spans[-1][1] == proposal.frame - 1:
            spans[-1] = spans[-1][0], proposal.frame
        else:
            spans.append((proposal.frame, proposal.frame))
    return spans
