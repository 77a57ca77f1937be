from dataclasses import replace

import numpy as np
import pytest

from tools.make_demo_clip import FRAMES, HEIGHT, WIDTH, Scene, build_scene, render, truth_box


@pytest.fixture(scope="module")
def scene() -> Scene:
    return build_scene(7)


def test_same_seed_gives_the_same_frames_and_boxes(scene: Scene) -> None:
    again = build_scene(7)
    for index in (0, 168):
        np.testing.assert_array_equal(render(scene, index), render(again, index))
        assert truth_box(scene, index) == truth_box(again, index)


def test_another_seed_gives_another_clip(scene: Scene) -> None:
    other = build_scene(8)
    assert (render(scene, 30) != render(other, 30)).any()
    assert truth_box(scene, 30) != truth_box(other, 30)


@pytest.mark.parametrize("index", [0, 60, 104, 249])
def test_box_is_where_the_cup_is_drawn(scene: Scene, index: int) -> None:
    nothing = np.zeros_like(scene.cup.shadow)
    shadowless = replace(scene, cup=replace(scene.cup, shadow=nothing))
    empty = replace(scene, cup=replace(scene.cup, layer=nothing, shadow=nothing))
    drawn = (render(shadowless, index) != render(empty, index)).any(axis=2)
    columns, rows = np.flatnonzero(drawn.any(axis=0)), np.flatnonzero(drawn.any(axis=1))
    seen = (columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])
    # The outline runs where the soft edge is half opaque; what differs at all reaches up to two pixels further.
    np.testing.assert_allclose(truth_box(scene, index), seen, atol=4)
    x, y, w, h = truth_box(scene, index)
    assert seen[0] <= x + 1 and seen[0] + seen[2] >= x + w - 1
    assert seen[1] <= y + 1 and seen[1] + seen[3] >= y + h - 1


def test_cup_stays_in_the_frame_and_changes_as_promised(scene: Scene) -> None:
    boxes = np.array([truth_box(scene, index) for index in range(FRAMES)])
    assert (boxes[:, :2] > 0).all()
    assert (boxes[:, 0] + boxes[:, 2] < WIDTH).all()
    assert (boxes[:, 1] + boxes[:, 3] < HEIGHT).all()
    assert boxes[:, 2].max() / boxes[:, 2].min() > 1.8
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    speeds = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    assert 2 * np.median(speeds) < speeds.max() < 20


def test_a_card_hides_part_of_the_cup(scene: Scene) -> None:
    cup_gone = replace(scene, cup=replace(scene.cup, layer=np.zeros_like(scene.cup.layer)))

    def visible(index: int) -> int:
        return int((render(scene, index) != render(cup_gone, index)).any(axis=2).sum())

    no_cover = replace(scene, cover=replace(scene.cover, layer=np.zeros_like(scene.cover.layer)))
    whole = int((render(no_cover, 170) != render(replace(cup_gone, cover=no_cover.cover), 170)).any(axis=2).sum())
    assert 0.5 < visible(170) / whole < 0.8
