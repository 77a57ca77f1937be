"""The model of one target that is learned online: what it looks like among its surroundings, and how large it is."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tracker.config import OnlineConfig, ScaleFilterConfig
from tracker.geometry import Box
from tracker.models import online_filter, scale_filter
from tracker.models.backbones import Features
from tracker.models.scale_filter import ScaleFilter


@dataclass(frozen=True, slots=True)
class PlaceState:
    """Hold the filter that finds the target, m = channels * kernel^2, and the sums it is solved from."""

    projection: Tensor  # (C, channels)
    first_gram: Tensor  # (m, m), of the first frame
    first_moment: Tensor  # (m,)
    gram: Tensor  # (m, m), of all frames, the older the less
    moment: Tensor  # (m,)
    weights: Tensor  # (m,), the filter
    first_peak: float  # its answer on the first frame: what a good match looks like
    sigma: Tensor  # (1,), of the labels, cells
    learned: int  # frames


@dataclass(frozen=True, slots=True)
class SizeState:
    """Hold the filter that measures the target's size, that of the first frame and the mean of later ones."""

    projection: Tensor  # (c, channels)
    first: ScaleFilter
    recent: ScaleFilter
    current: ScaleFilter


class PlaceModel:
    """Learn and apply the filter of `models.online_filter`; stateless beside its settings."""

    def __init__(self, config: OnlineConfig, stride: int) -> None:
        self.config = config
        self.stride = stride

    def learn_first(self, deep: Tensor, offsets: Tensor, weights: Tensor, side: float) -> PlaceState:
        """Learn from views (N, C, h, h) of the first frame, the plain one first.

        offsets: (N, 2), the object's (u, v) less the crop's middle, pixels. weights: (N,). side: of the object, pixels.
        """
        config = self.config
        projection = online_filter.principal_directions(deep, config.channels)
        samples = online_filter.project(deep, projection)
        sigma = torch.full((1,), max(config.label_sigma * side, config.min_sigma) / self.stride, device=deep.device)
        labels = self._labels(offsets, deep.shape[-1], sigma)
        gram, moment = online_filter.normal_equations(samples, labels, weights / weights.sum(), config.kernel)
        solved = online_filter.solve(gram, moment, config.ridge)
        peak = float(online_filter.respond(samples[:1], solved, config.kernel).max())
        return PlaceState(projection, gram, moment, gram, moment, solved, max(peak, 1e-6), sigma, 0)

    def answer(self, state: PlaceState, deep: Tensor) -> tuple[Tensor, Tensor]:
        """Return the projected sample (1, channels, h, h) and the filter's answers (h, h), 1 as on the first frame."""
        sample = online_filter.project(deep, state.projection)
        answers = online_filter.respond(sample, state.weights, self.config.kernel)[0]
        return sample, answers / state.first_peak

    def learn(self, state: PlaceState, sample: Tensor, offset: tuple[float, float]) -> PlaceState:
        """Learn from a projected sample in which the object lies at `offset` (u, v) from the middle, pixels."""
        config = self.config
        labels = self._labels(torch.tensor([offset], device=sample.device), sample.shape[-1], state.sigma)
        gram, moment = online_filter.normal_equations(
            sample, labels, torch.ones(1, device=sample.device), config.kernel
        )
        gram = torch.lerp(state.gram, gram, config.rate)
        moment = torch.lerp(state.moment, moment, config.rate)
        learned = state.learned + 1
        share = 1 - (1 - config.first_weight) * min(learned / config.first_frames, 1.0)  # of the first frame
        weights = online_filter.solve(
            torch.lerp(gram, state.first_gram, share), torch.lerp(moment, state.first_moment, share), config.ridge
        )
        return replace(state, gram=gram, moment=moment, weights=weights, learned=learned)

    def _labels(self, offsets: Tensor, cells: int, sigma: Tensor) -> Tensor:
        centres = offsets / self.stride + (cells - 1) / 2
        return online_filter.gaussian_labels(centres, cells, sigma.expand(len(offsets)))


