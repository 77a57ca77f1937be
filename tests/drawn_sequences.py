"""Tiny sequences in the layouts of the benchmarks, a white square on noise, and trackers whose scores are known."""

from pathlib import Path

import cv2
import numpy as np

from tracker.geometry import Box, iou
from tracker.interface import Frame, Prediction

SIZE_HW = (48, 64)


def moving(frames: int, step: int = 3, x: int = 5, y: int = 7, w: int = 12, h: int = 10) -> np.ndarray:
    """Return boxes (frames, 4), 0-based, that move right by `step` px a frame."""
    return np.array([[x + step * i, y, w, h] for i in range(frames)], dtype=np.float64)


def draw(path: Path, box: np.ndarray, seed: int = 0) -> None:
    """Write a frame: noise below 200, the box white; a box of NaN is not drawn. PNG keeps every pixel."""
    frame = np.random.default_rng(seed).integers(0, 200, (*SIZE_HW, 3), dtype=np.uint8)
    if not np.isnan(box).any():
        x, y, w, h = (int(value) for value in box)
        frame[y : y + h, x : x + w] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), frame)


def rows(boxes: np.ndarray, index_base: int = 1, separator: str = ",") -> str:
    """Return ground truth text in the given index base."""
    shifted = boxes + np.array([index_base, index_base, 0, 0])
    return "".join(separator.join("NaN" if np.isnan(v) else f"{v:g}" for v in row) + "\n" for row in shifted)


def write_otb(root: Path, name: str, boxes: np.ndarray, index_base: int = 1) -> None:
    """Write a sequence in OTB's layout."""
    for i, box in enumerate(boxes, 1):
        draw(root / name / "img" / f"{i:04d}.png", box, seed=i)
    (root / name / "groundtruth_rect.txt").write_text(rows(boxes, index_base))


def write_got10k(root: Path, split: str, name: str, boxes: np.ndarray, covers: list[int] | None) -> None:
    """Write a sequence in GOT-10k's layout; without covers only the first box is published."""
    folder = root / split / name
    for i, box in enumerate(boxes, 1):
        draw(folder / f"{i:08d}.png", box, seed=i)
    (folder / "groundtruth.txt").write_text(rows(boxes if covers else boxes[:1]))
    if covers:
        (folder / "cover.label").write_text("\n".join(map(str, covers)) + "\n")


class SquareTracker:
    """See the white square exactly: its score is the ideal. Where there is none it says lost."""

    def init(self, frame: Frame, box: Box) -> None:
        self.box = _white(frame)
        if self.box is None or iou(self.box, box) < 0.999:
            raise ValueError(f"the box {box} is not the square {self.box}: a mistake in the index base")

    def update(self, frame: Frame) -> Prediction:
        seen = _white(frame)
        self.box = seen or self.box
        assert self.box is not None
        return Prediction(self.box, 0.9 if seen else 0.1, seen is None)


class StillTracker:
    """Say the first box for ever."""

    def init(self, frame: Frame, box: Box) -> None:
        self.box = box

    def update(self, frame: Frame) -> Prediction:
        return Prediction(self.box, 0.5, False)


def _white(frame: Frame) -> Box | None:
    ys, xs = np.nonzero((frame == 255).all(axis=2))
    if not len(xs):
        return None
    x, y = int(xs.min()), int(ys.min())
    return Box.from_xywh(x, y, int(xs.max()) + 1 - x, int(ys.max()) + 1 - y)
