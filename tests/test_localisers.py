from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.videos import paint
from tracker.builder import build_tracker, load_tracker
from tracker.config import RefineConfig, parse
from tracker.crop import cut, mean_colour
from tracker.decode import BoxUVWH, Candidate
from tracker.geometry import Box, CropGeometry
from tracker.localisers import Localiser, OnlineLocaliser, ScaleSearchLocaliser, ScaleSearchState
from tracker.network_builder import build_network
from tracker.runtime import Seen
from tracker.views import VIEWS, cut_view

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("view", VIEWS)
def test_each_view_shows_the_object_in_the_middle(view: object) -> None:
    frame = np.zeros((240, 320, 3), np.uint8)
    cv2.circle(frame, (160, 120), 9, (255, 255, 255), -1)
    region = CropGeometry(160.5, 120.5, 120.0, 241)
    crop = cut_view(frame, region, (0.0, 0.0, 0.0), view)
    rows, columns = np.nonzero(crop[..., 0] > 127)
    assert columns.mean() + 0.5 - 120.5 == pytest.approx(0, abs=0.6)
    assert rows.mean() + 0.5 - 120.5 == pytest.approx(0, abs=0.6)


def test_views_differ_and_the_plain_one_comes_first() -> None:
    frame = paint(Box(160, 120, 60, 60))
    region = CropGeometry(160, 120, 150, 241)
    crops = [cut_view(frame, region, mean_colour(frame), view) for view in VIEWS]
    np.testing.assert_array_equal(crops[0], cut(frame, region, mean_colour(frame)))
    for i, one in enumerate(crops):
        for other in crops[i + 1 :]:
            assert np.abs(one.astype(int) - other).mean() > 1


@pytest.fixture(scope="module")
def localiser() -> OnlineLocaliser:
    found = load_tracker("resnet18_online", device="cpu").localiser
    assert isinstance(found, OnlineLocaliser)
    return found


def test_the_search_region_grows_with_the_box(localiser: OnlineLocaliser) -> None:
    small, large = localiser.regions(Box(50, 60, 20, 30))[0], localiser.regions(Box(50, 60, 40, 60))[0]
    assert (small.cx, small.cy) == (50, 60)
    assert large.side == pytest.approx(2 * small.side)
    assert small.size == large.size


def last(localiser: Localiser, box: Box) -> BoxUVWH:
    """Return a box as the crop around it shows it."""
    return localiser.regions(box)[0].centred(box)


def test_features_without_energy_give_no_motion_and_a_score_of_zero(localiser: OnlineLocaliser) -> None:
    box = Box(160, 120, 44, 52)
    frame = paint(box)
    model = localiser.learn(frame, box, mean_colour(frame))
    blank = Seen(np.zeros((1, 384, 16, 16), np.float32), np.zeros((1, 128, 31, 31), np.float32))
    candidate, index, after = localiser.locate(model, blank, last(localiser, box))
    assert candidate.score == 0
    assert index == 0
    assert after is model
    assert np.isfinite([candidate.du, candidate.dv, candidate.w, candidate.h]).all()


def test_the_box_is_learned_with_the_place(localiser: OnlineLocaliser) -> None:
    box = Box(160, 120, 44, 52)
    frame = paint(box)
    fill = mean_colour(frame)
    config = replace(localiser.config, learn_every=3, first_frames=1, gate=0.0)
    model, turns = OnlineLocaliser(localiser.runtime, config).learn(frame, box, fill), []
    every = OnlineLocaliser(localiser.runtime, config)
    seen = every.runtime.see([cut(frame, every.regions(box)[0], fill)], ())
    for _ in range(7):
        before, (_, _, model) = model, every.locate(model, seen, last(every, box))
        assert (model.box is before.box) == (model.place.weights is before.place.weights)
        turns.append(model.box is not before.box)
    assert turns == [True, False, False, True, False, False, True]


def test_features_that_are_not_numbers_are_an_error(localiser: OnlineLocaliser) -> None:
    box = Box(160, 120, 44, 52)
    frame = paint(box)
    model = localiser.learn(frame, box, mean_colour(frame))
    broken = Seen(np.full((1, 384, 16, 16), np.nan, np.float32), np.full((1, 128, 31, 31), np.nan, np.float32))
    with pytest.raises(ValueError, match="not finite"):
        localiser.locate(model, broken, last(localiser, box))


