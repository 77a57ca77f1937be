"""Measure the encoders of sequences and of clips by telling apart classes that they were not trained on.

    pip download --no-deps aeon==1.6.0
    python -m benchmarks.sequences --series aeon-1.6.0-py3-none-any.whl --tracks DIR [--out sequences.md]

--series is a wheel of aeon, or any zip file, that holds JapaneseVowels (640 utterances of two vowels by nine men, 12
coefficients a step, 7 to 29 steps: Kudo et al. 1999) and PickupGestureWiimoteZ (100 gestures of ten kinds, 29 to 361
steps of one acceleration: Guna et al. 2014) in the .ts format of the time series archives. "Known classes": trained
on the training part, all pairs of the test part compared. "Others": a third of the classes is left out at a time, both
parts together, and all pairs of what was left out are compared; mean over the thirds. "Mean and spread" has no
training: mean and standard deviation of the steps, each standardised, by their distance.

--tracks is a folder with tracks.jsonl of several videos. Of each track two clips of eight frames are kept, the object
alone at 32x32; a fifth of the videos is left out, and all of their clips are compared. The encoder of single pictures
is trained on the same frames; "mean of eight" is the mean of its vectors over a clip. All by `siamtrack encoder train`.
"""

import argparse
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.report import publish
from tracker.data.tracks import ObjectTrack, TrackFrame, read_tracks
from tracker.encoder_builder import is_sequential, load_encoder, read_samples
from tracker.encoder_config import EncoderConfig
from tracker.encoding import embed_samples
from tracker.models.encoders import SiameseEncoder
from tracker.training.encoder_run import train_encoder
from tracker.verification import area, equal_error_rate, roc_curve

_SETS = ("JapaneseVowels", "PickupGestureWiimoteZ")
_THIRDS = 3
_LOSSES = ("triplet", "supervised_contrastive")
_BATCH = (6, 8)
_LENGTH = 8  # frames of a clip
_SIDE = 32  # pixels of its pictures
_LEFT_OUT = 5  # one of so many videos

_CONFIG = """
description = "measured only"
[data]
layout = "{0.layout}"
channels = {0.channels}
size = 32
[model]
encoder = "{0.encoder}"
width = 32
dimensions = 64
metric = "cosine"
[train]
steps = {0.steps}
classes = {0.batch[0]}
samples = {0.batch[1]}
loss = "{0.loss}"
lr_start = 0.003
lr_end = 0.00003
warmup_steps = 20
weight_decay = 0.01
ema = 0.98
seed = {0.seed}
"""


class Recipe(NamedTuple):
    """Hold what differs between two trainings."""

    layout: str
    channels: int
    encoder: str
    loss: str
    steps: int
    batch: tuple[int, int]  # classes, samples of each
    seed: int


Labelled = list[tuple[NDArray[np.float32], str]]  # sequences (T, C) and their classes


class Figures(NamedTuple):
    """Hold how well pairs are told apart."""

    auc: float
    eer: float


def judge(vectors: NDArray[np.float64], labels: NDArray[np.int64]) -> Figures:
    """Return the figures of all pairs of vectors (N, D), by minus their distance."""
    first, second = np.triu_indices(len(labels), 1)
    squares = np.square(vectors).sum(1)
    gaps = squares[:, np.newaxis] + squares - 2 * vectors @ vectors.T
    likeness = -np.sqrt(np.maximum(gaps[first, second], 0))
    same = labels[first] == labels[second]
    curve = roc_curve(likeness[same], likeness[~same])
    return Figures(area(curve), equal_error_rate(curve))


def parse_series(text: str) -> Labelled:
    """Return the sequences (T, C) of a .ts file and their classes: a line has channels and class, parted by colons.

    Raises ValueError for a line that has anything else than numbers and a class.
    """
    found = []
    _, _, data = text.partition("@data")
    for line in data.splitlines():
        if line.strip():
            *channels, label = line.strip().split(":")
            values = [np.array([float(value) for value in channel.split(",")], np.float32) for channel in channels]
            found.append((np.stack(values, 1), label))
    return found


