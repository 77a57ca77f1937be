"""How a target is found in the features of its search crops: one way a class, all behind one protocol."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from tracker.config import CropConfig, OnlineConfig
from tracker.crop import Fill, cut
from tracker.decode import BoxUVWH, Candidate, ResponsePyramid, check_finite, windowed
from tracker.geometry import Box, CropGeometry, context_side, search_side
from tracker.interface import Frame
from tracker.online import BoxModel, BoxState, OnlineState, PlaceModel, PlaceState, learn_both, parabola_peak
from tracker.refinement import RefinedTarget, Refinement, refined_candidate
from tracker.runtime import FINE_STRIDE, Array, Code, Runtime, Seen
from tracker.views import cut_views

_CONTEXT = 0.5  # of the square that `online.search_factor` multiplies


class Localiser(Protocol):
    """Find targets with a network; stateless: what a target needs is in the model that `learn` returns."""

    runtime: Runtime

    def learn(self, frame: Frame, box: Box, fill: Fill) -> Any:  # noqa: ANN401 - each localiser has its own model
        """Return the model of the object that `box` marks."""

    def regions(self, box: Box) -> list[CropGeometry]:
        """Return where to search for an object last seen at `box`."""

    def code(self, model: Any) -> Code | None:  # noqa: ANN401
        """Return the template's code that the head needs for each region, None for a network without a head."""

    def locate(self, model: Any, seen: Seen, last: BoxUVWH) -> tuple[Candidate, int, Any]:  # noqa: ANN401
        """Return the candidate, the index of its region and the model for the next frame.

        seen: in the crops of `regions`, in their order. last: the box it was last seen at, in `own_region`.
        """


