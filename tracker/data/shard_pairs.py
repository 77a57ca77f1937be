"""Turn training shards into pairs: the tracks stream by, and pairs are drawn from those that are held."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch.utils.data import Dataset

from tracker.data.pairs import PairConfig, PairDrawer, Pairs, Skips
from tracker.data.shard_index import ShardSet
from tracker.data.shard_stream import ShardOrder, Window
from tracker.data.shards import PackedTrack
from tracker.data.track_pool import TrackPool, check_weights

_TURN = 128  # templates between two changes of what is held: each costs a walk over all of it
_TEMPLATES_A_TRACK = 4  # drawn for each track that comes in: fewer would read more bytes a pair, more would repeat more


@dataclass(frozen=True, slots=True)
class Lanes:
    """Say who prepares which template, in a run of `processes` with `workers` each, `batch` templates a step in each.

    A lane is one worker of one process. It is told from the template's index alone: `trainer` numbers the templates
    step by step, the processes' batches side by side, and the data loader gives the workers a batch each in turn.
    """

    processes: int
    workers: int  # at least 1: without workers the process itself prepares
    batch: int

    @property
    def count(self) -> int:
        """Number of lanes."""
        return self.processes * self.workers

    def place(self, index: int) -> tuple[int, int]:
        """Return the lane of template `index`, and its number among the lane's own."""
        step, within = divmod(index, self.processes * self.batch)
        process, within = divmod(within, self.batch)
        turn, worker = divmod(step, self.workers)
        return process * self.workers + worker, turn * self.batch + within


class ShardPairs(Dataset[Pairs]):
    """Draw pairs from shards, in memory that is bounded and without reading them out of order.

    Each lane reads shards of its own, in an order that the seed draws anew each epoch, and holds the last
    `buffer_bytes` of pictures; pairs, negatives and backgrounds come from what is held, by the rules of `TrackPool`.
    Shards that fit the buffer together are held by every lane, whole, and draw as `PairDataset` does.

    Item i depends on the seed, the lanes, the buffer and i alone. Items are meant to be asked for in the order of a
    lane; another order, or a run that is resumed, reads the buffer anew: at most `buffer_bytes` and a shard.
    """

    def __init__(
        self,
        shards: ShardSet,
        weights: Mapping[str, float],
        config: PairConfig,
        seed: int,
        length: int,
        lanes: Lanes,
        buffer_bytes: int,
    ) -> None:
        """Weigh the tracks by their source as `TrackPool` does.

        Raises ValueError as that does, and for fewer shards than lanes.
        """
        index = shards.index
        check_weights(weights, index.sets)
        self.fits = index.picture_bytes <= buffer_bytes
        if len(index.shards) < lanes.count and not self.fits:
            raise ValueError(
                f"{shards.path} names {len(index.shards)} shards for {lanes.count} processes x workers: pack with a"
                " smaller --shard-mb, take fewer --workers, or a --buffer-mb that holds them all"
            )
        self.shards = shards
        self.weights = weights
        self.config = config
        self.seed = seed
        self.length = length
        self.lanes = lanes
        self.buffer_bytes = buffer_bytes
        self._held: dict[int, _Held] = {}
        self._skips = Skips()

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_held": {}}  # a copy, in this process or another, reads its own

    @property
    def skipped(self) -> int:
        """Number of draws so far that met a picture that cannot be read, in all processes."""
        return int(self._skips)

    def __len__(self) -> int:
        """Return the number of templates."""
        return self.length

    def __getitem__(self, index: int) -> Pairs:
        """Return template `index` with its searches. Raises ValueError for shards that are broken."""
        if not 0 <= index < self.length:
            raise IndexError(index)
        lane, template = self.lanes.place(index)
        lane, turn = (0, 0) if self.fits else (lane, template // _TURN)
        return self._drawer(lane, turn).draw(self.seed, index, self._skips)

    def _drawer(self, lane: int, turn: int) -> PairDrawer:
        found = self._held.get(lane)
        if found is None:
            order = ShardOrder(self.shards.index.shards, self.seed, lane, 1 if self.fits else self.lanes.count)
            found = self._held[lane] = _Held(Window(self.shards, order, self.buffer_bytes, self._wanted), -1, None)
        if found.turn != turn or found.drawer is None:
            found.drawer = None  # it holds tracks that the window is about to let go
            tracks = found.window.at(self._position(turn))
            if not tracks:
                raise ValueError(
                    f"none of the tracks held at a time is of a source with a weight; raise --buffer-mb above"
                    f" {self.buffer_bytes / 1e6:g}, or pack these sources alone"
                )
            pool = TrackPool(tracks, self.weights, self.config.still_share, self.config.same_class_share)
            found.turn, found.drawer = turn, PairDrawer(pool, self.config)
        return found.drawer

    def _position(self, turn: int) -> int:
        """Return how many tracks of a lane have come in by a turn; at the first, about as many as the buffer holds."""
        index = self.shards.index
        if self.fits:
            return index.tracks
        first = min(self.buffer_bytes * index.tracks // index.picture_bytes, index.tracks // self.lanes.count)
        return max(first, 1) + turn * (_TURN // _TEMPLATES_A_TRACK)

    def _wanted(self, track: PackedTrack) -> bool:
        return self.weights.get(track.source, 1.0) > 0


@dataclass(slots=True)
class _Held:
    """Hold a lane's window, and what draws from it since a turn."""

    window: Window
    turn: int
    drawer: PairDrawer | None