class SizeModel:
    """Learn and apply the filter of `models.scale_filter`; stateless beside its settings."""

    def __init__(self, config: ScaleFilterConfig, stride: int) -> None:
        """Take the settings and the stride of the fine features."""
        self.config = config
        self.stride = stride
        self._factors = scale_filter.ladder(config.steps, config.step)
        steps = torch.arange(config.steps) - (config.steps - 1) / 2
        self._labels = torch.exp(-steps.square() / (2 * config.label_sigma**2))

    def learn_first(self, fine: Tensor, box: Box) -> SizeState:
        """Learn from fine features (1, c, h, w) of the first frame; box: in crop pixels, from the crop's middle."""
        projection = online_filter.principal_directions(fine, self.config.channels)
        fitted = self._fit(self._project(fine, projection), box)
        return SizeState(projection, fitted, fitted, fitted)

    def measure(self, state: SizeState, fine: Tensor, box: Box) -> tuple[Tensor, float]:
        """Return the projected map and the factor by which the object is larger than `box`."""
        maps = self._project(fine, state.projection)
        answers = scale_filter.respond(state.current, self._samples(maps, box, self._factors, torch.zeros(1, 2)))
        best = int(answers.argmax())
        return maps, self.config.step ** (best + parabola_peak(answers, best) - (self.config.steps - 1) / 2)

    def learn(self, state: SizeState, maps: Tensor, box: Box) -> SizeState:
        """Learn from a projected map in which the object is `box`, crop pixels from the crop's middle."""
        recent = scale_filter.blend(state.recent, self._fit(maps, box), self.config.rate)
        current = scale_filter.blend(recent, state.first, self.config.first_weight)
        return replace(state, recent=recent, current=current)

    def _project(self, fine: Tensor, projection: Tensor) -> Tensor:
        return torch.einsum("nchw,cd->ndhw", fine, projection)

    def _fit(self, maps: Tensor, box: Box) -> ScaleFilter:
        shift = self.config.jitter * min(box.w, box.h)
        shifts = torch.tensor([[0.0, 0.0], [shift, 0.0], [-shift, 0.0], [0.0, shift], [0.0, -shift]])
        samples = self._samples(maps, box, self._factors, shifts)
        return scale_filter.fit(samples, self._labels.to(maps.device).repeat(len(shifts)), self.config.ridge)

    def _samples(self, maps: Tensor, box: Box, factors: Tensor, shifts: Tensor) -> Tensor:
        """Return a sample (shifts * factors, D) for each shift of the box and each factor on its size."""
        n = len(factors)
        centres = (torch.tensor([box.cx, box.cy]) + shifts).repeat_interleave(n, dim=0) / self.stride
        half = torch.tensor([box.w, box.h]) * (self.config.context / 2 / self.stride)
        half_sizes = (factors.unsqueeze(1) * half).repeat(len(shifts), 1)
        return scale_filter.sample_windows(maps, centres.to(maps.device), half_sizes.to(maps.device), self.config.cells)


@dataclass(frozen=True, slots=True)
class OnlineState:
    """Hold all that is learned of a target: place and size."""

    place: PlaceState
    size: SizeState


def learn_first(
    models: tuple[PlaceModel, SizeModel],
    features: Features,
    offsets: Tensor,
    weights: Tensor,
    size_wh: tuple[float, float],
) -> OnlineState:
    """Learn a target from views of the first frame; see `PlaceModel.learn_first`. size_wh: of the object, pixels."""
    place, size = models
    side = (size_wh[0] * size_wh[1]) ** 0.5
    return OnlineState(
        place.learn_first(features.deep, offsets, weights, side),
        size.learn_first(features.fine[:1], Box(0.0, 0.0, *size_wh)),
    )


def parabola_peak(values: Tensor, at: int) -> float:
    """Return how far, within half a step, the peak of a parabola through values[at - 1 : at + 2] lies from `at`."""
    if not 0 < at < len(values) - 1:
        return 0.0
    before, here, after = (float(v) for v in values[at - 1 : at + 2])
    bend = before - 2 * here + after
    return max(-0.5, min(0.5, (before - after) / (2 * bend))) if bend < 0 else 0.0
