"""Read training shards as one endless stream a lane, and hold its last tracks, in memory that is bounded."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from tracker.data.shard_index import REMEDY, Shard, ShardSet
from tracker.data.shards import PackedTrack, read_samples

_ORDER = (0, 1)  # ends the seeds of the order: those of pairs are shorter


class ShardOrder:
    """Name the shards of a lane, epoch by epoch: all lanes shuffle them alike, and each takes every `lanes`-th.

    So in an epoch each shard is read by one lane, and none is left out.
    """

    def __init__(self, shards: tuple[Shard, ...], seed: int, lane: int, lanes: int) -> None:
        self.shards = shards
        self.seed = seed
        self.lane = lane
        self.lanes = lanes
        self._numbers: list[int] = []
        self._starts = [0]  # tracks before each
        self._epochs = 0

    def shard(self, at: int) -> Shard:
        """Return the shard that comes `at`-th, from 0."""
        while at >= len(self._numbers):
            self._add_epoch()
        return self.shards[self._numbers[at]]

    def start(self, at: int) -> int:
        """Return how many tracks come before that shard."""
        self.shard(at)
        return self._starts[at]

    def find(self, position: int) -> int:
        """Return which shard, in the order, holds the track that `position` others come before."""
        while self._starts[-1] <= position:
            self._add_epoch()
        return bisect_right(self._starts, position) - 1

    def _add_epoch(self) -> None:
        rng = np.random.default_rng((self.seed, self._epochs, *_ORDER))
        for number in rng.permutation(len(self.shards))[self.lane :: self.lanes]:
            self._numbers.append(int(number))
            self._starts.append(self._starts[-1] + self.shards[number].tracks)
        self._epochs += 1


class Window:
    """Hold the last tracks of a lane's stream: as many as have `limit` bytes of pictures, each once, one at least.

    What is held at a position depends on the position alone. To reach one behind, or the first, only the shards that
    fill the window are read: `limit` bytes and a shard.
    """

    def __init__(self, shards: ShardSet, order: ShardOrder, limit: int, wanted: Callable[[PackedTrack], bool]) -> None:
        """Hold no pictures of tracks that are not `wanted`, though they count."""
        self.shards = shards
        self.order = order
        self.limit = limit
        self.wanted = wanted
        self._held: OrderedDict[str, tuple[PackedTrack, int]] = OrderedDict()  # with the bytes that count for it
        self._bytes = 0
        self._position = 0
        self._coming: Iterator[PackedTrack] | None = None

    def at(self, position: int) -> list[PackedTrack]:
        """Return what is held after `position` tracks, the oldest first. Raises ValueError for a broken shard."""
        if self._coming is None or position < self._position:
            self._go_to_shard(self.order.find(position))
        assert self._coming is not None
        for track in islice(self._coming, position - self._position):
            self._admit(track)
        self._position = position
        return [track for track, _ in self._held.values() if track.frames]

    def _go_to_shard(self, at: int) -> None:
        """Hold what is held where the `at`-th shard begins."""
        self._held.clear()
        self._bytes = 0
        for earlier in self._filling(at):
            for track in self._read(self.order.shard(earlier)):
                self._admit(track)
        self._position = self.order.start(at)
        self._coming = self._read_from(at)

    def _filling(self, at: int) -> list[int]:
        """Return which shards before the `at`-th leave something in the window.

        A track stays until newer ones fill the window, and one that comes again is as new as then. So of each shard the
        last time counts, and none before those that fill the window together.
        """
        found: list[int] = []
        names: set[str] = set()
        total = 0
        for earlier in range(at - 1, -1, -1):
            shard = self.order.shard(earlier)
            if total >= self.limit or len(names) == len(self.order.shards):
                break
            if shard.name not in names:
                names.add(shard.name)
                found.append(earlier)
                total += shard.picture_bytes
        return found[::-1]

    def _admit(self, track: PackedTrack) -> None:
        if track.key in self._held:
            self._bytes -= self._held.pop(track.key)[1]
        size = track.picture_bytes
        self._held[track.key] = (track if self.wanted(track) else replace(track, frames=())), size
        self._bytes += size
        while self._bytes > self.limit and len(self._held) > 1:
            self._bytes -= self._held.popitem(last=False)[1][1]

    def _read_from(self, at: int) -> Iterator[PackedTrack]:
        while True:
            yield from self._read(self.order.shard(at))
            at += 1

    def _read(self, shard: Shard) -> Iterator[PackedTrack]:
        count = 0
        with self.shards.open(shard) as file:
            for count, track in enumerate(read_samples(file, self.shards.name(shard)), 1):  # noqa: B007 - used below
                yield track
        if count != shard.tracks:
            raise ValueError(f"{self.shards.name(shard)} has {count} tracks, not {shard.tracks}; {REMEDY}")
