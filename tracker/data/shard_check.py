"""Look a set of training shards over: whether they are as they were packed, and what is in them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

from tracker.data.check import Problem, wrong_with
from tracker.data.shard_index import REMEDY, Shard, ShardSet, open_shards
from tracker.data.shards import PackedTrack, read_samples
from tracker.data.storage import Place

_CHUNK = 1 << 20  # bytes that are hashed at a time


@dataclass(slots=True)
class ShardFindings:
    """Hold what is there, and what is wrong; of the tracks themselves a few, for `check.contact_sheet`."""

    tracks: int = 0
    frames: int = 0
    stills: int = 0
    videos: set[str] = field(default_factory=set)
    labels: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    readable: list[PackedTrack] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def check_shards(place: Place, kept: int, progress: Callable[[float], None]) -> ShardFindings:
    """Read every shard of a folder or URL and every picture in it; tell the share done after each shard.

    kept: how many of the tracks, spread over all, are held for the contact sheet. Raises ValueError for an index that
    cannot be read. What is wrong with a shard is a finding, not an error.
    """
    shards = open_shards(place, sizes=False)
    findings = ShardFindings()
    chosen = {int(at) for at in np.linspace(0, shards.index.tracks - 1, min(kept, shards.index.tracks))}
    for number, shard in enumerate(shards.index.shards, 1):
        before = findings.tracks
        try:
            _check_shard(shards, shard, findings, chosen)
            if findings.tracks - before != shard.tracks:
                raise ValueError(f"{findings.tracks - before} tracks, not {shard.tracks}; {REMEDY}")
        except ValueError as error:
            findings.problems.append(Problem(0, shard.name, str(error)))
        progress(number / len(shards.index.shards))
    return findings


def _check_shard(shards: ShardSet, shard: Shard, findings: ShardFindings, chosen: set[int]) -> None:
    """Add what a shard holds to the findings. Raises ValueError where it is not the one that was packed."""
    with shards.open(shard) as file:
        hashed = sha256()
        while chunk := file.read(_CHUNK):
            hashed.update(chunk)
        if hashed.hexdigest() != shard.sha256:
            raise ValueError(f"it was changed after it was packed (sha256 differs); {REMEDY}")
        file.seek(0)
        for track in read_samples(file, shards.name(shard)):
            if findings.tracks in chosen:
                findings.readable.append(track)
            _count(track, findings)


def _count(track: PackedTrack, findings: ShardFindings) -> None:
    findings.tracks += 1
    findings.frames += len(track.frames)
    findings.stills += len(track.frames) == 1
    findings.videos.add(track.video)
    findings.labels[track.label] += 1
    findings.sources[track.source] += 1
    for frame in track.frames:
        findings.problems.extend(Problem(0, frame.member, what) for what in wrong_with(frame))
