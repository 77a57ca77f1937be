"""The index of training shards, `shards.json`: what they hold, how large they are and how they were made."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tracker.data.storage import Place, open_file

INDEX = "shards.json"
UNFINISHED = "shards.json.part"  # the index of those that are there so far
REMEDY = "copy it again, or pack again into another folder"
_FORMAT = "siamtrack-shards"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Shard:
    """Describe one tar file."""

    name: str
    bytes: int
    tracks: int
    frames: int
    picture_bytes: int  # of its JPEGs alone: what they take in memory
    sha256: str


@dataclass(frozen=True, slots=True)
class CropRule:
    """Say what part of each frame a picture shows; see `track_writer.shown_part`."""

    context: float
    reach: float
    context_px: float


@dataclass(frozen=True, slots=True)
class PackRule:
    """Say how shards are made; two runs of one rule on the same tracks write the same bytes."""

    shard_mb: float  # megabytes (10^6 bytes) after which a shard ends
    quality: int | None  # of the JPEGs, 1 to 100; None: JPEGs that are not cropped stay as they are, others have 95
    every: int  # keep one frame of so many of a track
    seed: int  # of the order of tracks


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """Hold what the index says."""

    shards: tuple[Shard, ...]
    sets: Mapping[str, int]  # tracks by source
    classes: Mapping[str, int]  # tracks by label
    crop: CropRule
    rule: PackRule
    packed_sha256: str  # of the tracks.jsonl that they were made of
    packed_lines: int  # of it, that have been packed or passed over

    @property
    def tracks(self) -> int:
        """Number of tracks in all shards."""
        return sum(shard.tracks for shard in self.shards)

    @property
    def frames(self) -> int:
        """Number of pictures in all shards."""
        return sum(shard.frames for shard in self.shards)

    @property
    def picture_bytes(self) -> int:
        """Bytes of the pictures in all shards."""
        return sum(shard.picture_bytes for shard in self.shards)

    def grown(self, shard: Shard, sets: Mapping[str, int], classes: Mapping[str, int], lines: int) -> "ShardIndex":
        """Return the index with one shard more; lines: of tracks.jsonl that all of them together go through."""
        return ShardIndex(
            (*self.shards, shard),
            dict(Counter(self.sets) + Counter(sets)),
            dict(Counter(self.classes) + Counter(classes)),
            self.crop,
            self.rule,
            self.packed_sha256,
            lines,
        )

    def to_json(self) -> str:
        """Return the index as text; `parse_index` is the inverse."""
        head = {"format": _FORMAT, "version": _VERSION, "tracks": self.tracks, "frames": self.frames}
        return json.dumps(head | asdict(self), ensure_ascii=False, indent=1) + "\n"


@dataclass(frozen=True, slots=True)
class ShardSet:
    """Hold an index, where it lies, and its hash, which stands for all that it names."""

    place: Place
    index: ShardIndex
    sha256: str

    @property
    def path(self) -> Place:
        """The index itself."""
        return self.place / INDEX if isinstance(self.place, Path) else f"{self.place}/{INDEX}"

    def name(self, shard: Shard) -> str:
        """Return path or URL of a shard."""
        return f"{self.place}/{shard.name}"

    def open(self, shard: Shard) -> BinaryIO:
        """Open a shard to read. Raises ValueError where it is not there, or not as large as the index says."""
        file = open_file(self.place, shard.name)
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if size != shard.bytes:
            file.close()
            raise wrong_size(self.name(shard), size, shard)
        return file


def holds_shards(place: Place) -> bool:
    """Return whether training data are shards: a folder with an index of them, the index itself, or an URL."""
    return isinstance(place, str) or place.name == INDEX or any((place / name).exists() for name in (INDEX, UNFINISHED))


def open_shards(place: Place, sizes: bool = True) -> ShardSet:
    """Read the index in a folder or at an URL; either may name the index itself.

    sizes: look at the files too, where they are on this machine; those elsewhere are looked at when they are read.
    Raises ValueError naming what is missing, broken, or not as large as the index says.
    """
    folder = _folder(place)
    if isinstance(folder, Path) and not (folder / INDEX).exists() and (folder / UNFINISHED).exists():
        raise ValueError(f"the shards in {folder} are not finished; give the same siamtrack data pack command again")
    with open_file(folder, INDEX) as file:
        content = file.read()
    found = ShardSet(folder, parse_index(content, f"{folder}/{INDEX}"), hashlib.sha256(content).hexdigest())
    if sizes and isinstance(folder, Path):
        for shard in found.index.shards:
            check_size(folder, shard)
    return found


def check_size(folder: Path, shard: Shard) -> None:
    """Raise ValueError unless a shard's file is there and as large as the index says."""
    path = folder / shard.name
    if not path.is_file():
        raise ValueError(f"the shard {path} is missing; {REMEDY}")
    if (size := path.stat().st_size) != shard.bytes:
        raise wrong_size(str(path), size, shard)


def wrong_size(name: str, size: int, shard: Shard) -> ValueError:
    """Return the error of a shard that is not as large as the index says."""
    return ValueError(f"the shard {name} has {size} bytes, {INDEX} says {shard.bytes}; {REMEDY}")


def parse_index(content: bytes, name: str) -> ShardIndex:
    """Return the index of a file's content. Raises ValueError naming the file for what does not fit."""
    try:
        row = json.loads(content)
        if row.get("format") != _FORMAT:
            raise ValueError(f'its "format" is {row.get("format")!r}, not {_FORMAT!r}')
        if row.get("version") != _VERSION:
            raise ValueError(
                f"its version is {row.get('version')}, this siamtrack reads {_VERSION}; pack the data again"
            )
        shards = tuple(_shard(shard) for shard in row["shards"])
        sets, classes = _counts(row["sets"]), _counts(row["classes"])
        crop, rule = CropRule(**row["crop"]), PackRule(**row["rule"])
        return ShardIndex(shards, sets, classes, crop, rule, str(row["packed_sha256"]), int(row["packed_lines"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{name} is no index of shards ({type(error).__name__}: {error})") from error


def _shard(row: dict[str, Any]) -> Shard:
    shard = Shard(**row)
    if not shard.name or set(shard.name) & set("/\\:") or shard.name.startswith("."):
        raise ValueError(f"{shard.name!r} is no name of a file beside it")
    numbers = (shard.bytes, shard.tracks, shard.frames, shard.picture_bytes)
    if any(type(number) is not int or number < 1 for number in numbers):
        raise ValueError(f"{shard.name} has a count that is no number above 0")
    return shard


def _counts(row: dict[str, Any]) -> dict[str, int]:
    return {str(name): int(count) for name, count in row.items()}


def _folder(place: Place) -> Place:
    if isinstance(place, Path):
        return place.parent if place.name == INDEX else place
    return place.removesuffix(INDEX).rstrip("/")
