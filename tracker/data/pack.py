"""Pack a folder of tracks into training shards."""

import json
import os
import tarfile
from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from tracker.data.shard_index import INDEX, UNFINISHED, CropRule, PackRule, Shard, ShardIndex, check_size, parse_index
from tracker.data.shards import PackedFrame, Sample, write_sample
from tracker.data.track_writer import CONTEXT, CONTEXT_PX, REACH, written_part
from tracker.data.tracks import ObjectTrack, TrackFrame, UnreadablePictureError, parse_track, read_lines
from tracker.exported import digest
from tracker.geometry import Box
from tracker.interface import Frame
from tracker.threads import free_cores
from tracker.whole_file import write_whole

_JPEG = b"\xff\xd8\xff"
_BEST_QUALITY = 95  # of JPEGs that must be made anew: what `siamtrack data import` writes
_AHEAD = 32  # tracks that are prepared together: what is held of them is little
_EVERY_TRACKS = 100  # tracks between two reports


@dataclass(slots=True)
class Packed:
    """Count what has been done so far, by this run and those before it."""

    of: int  # lines of tracks.jsonl
    lines: int = 0  # of it, done
    tracks: int = 0
    frames: int = 0
    shards: int = 0
    bytes: int = 0  # of the finished shards
    outside: int = 0  # frames whose box is less than half in the picture, or of no size: this run passed over them
    unreadable: list[Path] = field(default_factory=list)  # pictures, passed over too


class _Line(NamedTuple):
    """Hold a line of tracks.jsonl: its number from 1, its track, and that track's name, empty where it has none."""

    number: int
    track: ObjectTrack
    name: str


class _Prepared(NamedTuple):
    """Hold a track as it is packed, without the frames that were passed over."""

    sample: Sample
    outside: int
    unreadable: list[Path]


def pack(data: Path, out: Path, rule: PackRule) -> Iterator[Packed]:
    """Pack `data/tracks.jsonl` and its pictures into shards and their index in `out`; yield the counts on the way.

    A shard gets its name when it is whole, so a run that was stopped goes on with the shard it was at. Pictures that
    cannot be read, and frames whose box is less than half inside or too small to write, are passed over. Raises
    ValueError naming lines that are no tracks or stand there twice, and an `out` that holds other shards; OSError where
    the disk is full.
    """
    if out.resolve() == data.resolve():
        raise ValueError(f"the shards of {data} need a folder of their own; choose another --out")
    index = data / "tracks.jsonl"
    lines = read_lines(index)
    if not lines:
        raise ValueError(f"no tracks in {index}")
    _check_lines(index, lines)
    fresh = ShardIndex((), {}, {}, CropRule(CONTEXT, REACH, CONTEXT_PX), rule, digest(index), 0)
    done = _found(out, fresh)
    counts = Packed(len(lines), done.packed_lines, done.tracks, done.frames, len(done.shards))
    counts.bytes = sum(shard.bytes for shard in done.shards)
    order = np.random.default_rng(rule.seed).permutation(len(lines))[done.packed_lines :]
    with ThreadPoolExecutor(free_cores()) as pool:
        prepared = _prepare(pool, (_line(index, lines, int(at)) for at in order), rule)
        while counts.lines < len(lines):
            done = yield from _write_shard(out, prepared, done, counts)
    if not done.shards:
        raise ValueError(f"no track of {index} has a picture that can be read; siamtrack data check says what is wrong")
    if (out / UNFINISHED).exists():
        (out / UNFINISHED).replace(out / INDEX)
    yield counts


def _check_lines(index: Path, lines: list[str]) -> None:
    """Raise ValueError for a line that is no track, or a track that stands there twice, before anything is written.

    Names alone may come again: a track that was interrupted goes on under its name.
    """
    seen: dict[tuple[str, str, TrackFrame | None], int] = {}
    for at in range(len(lines)):
        number, track, name = _line(index, lines, at)
        identity = track.video, name, track.frames[0] if track.frames else None
        first = seen.setdefault(identity, number)
        if first != number and track.frames:
            what = f"track {name!r}" if name else "track"
            raise ValueError(f"{index}, line {number}: the {what} of line {first} again; take one of them out")


