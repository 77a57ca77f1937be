"""How SiamRPN finds a target: the head's overlaps and boxes, beside a filter learned online on the same features."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tracker.certainty import Certainty, CertaintyState, Evidence
from tracker.config import CropConfig, OnlineConfig, RPNConfig
from tracker.crop import Fill, cut
from tracker.decode import (
    BoxUVWH,
    Candidate,
    Moves,
    Proposals,
    best_proposal,
    moves_between,
    resampled,
    second_peak,
    typical_moves,
    value_near,
)
from tracker.geometry import Box, CropGeometry, context_side, search_side
from tracker.interface import Frame
from tracker.online import BoxModel, BoxState, OnlineState, PlaceModel, PlaceState, learn_both
from tracker.refinement import RefinedTarget, Refinement, refined_candidate
from tracker.runtime import FINE_STRIDE, Array, Code, Runtime, Seen
from tracker.views import cut_views

# By the stride of the deep features: what a crop's size is more than a multiple, or cells lie unevenly in it.
_RESTS = {16: 1, 8: 7}
_CALIBRATION_LARGEST = 0.5
_SHIFT = 0.2  # of the object's size, by which the first frame's crops are moved for the calibration


class RPNState(NamedTuple):
    """Hold what is known of a target: the template's code, the filter, and what the given box means."""

    code: Code
    place: PlaceState | None  # where a filter is learned
    calibration: Moves  # from the head's box to the given one
    certainty: CertaintyState | None = None  # where the score is a chance
    box: BoxState | None = None  # where boxes are corrected by what is learned online
    refined: RefinedTarget | None = None  # where boxes are refined


