"""Choose the tracks that pairs are made of: by weight, and others to tell them from."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.random import Generator

from tracker.data.tracks import Track


class TrackPool:
    """Draw tracks by weight, and for each others that show another object."""

    def __init__(
        self, tracks: Sequence[Track], weights: Mapping[str, float], still_share: float, same_class_share: float
    ) -> None:
        """Weigh each track by `weights[track.source]` (1 where unnamed) times the root of its number of frames.

        still_share: of the draws, from tracks of one frame; same_class_share: of the other objects, of the same class;
        both in [0, 1]. A weight of 0 leaves a source out. Raises ValueError for a negative weight, or where no track
        is left.
        """
        check_weights(weights, {track.source for track in tracks})
        tracks = [track for track in tracks if weights.get(track.source, 1.0) > 0]
        videos = [track for track in tracks if len(track.frames) > 1]
        stills = [track for track in tracks if len(track.frames) == 1]
        self._kinds = [kind for kind in (_Weighted(videos, weights), _Weighted(stills, weights)) if kind.tracks]
        self._still_share = still_share
        self._same_class_share = same_class_share
        self._by_label: dict[str, list[Track]] = defaultdict(list)
        for track in tracks:
            self._by_label[track.label.lower()].append(track)

    def pick(self, rng: Generator) -> Track:
        """Return a track."""
        return (self._kinds[-1] if rng.random() < self._still_share else self._kinds[0]).pick(rng)

    def pick_other(self, track: Track, rng: Generator) -> Track | None:
        """Return a track that shows another object, or None where the draw found none."""
        if rng.random() < self._same_class_share:
            alike = self._by_label[track.label.lower()]
            other = alike[int(rng.integers(len(alike)))]
        else:
            other = self.pick(rng)
        return None if other.video == track.video else other


def check_weights(weights: Mapping[str, float], sources: Iterable[str]) -> None:
    """Raise ValueError for a negative weight, or where the weight of every one of the sources that are there is 0."""
    if any(weight < 0 for weight in weights.values()):
        raise ValueError(f"weights of sources must not be negative, got {dict(weights)}")
    if not any(weights.get(source, 1.0) > 0 for source in sources):
        raise ValueError("no track is left to draw from: the weight of every source is 0")


class _Weighted:
    """Draw tracks by weight."""

    def __init__(self, tracks: Sequence[Track], weights: Mapping[str, float]) -> None:
        self.tracks = tracks
        raw = np.array([weights.get(track.source, 1.0) * len(track.frames) ** 0.5 for track in tracks])
        self.cumulative = np.cumsum(raw / raw.sum()) if len(tracks) else raw

    def pick(self, rng: Generator) -> Track:
        at = int(np.searchsorted(self.cumulative, rng.random(), side="right"))
        return self.tracks[min(at, len(self.tracks) - 1)]