BOX = Box(160, 120, 44, 52)
WIDER = Box(160, 120, 50, 47)  # of BOX, which the scale search cannot tell


@pytest.fixture(scope="module")
def scale_search() -> ScaleSearchLocaliser:
    found = load_tracker("siamfc_alexnet", device="cpu", runtime="torch").localiser
    assert isinstance(found, ScaleSearchLocaliser)
    return found


def with_box(localiser: ScaleSearchLocaliser, **changes: float) -> ScaleSearchLocaliser:
    """Return the localiser with other settings of its box regression."""
    box = localiser.box
    assert box is not None and localiser.place is not None
    config = replace(localiser.place.config, box=replace(box.config, **changes))
    return ScaleSearchLocaliser(localiser.runtime, localiser.decoder, localiser.crop, config)


def find(localiser: ScaleSearchLocaliser, shown: Box) -> tuple[Candidate, ScaleSearchState, ScaleSearchState]:
    """Return what is found of an object learned as BOX, and the models before and after."""
    frame = paint(BOX)
    model = localiser.learn(frame, BOX, mean_colour(frame))
    frame = paint(shown)
    crops = [cut(frame, region, mean_colour(frame)) for region in localiser.regions(BOX)]
    candidate, _, after = localiser.locate(
        model, localiser.runtime.see(crops, [model.code] * len(crops)), last(localiser, BOX)
    )
    return candidate, model, after


def test_scale_search_learns_the_shape_that_it_cannot_search(scale_search: ScaleSearchLocaliser) -> None:
    plain, *_ = find(with_box(scale_search, share=0.0), WIDER)
    assert plain.w / plain.h == pytest.approx(BOX.w / BOX.h)
    half, *_ = find(with_box(scale_search, share=0.5, stretch_trust=1.0), WIDER)
    whole, *_ = find(with_box(scale_search, share=1.0, stretch_trust=1.0), WIDER)
    steps = [np.log(found.w / found.h) for found in (plain, half, whole)]
    assert steps[1] - steps[0] == pytest.approx((steps[2] - steps[0]) / 2, rel=0.02)
    assert 0.5 < (steps[2] - steps[0]) / np.log(WIDER.w / WIDER.h * BOX.h / BOX.w) < 1.3


def test_scale_search_learns_box_and_place_together_where_the_score_is_enough(
    scale_search: ScaleSearchLocaliser,
) -> None:
    _, before, after = find(scale_search, BOX)
    assert after.box is not before.box and after.place is not before.place
    assert scale_search.place is not None
    deaf = ScaleSearchLocaliser(
        scale_search.runtime,
        scale_search.decoder,
        scale_search.crop,
        replace(scale_search.place.config, gate=2.0, trust=2.0),
    )
    found, before, after = find(deaf, WIDER)
    assert after is before
    assert found.w / found.h == pytest.approx(BOX.w / BOX.h)


@pytest.mark.parametrize("online", [True, False])
def test_scale_search_reads_boxes_again_with_and_without_a_filter(online: bool) -> None:
    text = (ROOT / "configs" / "siamfc_alexnet.toml").read_text(encoding="utf-8")
    changes = ["online.box=false"] if online else ["online=false"]
    config = parse(text, [*changes, "model.refiner=window"])
    network = build_network(config).eval()
    assert network.refiner is not None
    says = network.refiner.move[2]
    torch.nn.init.zeros_(says.weight)  # type: ignore[arg-type]
    says.bias.data = torch.tensor([0.1, -0.05, 0.2, -0.1])  # type: ignore[union-attr]
    found = []
    for refine in (None, RefineConfig(trust=0.0, share=1.0, passes=1, calibration=0.0)):
        localiser = build_tracker(network, replace(config, refine=refine)).localiser
        assert isinstance(localiser, ScaleSearchLocaliser)
        candidate, model, _ = find(localiser, BOX)
        assert (model.refined is None) is (refine is None) and (model.place is not None) is online
        found.append(candidate)
    u, v, w, h = found[0].box_uvwh
    wanted = (u + 0.1 * w, v - 0.05 * h, w * np.exp(0.2), h * np.exp(-0.1))
    assert found[1].box_uvwh == pytest.approx(wanted, rel=1e-4, abs=1e-4)
