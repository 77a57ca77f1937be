import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tools import make_finetune_clips
from tools.make_finetune_clips import (
    FRAMES,
    HEIGHT,
    PATCH,
    WIDTH,
    Scene,
    body_mask,
    build_scene,
    patch_origin,
    render,
    truth_box,
)
from tracker.data.otb import read_otb
from tracker.evaluation import read_frame
from tracker.frames import open_frames


@pytest.fixture(scope="module")
def scene() -> Scene:
    return build_scene(3)


def test_same_seed_gives_the_same_frames_and_boxes(scene: Scene) -> None:
    again = build_scene(3)
    for index in (150, 0):
        np.testing.assert_array_equal(render(scene, index), render(again, index))
        assert truth_box(scene, index) == truth_box(again, index)


def test_another_seed_gives_another_clip(scene: Scene) -> None:
    other = build_scene(4)
    assert (render(scene, 30) != render(other, 30)).any()
    assert truth_box(scene, 30) != truth_box(other, 30)


@pytest.mark.parametrize("index", [0, 60, 130, 199])
def test_box_is_that_of_the_body(scene: Scene, index: int) -> None:
    cell = scene.cells[0]
    left, top = patch_origin(cell, index)
    body = body_mask(cell, index, patch_origin(cell, index))
    assert not body[[0, -1]].any() and not body[:, [0, -1]].any()  # it fits into its patch
    columns, rows = np.flatnonzero(body.max(axis=0) > 0.02), np.flatnonzero(body.max(axis=1) > 0.02)
    x, y, w, h = truth_box(scene, index)
    seen = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
    np.testing.assert_allclose((x, y, x + w, y + h), seen, atol=1.1)  # pixels are whole, the outline is not


@pytest.mark.parametrize("index", [0, 60, 130, 199])
def test_body_is_what_the_frame_shows_there(scene: Scene, index: int) -> None:
    alone = replace(scene, ground=np.full((HEIGHT, WIDTH), 0.5, np.float32), cells=scene.cells[:1])
    empty = replace(alone, cells=())
    differs = np.abs(render(alone, index)[..., 0].astype(float) - render(empty, index)[..., 0])
    x, y, w, h = (round(value) for value in truth_box(scene, index))
    inside = differs[y : y + h, x : x + w].sum()
    assert inside > 0.5 * differs.sum() > 0  # the rest is halo
    reach = 24  # px, beyond which no halo goes
    differs[max(y - reach, 0) : y + h + reach, max(x - reach, 0) : x + w + reach] = 0
    assert differs.max() <= 1


def test_cells_stay_in_the_frame_and_change_as_promised() -> None:
    for seed in range(1, 6):
        scene = build_scene(seed)
        boxes = np.array([truth_box(scene, index) for index in range(FRAMES)])
        assert (boxes[:, :2] > 0).all()
        assert (boxes[:, 0] + boxes[:, 2] < WIDTH).all() and (boxes[:, 1] + boxes[:, 3] < HEIGHT).all()
        aspects = boxes[:, 2] / boxes[:, 3]
        assert aspects.max() / aspects.min() > 1.5
        steps = np.linalg.norm(np.diff(boxes[:, :2] + boxes[:, 2:] / 2, axis=0), axis=1)
        assert 1 < np.median(steps) < 6 and steps.max() < PATCH / 6


def test_both_layouts_hold_the_same_frames_and_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--first", "7", "--count", "1", "--frames", "3", "--out", str(tmp_path)]
    make_finetune_clips.main(options)
    make_finetune_clips.main([*options, "--layout", "otb"])
    (sequence,) = read_otb(tmp_path)
    with (tmp_path / "ciliates_007.csv").open(newline="") as file:
        rows = [[float(row[side]) for side in "xywh"] for row in csv.DictReader(file)]
    np.testing.assert_allclose(sequence.boxes_xywh, rows, atol=0.006)
    with open_frames(tmp_path / "ciliates_007.mp4") as frames:
        shown = list(frames)
    assert len(shown) == len(sequence.image_paths) == 3
    for index, path in enumerate(sequence.image_paths):
        truth = render(build_scene(7), index).astype(float)
        assert np.abs(truth - read_frame(path)).mean() < 3 and np.abs(truth - shown[index]).mean() < 6
