"""Measure how well a model tells the same thing from others, on tracks of videos that it was not trained on.

    python -m benchmarks.verifier --data DIR [--dev DIR] [--model NAME]
        [--out benchmarks/verifier.md --picture benchmarks/verifier.png]

DIR holds tracks.jsonl. The videos are those that `siamtrack train-verifier` keeps for measuring, one in seven by the
hash of its name: the embedding head never saw them, but a backbone that was trained to track did. --dev names the
development sequences (see benchmarks/development.py), which neither saw; they have no classes, and one object each.

The same views, as training makes them (moved, recoloured, blurred, covered, cut out), are compared by three vectors:
that of the embedding head, the mean of the features under the box on the same backbone, and that mean on the backbone
as ImageNet left it, with the same crops. Then pictures as `siamtrack verify` takes them, up to five of a track, are
compared at the threshold that is stored with the weights: with the object's box in the whole picture, and cut out
along the box.

Of each track 40 pairs of each kind are drawn: the same thing in another frame, a thing of another video, one of the
same class there, one of the same video. Intervals hold 95 % over 200 draws of the videos, all pairs of a video coming
together, by its first picture: pairs of one video are no independent ones.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.correlation import machine
from benchmarks.development import find_sets
from benchmarks.report import publish
from tracker.builder import Loaded, build_localiser, load_runtime
from tracker.data.object_views import spread
from tracker.data.tracks import ObjectTrack, read_tracks, track_of
from tracker.frames import read_image
from tracker.geometry import Box, CropGeometry
from tracker.localisers import Localiser
from tracker.roc_plot import write_roc
from tracker.runtime import Runtime
from tracker.training.verifier import PooledViews, held_tracks, pool_views
from tracker.verification import (
    Floats,
    Interval,
    RocCurve,
    area,
    equal_error_rate,
    intervals,
    roc_curve,
    true_accepts_at,
)
from tracker.verifier import THRESHOLD, Verifier
from tracker.zoo import DEFAULT_MODEL

IMAGENET = "mobilenetv3_online"  # the backbone of siamrpn_mobile before it was trained to track
HELD = "Videos that the head did not see"
KINDS = ("same", "different", "same class", "same video")
_PAIRS = 40  # of each kind, drawn for each track
_PICTURES = 5  # of a track, at most, in the second part
_DRAWS = 200
_BATCH = 512
_LEAST_SIDE = 4  # pixels, of what is cut out

FIGURES: dict[str, Callable[[RocCurve], float]] = {
    "AUC": area,
    "EER": equal_error_rate,
    "TAR@FAR 1 %": lambda curve: true_accepts_at(curve, 0.01),
    "TAR@FAR 0.1 %": lambda curve: true_accepts_at(curve, 0.001),
}


@dataclass(frozen=True, eq=False)
class Views:
    """Hold which track and which of its frames each of N views shows."""

    tracks: np.ndarray  # (N,)
    frames: np.ndarray  # (N,)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Hold pairs of views of one kind, and the video of the first of each."""

    first: np.ndarray  # (P,)
    second: np.ndarray  # (P,)
    videos: np.ndarray  # (P,), numbers


@dataclass(frozen=True)
class _SameCrops:
    """See with one network what another one's localiser cuts."""

    runtime: Runtime
    regions: Callable[[Box], list[CropGeometry]]


def draw_pairs(tracks: Sequence[ObjectTrack], views: Views) -> dict[str, Pairs]:
    """Return pairs of each kind of `KINDS`, the same ones for the same views."""
    rng = np.random.default_rng(0)
    numbers = {video: number for number, video in enumerate(dict.fromkeys(track.video for track in tracks))}
    places = {key: np.flatnonzero(views.tracks == key) for key in np.unique(views.tracks).tolist()}
    video = np.array([numbers[track.video] for track in tracks])
    label = np.array([track.label.lower() for track in tracks])
    keys = np.array(list(places))
    drawn: dict[str, list[tuple[int, int, int]]] = {kind: [] for kind in KINDS}
    for key in keys.tolist():
        elsewhere = keys[video[keys] != video[key]]
        beside = keys[(video[keys] == video[key]) & (keys != key)]
        alike = elsewhere[(label[elsewhere] == label[key]) & (label[key] != "")]
        rivals = (np.array([key]), elsewhere, alike, beside)
        for kind, others in zip(KINDS, rivals, strict=True):
            for _ in range(_PAIRS if len(others) else 0):
                a = int(rng.choice(places[key]))
                b = int(rng.choice(places[int(rng.choice(others))]))
                if kind != "same" or views.frames[a] != views.frames[b]:
                    drawn[kind].append((a, b, int(video[key])))
    return {kind: Pairs(*np.array(rows, int).reshape(-1, 3).T) for kind, rows in drawn.items()}