class RPNLocaliser:
    """Find the cell where filter and head together answer best; its box is the head's, read as the first box was.

    The network's refiner may read it again, and a regression learned online may correct it.
    """

    def __init__(
        self,
        runtime: Runtime,
        crop: CropConfig,
        online: OnlineConfig | None,
        config: RPNConfig,
        certainty: Certainty | None = None,
        refinement: Refinement | None = None,
    ) -> None:
        """Take the network, whose head has anchors, and the settings; without `online` no filter is learned."""
        for name, size in (("template_size", crop.template_size), ("search_size", crop.search_size)):
            stride, rest = runtime.stride, _RESTS[runtime.stride]
            if size % stride != rest:
                such = 256 // stride * stride + rest
                raise ValueError(f"crop.{name} must be a multiple of {stride} and {rest}, such as {such}, got {size}")
        self.runtime = runtime
        self.crop = crop
        self.config = config
        self.place = None if online is None else PlaceModel(online, runtime.stride)
        self.box = None if online is None or online.box is None else BoxModel(online.box, FINE_STRIDE)
        self.certainty = certainty
        self.refinement = refinement
        self._anywhere = replace(config, window_influence=0.0)

    def learn(self, frame: Frame, box: Box, fill: Fill) -> RPNState:
        """Return the template's code, the filter learned from views of the first frame, and the calibration."""
        crop = self.crop
        region = CropGeometry(box.cx, box.cy, context_side(box.w, box.h, crop.context), crop.template_size)
        size_wh = box.w / region.frame_per_crop, box.h / region.frame_per_crop
        code = self.runtime.encode(cut(frame, region, fill), size_wh)
        search = self.regions(box)[0]
        shown = [search, *self._moved(search, box)]
        seen = self.runtime.see([cut(frame, one, fill) for one in shown], [code] * len(shown))
        truth = np.array([one.centred(box) for one in shown])
        place = None
        if self.place is not None:
            views = cut_views(frame, search, fill)[1:]
            others = self.runtime.see(views, [code] * len(views))  # the graph of a search: no other need be compiled
            place = self.place.learn_views(
                np.concatenate([seen.filtered[:1], others.filtered]), Box(0.0, 0.0, *size_wh)
            )
        shown_box = search.box_to_crop(box)
        given = Box(0.0, 0.0, shown_box.w, shown_box.h)
        certainty = box_state = refined = None
        if self.certainty is not None:
            certainty = self.certainty.start(seen.maps[0], (0.0, 0.0, given.w, given.h))
        if self.box is not None:
            assert seen.fine is not None
            box_state = self.box.learn_first(seen.fine[:1], given)
        if self.refinement is not None:
            assert seen.outline is not None
            refined = self.refinement.start(seen.outline, [tuple(one) for one in truth.tolist()])
        return RPNState(code, place, self._calibrate(seen, truth), certainty, box_state, refined)

    def code(self, model: RPNState) -> Code:
        """Return what the head needs of the template."""
        return model.code

    def regions(self, box: Box) -> list[CropGeometry]:
        """Return one square around the last place."""
        crop = self.crop
        side = search_side(box.w, box.h, crop.context, crop.template_size, crop.search_size)
        return [CropGeometry(box.cx, box.cy, side, crop.search_size)]

    def locate(self, model: RPNState, seen: Seen, last: BoxUVWH) -> tuple[Candidate, int, RPNState]:
        """Return the best cell's box; the filter learns from the frame where the answer is telling enough.

        Raises ValueError as `decode.best_proposal` does.
        """
        proposals, projected = self._answer(model, seen)
        candidate = best_proposal(proposals, last[2:], self.config)
        candidate, maps = self._corrected(model, seen, candidate)
        place = self.place
        evidence = self._evidence(seen, proposals, candidate)
        score, learns = evidence.alone, place is not None and candidate.score >= place.config.gate
        if self.certainty is not None and model.certainty is not None:
            found = self.certainty.judge(model.certainty, evidence, seen.maps[0], candidate.box_uvwh)
            score, learns = found.score, learns and found.score >= self.certainty.config.trust
            model = model._replace(certainty=self.certainty.advanced(model.certainty, evidence, found))
        if learns:
            model = self._learned(model, projected, maps, candidate)
        if candidate.score < self.config.hold:  # chance; who follows it is far away when the object comes back
            return Candidate(*last, score), 0, model
        return candidate.scored(score), 0, model

    def _corrected(self, model: RPNState, seen: Seen, candidate: Candidate) -> tuple[Candidate, Array | None]:
        """Return the candidate, its box corrected where that is trusted, and the map to learn such corrections from."""
        candidate = refined_candidate(self.refinement, model.refined, seen, candidate)
        if self.box is None or model.box is None or self.place is None or candidate.score < self.place.config.trust:
            return candidate, None
        assert seen.fine is not None
        maps, found = self.box.correct(model.box, seen.fine, Box(*candidate.box_uvwh))
        return Candidate(found.cx, found.cy, found.w, found.h, candidate.score), maps

    def _learned(self, model: RPNState, projected: Array, maps: Array | None, candidate: Candidate) -> RPNState:
        """Return the model after a frame that tells enough of the object; maps: those of `_corrected`."""
        if self.place is None or model.place is None:
            return model
        if self.box is None or model.box is None or maps is None:
            return model._replace(place=self.place.learn(model.place, projected, (candidate.du, candidate.dv)))
        before, found = OnlineState(model.place, model.box), Box(*candidate.box_uvwh)
        both = learn_both(self.place, self.box, before, projected, maps, found)
        return model._replace(place=both.place, box=both.box)

    def look(self, model: RPNState, seen: Seen, size_wh: tuple[float, float]) -> Candidate:
        """Return the best place in a region where the object may be, and how likely it is there; nothing is learned."""
        assert self.certainty is not None and model.certainty is not None
        proposals, _ = self._answer(model, seen)
        candidate = best_proposal(proposals, size_wh, self._anywhere)
        evidence = self._evidence(seen, proposals, candidate)
        found = self.certainty.judge_afresh(model.certainty, evidence, seen.maps[0], candidate.box_uvwh)
        return candidate.scored(found.score)

    def regained(self, model: RPNState) -> RPNState:
        """Return the model for an object that was found elsewhere."""
        assert self.certainty is not None and model.certainty is not None
        return model._replace(certainty=self.certainty.elsewhere(model.certainty))

    def _answer(self, model: RPNState, seen: Seen) -> tuple[Proposals, Array]:
        """Return what head and filter answer together in each cell, and what the filter may learn from."""
        assert seen.scores is not None and seen.boxes is not None
        scores = seen.scores[0]
        projected = seen.filtered
        if self.place is not None and model.place is not None:
            projected, answers = self.place.answer(model.place, seen.filtered)
            spread = resampled(answers, len(scores), FINE_STRIDE / self.runtime.stride)
            np.minimum(np.maximum(spread, 0, out=spread), 1, out=spread)
            spread -= scores
            spread *= np.float32(self.config.filter_share)
            spread += scores
            scores = spread
        return Proposals(scores, seen.boxes[0], model.calibration), projected

    def _evidence(self, seen: Seen, proposals: Proposals, candidate: Candidate) -> Evidence:
        assert seen.scores is not None
        # How sure it is falls where something else answers too: that tells good frames from lost ones much better.
        rival = second_peak(proposals.scores, candidate, FINE_STRIDE)
        alone = candidate.score * (1 - min(rival, 1.0))
        return Evidence(alone, value_near(seen.scores[0], candidate, FINE_STRIDE))

    def _moved(self, search: CropGeometry, box: Box) -> list[CropGeometry]:
        """Return squares of other places and sizes that show the object, for the calibration."""
        dx, dy = _SHIFT * box.w, _SHIFT * box.h
        moves = ((dx, dy, 1.0), (-dx, -dy, 1.0), (dx, -dy, 0.93), (-dx, dy, 1.07))
        return [CropGeometry(search.cx + x, search.cy + y, search.side * s, search.size) for x, y, s in moves]

    def _calibrate(self, seen: Seen, truth: Array) -> Moves:
        """Return how the given box differs from the head's: the median over crops with boxes truth (N, 4)."""
        assert seen.scores is not None and seen.boxes is not None
        cells = seen.scores.shape[-1]
        offsets = (np.arange(cells) - (cells - 1) / 2) * FINE_STRIDE
        # Where another thing answers better than the object, the object's own cell is what is asked.
        near_u, near_v = (
            np.abs(offsets - truth[:, axis : axis + 1]) <= truth[:, axis + 2 : axis + 3] / 4 + FINE_STRIDE
            for axis in (0, 1)
        )
        near = near_v[:, :, np.newaxis] & near_u[:, np.newaxis]
        best = (seen.scores * near).reshape(len(truth), -1).argmax(1)
        found = seen.boxes.reshape(len(truth), 4, -1)[np.arange(len(truth)), :, best]  # (N, 4)
        off = [
            moves_between(tuple(box), tuple(given)) for box, given in zip(found.tolist(), truth.tolist(), strict=True)
        ]
        return typical_moves(off, _CALIBRATION_LARGEST, self.config.calibration)
