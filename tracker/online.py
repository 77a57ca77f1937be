"""The model of one target that is learned online: what tells it from its surroundings, and what its box holds."""

from typing import NamedTuple

import numpy as np

from tracker.config import BoxRegressionConfig, OnlineConfig
from tracker.geometry import Box
from tracker.models import box_regression, online_filter
from tracker.models.box_regression import BoxRegression
from tracker.runtime import Array
from tracker.views import VIEWS


class PlaceState(NamedTuple):
    """Hold the filter that finds the target, m = channels * kernel^2, and the sums it is solved from."""

    projection: Array | None  # (C, channels); None where the maps have no more channels than that
    first_correlation: Array  # (2k - 1, 2k - 1, d, d), of the first frame
    first_moment: Array  # (m,)
    correlation: Array  # of all frames, the older the less
    moment: Array  # (m,)
    weights: Array  # (m,), the filter
    first_peak: float  # its answer on the first frame: what a good match looks like
    sigma: Array  # (1,), of the labels, cells
    cells: int  # on a side of the first frame's maps
    learned: int = 0  # frames
    waited: int = 0  # frames since then that might have been


class BoxState(NamedTuple):
    """Hold the regression that corrects the box: that of the first frame, the mean of later ones, and their blend."""

    projection: Array  # (c, channels)
    first: BoxRegression
    recent: BoxRegression
    current: BoxRegression


class PlaceModel:
    """Learn and apply the filter of `models.online_filter`; stateless beside its settings."""

    def __init__(self, config: OnlineConfig, stride: int) -> None:
        """Take the settings and the stride of the maps. Raises ValueError for a `learn_every` that is no frame."""
        if config.learn_every < 1:
            raise ValueError(f"online.learn_every must be 1 frame or more, got {config.learn_every}")
        if config.learn_near < 0:
            raise ValueError(f"online.learn_near must be 0 or more frames, got {config.learn_near}")
        self.config = config
        self.stride = stride

    def learn_views(self, maps: Array, box: Box) -> PlaceState:
        """Learn from the maps (len(VIEWS), C, h, h) of all views of an object of the size of `box`, crop pixels."""
        weights = np.array([view.weight for view in VIEWS], np.float32)
        return self.learn_first(maps, weights, (box.w * box.h) ** 0.5)

    def learn_first(self, maps: Array, weights: Array, side: float) -> PlaceState:
        """Learn from maps (N, C, h, h) of the first frame, the plain one first, the object in the middle of each.

        weights: (N,). side: of the object, pixels.
        """
        config = self.config
        # All directions of a map would only be another basis of it.
        narrow = maps.shape[1] <= config.channels
        projection = None if narrow else online_filter.principal_directions(maps, config.channels)
        projected = online_filter.project(maps, projection)
        samples = projected / online_filter.norms(projected)[:, np.newaxis, np.newaxis, np.newaxis]
        sigma = np.array([max(config.label_sigma * side, config.min_sigma) / self.stride], np.float32)
        label = self._label((0.0, 0.0), maps.shape[-1], sigma)
        labels = np.broadcast_to(label, (len(maps), *label.shape[1:]))
        correlation, moment = online_filter.normal_equations(samples, labels, weights / weights.sum(), config.kernel)
        solved = online_filter.solve(online_filter.gram(correlation), moment, config.ridge)
        peak = float(online_filter.respond(samples[:1], solved, config.kernel).max())
        cells = maps.shape[-1]
        return PlaceState(projection, correlation, moment, correlation, moment, solved, max(peak, 1e-6), sigma, cells)

    def answer(self, state: PlaceState, maps: Array) -> tuple[Array, Array]:
        """Return the projected maps (1, channels, h, h) and the filter's answers (h, h), 1 as on the first frame."""
        projected = online_filter.project(maps, state.projection)
        answers: Array = online_filter.respond(projected, state.weights, self.config.kernel)[0]
        return projected, answers * np.float32(self._scale(state, projected) / state.first_peak)

    def _scale(self, state: PlaceState, projected: Array) -> float:
        """Return the factor that makes a sample of projected maps: its norm is 1.

        Of a smaller square it is less: what that shows of the object weighs what it weighs elsewhere.
        """
        return float(projected.shape[-1] / state.cells / online_filter.norm(projected))

    def due(self, state: PlaceState, projected: Array) -> int:
        """Return how many frames projected maps are to be learned for, 0 where it is not their turn."""
        config, waiting = self.config, state.waited + 1
        near = config.learn_near if projected.shape[-1] < state.cells else 0
        every = (near or config.learn_every) if state.learned >= config.first_frames else 1
        return waiting if waiting >= every else 0

    def learn(self, state: PlaceState, projected: Array, offset: tuple[float, float]) -> PlaceState:
        """Learn from projected maps in which the object lies at `offset` (u, v) from the middle, pixels.

        Where `due` says that it is not their turn, the frame is only counted.
        """
        frames = self.due(state, projected)
        return self.learn_for(frames, state, projected, offset) if frames else state._replace(waited=state.waited + 1)

    def learn_for(self, frames: int, state: PlaceState, projected: Array, offset: tuple[float, float]) -> PlaceState:
        """Learn from such maps with the weight of that many frames."""
        config = self.config
        sample = projected * np.float32(self._scale(state, projected))
        learned, rate = state.learned + frames, rate_of(config.rate, frames)
        label = self._label(offset, sample.shape[-1], state.sigma)
        correlation, moment = online_filter.normal_equations(sample, label, np.ones(1, np.float32), config.kernel)
        correlation = _lerp(state.correlation, correlation, rate)
        moment = _lerp(state.moment, moment, rate)
        share = 1 - (1 - config.first_weight) * min(learned / config.first_frames, 1.0)  # of the first frame
        weights = online_filter.solve(
            online_filter.gram(_lerp(correlation, state.first_correlation, share)),
            _lerp(moment, state.first_moment, share),
            config.ridge,
        )
        return state._replace(correlation=correlation, moment=moment, weights=weights, learned=learned, waited=0)

    def _label(self, offset: tuple[float, float], cells: int, sigma: Array) -> Array:
        """Return the wanted answers (1, h, h) at all places, one ring or more around the map's cells included."""
        places = cells + self.config.kernel - 1
        centres = np.array([offset], np.float32) / self.stride + (places - 1) / 2
        return online_filter.gaussian_labels(centres.astype(np.float32), places, sigma)


