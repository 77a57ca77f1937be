"""Write the demo clip and its exact boxes: a coffee cup that slides, turns and grows among look-alikes.

Every pixel comes from photographs inside the scikit-image wheel, all public domain or CC0 (credits in
tracker/assets/README.md). Objects are cut-outs under similarity maps, so the boxes are known exactly.

Command: python tools/make_demo_clip.py --seed 7 --out tracker/assets
"""

import argparse
import cmath
import csv
import math
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, 3), RGB
Layer = NDArray[np.float32]  # (H, W, 4), RGB times alpha, then alpha; all in [0, 1]

WIDTH, HEIGHT = 640, 480
FPS = 25
FRAMES = 250
CUP_WIDTH = 165.0  # px of the cut-out: about its largest in the frame, so that drawing never enlarges it
COVER_WIDTH = 180.0  # px
MARGIN = 24  # empty border of a cut-out, px: room for its shadow

# The cup in coffee.png, in its pixels: two ellipses (centre, half axes, degrees) and the spoon's handle, by eye.
SAUCER = ((278.0, 216.0), (200.0, 169.0), 3.0)
RIM = ((291.0, 112.5), (118.5, 94.5), 4.0)
HANDLE = ((396.0, 72.0), (402.0, 67.0), (417.0, 67.5), (422.5, 75.0), (414.0, 111.0), (400.0, 125.0))


@dataclass(frozen=True)
class Pose:
    """Map a plane onto another by z -> turn * z + shift: |turn| is the scale, arg(turn) the clockwise rotation."""

    turn: complex
    shift: complex

    @classmethod
    def of(cls, x: float, y: float, scale: float = 1.0, degrees: float = 0.0) -> "Pose":
        """Build a pose from a position in px, a scale and a clockwise rotation."""
        return cls(cmath.rect(scale, math.radians(degrees)), complex(x, y))

    def after(self, inner: "Pose") -> "Pose":
        """Return the pose that applies `inner` first."""
        return Pose(self.turn * inner.turn, self.turn * inner.shift + self.shift)


@dataclass(frozen=True)
class Sprite:
    """Hold a cut-out, its blurred shadow and its outline: points x + iy from the cut-out's centre, in its px."""

    layer: Layer
    shadow: Layer
    outline: NDArray[np.complex128]


@dataclass(frozen=True)
class Scene:
    """Hold what the clip shows; cards lie at world poses, the rest moves with `cup_pose` and its kin."""

    ground: Image
    cards: tuple[tuple[Sprite, Pose], ...]
    cup: Sprite
    other_cup: Sprite
    cover: Sprite
    shake_phases: NDArray[np.float64]  # (2, 3), radians
    seed: int


def build_scene(seed: int) -> Scene:
    """Cut out the objects and lay the scene; the seed sets the hand shake and the noise."""
    astronaut, cat = skimage.data.astronaut(), skimage.data.chelsea()
    rocket, stars, coffee = skimage.data.rocket(), skimage.data.hubble_deep_field(), skimage.data.coffee()
    cup_alpha = _cup_alpha(coffee.shape[:2])
    cup = _sprite(coffee, cup_alpha, CUP_WIDTH)
    mirrored = _sprite(coffee[:, ::-1], cup_alpha[:, ::-1], CUP_WIDTH)
    blue = _sprite(_make_blue(coffee)[:, ::-1], cup_alpha[:, ::-1], CUP_WIDTH)
    cards = (
        (_card(cat, 170), Pose.of(-250, -150, degrees=-14)),
        (_card(rocket, 190), Pose.of(265, 130, degrees=9)),
        (_card(astronaut[0:340, 70:390], 150), Pose.of(-265, 190, degrees=17)),
        (_card(cat[40:220, 170:390], 140), Pose.of(330, -190, degrees=24)),
        (_card(stars[200:700, 100:800], 180), Pose.of(60, 20, degrees=-33)),
        (mirrored, Pose.of(-70, 150, 0.5, -20)),
        (_card(astronaut[0:200, 120:400], 160), Pose.of(-430, 60, degrees=-5)),
    )
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, (2, 3))
    return Scene(_ground(), cards, cup, blue, _card(rocket[60:427, 200:640], COVER_WIDTH), phases, seed)


