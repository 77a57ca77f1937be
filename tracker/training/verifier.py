"""Train the head that embeds an object; the rest of the network stays as it is.

The network sees every view once, its pooled features are kept, and the head learns on those: minutes on a CPU.
"""

import hashlib
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tracker import checkpoint
from tracker.builder import build_localiser
from tracker.config import parse
from tracker.data.object_views import ViewConfig, show_objects
from tracker.data.tracks import ObjectTrack, read_tracks
from tracker.localisers import Localiser
from tracker.models.embedding import EmbeddingHead
from tracker.network_builder import build_network, load_network
from tracker.pooling import pool_box
from tracker.runtime_torch import TorchRuntime
from tracker.toml_tree import to_toml
from tracker.training.metric_losses import supervised_contrastive_loss
from tracker.training.provenance import hardware, revision, short_name, shrunk
from tracker.verification import (
    Floats,
    area,
    equal_error_rate,
    roc_curve,
    threshold_above,
    threshold_for,
    true_accepts_at,
)
from tracker.verifier import object_region

_FEWEST = 20  # tracks of several frames
_HELD = 7  # one video in so many is kept for measuring
_SIDE = 2  # videos at least to learn from, and to measure on: different things come from two
_STILLS = 5000  # at most: views of one still differ by what was done to them alone
_STILL_WEIGHT = 0.12  # of a still beside a track, for the same reason
_FALSE_ACCEPTS = 0.01  # of pairs of different things: what the threshold of `same` admits
_REPORT_EVERY = 500  # steps
_PAIRS = 20  # of each kind, drawn for each held track
_BATCH = 512  # views embedded at once

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Say how the head is trained."""

    steps: int = 3000
    quartets: int = 16  # a batch: an object, two that are easily taken for it, and any other
    views: int = 4  # of each object
    temperature: float = 0.1
    lr: float = 2e-3
    weight_decay: float = 0.05
    seed: int = 1


class PooledViews(NamedTuple):
    """Hold the pooled features of N views, and which track and which of its frames each shows."""

    features: NDArray[np.float16]  # (N, C, n, n)
    tracks: Index  # (N,)
    frames: Index  # (N,)


class HeldPairs(NamedTuple):
    """Hold similarities of pairs of views from videos that were not learned from."""

    same: Floats  # two frames of one track
    different: Floats  # tracks of two videos
    same_class: Floats  # the same, of one class
    same_video: Floats  # two things seen together


def train_verifier(weights: Path, data: Path, out: Path, recipe: Recipe, command: str) -> Iterator[str]:
    """Train on `data/tracks.jsonl`, write the weights with the trained head to `out`, and yield lines of progress.

    weights: of a model, with an embedding head or without. One video in seven, by the hash of its name, is never
    learned from: the figures that go into the file are of those, see `held_tracks`. Raises ValueError for too few
    tracks or videos.
    """
    began = time.perf_counter()
    loaded = checkpoint.load(weights)
    config = parse(loaded.config)
    config = replace(config, model=replace(config.model, embedding="pooled"))
    network, _ = load_network(weights, "cpu", ["model.embedding=none"])  # it is made anew
    index = data / "tracks.jsonl"
    tracks = _chosen(read_tracks(index), recipe.seed)
    if sum(len(track.frames) > 1 for track in tracks) < _FEWEST:
        raise ValueError(f"{index} has fewer than {_FEWEST} tracks of several frames: too few to tell things apart")
    held = held_tracks(tracks)
    yield f"{len(tracks)} tracks are shown to the network"
    localiser = build_localiser(TorchRuntime(network), replace(config, score=None))
    pooled = pool_views(localiser, tracks, recipe.seed)
    torch.manual_seed(recipe.seed)
    head = build_network(config).embedding
    assert isinstance(head, EmbeddingHead)
    yield from _train(head, pooled, _Draw(tracks, pooled.tracks, held, recipe), recipe)
    metrics = figures(held_pairs(embed_all(head, pooled.features), pooled, tracks, held))
    yield ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    minutes = (time.perf_counter() - began) / 60
    facts = {
        "embedding": f"{command}; {recipe.steps} steps, {minutes:.0f} min on {hardware()}",
        "embedding_data": f"{len(tracks)} tracks of {short_name(index)}, "
        f"sha256 {hashlib.sha256(index.read_bytes()).hexdigest()}",
        "embedding_revision": f"{revision()}, {datetime.now(timezone.utc).date().isoformat()}",
    }
    kept = {name: tensor for name, tensor in loaded.tensors.items() if not name.startswith("embedding.")}
    learned = {f"embedding.{name}": shrunk(tensor) for name, tensor in head.state_dict().items()}
    checkpoint.save(
        out,
        checkpoint.Checkpoint(kept | learned, to_toml(config), loaded.provenance | facts, loaded.metrics | metrics),
    )


def _chosen(tracks: Sequence[ObjectTrack], seed: int) -> list[ObjectTrack]:
    """Return all tracks of several frames and some of the stills."""
    stills = [track for track in tracks if len(track.frames) == 1]
    order = np.random.default_rng(seed).permutation(len(stills))[:_STILLS]
    return [track for track in tracks if len(track.frames) > 1] + [stills[at] for at in order]


def held_tracks(tracks: Sequence[ObjectTrack]) -> NDArray[np.bool_]:
    """Return which tracks (N,) are kept for measuring: all of a video or none.

    They are of the videos whose hash says so; where that leaves fewer than two to measure on, or to learn from, of a
    seventh with the lowest hashes, two at least. Raises ValueError for fewer than four videos with tracks of several
    frames.
    """
    moving = sorted({track.video for track in tracks if len(track.frames) > 1}, key=_hash)
    if len(moving) < 2 * _SIDE:
        raise ValueError(
            f"tracks of several frames come from {len(moving)} videos; {2 * _SIDE} are needed, {_SIDE} to learn from"
            f" and {_SIDE} to measure on"
        )
    held = {track.video for track in tracks if _hash(track.video) % _HELD == 0}
    if not _SIDE <= len(held.intersection(moving)) <= len(moving) - _SIDE:
        held = set(moving[: max(_SIDE, len(moving) // _HELD)])
    return np.array([track.video in held for track in tracks])


def _hash(video: str) -> int:
    return int(hashlib.sha256(video.encode()).hexdigest(), 16)


def pool_views(localiser: Localiser, tracks: Sequence[ObjectTrack], seed: int) -> PooledViews:
    """Return the pooled features of all views of the tracks, as the localiser's network sees them."""
    runtime = localiser.runtime
    views = ViewConfig()
    room = sum(views.count(track) for track in tracks)
    features: NDArray[np.float16] | None = None  # made whole at once: a list of small arrays takes ten times the memory
    numbers: list[int] = []
    frames: list[int] = []
    for shown in show_objects(tracks, partial(object_region, localiser), views, np.random.default_rng(seed)):
        seen = runtime.see([view.crop for view in shown.views], ())
        for maps, view in zip(seen.maps, shown.views, strict=True):
            pooled = pool_box(maps, view.box_uvwh, runtime.stride)
            if features is None:
                features = np.empty((room, *pooled.shape), np.float16)
            features[len(numbers)] = pooled
            numbers.append(shown.track)
            frames.append(shown.frame)
    if features is None:
        raise ValueError("no picture of any track can be read")
    return PooledViews(features[: len(numbers)], np.array(numbers), np.array(frames))