@dataclass(frozen=True, eq=False)
class Compared:
    """Hold the similarities of pairs, by kind."""

    pairs: dict[str, Pairs]
    similarities: dict[str, Floats]

    def curve(self, rivals: str) -> RocCurve:
        """Return the curve of the same pairs against those of another kind."""
        return roc_curve(self.similarities["same"], self.similarities[rivals])

    def intervals(self, rivals: str, figures: Sequence[Callable[[RocCurve], float]]) -> list[Interval]:
        """Return figures of that curve, with intervals over draws of the videos."""
        rng = np.random.default_rng(0)
        places = {kind: _by_video(self.pairs[kind].videos) for kind in ("same", rivals)}
        videos = np.unique(self.pairs["same"].videos)
        drawn = []
        for _ in range(_DRAWS):
            chosen = rng.choice(videos, len(videos)).tolist()
            parts = [self._of_videos(kind, places[kind], chosen) for kind in ("same", rivals)]
            if all(len(part) for part in parts):
                drawn.append(roc_curve(*parts))
        return intervals(self.curve(rivals), drawn, figures)

    def _of_videos(self, kind: str, places: dict[int, np.ndarray], videos: Sequence[int]) -> Floats:
        none = np.array([], int)
        return self.similarities[kind][np.concatenate([places.get(video, none) for video in videos])]


def _by_video(videos: np.ndarray) -> dict[int, np.ndarray]:
    return {video: np.flatnonzero(videos == video) for video in np.unique(videos).tolist()}


def compare(vectors: np.ndarray, pairs: dict[str, Pairs]) -> Compared:
    """Return the cosines of pairs of unit vectors (N, D)."""
    exact = vectors.astype(np.float64)
    return Compared(pairs, {kind: (exact[p.first] * exact[p.second]).sum(axis=1) for kind, p in pairs.items()})


def embed_views(runtime: Runtime, pooled: PooledViews) -> np.ndarray:
    """Return the head's vectors of pooled views."""
    parts = [pooled.features[at : at + _BATCH].astype(np.float32) for at in range(0, len(pooled.features), _BATCH)]
    return np.concatenate([runtime.embed(part) for part in parts])


def mean_vectors(pooled: PooledViews) -> np.ndarray:
    """Return unit vectors of the mean features under the boxes, which is all that a network without the head offers."""
    means = pooled.features.astype(np.float32).mean(axis=(2, 3))
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def embed_pictures(verifier: Verifier, tracks: Sequence[ObjectTrack], alone: bool) -> tuple[np.ndarray, Views]:
    """Return vectors of frames of tracks: of the object's box in the picture, or of the picture cut along it."""
    vectors, numbers, frames = [], [], []
    for number, track in enumerate(tracks):
        for at in spread(len(track.frames), _PICTURES).tolist():
            image = read_image(track.frames[at].image)
            x, y, w, h = track.frames[at].box_xywh
            left, top = max(round(x), 0), max(round(y), 0)
            part = image[top : max(round(y + h), 0), left : max(round(x + w), 0)]
            if min(part.shape[:2]) < _LEAST_SIDE or w > image.shape[1] or h > image.shape[0]:
                continue
            vectors.append(verifier.embed(part) if alone else verifier.embed(image, Box.from_xywh(x, y, w, h)))
            numbers.append(number)
            frames.append(at)
    return np.stack(vectors), Views(np.array(numbers), np.array(frames))


def _written(found: Interval) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def row(name: str, compared: Compared) -> str:
    """Return a line of a table of vectors."""
    figures = [_written(found) for found in compared.intervals("different", list(FIGURES.values()))]
    for rivals in KINDS[2:]:
        known = len(compared.similarities[rivals]) > 0
        figures.append(_written(compared.intervals(rivals, [area])[0]) if known else "-")
    return f"| {name} | {' | '.join(figures)} |"


def threshold_row(name: str, compared: Compared, threshold: float) -> str:
    """Return a line of a table of pictures: what is accepted of each kind at the model's threshold."""
    found = (compared.similarities[kind] for kind in KINDS)
    accepted = (f"{(values >= threshold).mean():.1%}" if len(values) else "-" for values in found)
    return f"| {name} | {area(compared.curve('different')):.3f} | {' | '.join(accepted)} |"