def truth_box(scene: Scene, index: int) -> tuple[float, float, float, float]:
    """Return left, top, width, height of the whole cup in frame px, as if nothing covered it."""
    pose = _camera(scene, index).after(_cup_pose(index))
    points = pose.turn * scene.cup.outline + pose.shift
    left, top = float(points.real.min()), float(points.imag.min())
    return left, top, float(points.real.max()) - left, float(points.imag.max()) - top


def render(scene: Scene, index: int) -> Image:
    """Draw frame `index`; any order of calls gives the same frames."""
    camera = _camera(scene, index)
    canvas = cv2.warpAffine(
        scene.ground,
        _matrix(camera, scene.ground.shape),
        (WIDTH, HEIGHT),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    ).astype(np.float32)
    canvas /= 255
    for card, pose in scene.cards:
        _draw(canvas, card, camera.after(pose))
    _draw(canvas, scene.other_cup, camera.after(_other_cup_pose(index)))
    _draw(canvas, scene.cup, camera.after(_cup_pose(index)))
    _draw(canvas, scene.cover, camera.after(_cover_pose(index)))
    canvas *= 1 + 0.13 * math.sin(2 * math.pi * index / FRAMES * 1.7)  # a cloud passes
    noise = np.random.default_rng([scene.seed, index]).normal(0, 0.008, canvas.shape)
    frame: Image = np.clip((canvas + noise) * 255 + 0.5, 0, 255).astype(np.uint8)
    return frame


def write_clip(scene: Scene, folder: Path) -> None:
    """Encode all frames to `folder`/demo.mp4 and write their boxes to `folder`/demo_boxes.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    with av.open(str(folder / "demo.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "24", "preset": "slower"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(render(scene, index), format="rgb24")))
        container.mux(stream.encode())
    with (folder / "demo_boxes.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["frame", "x", "y", "w", "h"])
        for index in range(FRAMES):
            writer.writerow([index, *(f"{value:.2f}" for value in truth_box(scene, index))])


# Motion. Positions are world px; the camera's centre is near the world's origin, so they are close to frame px.


def _camera(scene: Scene, index: int) -> Pose:
    """Pan over the ground with a little hand shake, and put the world's origin at the frame's centre."""
    time = index / FPS
    shake = np.sin(np.array([1.9, 3.1, 5.3]) * time + scene.shake_phases) @ [1.6, 0.9, 0.4]
    look_at = _pan(index) + complex(*shake)
    pose = Pose.of(0, 0, 1 + 0.04 * math.sin(0.5 * time), 2.0 * math.sin(0.4 * time))
    return Pose(pose.turn, complex(WIDTH / 2, HEIGHT / 2) - pose.turn * look_at)


def _pan(index: int) -> complex:
    u = index / FRAMES
    return complex(95 * math.sin(2 * math.pi * 0.7 * u), 45 * math.sin(2 * math.pi * 0.9 * u + 0.6))


def _cup_pose(index: int) -> Pose:
    """Move the cup along a Lissajous curve; a bump in its clock makes the fast stretch near two fifths."""
    u = index / FRAMES
    phase = 2 * math.pi * (0.95 * u + 0.14 * math.tanh((u - 0.42) / 0.06))
    position = _pan(index) + complex(185 * math.sin(phase), 105 * math.sin(1.5 * phase + 0.4))
    scale = 0.68 * 1.4 ** math.sin(2 * math.pi * 1.3 * u - 0.5)
    degrees = 24 * math.sin(2 * math.pi * 1.6 * u)
    return Pose.of(position.real, position.imag, scale, degrees)


def _other_cup_pose(index: int) -> Pose:
    """Lead the blue cup to and fro, past the red one: they touch near frame 60."""
    u = index / FRAMES
    position = _pan(index) + complex(120 - 300 * u, 150 * math.sin(2 * math.pi * u + 4.8))
    return Pose.of(position.real, position.imag, 0.62, -40 + 75 * u)


def _cover_pose(index: int) -> Pose:
    """Push a card over the cup from the right and draw it back: at its nearest it hides the cup's right third."""
    nearness = math.exp(-(((index / FRAMES - 0.68) / 0.07) ** 2))
    cup = _cup_pose(index)
    gap = COVER_WIDTH / 2 + CUP_WIDTH * abs(cup.turn) / 6 + 560 * (1 - nearness)
    return Pose.of(cup.shift.real + gap, cup.shift.imag - 10 + 60 * (1 - nearness), 1, 24 - 18 * nearness)