class _Draw:
    """Draw batches of views: quartets of an object, one of its class, one seen with it, and any other."""

    def __init__(self, tracks: Sequence[ObjectTrack], views: Index, held: NDArray[np.bool_], recipe: Recipe) -> None:
        """Take the track that each view shows (N,), and which tracks are not to be learned from, held (tracks,)."""
        self.recipe = recipe
        self.tracks = tracks
        self.rng = np.random.default_rng(recipe.seed)
        self.views = _places(views)
        self.keys = np.array([track for track in self.views if not held[track]])
        weights = np.array([1.0 if len(tracks[key].frames) > 1 else _STILL_WEIGHT for key in self.keys])
        self.weights = weights / weights.sum()
        self.of_label: dict[str, list[int]] = defaultdict(list)
        self.of_video: dict[str, list[int]] = defaultdict(list)
        for key in self.keys.tolist():
            self.of_label[tracks[key].label.lower()].append(key)
            self.of_video[tracks[key].video].append(key)

    def batch(self) -> Index:
        """Return places of views (B,)."""
        rng, recipe = self.rng, self.recipe
        chosen: dict[int, None] = {}
        for key in rng.choice(self.keys, recipe.quartets, p=self.weights).tolist():
            alike = self.of_label[self.tracks[key].label.lower()]
            beside = self.of_video[self.tracks[key].video]
            beside = beside if len(beside) > 1 else alike
            other = int(rng.choice(self.keys, p=self.weights))
            quartet = (key, alike[int(rng.integers(len(alike)))], beside[int(rng.integers(len(beside)))], other)
            chosen |= dict.fromkeys(quartet)
        picked = [rng.choice(self.views[k], recipe.views, replace=len(self.views[k]) < recipe.views) for k in chosen]
        return np.concatenate(picked)


