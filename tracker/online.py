"""The model of one target that is learned online: what tells it from its surroundings, and what its box holds."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tracker.config import BoxRegressionConfig, OnlineConfig
from tracker.geometry import Box
from tracker.models import box_regression, online_filter
from tracker.models.backbones import Features
from tracker.models.box_regression import BoxRegression
from tracker.views import VIEWS


@dataclass(frozen=True, slots=True)
class PlaceState:
    """Hold the filter that finds the target, m = channels * kernel^2, and the sums it is solved from."""

    projection: Tensor  # (C, channels)
    first_correlation: Tensor  # (2k - 1, 2k - 1, d, d), of the first frame
    first_moment: Tensor  # (m,)
    correlation: Tensor  # of all frames, the older the less
    moment: Tensor  # (m,)
    weights: Tensor  # (m,), the filter
    first_peak: float  # its answer on the first frame: what a good match looks like
    sigma: Tensor  # (1,), of the labels, cells
    learned: int  # frames


@dataclass(frozen=True, slots=True)
class BoxState:
    """Hold the regression that corrects the box: that of the first frame, the mean of later ones, and their blend."""

    projection: Tensor  # (c, channels)
    first: BoxRegression
    recent: BoxRegression
    current: BoxRegression


class PlaceModel:
    """Learn and apply the filter of `models.online_filter`; stateless beside its settings."""

    def __init__(self, config: OnlineConfig, stride: int) -> None:
        self.config = config
        self.stride = stride

    def maps(self, features: Features) -> Tensor:
        """Return what the filter sees of a pass (N, ...): the deep features, with the fine ones where they count."""
        weight = self.config.fine_weight
        return online_filter.join(features.deep, features.fine, weight) if weight else features.deep

    def learn_first(self, maps: Tensor, offsets: Tensor, weights: Tensor, side: float) -> PlaceState:
        """Learn from the maps (N, C, h, h) of views of the first frame, the plain one first.

        offsets: (N, 2), the object's (u, v) less the crop's middle, pixels. weights: (N,). side: of the object, pixels.
        """
        config = self.config
        projection = online_filter.principal_directions(maps, config.channels)
        samples = online_filter.project(maps, projection)
        sigma = torch.full((1,), max(config.label_sigma * side, config.min_sigma) / self.stride, device=maps.device)
        labels = self._labels(offsets, maps.shape[-1], sigma)
        shares = weights / weights.sum()
        correlation, moment = online_filter.normal_equations(samples, labels, shares, config.kernel)
        solved = online_filter.solve(online_filter.gram(correlation), moment, config.ridge)
        peak = float(online_filter.respond(samples[:1], solved, config.kernel).max())
        return PlaceState(projection, correlation, moment, correlation, moment, solved, max(peak, 1e-6), sigma, 0)

    def learn_views(self, maps: Tensor, box: Box) -> PlaceState:
        """Learn from the maps (len(VIEWS), C, h, h) of all views of an object of the size of `box`, crop pixels."""
        weights = torch.tensor([view.weight for view in VIEWS], device=maps.device)
        middle = torch.zeros(len(VIEWS), 2, device=maps.device)
        return self.learn_first(maps, middle, weights, (box.w * box.h) ** 0.5)

    def answer(self, state: PlaceState, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the projected sample (1, channels, h, h) and the filter's answers (h, h), 1 as on the first frame."""
        sample = online_filter.project(maps, state.projection)
        answers = online_filter.respond(sample, state.weights, self.config.kernel)[0]
        return sample, answers / state.first_peak

    def learn(self, state: PlaceState, sample: Tensor, offset: tuple[float, float]) -> PlaceState:
        """Learn from a projected sample in which the object lies at `offset` (u, v) from the middle, pixels."""
        config = self.config
        labels = self._labels(torch.tensor([offset], device=sample.device), sample.shape[-1], state.sigma)
        one = torch.ones(1, device=sample.device)
        correlation, moment = online_filter.normal_equations(sample, labels, one, config.kernel)
        correlation = torch.lerp(state.correlation, correlation, config.rate)
        moment = torch.lerp(state.moment, moment, config.rate)
        learned = state.learned + 1
        share = 1 - (1 - config.first_weight) * min(learned / config.first_frames, 1.0)  # of the first frame
        weights = online_filter.solve(
            online_filter.gram(torch.lerp(correlation, state.first_correlation, share)),
            torch.lerp(moment, state.first_moment, share),
            config.ridge,
        )
        return replace(state, correlation=correlation, moment=moment, weights=weights, learned=learned)

    def _labels(self, offsets: Tensor, cells: int, sigma: Tensor) -> Tensor:
        """Return wanted answers at all places, one ring or more around the map's cells included."""
        places = cells + self.config.kernel - 1
        centres = offsets / self.stride + (places - 1) / 2
        return online_filter.gaussian_labels(centres, places, sigma.expand(len(offsets)))