def _line(index: Path, lines: list[str], at: int) -> _Line:
    try:
        return _Line(at + 1, parse_track(lines[at], index.parent), str(json.loads(lines[at]).get("track", "")))
    except ValueError as error:
        raise ValueError(f"{index}, line {at + 1}: {error}") from error


def _found(out: Path, fresh: ShardIndex) -> ShardIndex:
    """Return the index of the shards that an earlier run of the same rule left in a folder, or the fresh one."""
    out.mkdir(parents=True, exist_ok=True)
    for path in (out / INDEX, out / UNFINISHED):
        if path.exists():
            found = parse_index(path.read_bytes(), str(path))
            asked = (fresh.rule, fresh.crop, fresh.packed_sha256)
            if (found.rule, found.crop, found.packed_sha256) != asked:
                raise ValueError(f"{path} is of other tracks or options; choose another --out, or delete that folder")
            for shard in found.shards:
                check_size(out, shard)
            return found
    return fresh


def _prepare(pool: Executor, lines: Iterator[_Line], rule: PackRule) -> Iterator[_Prepared]:
    """Yield the tracks in their order, prepared a handful at a time in the threads of `pool`."""
    while chunk := list(islice(lines, _AHEAD)):
        yield from pool.map(partial(_crop, rule=rule), chunk)


def _crop(line: _Line, rule: PackRule) -> _Prepared:
    """Return the track with the part of each picture that training may see."""
    boxes, jpegs, unreadable, outside = [], [], [], 0
    for frame in line.track.frames[:: rule.every]:
        try:
            content = frame.image.read_bytes()
            image = PackedFrame(content, frame.box_xywh, str(frame.image)).read()
        except (OSError, UnreadablePictureError):
            unreadable.append(frame.image)
            continue
        part = written_part(image, Box.from_xywh(*frame.box_xywh))
        if part is None:
            outside += 1
            continue
        picture, box = part
        boxes.append(box)
        untouched = rule.quality is None and picture.shape == image.shape and content.startswith(_JPEG)
        jpegs.append(content if untouched else _encode(picture, rule.quality or _BEST_QUALITY))
    sample = Sample(line.track.source, line.track.video, line.name, line.track.label, boxes, jpegs)
    return _Prepared(sample, outside, unreadable)


def _encode(picture: Frame, quality: int) -> bytes:
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return jpeg.tobytes()


def _write_shard(
    out: Path, prepared: Iterator[_Prepared], done: ShardIndex, counts: Packed
) -> Generator[Packed, None, ShardIndex]:
    """Write one shard and the index of all so far; return that index, which is `done` where no track was left."""
    name = f"shard-{counts.shards:06d}.tar"
    part = out / f"{name}.part"
    sets, classes, picture_bytes, first, frames = Counter[str](), Counter[str](), 0, counts.tracks, counts.frames
    with _room_for(part):
        with part.open("wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                while tar.offset < done.rule.shard_mb * 1e6 and (sample := _next(prepared, counts)) is not None:
                    write_sample(tar, f"{counts.tracks:07d}", sample)
                    counts.tracks += 1
                    counts.frames += len(sample.jpegs)
                    picture_bytes += sample.picture_bytes
                    sets[sample.source] += 1
                    classes[sample.label] += 1
                    if counts.tracks % _EVERY_TRACKS == 0:
                        yield counts
            file.flush()
            os.fsync(file.fileno())  # its name says that it is whole, after a power cut too
        if counts.tracks == first:
            part.unlink()
            return done
        size, hashed = part.stat().st_size, digest(part)
        part.replace(out / name)
        shard = Shard(name, size, counts.tracks - first, counts.frames - frames, picture_bytes, hashed)
        done = done.grown(shard, sets, classes, counts.lines)
        write_whole(out / UNFINISHED, done.to_json())
    counts.shards += 1
    counts.bytes += size
    return done


def _next(prepared: Iterator[_Prepared], counts: Packed) -> Sample | None:
    """Return the next track that has a picture, None after the last; count what is passed over."""
    for found in prepared:
        counts.lines += 1
        counts.outside += found.outside
        counts.unreadable += found.unreadable
        if found.sample.jpegs:
            return found.sample
    return None


@contextmanager
def _room_for(part: Path) -> Iterator[None]:
    """Take back a file that cannot be written to its end, and say what to do."""
    try:
        yield
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OSError(
            f"cannot write {part} ({error.strerror or error}); make room, and the same command goes on with this shard"
        ) from error