# Cut-outs.


def _cup_alpha(size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Return the cup's soft mask in coffee.png, drawn eight times larger so that its edge is smooth."""
    fine = 8
    mask = np.zeros((size_hw[0] * fine, size_hw[1] * fine), np.uint8)
    for centre, half_axes, degrees in (SAUCER, RIM):
        box = (tuple(fine * v for v in centre), tuple(2 * fine * v for v in half_axes), degrees)
        cv2.ellipse(mask, box, 255, -1)
    cv2.fillPoly(mask, [np.round(np.array(HANDLE) * fine).astype(np.int32)], 255)
    return cv2.resize(mask, size_hw[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _make_blue(photograph: Image) -> Image:
    """Turn what is red, the cup's glaze, to blue."""
    hsv = cv2.cvtColor(photograph, cv2.COLOR_RGB2HSV)
    hue = hsv[..., 0].astype(int)  # in units of two degrees
    hsv[..., 0] = np.where((hue < 9) | (hue > 170), (hue + 104) % 180, hue)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _card(photograph: Image, width: float) -> Sprite:
    """Return a photograph as a postcard with a white border, `width` px wide."""
    border = round(0.045 * photograph.shape[1])
    card = cv2.copyMakeBorder(photograph, *[border] * 4, cv2.BORDER_CONSTANT, value=(244, 241, 233))
    return _sprite(card, np.ones(card.shape[:2], np.float32), width)


def _sprite(photograph: Image, alpha: NDArray[np.float32], width: float) -> Sprite:
    """Cut out what `alpha` shows and shrink it so that it is `width` px wide."""
    columns, rows = np.flatnonzero(alpha.any(axis=0)), np.flatnonzero(alpha.any(axis=1))
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    rgb, alpha = photograph[part].astype(np.float32) / 255, alpha[part]
    layer = np.dstack([rgb * alpha[..., None], alpha])
    scale = width / layer.shape[1]
    layer = cv2.resize(layer, (round(width), round(layer.shape[0] * scale)), interpolation=cv2.INTER_AREA)
    layer = cv2.copyMakeBorder(layer, *[MARGIN] * 4, cv2.BORDER_CONSTANT, value=0)
    shadow = np.zeros_like(layer)
    shadow[..., 3] = 0.55 * cv2.GaussianBlur(layer[..., 3], (0, 0), 6)
    contours, _ = cv2.findContours((layer[..., 3] > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1)])  # pixel i covers [i, i + 1)
    points = (np.concatenate(contours) + corners).reshape(-1, 2)
    centred = points - (layer.shape[1] / 2, layer.shape[0] / 2)
    return Sprite(layer, shadow, centred[:, 0] + 1j * centred[:, 1])


def _ground() -> Image:
    """Return the grass photograph, which is grey, in the colours of grass."""
    grey = cv2.resize(skimage.data.grass(), None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    stretched = np.clip((grey - 60) / 160, 0, 1)[..., None]
    dark, light = np.float32((28, 52, 14)), np.float32((196, 208, 122))
    return (dark + (light - dark) * stretched).astype(np.uint8)


def _matrix(pose: Pose, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the map from an image's pixel indices, its centre at the pose's origin, to the frame's indices."""
    a, half = pose.turn, complex(0.5, 0.5)
    centre = complex(shape[1] / 2, shape[0] / 2)
    b = a * (half - centre) + pose.shift - half
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def _draw(canvas: NDArray[np.float32], sprite: Sprite, pose: Pose) -> None:
    """Lay the cut-out over the canvas, its shadow below it; the light comes from the upper left."""
    drop = complex(6, 8) * abs(pose.turn)
    for layer, place in ((sprite.shadow, Pose(pose.turn, pose.shift + drop)), (sprite.layer, pose)):
        top = cv2.warpAffine(layer, _matrix(place, layer.shape), (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
        canvas *= 1 - top[..., 3:]
        canvas += top[..., :3]


def main() -> None:
    """Write the clip."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("tracker/assets"), help="folder for demo.mp4 and its boxes")
    arguments = parser.parse_args()
    write_clip(build_scene(arguments.seed), arguments.out)
    size = (arguments.out / "demo.mp4").stat().st_size
    print(f"wrote {arguments.out}/demo.mp4 ({size / 1e6:.2f} MB) and demo_boxes.csv")


if __name__ == "__main__":
    main()