class BoxModel:
    """Learn and apply the regression of `models.box_regression`; stateless beside its settings.

    Boxes are in pixels of the crop, their centres counted from its middle.
    """

    def __init__(self, config: BoxRegressionConfig, stride: int) -> None:
        """Take the settings and the stride of the fine features."""
        self.config = config
        self.stride = stride
        self._moves = box_regression.moves(config.moves, config.shift, config.growth, config.stretch, seed=0)
        self._answers = box_regression.corrections(self._moves)
        # Beyond what it has learned it only guesses.
        self._limits = 1.5 * torch.tensor([config.shift, config.shift, config.growth, config.stretch])
        self._trust = torch.tensor([1.0, 1.0, 1.0, config.stretch_trust])

    def learn_first(self, fine: Tensor, box: Box) -> BoxState:
        """Learn from fine features (1, c, h, w) of the first frame, in which the object is `box`."""
        projection = online_filter.principal_directions(fine, self.config.channels)
        learned = self._fit(_project(fine, projection), box)
        return BoxState(projection, learned, learned, learned)

    def correct(self, state: BoxState, fine: Tensor, box: Box) -> tuple[Tensor, Box]:
        """Return the projected map (1, channels, h, w) and the corrected box."""
        maps = _project(fine, state.projection)
        sample = self._samples(maps, box, torch.zeros(1, 4))[0]
        correction = box_regression.predict(state.current, sample).cpu()
        correction = correction.clamp(-self._limits, self._limits) * self._trust
        centres, sizes = box_regression.apply(*_centre_and_size(box), correction.unsqueeze(0))
        return maps, Box(*centres[0].tolist(), *sizes[0].tolist())

    def learn(self, state: BoxState, maps: Tensor, box: Box) -> BoxState:
        """Learn from a projected map in which the object is `box`."""
        recent = box_regression.blend(state.recent, self._fit(maps, box), self.config.rate)
        return replace(
            state, recent=recent, current=box_regression.blend(recent, state.first, self.config.first_weight)
        )

    def _fit(self, maps: Tensor, box: Box) -> BoxRegression:
        samples = self._samples(maps, box, self._moves)
        return box_regression.fit(samples, self._answers.to(maps.device), self.config.ridge)

    def _samples(self, maps: Tensor, box: Box, moves: Tensor) -> Tensor:
        """Return a sample (M, D) of the window over the box for each move of it (M, 4)."""
        centres, sizes = box_regression.apply(*_centre_and_size(box), moves)
        centres, sizes = centres / self.stride, sizes * (self.config.context / self.stride)
        return box_regression.sample_windows(maps, centres.to(maps.device), sizes.to(maps.device), self.config.cells)


def _centre_and_size(box: Box) -> tuple[Tensor, Tensor]:
    return torch.tensor([box.cx, box.cy]), torch.tensor([box.w, box.h])


def _project(fine: Tensor, projection: Tensor) -> Tensor:
    return torch.einsum("nchw,cd->ndhw", fine, projection)


@dataclass(frozen=True, slots=True)
class OnlineState:
    """Hold all that is learned of a target: where it is, and its box."""

    place: PlaceState
    box: BoxState


def parabola_peak(values: Tensor, at: int) -> float:
    """Return how far, within half a step, the peak of a parabola through values[at - 1 : at + 2] lies from `at`."""
    if not 0 < at < len(values) - 1:
        return 0.0
    before, here, after = (float(v) for v in values[at - 1 : at + 2])
    bend = before - 2 * here + after
    return max(-0.5, min(0.5, (before - after) / (2 * bend))) if bend < 0 else 0.0
