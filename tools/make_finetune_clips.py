"""Render videos far from everyday ones: ciliates that swim among their kind, seen in a phase-contrast microscope.

    python tools/make_finetune_clips.py --out finetune/clips --first 1 --count 5
    python tools/make_finetune_clips.py --out finetune/held --first 101 --count 10 --layout otb

The seed alone makes a clip: bodies that bend, swell and roll, a focus that drifts until they all but fade, light that
falls off, debris and the camera's noise. The first cell is the object; its box is that of its outline, without halo.
With `video` the boxes lie beside each video, frame,x,y,w,h; with `otb` a clip is a folder of pictures in OTB's layout.
"""

import argparse
import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.video_writer import VideoWriter

WIDTH, HEIGHT, FRAMES, FPS = 480, 360, 200, 25
CELLS = 4
MARGIN = 60.0  # px: how near the frame's edge the middle of a cell comes
GRAINS = 16  # in a cell: nucleus, food, vacuoles
FINE = 4  # a cell is drawn so many times larger, so that its edge is smooth
PATCH = 144  # px: side of the square that a cell is drawn in
HALO = 6.0  # px: reach of the bright rim that phase rings leave

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """Hold what a cell looks like, and where it is and how it lies in each frame, (F,) each."""

    length: float  # px
    width: float
    taper: float  # share by which its head is wider than its tail
    grains: Floats  # (G, 4): place along the body in [-1, 1], angle around it, radius in px, and phase
    x: Floats
    y: Floats
    heading: Floats  # radians
    bend: Floats  # radians from tail to head
    swell: Floats  # factor on the width, its inverse on the length
    roll: Floats  # radians around its own axis
    focus: Floats  # 0: sharp


@dataclass(frozen=True)
class Scene:
    """Hold what a clip shows; cells[0] is the object."""

    seed: int
    ground: NDArray[np.float32]  # (H, W): light and debris, 0..1
    cells: tuple[Cell, ...]


def build_scene(seed: int) -> Scene:
    """Set the microscope up."""
    rng = np.random.default_rng(seed)
    return Scene(seed, _ground(rng), tuple(_cell(rng) for _ in range(CELLS)))


def outline(cell: Cell, index: int) -> Floats:
    """Return the outline (N, 2) of a cell, frame px."""
    angles = np.linspace(0, 2 * math.pi, 96, endpoint=False)
    return _place(cell, index, np.cos(angles), np.sin(angles))


def truth_box(scene: Scene, index: int) -> tuple[float, float, float, float]:
    """Return left, top, width, height of the object, frame px."""
    points = outline(scene.cells[0], index)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return float(left), float(top), float(right - left), float(bottom - top)


