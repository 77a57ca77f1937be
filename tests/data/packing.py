"""Tiny training sets, and shards of them."""

import json
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from tracker.data.pack import Packed, pack
from tracker.data.shard_index import PackRule, ShardSet, open_shards
from tracker.data.shards import PackedTrack, read_samples

SIDE = 40


def number_in(crop: Tensor) -> int:
    """Return the number of the track that a crop shows."""
    return round((float(crop.float().mean()) - 20) / 9)


def rule(shard_mb: float = 64, quality: int | None = None, every: int = 1, seed: int = 1) -> PackRule:
    return PackRule(shard_mb, quality, every, seed)


def write_tracks(
    folder: Path, videos: int = 4, frames: int = 3, stills: int = 6, ending: str = "jpg", noise: int = 20
) -> Path:
    """Write tracks v0, v1, ... and stills s0, s1, ... of grey noise; a picture's mean says the track's number."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(videos + stills):
        name = f"v{number}" if number < videos else f"s{number - videos}"
        shown = []
        for i in range(frames if number < videos else 1):
            image = 20 + 9 * number + rng.integers(-noise, noise + 1, (SIDE, SIDE, 3))
            assert cv2.imwrite(str(folder / f"{name}_{i}.{ending}"), np.clip(image, 0, 255).astype(np.uint8))
            shown.append({"image": f"{name}_{i}.{ending}", "box": [14 + i % 3, 14, 12, 12]})
        kind = "still" if number >= videos else "clip"
        rows.append({"set": kind, "video": name, "track": f"{name}:1", "class": f"c{number % 2}", "frames": shown})
    (folder / "tracks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def packed(data: Path, out: Path, settings: PackRule | None = None) -> ShardSet:
    run_pack(data, out, settings)
    return open_shards(out)


def run_pack(data: Path, out: Path, settings: PackRule | None = None) -> Packed:
    *_, counts = pack(data, out, settings or rule())
    return counts


def tracks_of(shards: ShardSet) -> list[PackedTrack]:
    found = []
    for shard in shards.index.shards:
        with shards.open(shard) as file:
            found += read_samples(file, shard.name)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