def own_region(regions: Sequence[CropGeometry]) -> CropGeometry:
    """Return the square, of all that `Localiser.regions` gives, at the scale of the object's own size."""
    return regions[len(regions) // 2]


class ScaleSearchState(NamedTuple):
    """Hold the template's features and, where one is learned, the filter."""

    code: Code
    place: PlaceState | None
    box: BoxState | None = None  # where boxes are corrected by what is learned online
    refined: RefinedTarget | None = None  # where boxes are refined


class ScaleSearchLocaliser:
    """SiamFC: correlate the template with crops of several scales and take the best peak, with an online filter's help.

    The head chooses the scale; the place is where head and filter together answer best. The network's refiner and a
    regression learned online may then correct the box, whose shape the scale search never changes.
    """

    def __init__(
        self,
        runtime: Runtime,
        decoder: ResponsePyramid,
        crop: CropConfig,
        online: OnlineConfig | None,
        refinement: Refinement | None = None,
    ) -> None:
        """Take the network, what reads its responses, the crops, and the settings of the filter; None: without."""
        self.runtime = runtime
        self.decoder = decoder
        self.crop = crop
        self.place = None if online is None else PlaceModel(online, runtime.stride)
        self.box = None if online is None or online.box is None else BoxModel(online.box, FINE_STRIDE)
        self.refinement = refinement

    def learn(self, frame: Frame, box: Box, fill: Fill) -> ScaleSearchState:
        """Return the template's features, the filter learned from views of the first frame, and the regression."""
        side = context_side(box.w, box.h, self.crop.context)
        region = CropGeometry(box.cx, box.cy, side, self.crop.template_size)
        size_wh = box.w / region.frame_per_crop, box.h / region.frame_per_crop
        code = self.runtime.encode(cut(frame, region, fill), size_wh)
        if self.place is None and self.refinement is None:
            return ScaleSearchState(code, None)
        place = box_state = refined = None
        search = self._region(box, 1.0)
        views = [cut(frame, search, fill)] if self.place is None else cut_views(frame, search, fill)
        seen = self.runtime.see(views, ())
        shown = search.box_to_crop(box)
        if self.place is not None:
            place = self.place.learn_views(seen.filtered, shown)
        if self.box is not None:
            assert seen.fine is not None
            box_state = self.box.learn_first(seen.fine[:1], Box(0.0, 0.0, shown.w, shown.h))
        if self.refinement is not None:
            assert seen.outline is not None
            refined = self.refinement.start(seen.outline[:1], [(0.0, 0.0, shown.w, shown.h)])
        return ScaleSearchState(code, place, box_state, refined)

    def code(self, model: ScaleSearchState) -> Code:
        """Return the template's features."""
        return model.code

    def regions(self, box: Box) -> list[CropGeometry]:
        """Return one square a scale around the last place."""
        return [self._region(box, factor) for factor in self.decoder.factors]

    def _region(self, box: Box, factor: float) -> CropGeometry:
        crop = self.crop
        side = search_side(box.w, box.h, crop.context, crop.template_size, crop.search_size)
        return CropGeometry(box.cx, box.cy, side * factor, crop.search_size)

    def locate(self, model: ScaleSearchState, seen: Seen, last: BoxUVWH) -> tuple[Candidate, int, ScaleSearchState]:
        """Return the highest peak over the scales, its box corrected; filter and regression learn, the template not."""
        responses = seen.scores
        assert responses is not None
        size_wh = last[2:]
        place = model.place
        if self.place is None or place is None:
            candidate, scale = self.decoder.decode(responses, size_wh)
            return refined_candidate(self.refinement, model.refined, seen, candidate, scale), scale, model
        pairs = [self.place.answer(place, seen.filtered[i : i + 1]) for i in range(len(responses))]
        candidate, scale = self.decoder.decode(responses, size_wh, np.stack([answers for _, answers in pairs]))
        candidate = refined_candidate(self.refinement, model.refined, seen, candidate, scale)
        config, learns = self.place.config, candidate.score >= self.place.config.gate
        if self.box is not None and model.box is not None and candidate.score >= config.trust:
            assert seen.fine is not None
            maps, found = self.box.correct(model.box, seen.fine[scale : scale + 1], Box(*candidate.box_uvwh))
            candidate = Candidate(found.cx, found.cy, found.w, found.h, candidate.score)
            if learns:
                both = learn_both(self.place, self.box, OnlineState(place, model.box), pairs[scale][0], maps, found)
                model = model._replace(place=both.place, box=both.box)
        elif learns:
            place = self.place.learn(place, pairs[scale][0], (candidate.du, candidate.dv))
            model = model._replace(place=place)
        return candidate, scale, model


class OnlineLocaliser:
    """Find the place with a filter learned on the deep features; correct the box with one learned on the fine ones."""

    def __init__(self, runtime: Runtime, config: OnlineConfig) -> None:
        if config.box is None:
            raise ValueError("a model without a head needs the table [online.box]")
        if config.search_size <= 0 or config.search_factor <= 0:
            raise ValueError("a model without a head needs online.search_size and online.search_factor, above 0")
        self.runtime = runtime
        self.config = config
        self.place = PlaceModel(config, runtime.stride)
        self.box = BoxModel(config.box, FINE_STRIDE)

    def learn(self, frame: Frame, box: Box, fill: Fill) -> OnlineState:
        """Return the filters learned from views of the first frame."""
        region = self.regions(box)[0]
        seen = self.runtime.see(cut_views(frame, region, fill), ())
        assert seen.fine is not None
        shown = region.box_to_crop(box)
        place = self.place.learn_views(seen.filtered, shown)
        return OnlineState(place, self.box.learn_first(seen.fine[:1], Box(0.0, 0.0, shown.w, shown.h)))

    def code(self, model: OnlineState) -> None:
        """Return nothing: there is no head."""

    def regions(self, box: Box) -> list[CropGeometry]:
        """Return one square around the last place."""
        side = self.config.search_factor * context_side(box.w, box.h, _CONTEXT)
        return [CropGeometry(box.cx, box.cy, side, self.config.search_size)]

    def locate(self, model: OnlineState, seen: Seen, last: BoxUVWH) -> tuple[Candidate, int, OnlineState]:
        """Return the filter's peak, corrected; learn from the frame where it is telling enough.

        Raises ValueError for features that are not finite, which no frame gives: the weights are broken.
        """
        assert seen.fine is not None
        projected, answers = self.place.answer(model.place, seen.filtered)
        du, dv, score = self._peak(answers)
        check_finite(score)
        found = Box(du, dv, *last[2:])
        if score >= self.config.trust:
            maps, found = self.box.correct(model.box, seen.fine, found)
            if score >= self.config.gate:
                model = learn_both(self.place, self.box, model, projected, maps, found)
        return Candidate(found.cx, found.cy, found.w, found.h, min(max(score, 0.0), 1.0)), 0, model

    def _peak(self, answers: Array) -> tuple[float, float, float]:
        """Return the windowed peak's (u, v) from the middle, to a part of a cell, and the answer there."""
        cells = len(answers)
        ranked = windowed(answers, self.config.window_influence)
        row, column = divmod(int(ranked.argmax()), cells)
        x = column + parabola_peak(answers[row], column)
        y = row + parabola_peak(answers[:, column], row)
        middle = (cells - 1) / 2
        stride = self.runtime.stride
        return (x - middle) * stride, (y - middle) * stride, float(answers[row, column])