def compare_vectors(
    model: Loaded, localiser: Localiser, tracks: Sequence[ObjectTrack], runtime: str
) -> dict[str, Compared]:
    """Return the comparisons of a table of vectors by name."""
    pooled = pool_views(localiser, tracks, seed=1)
    imagenet = load_runtime(IMAGENET, "cpu", (), runtime, 1).runtime  # type: ignore[arg-type]
    borrowed = _SameCrops(imagenet, localiser.regions)
    plain = pool_views(borrowed, tracks, seed=1)  # type: ignore[arg-type] # the same views: the same seed
    pairs = draw_pairs(tracks, Views(pooled.tracks, pooled.frames))
    vectors = {
        "embedding head": embed_views(model.runtime, pooled),
        "mean features, the same backbone": mean_vectors(pooled),
        f"mean features, {IMAGENET}": mean_vectors(plain),
    }
    return {name: compare(found, pairs) for name, found in vectors.items()}


def kept_tracks(data: Path) -> list[ObjectTrack]:
    """Return the tracks of several frames that are kept for measuring. Raises ValueError as `held_tracks` does."""
    tracks = read_tracks(data / "tracks.jsonl")
    return [track for track, held in zip(tracks, held_tracks(tracks), strict=True) if held and len(track.frames) > 1]


def development_tracks(root: Path) -> list[ObjectTrack]:
    """Return the objects of the development sequences."""
    sequences = [sequence for found in find_sets([root], None).values() for sequence in found]
    return [track_of(each.name, "", each.image_paths, each.boxes_xywh) for each in sequences]


def section(title: str, tracks: Sequence[ObjectTrack], model: Loaded, args: argparse.Namespace) -> Iterator[str]:
    """Yield the two tables of some tracks, and draw the curves of the first into `args.picture`."""
    localiser = build_localiser(model.runtime, model.config)
    yield f"## {title}: {len(tracks)} tracks of {len({track.video for track in tracks})} videos"
    yield ""
    names = [*FIGURES, *(f"AUC, {kind}" for kind in KINDS[2:])]
    yield f"| views, compared by | {' | '.join(names)} |"
    yield "|---" * (len(names) + 1) + "|"
    compared = compare_vectors(model, localiser, tracks, args.runtime)
    for name, found in compared.items():
        yield row(name, found)
    if args.picture and title == HELD:
        write_roc({name: found.curve("different") for name, found in compared.items()}, args.picture)
    verifier = Verifier(localiser, model.metrics.get(THRESHOLD))
    yield ""
    yield f"| pictures, the object | AUC | {' | '.join(f'{kind}: accepted' for kind in KINDS)} |"
    yield "|---" * (len(KINDS) + 2) + "|"
    for name, alone in (("marked by its box", False), ("cut out", True)):
        vectors, views = embed_pictures(verifier, tracks, alone)
        yield threshold_row(name, compare(vectors, draw_pairs(tracks, views)), verifier.chosen_threshold(None))


def report(args: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the report."""
    model = load_runtime(args.model, "cpu", (), args.runtime, 1)
    yield "# Same or not"
    yield ""
    yield f"Written by `{command(args)}`, which says how to read it."
    yield ""
    yield f"{machine()} The threshold of the model is {model.metrics.get(THRESHOLD, float('nan')):.3f}."
    yield ""
    yield from section(HELD, kept_tracks(args.data), model, args)
    if args.dev:
        yield ""
        yield from section("Sequences that no part of the network saw", development_tracks(args.dev), model, args)


def command(args: argparse.Namespace) -> str:
    """Return the command that measures this again."""
    given = {"dev": args.dev and "DIR", "runtime": args.runtime, "out": args.out, "picture": args.picture}
    options = [f"--{name} {value}" for name, value in given.items() if value]
    return " ".join(["python -m benchmarks.verifier --data DIR", f"--model {args.model}", *options])


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description="Measure how well a model tells the same thing from others.")
    parser.add_argument("--data", type=Path, required=True, help="folder with tracks.jsonl")
    parser.add_argument("--dev", type=Path, help="folder of the development sequences")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a model with an embedding head")
    parser.add_argument("--runtime", default="auto", help="auto, torch, onnx or openvino")
    parser.add_argument("--picture", type=Path, help="also draw the ROC curves into this file")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    args = parser.parse_args(argv)
    cv2.setNumThreads(1)
    return publish(report(args), args.out)


if __name__ == "__main__":
    sys.exit(main())
