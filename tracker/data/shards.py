"""Training shards: plain tar files, one sample a track, as WebDataset lays them out (Aizman et al. 2019).

A sample is KEY.json, {"set", "video", "track", "class", "boxes": [[x, y, w, h], ...]}, and a picture for each box,
KEY.000.jpg and so on. A pair is drawn inside one sample, so shards are read from front to back and never sought in.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from tracker.data.shard_index import REMEDY
from tracker.data.tracks import BoxXYWH, decode, parse_box
from tracker.interface import Frame


@dataclass(frozen=True, slots=True)
class PackedFrame:
    """Hold a picture as the bytes of its JPEG, and the object's box (x, y, w, h), 0-based pixels of the picture."""

    jpeg: bytes
    box_xywh: BoxXYWH
    member: str  # shard and name of the picture in it

    def read(self) -> Frame:
        """Return the picture (H, W, 3), RGB. Raises UnreadablePictureError naming one that cannot be decoded."""
        return decode(self.jpeg, self.member)


@dataclass(frozen=True, slots=True)
class PackedTrack:
    """Hold one object over the frames of one video; a track of `tracks.Track` whose pictures are in memory."""

    key: str  # no other track of the shards has it
    source: str
    video: str
    label: str
    frames: tuple[PackedFrame, ...]

    @property
    def picture_bytes(self) -> int:
        """Bytes of its pictures."""
        return sum(len(frame.jpeg) for frame in self.frames)


class Sample(NamedTuple):
    """Hold a track on its way into a shard: its names, and box and JPEG of each frame."""

    source: str
    video: str
    name: str
    label: str
    boxes_xywh: Sequence[BoxXYWH]
    jpegs: Sequence[bytes]

    @property
    def picture_bytes(self) -> int:
        """Bytes of its pictures."""
        return sum(len(jpeg) for jpeg in self.jpegs)


def write_sample(tar: tarfile.TarFile, key: str, sample: Sample) -> None:
    """Add a sample to a tar file that is open to write; the same sample gives the same bytes."""
    row = {"set": sample.source, "video": sample.video, "track": sample.name, "class": sample.label}
    text = json.dumps(row | {"boxes": sample.boxes_xywh}, ensure_ascii=False)
    _add(tar, f"{key}.json", text.encode())
    for number, jpeg in enumerate(sample.jpegs):
        _add(tar, f"{key}.{number:03d}.jpg", jpeg)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def read_samples(file: BinaryIO, shard: str) -> Iterator[PackedTrack]:
    """Yield the tracks of a shard in their order; `file` must be one that can seek.

    Raises ValueError naming the shard where it is cut off, or no shard at all.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (head := tar.next()) is not None:
                yield _read_sample(tar, head, file, shard)
                tar.members.clear()  # type: ignore[attr-defined]  # else it keeps a record of each for ever
    except (tarfile.TarError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"the shard {shard} is broken ({type(error).__name__}: {error}); {REMEDY}") from error


def _read_sample(tar: tarfile.TarFile, head: tarfile.TarInfo, file: BinaryIO, shard: str) -> PackedTrack:
    key, _, ending = head.name.partition(".")
    if ending != "json":
        raise ValueError(f"{head.name} where the next track should be")
    row = json.loads(_content(head, file))
    source, video, label = row["set"], row["video"], row["class"]
    if not all(isinstance(name, str) for name in (source, video, label)):
        raise ValueError(f"{head.name} names no set, video or class")
    frames: list[PackedFrame] = []
    for box in row["boxes"]:
        member = tar.next()
        if member is None or not member.name.startswith(f"{key}."):
            raise ValueError(f"{key} has {len(row['boxes'])} boxes and {len(frames)} pictures")
        frames.append(PackedFrame(_content(member, file), parse_box(box), f"{shard}: {member.name}"))
    if not frames:
        raise ValueError(f"{head.name} has no box")
    return PackedTrack(key, source, video, label, tuple(frames))


def _content(member: tarfile.TarInfo, file: BinaryIO) -> bytes:
    file.seek(member.offset_data)  # extractfile does this too, in five times the time
    content = file.read(member.size)
    if len(content) != member.size:
        raise ValueError(f"it ends in {member.name}")
    return content