def render(scene: Scene, index: int) -> Image:
    """Draw frame `index`, grey in RGB; any order of calls gives the same frames."""
    canvas = scene.ground.copy()
    for cell in scene.cells:
        _draw(canvas, cell, index)
    rng = np.random.default_rng([scene.seed, index])
    canvas *= 1 + 0.02 * math.sin(0.4 * index + scene.seed)  # the lamp
    noise = rng.normal(0, 1, canvas.shape) * np.sqrt(np.clip(canvas, 0, 1)) * 0.03
    grey = np.clip((canvas + noise) * 255 + 0.5, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def body_mask(cell: Cell, index: int, origin: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the share of each pixel that is cell, in the patch whose upper left corner is `origin`, frame px."""
    body = np.zeros((PATCH * FINE, PATCH * FINE), np.uint8)
    corners = np.round((outline(cell, index) - origin) * FINE - 0.5).astype(np.int32)
    cv2.fillPoly(body, [corners], 255)
    return cv2.resize(body, (PATCH, PATCH), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def patch_origin(cell: Cell, index: int) -> NDArray[np.int64]:
    """Return the upper left corner of the patch that a cell is drawn in, frame px; it may lie outside."""
    return np.array([round(cell.x[index] - PATCH / 2), round(cell.y[index] - PATCH / 2)])


def boxes(scene: Scene, frames: int) -> Iterator[tuple[float, float, float, float]]:
    """Yield the boxes of all frames."""
    return (truth_box(scene, index) for index in range(frames))


def write_video(scene: Scene, folder: Path, name: str, frames: int) -> None:
    """Write `name`.mp4, and its boxes as `name`.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    with VideoWriter(folder / f"{name}.mp4", FPS, (HEIGHT, WIDTH)) as video:
        for index in range(frames):
            video.write(render(scene, index), index / FPS)
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["frame", "x", "y", "w", "h"])
        for index, box in enumerate(boxes(scene, frames)):
            writer.writerow([index, *(f"{value:.2f}" for value in box)])


def write_sequence(scene: Scene, folder: Path, name: str, frames: int) -> None:
    """Write a sequence in the layout of OTB, whose pixels count from 1."""
    pictures = folder / name / "img"
    pictures.mkdir(parents=True, exist_ok=True)
    for index in range(frames):
        cv2.imwrite(str(pictures / f"{index + 1:04d}.jpg"), render(scene, index), [cv2.IMWRITE_JPEG_QUALITY, 90])
    rows = [f"{x + 1:.2f},{y + 1:.2f},{w:.2f},{h:.2f}" for x, y, w, h in boxes(scene, frames)]
    (folder / name / "groundtruth_rect.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")


# Bodies. Along is -1 at the tail and 1 at the head, across -1 and 1 at the flanks.


def _place(cell: Cell, index: int, along: Floats, across: Floats) -> Floats:
    """Return points (N, 2) of the body in frame px: its axis is an arc."""
    half_length = cell.length / cell.swell[index] / 2
    half_width = cell.width * cell.swell[index] / 2 * (1 + cell.taper * along)
    curve = cell.bend[index] / (2 * half_length)  # radians a px
    curve = curve if abs(curve) > 1e-6 else 1e-6
    turn = curve * along * half_length
    u = np.sin(turn) / curve - across * half_width * np.sin(turn)
    v = (1 - np.cos(turn)) / curve + across * half_width * np.cos(turn)
    cos, sin = math.cos(cell.heading[index]), math.sin(cell.heading[index])
    return np.stack([cell.x[index] + cos * u - sin * v, cell.y[index] + sin * u + cos * v], axis=1)


def _cell(rng: np.random.Generator) -> Cell:
    """Return a cell with its path."""
    x, y, heading = _swim(rng)
    time = np.arange(FRAMES)
    phases = rng.uniform(0, 2 * math.pi, 5)
    periods = rng.uniform(0.7, 1.4, 4)
    spans = np.array([38, 60, 90, 170])  # frames: of the stroke, the swelling, and the two that the focus is made of
    waves = np.sin(2 * math.pi * time / (spans * periods)[:, None] + phases[:4, None])
    along, angle, radius = (rng.uniform(low, high, GRAINS) for low, high in ((-0.8, 0.8), (0, 2 * math.pi), (1.2, 3.4)))
    depth = rng.uniform(0.25, 0.8, GRAINS) * rng.choice([-1, 1], GRAINS)
    return Cell(
        length=rng.uniform(58, 74),
        width=rng.uniform(24, 30),
        taper=rng.uniform(0.1, 0.3),
        grains=np.stack([along, angle, radius, depth], axis=1),
        x=x,
        y=y,
        heading=heading,
        bend=0.9 * waves[0],
        swell=np.exp(0.16 * waves[1] + 0.08 * waves[0]),
        roll=phases[4] + 0.09 * time,
        focus=0.3 * (waves[2] + waves[3]),
    )


def _swim(rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Return x, y and heading in each frame: smooth turns, now and then a stop, a step back and another course."""
    place = np.array([rng.uniform(MARGIN, WIDTH - MARGIN), rng.uniform(MARGIN, HEIGHT - MARGIN)])
    heading, turn, speed, pace = rng.uniform(0, 2 * math.pi), 0.0, 2.0, rng.uniform(1.6, 3.2)
    backing = 0
    rows = []
    for _ in range(FRAMES):
        rows.append((*place, heading))
        if backing == 0 and rng.random() < 0.015:
            backing = int(rng.integers(8, 16))
            turn = float(rng.choice([-0.16, 0.16]))
        aim = -0.6 * pace if backing else pace * rng.uniform(0.5, 1.8)
        speed += 0.3 * (aim - speed)
        turn = turn if backing else 0.9 * turn + rng.normal(0, 0.016)
        backing = max(backing - 1, 0)
        away = np.array([WIDTH / 2, HEIGHT / 2]) - place
        outside = max(abs(away[0]) - (WIDTH / 2 - 2 * MARGIN), abs(away[1]) - (HEIGHT / 2 - 2 * MARGIN), 0) / MARGIN
        towards = math.remainder(math.atan2(away[1], away[0]) - heading, 2 * math.pi)
        heading += turn + 0.12 * min(outside, 1.0) * towards
        place = place + speed * np.array([math.cos(heading), math.sin(heading)])
        place = np.clip(place, MARGIN, (WIDTH - MARGIN, HEIGHT - MARGIN))
    x, y, headings = np.array(rows).T
    return x, y, headings


def _draw(canvas: NDArray[np.float32], cell: Cell, index: int) -> None:
    """Add a cell: its phase, less the phase around it, as the phase ring does; out of focus it fades."""
    origin = patch_origin(cell, index)
    left, top = origin.tolist()
    mask = body_mask(cell, index, origin)
    thick = mask * (0.5 + 0.5 * cv2.GaussianBlur(mask, (0, 0), cell.width / 6))
    phase = thick + mask * _grains(cell, index, origin)
    focus = cell.focus[index]
    phase = cv2.GaussianBlur(phase, (0, 0), 0.7 + 1.8 * abs(focus))
    seen = phase - 0.9 * cv2.GaussianBlur(phase, (0, 0), HALO)
    shade = 0.24 * math.cos(1.8 * focus) * seen + 0.05 * phase
    rows, columns = slice(max(top, 0), min(top + PATCH, HEIGHT)), slice(max(left, 0), min(left + PATCH, WIDTH))
    canvas[rows, columns] -= shade[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]


def _grains(cell: Cell, index: int, origin: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the phase of what is inside the cell; it turns as the cell rolls."""
    along, angle, radius, depth = cell.grains.T
    across = 0.75 * np.sqrt(1 - along**2) * np.sin(angle + cell.roll[index])
    points = _place(cell, index, along, across) - origin
    grid = np.arange(PATCH) + 0.5
    fall_x = np.exp(-(((grid[None] - points[:, :1]) / radius[:, None]) ** 2) / 2)
    fall_y = np.exp(-(((grid[None] - points[:, 1:]) / radius[:, None]) ** 2) / 2)
    return np.einsum("g,gy,gx->yx", depth, fall_y, fall_x).astype(np.float32)


def _ground(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the empty field: uneven light, slime, debris."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    cx, cy = rng.uniform(0.3, 0.7, 2) * (WIDTH, HEIGHT)
    light = 0.58 - 0.22 * (((columns - cx) / WIDTH) ** 2 + ((rows - cy) / HEIGHT) ** 2)
    slime = np.zeros((HEIGHT, WIDTH))
    for sigma, strength in ((24, 0.03), (7, 0.015), (2.5, 0.015)):
        cloud = cv2.GaussianBlur(rng.normal(0, 1, (HEIGHT, WIDTH)), (0, 0), sigma)
        slime += strength * cloud / cloud.std()
    debris = np.zeros((HEIGHT, WIDTH))
    for _ in range(90):
        x, y = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)
        a, b, angle = rng.uniform(1, 5), rng.uniform(1, 3), rng.uniform(0, math.pi)
        u = (columns - x) * math.cos(angle) + (rows - y) * math.sin(angle)
        v = (rows - y) * math.cos(angle) - (columns - x) * math.sin(angle)
        debris += rng.uniform(0.3, 1.0) * np.exp(-((u / a) ** 2 + (v / b) ** 2) / 2)
    debris -= 0.9 * cv2.GaussianBlur(debris, (0, 0), HALO)
    return (light + slime - 0.16 * debris).astype(np.float32)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the clips."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--first", type=int, default=1, help="seed of the first clip; each later one has the next")
    parser.add_argument("--count", type=int, default=5, help="number of clips")
    parser.add_argument("--frames", type=int, default=FRAMES, choices=range(2, FRAMES + 1), metavar=f"2..{FRAMES}")
    parser.add_argument("--layout", choices=["video", "otb"], default="video")
    arguments = parser.parse_args(argv)
    write = write_video if arguments.layout == "video" else write_sequence
    for seed in range(arguments.first, arguments.first + arguments.count):
        write(build_scene(seed), arguments.out, f"ciliates_{seed:03d}", arguments.frames)
    print(f"wrote {arguments.count} clips of {arguments.frames} frames to {arguments.out}")


if __name__ == "__main__":
    main()