def read_series(archive: Path, name: str) -> list[Labelled]:
    """Return the sequences and classes of the training and the test part of a set in a zip file.

    Raises ValueError where it is not there, or the file is no zip.
    """
    if not zipfile.is_zipfile(archive):
        raise ValueError(f"{archive} is no zip file")
    parts = []
    with zipfile.ZipFile(archive) as content:
        for part in ("TRAIN", "TEST"):
            paths = [path for path in content.namelist() if path.endswith(f"/{name}_{part}.ts")]
            if len(paths) != 1:
                raise ValueError(f"{archive} holds no {name}_{part}.ts")
            parts.append(parse_series(content.read(paths[0]).decode("utf-8")))
    return parts


def splits(train: Labelled, test: Labelled) -> Iterator[tuple[str, Labelled, Labelled]]:
    """Yield name, what to train on and what to measure on: the parts as they are, then without a third of classes."""
    yield "known", train, test
    classes = sorted({label for _, label in train})
    for third in range(_THIRDS):
        left_out = classes[third::_THIRDS]
        known, held = ([one for one in train + test if (one[1] in left_out) == out] for out in (False, True))
        yield f"third{third + 1}", known, held


def mean_and_spread(sequences: list[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return (N, 2 C): mean and standard deviation over the steps, standardised over the sequences."""
    facts = np.array([np.concatenate([values.mean(0), values.std(0)]) for values in sequences], np.float64)
    return (facts - facts.mean(0)) / np.maximum(facts.std(0), 1e-9)


def trained(
    config: str, data: Path, out: Path, overrides: tuple[str, ...] = ()
) -> tuple[SiameseEncoder[Any], EncoderConfig]:
    """Train an encoder of a configuration (TOML) on the classes below `data` in the folder `out`, and return it."""
    path = out.with_suffix(".toml")
    path.write_text(config, encoding="utf-8")
    for _ in train_encoder(path, data, out, overrides, threads=1):
        pass
    return load_encoder(out / "weights.safetensors")


def _trained(recipe: Recipe, root: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Train on the classes below root / "known"; return vectors and labels of those below root / "held"."""
    network, config = trained(_CONFIG.format(recipe), root / "known", root / f"{recipe.encoder}-{recipe.loss}")
    samples = read_samples(config, root / "held")
    return embed_samples(network, samples.values, is_sequential(config)).double().numpy(), samples.labels


def _series_rows(archive: Path, name: str, work: Path, steps: int) -> Iterator[str]:
    train, test = read_series(archive, name)
    everything = np.concatenate([values for values, _ in train])
    level, spread = everything.mean(0), everything.std(0)
    plain = []
    roots = []
    for split, known, held in splits(train, test):
        roots.append(work / f"{name}-{split}")
        for part, sequences in (("known", known), ("held", held)):
            for at, (values, label) in enumerate(sequences):
                folder = roots[-1] / part / label
                folder.mkdir(parents=True, exist_ok=True)
                np.save(folder / f"{at}.npy", (values - level) / spread)
        labels = np.unique([label for _, label in held], return_inverse=True)[1]
        plain.append(judge(mean_and_spread([values for values, _ in held]), labels))
    yield _row(name, "mean and spread", "", plain)
    for encoder in ("lstm", "time_delay"):
        for loss in _LOSSES:
            figures = []
            for seed, root in enumerate(roots):
                recipe = Recipe("sequences", everything.shape[1], encoder, loss, steps, _BATCH, seed)
                figures.append(judge(*_trained(recipe, root)))
            yield _row(name, encoder, loss, figures)


def _clips(tracks: list[ObjectTrack], root: Path) -> None:
    """Write two clips of each track that is long enough, and the same frames as pictures."""
    for number, track in enumerate(tracks):
        if len(track.frames) < 2 * _LENGTH:
            continue
        part = "held" if crc32(track.video.encode()) % _LEFT_OUT == 0 else "known"
        for at, frame in enumerate(track.frames[: 2 * _LENGTH]):
            clip, picture = (
                root / layout / part / f"{number:05}" / name
                for layout, name in (("clips", f"{at // _LENGTH}/{at:02}.png"), ("pictures", f"{at:02}.png"))
            )
            for path in (clip, picture):
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), _object(frame)[..., ::-1])