def _train(head: EmbeddingHead, pooled: PooledViews, draw: _Draw, recipe: Recipe) -> Iterator[str]:
    optimizer = torch.optim.AdamW(head.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, recipe.steps, pct_start=0.05)
    losses = []
    for step in range(1, recipe.steps + 1):
        places = draw.batch()
        embeddings = head(torch.from_numpy(pooled.features[places]).float())
        loss = supervised_contrastive_loss(embeddings, torch.from_numpy(pooled.tracks[places]), recipe.temperature)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % _REPORT_EVERY == 0 or step == recipe.steps:
            yield f"step {step}/{recipe.steps}  loss {np.mean(losses):.4f}"
            losses = []


@torch.inference_mode()
def embed_all(head: EmbeddingHead, features: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return embeddings (N, D) of pooled features (N, C, n, n)."""
    parts = [features[first : first + _BATCH] for first in range(0, len(features), _BATCH)]
    return np.concatenate([head(torch.from_numpy(part).float()).numpy() for part in parts])


def held_pairs(
    embeddings: NDArray[np.float32], pooled: PooledViews, tracks: Sequence[ObjectTrack], held: NDArray[np.bool_]
) -> HeldPairs:
    """Return similarities of pairs drawn from the held tracks of several frames, the same ones for the same data."""
    rng = np.random.default_rng(0)
    views = {key: at for key, at in _places(pooled.tracks).items() if held[key] and len(tracks[key].frames) > 1}
    keys = list(views)
    same: list[float] = []
    others: tuple[list[float], ...] = ([], [], [])
    for key in keys:
        video, label = tracks[key].video, tracks[key].label.lower()
        elsewhere = [other for other in keys if tracks[other].video != video]
        rivals = (
            elsewhere,
            [other for other in elsewhere if tracks[other].label.lower() == label],
            [other for other in keys if tracks[other].video == video and other != key],
        )
        for _ in range(_PAIRS):
            first, second = rng.choice(views[key], 2)
            if pooled.frames[first] != pooled.frames[second]:
                same.append(float(embeddings[first] @ embeddings[second]))
            for found, kind in zip(others, rivals, strict=True):
                if kind:
                    second = rng.choice(views[kind[int(rng.integers(len(kind)))]])
                    found.append(float(embeddings[first] @ embeddings[second]))
    return HeldPairs(np.array(same), *(np.array(found) for found in others))


def figures(pairs: HeldPairs) -> dict[str, float]:
    """Return how well pairs are told apart, and the threshold above which two are called the same."""
    curve = roc_curve(pairs.same, pairs.different)
    threshold = threshold_for(curve, _FALSE_ACCEPTS)
    if math.isinf(threshold):  # of few pairs, the most similar one is of two things: what is more alike is the same
        threshold = threshold_above(pairs.different, _FALSE_ACCEPTS)
    found = {
        "verify_auc": area(curve),
        "verify_eer": equal_error_rate(curve),
        "verify_tar_at_far_01": true_accepts_at(curve, _FALSE_ACCEPTS),
        "verify_threshold": threshold,
    }
    for name, rivals in (("same_class", pairs.same_class), ("same_video", pairs.same_video)):
        if len(rivals):
            found[f"verify_auc_{name}"] = area(roc_curve(pairs.same, rivals))
    return found


def _places(tracks: Index) -> dict[int, Index]:
    """Return the places of each track's views."""
    order = np.argsort(tracks, kind="stable")
    numbers, firsts = np.unique(tracks[order], return_index=True)
    return dict(zip(numbers.tolist(), np.split(order, firsts[1:]), strict=True))