def rate_of(rate: float, frames: int) -> float:
    """Return the rate of a running mean that takes one frame for that many."""
    return 1 - (1 - rate) ** frames


def _lerp(a: Array, b: Array, share: float) -> Array:
    return a + np.float32(share) * (b - a)


class BoxModel:
    """Learn and apply the regression of `models.box_regression`; stateless beside its settings.

    Boxes are in pixels of the crop, their centres counted from its middle.
    """

    def __init__(self, config: BoxRegressionConfig, stride: int) -> None:
        """Take the settings and the stride of the fine features. Raises ValueError for `reads` below 0."""
        if config.reads < 0:
            raise ValueError(f"online.box.reads must be 0 or more channels, got {config.reads}")
        self.config = config
        self.stride = stride
        self._read = slice(config.reads or None)
        self._moves = box_regression.moves(config.moves, config.shift, config.growth, config.stretch, seed=0)
        self._answers = box_regression.corrections(self._moves)
        # Beyond what it has learned it only guesses.
        self._limits = np.float32(1.5) * np.array(
            [config.shift, config.shift, config.growth, config.stretch], np.float32
        )
        self._trust = np.float32(config.share) * np.array([1.0, 1.0, 1.0, config.stretch_trust], np.float32)

    def learn_first(self, fine: Array, box: Box) -> BoxState:
        """Learn from fine features (1, c, h, w) of the first frame, in which the object is `box`."""
        fine = fine[:, self._read]
        projection = online_filter.principal_directions(fine, self.config.channels)
        learned = self._fit(_project(fine, projection), box)
        return BoxState(projection, learned, learned, learned)

    def correct(self, state: BoxState, fine: Array, box: Box) -> tuple[Array, Box]:
        """Return the projected map (channels, h, w) and the corrected box."""
        maps = _project(fine[:, self._read], state.projection)
        sample = self._samples(maps, box, np.zeros((1, 4), np.float32))[0]
        correction = box_regression.predict(state.current, sample)
        correction = np.clip(correction, -self._limits, self._limits) * self._trust
        centres, sizes = box_regression.apply(*_centre_and_size(box), correction[np.newaxis])
        return maps, Box(*centres[0].tolist(), *sizes[0].tolist())

    def learn(self, state: BoxState, maps: Array, box: Box, frames: int) -> BoxState:
        """Learn from a projected map in which the object is `box`, with the weight of that many frames."""
        recent = box_regression.blend(state.recent, self._fit(maps, box), rate_of(self.config.rate, frames))
        return state._replace(
            recent=recent, current=box_regression.blend(recent, state.first, self.config.first_weight)
        )

    def _fit(self, maps: Array, box: Box) -> BoxRegression:
        return box_regression.fit(self._samples(maps, box, self._moves), self._answers, self.config.ridge)

    def _samples(self, maps: Array, box: Box, moves: Array) -> Array:
        """Return a sample (M, D) of the window over the box for each move of it (M, 4)."""
        centres, sizes = box_regression.apply(*_centre_and_size(box), moves)
        scale = np.float32(self.config.context / self.stride)
        return box_regression.sample_windows(maps, centres / np.float32(self.stride), sizes * scale, self.config.cells)


def _centre_and_size(box: Box) -> tuple[Array, Array]:
    return np.array([box.cx, box.cy], np.float32), np.array([box.w, box.h], np.float32)


def _project(fine: Array, projection: Array) -> Array:
    _, channels, height, width = fine.shape
    return (projection.T @ fine.reshape(channels, -1)).reshape(-1, height, width)


class OnlineState(NamedTuple):
    """Hold all that is learned of a target: where it is, and its box."""

    place: PlaceState
    box: BoxState


def learn_both(
    place: PlaceModel, box: BoxModel, state: OnlineState, projected: Array, maps: Array, found: Box
) -> OnlineState:
    """Learn the place from projected maps, and in the same frames the box from a projected map of `correct`."""
    frames = place.due(state.place, projected)
    box_state = box.learn(state.box, maps, found, frames) if frames else state.box
    return OnlineState(place.learn(state.place, projected, (found.cx, found.cy)), box_state)


def parabola_peak(values: Array, at: int) -> float:
    """Return how far, within half a step, the peak of a parabola through values[at - 1 : at + 2] lies from `at`."""
    if not 0 < at < len(values) - 1:
        return 0.0
    before, here, after = (float(v) for v in values[at - 1 : at + 2])
    bend = before - 2 * here + after
    return max(-0.5, min(0.5, (before - after) / (2 * bend))) if bend < 0 else 0.0
