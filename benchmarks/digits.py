"""Tell digits apart that were not trained on: what other digits, and characters drawn like them, teach of it.

    python -m benchmarks.digits --omniglot DIR [--steps 8000] [--out digits.md]

The digits are scikit-learn's (8x8 cells of the share of ink). 0 to 6 are trained on; all pairs of 7, 8 and 9 are
compared, and all pairs of all ten. --omniglot is a folder with the archives of Omniglot: its characters become 8x8
cells as the digits were made, cut to the ink, strokes about an eighth of the height, and are more classes to learn.
Encoders are trained by `siamtrack encoder train`, what is turned by a quarter being another class (a 6 upside down too,
which is like the 9 that is asked); "views" is the mean with sixteen distorted copies.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from benchmarks.report import publish
from benchmarks.sequences import judge, trained
from tracker.data.labelled import LabelledSamples
from tracker.data.omniglot import read_omniglot
from tracker.encoding import embed_views

_KNOWN = 7  # digits below it
_CELLS = 8
_FINE = 32  # pixels that the cells are counted from, as those of the digits were
_SIZE = 16  # of the encoder's pictures
_STROKE = (2.5, 5.0)  # of the fine pixels
_VIEWS = 16

_CONFIG = f"""
description = "measured only"
[data]
layout = "pictures"
channels = 1
size = {_SIZE}
rotations = true
[model]
encoder = "character_cnn"
width = 32
dimensions = 256
metric = "cosine"
[train]
steps = 8000
classes = 32
samples = 4
loss = "supervised_contrastive"
lr_start = 0.003
lr_end = 0.00003
warmup_steps = 100
weight_decay = 0.05
ema = 0.99
seed = 1
[train.distortion]
rotate = 20.0
shear = 0.3
scale = 0.2
shift = 0.08
bend = 0.035
stroke_chance = 0.6
"""


def as_digit(character: NDArray[np.uint8], stroke: float) -> NDArray[np.uint8]:
    """Return a drawn character (H, W), ink at 255, as 8x8 cells of the share of ink, 0 to 240.

    stroke: its wanted width, in 32nds of the longer side. A character without ink stays empty.
    """
    rows, columns = np.nonzero(character > 127)
    cells = np.zeros((_FINE, _FINE), np.float32)
    if len(rows):
        inked = character[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        wide = max(round(stroke * max(inked.shape) / _FINE), 1)
        inked = cv2.dilate(np.pad(inked, wide // 2), np.ones((wide, wide), np.uint8))
        h, w = (max(round(side * _FINE / max(inked.shape)), 1) for side in inked.shape)
        top, left = (_FINE - h) // 2, (_FINE - w) // 2
        cells[top : top + h, left : left + w] = cv2.resize(inked, (w, h), interpolation=cv2.INTER_AREA) > 127
    return cv2.resize(240 * cells, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _write_digits(root: Path) -> None:
    digits = load_digits()
    for at, (image, number) in enumerate(zip(digits.images, digits.target, strict=True)):
        if number < _KNOWN:
            _write(root / f"digit{number}" / f"{at}.png", (15 * image).astype(np.uint8))


def _write_characters(root: Path, samples: LabelledSamples) -> None:
    rng = np.random.default_rng(0)
    for at, (picture, label) in enumerate(zip(samples.values, samples.labels, strict=True)):
        drawn = as_digit(np.asarray(picture[0], np.uint8), rng.uniform(*_STROKE))
        _write(root / samples.names[label].replace("/", " ") / f"{at}.png", drawn)


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


def _rows(name: str, data: Path, steps: int) -> Iterator[str]:
    classes = min(32, 4 * sum(1 for _ in data.iterdir()))  # a batch may not have more than there are
    overrides = (f"train.steps={steps}", f"train.classes={classes}")
    network, chosen = trained(_CONFIG, data, data.with_suffix(".run"), overrides)
    digits = load_digits()
    for views in (0, _VIEWS):
        cells = []
        for asked in (digits.target >= _KNOWN, digits.target >= 0):
            pictures = [
                cv2.resize((15 * image).astype(np.uint8), (_SIZE, _SIZE), interpolation=cv2.INTER_LINEAR)[np.newaxis]
                for image in digits.images[asked]
            ]
            vectors = embed_views(network, pictures, chosen.train.distortion, views).double().numpy()  # type: ignore[arg-type]
            cells += [f"{figure:.3f}" for figure in judge(vectors, digits.target[asked])]
        yield f"| {name} | {steps} | {views} | {' | '.join(cells)} |"


def _measure(args: argparse.Namespace) -> Iterator[str]:
    yield "# Digits that were not trained on"
    yield ""
    yield f"Written by `python -m benchmarks.digits --omniglot DIR --steps {args.steps}`, which says how to read it."
    yield ""
    yield "| trained on | steps | views | AUC of 7, 8, 9 | EER | AUC of all ten | EER |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    with tempfile.TemporaryDirectory() as work:
        alone, both = Path(work) / "alone", Path(work) / "both"
        _write_digits(alone)
        yield from _rows("0 to 6", alone, min(args.steps, 150))  # more only learns them by heart
        _write_digits(both)
        _write_characters(both, read_omniglot(args.omniglot, 105))
        yield from _rows("0 to 6 and characters", both, args.steps)


def main(argv: list[str] | None = None) -> int:
    """Print the table; return 2 after a one-line message for wrong input."""
    parser = argparse.ArgumentParser(description="Measure encoders on digits that were not trained on.")
    parser.add_argument("--omniglot", type=Path, required=True, help="folder with the archives of Omniglot")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--out", type=Path, help="write the report to this file")
    args = parser.parse_args(argv)
    return publish(_measure(args), args.out)


if __name__ == "__main__":
    sys.exit(main())