def _object(frame: TrackFrame) -> NDArray[np.uint8]:
    """Return what is in the box, stretched to a square."""
    x, y, w, h = frame.box_xywh
    image = frame.read()
    top, left = (int(np.clip(value, 0, length - 2)) for value, length in ((y, image.shape[0]), (x, image.shape[1])))
    inside = image[top : max(round(y + h), top + 2), left : max(round(x + w), left + 2)]
    return cv2.resize(inside, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _clip_rows(folder: Path, work: Path, steps: int) -> Iterator[str]:
    _clips(read_tracks(folder / "tracks.jsonl"), work)
    pictures = Recipe("pictures", 3, "character_cnn", _LOSSES[1], steps, _BATCH, 1)
    vectors, labels = _trained(pictures, work / "pictures")
    vectors, labels = vectors.reshape(len(labels) // _LENGTH, _LENGTH, -1), labels[::_LENGTH]  # by clip
    yield _row("tracks", "one picture", pictures.loss, [judge(vectors[:, 0], labels)])
    means = vectors.mean(1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    yield _row("tracks", "mean of eight", pictures.loss, [judge(means, labels)])
    clips = pictures._replace(layout="clips", encoder="clip", batch=(_BATCH[0], 2))
    yield _row("tracks", "clip", clips.loss, [judge(*_trained(clips, work / "clips"))])


def _row(name: str, what: str, loss: str, figures: list[Figures]) -> str:
    """Return a row of the figures of known classes, if there are any, and of others."""
    known = figures[:-_THIRDS]
    other = figures[len(known) :]
    cells = [f"{known[0].auc:.3f} | {known[0].eer:.3f}" if known else " | "]
    cells.append(f"{np.mean([one.auc for one in other]):.3f} | {np.mean([one.eer for one in other]):.3f}")
    return f"| {name} | {what} | {loss} | {' | '.join(cells)} |"


def _measure(args: argparse.Namespace) -> Iterator[str]:
    yield "# Encoders of sequences and clips"
    yield ""
    yield f"Written by `python -m benchmarks.sequences --series WHEEL --tracks DIR --steps {args.steps}"
    yield f"--clip-steps {args.clip_steps}`, which says how to read it. One thread, torch {torch.__version__}."
    yield ""
    yield "| data | encoder | loss | AUC, known classes | EER | AUC, others | EER |"
    yield "|---|---|---|---:|---:|---:|---:|"
    with tempfile.TemporaryDirectory() as work:
        for name in _SETS if args.series else ():
            yield from _series_rows(args.series, name, Path(work), args.steps)
        if args.tracks:
            yield from _clip_rows(args.tracks, Path(work), args.clip_steps)
    yield ""
    yield "What six or seven classes teach of others is little more than the plain mean of the steps says. The order of"
    yield "a clip's frames says nothing that their mean does not, and an LSTM only has more to learn."


def main(argv: list[str] | None = None) -> int:
    """Print the table; return 2 after a one-line message for wrong input."""
    parser = argparse.ArgumentParser(description="Measure the encoders of sequences and of clips.")
    parser.add_argument("--series", type=Path, help="zip file with JapaneseVowels and PickupGestureWiimoteZ")
    parser.add_argument("--tracks", type=Path, help="folder with tracks.jsonl")
    parser.add_argument("--steps", type=int, default=300, help="of training on sequences")
    parser.add_argument("--clip-steps", type=int, default=1500, help="of training on clips and pictures")
    parser.add_argument("--out", type=Path, help="write the report to this file")
    args = parser.parse_args(argv)
    if args.series is None and args.tracks is None:
        parser.error("give --series, --tracks or both")
    return publish(_measure(args), args.out)


if __name__ == "__main__":
    sys.exit(main())
