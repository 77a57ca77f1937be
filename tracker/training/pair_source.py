"""Where the pairs of a run come from: a folder of tracks, or shards of them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tracker.config import Config
from tracker.data.pairs import PairDataset
from tracker.data.shard_index import holds_shards, open_shards
from tracker.data.shard_pairs import Lanes, ShardPairs
from tracker.data.storage import Place
from tracker.data.tracks import read_tracks
from tracker.training.distributed import world_size
from tracker.training.provenance import short_name
from tracker.training.recipe import pair_config


@dataclass(frozen=True, slots=True)
class PairSource:
    """Hold the pairs of a run, and what its weight file says of the data."""

    pairs: PairDataset | ShardPairs
    fact: str


def open_pairs(config: Config, data: Place, steps: int, workers: int, buffer_mb: int) -> PairSource:
    """Return the pairs of a run on a folder with tracks.jsonl, or on shards, see `holds_shards`.

    steps: of the run; workers: processes that prepare pairs, 0 for none beside this one; buffer_mb: of pictures that
    each of them holds of shards, 10^6 bytes. Raises ValueError for data that cannot be read or do not fit.
    """
    settings = config.train
    assert settings is not None
    rule = pair_config(config, settings)
    length = steps * settings.batch * world_size()
    weights, seed = settings.data.weights, settings.seed
    if holds_shards(data):
        shards = open_shards(data)
        lanes = Lanes(world_size(), max(workers, 1), settings.batch)
        pairs = ShardPairs(shards, weights, rule, seed, length, lanes, buffer_mb * 10**6)
        return PairSource(pairs, _fact(shards.index.tracks, shards.path, shards.sha256))
    assert isinstance(data, Path)
    index = data / "tracks.jsonl"
    tracks = read_tracks(index)
    hashed = hashlib.sha256(index.read_bytes()).hexdigest()
    return PairSource(PairDataset(tracks, weights, rule, seed, length), _fact(len(tracks), index, hashed))


def _fact(tracks: int, index: Place, hashed: str) -> str:
    return f"{tracks} tracks of {short_name(index)}, sha256 {hashed}"
