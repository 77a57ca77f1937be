"""The Siamese tracker: a network, a decoder and the state of one target."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tracker.config import CropConfig, LostConfig
from tracker.crop import Fill, cut, mean_colour, to_batch
from tracker.decode import Candidate, ResponsePyramid
from tracker.frames import as_rgb_uint8
from tracker.geometry import Box, CropGeometry, check_initial_box, context_side, search_side
from tracker.interface import Frame, Prediction
from tracker.models.siamese import SiameseNetwork


@dataclass(frozen=True, slots=True)
class TrackState:
    """Hold all that a target needs between two frames."""

    box: Box
    template: Tensor  # (1, C, h, w) features
    fill: Fill
    frame_index: int
    doubtful: int  # frames in a row with a score below `lost.enter`
    lost: bool

    def advanced(self, box: Box, score: float, config: LostConfig) -> "TrackState":
        """Return the state after a frame: the new box and the verdict, with hysteresis."""
        doubtful = self.doubtful + 1 if score < config.enter else 0
        lost = score < config.leave if self.lost else doubtful >= config.patience
        return replace(self, box=box, frame_index=self.frame_index + 1, doubtful=doubtful, lost=lost)


class SiameseTracker:
    """Follow one object. Trackers made by `fork` share the network; no state is shared."""

    def __init__(
        self, network: SiameseNetwork, decoder: ResponsePyramid, crop: CropConfig, lost: LostConfig, device: torch.device
    ) -> None:
        self.network = network
        self.decoder = decoder
        self.crop = crop
        self.lost = lost
        self.device = device
        self.state: TrackState | None = None

    def fork(self) -> "SiameseTracker":
        """Return another tracker on the same network, without a target."""
        return SiameseTracker(self.network, self.decoder, self.crop, self.lost, self.device)

    def init(self, frame: Frame, box: Box) -> None:
        """Learn the object that `box` marks in `frame` (H, W, 3) RGB uint8.

        Grey, alpha and 16-bit frames are converted as `frames.as_rgb_uint8` says. Raises ValueError for a frame or box
        that cannot be tracked.
        """
        frame = as_rgb_uint8(frame)
        check_initial_box(box, frame.shape[:2])
        fill = mean_colour(frame)
        side = context_side(box.w, box.h, self.crop.context)
        region = CropGeometry(box.cx, box.cy, side, self.crop.template_size)
        with torch.inference_mode():
            template = self.network.embed(to_batch([cut(frame, region, fill)], self.device))
        self.state = TrackState(box, template, fill, frame_index=0, doubtful=0, lost=False)

    def update(self, frame: Frame) -> Prediction:
        """Find the object in the next frame, RGB uint8; the frame may differ in size from the ones before."""
        return update_many([self], frame)[0]

    def _state(self) -> TrackState:
        if self.state is None:
            raise RuntimeError("update before init: call init(frame, box) with the first frame")
        return self.state

    def _search_regions(self) -> list[CropGeometry]:
        box, crop = self._state().box, self.crop
        side = search_side(box.w, box.h, crop.context, crop.template_size, crop.search_size)
        return [CropGeometry(box.cx, box.cy, side * factor, crop.search_size) for factor in self.decoder.factors]

    def _advance(self, candidate: Candidate, region: CropGeometry, size_hw: tuple[int, int]) -> Prediction:
        middle = region.size / 2
        found = region.box_to_frame(Box(middle + candidate.du, middle + candidate.dv, candidate.w, candidate.h))
        self.state = self._state().advanced(found.clipped(size_hw), candidate.score, self.lost)
        return Prediction(self.state.box, candidate.score, self.state.lost)


def update_many(trackers: Sequence[SiameseTracker], frame: Frame) -> list[Prediction]:
    """Update several trackers that share a network on one frame: their crops are one batch.

    The boxes are those of updating each alone. Raises RuntimeError before `init`, ValueError where the trackers do not
    share a network.
    """
    if not trackers:
        return []
    network = trackers[0].network
    if any(tracker.network is not network for tracker in trackers):
        raise ValueError("trackers updated together must share a network: make them with fork()")
    frame = as_rgb_uint8(frame)
    regions = [tracker._search_regions() for tracker in trackers]
    crops = [
        cut(frame, region, tracker._state().fill)
        for tracker, own in zip(trackers, regions, strict=True)
        for region in own
    ]
    responses = _respond(network, [tracker._state().template for tracker in trackers], crops, trackers[0].device)
    predictions = []
    for tracker, own, response in zip(trackers, regions, responses, strict=True):
        size = tracker._state().box
        per_crop = search_side(size.w, size.h, tracker.crop.context, tracker.crop.template_size, 1)
        candidate, scale = tracker.decoder.decode(response, (size.w / per_crop, size.h / per_crop))
        predictions.append(tracker._advance(candidate, own[scale], frame.shape[:2]))
    return predictions


def _respond(
    network: SiameseNetwork, templates: Sequence[Tensor], crops: Sequence[Frame], device: torch.device
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return responses (targets, scales, h, w) of the templates on each target's crops."""
    scales = len(crops) // len(templates)
    with torch.inference_mode():
        template = templates[0]  # one target: its template serves all scales
        if len(templates) > 1:
            template = torch.cat(tuple(templates)).repeat_interleave(scales, dim=0)
        output = network(template, to_batch(crops, device))
    return output.reshape(len(templates), scales, *output.shape[-2:]).float().cpu().numpy()
