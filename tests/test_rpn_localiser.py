from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.videos import paint
from tracker.builder import build_tracker
from tracker.certainty import CertaintyState, Evidence, Judgement
from tracker.config import Config, RefineConfig, ScoreConfig, parse
from tracker.crop import cut, mean_colour
from tracker.decode import BoxUVWH
from tracker.geometry import Box, iou
from tracker.interface import Frame
from tracker.network_builder import build_network, load_network
from tracker.rpn_localiser import RPNLocaliser, RPNState
from tracker.runtime import Array, Code, Seen
from tracker.runtime_torch import TorchRuntime
from tracker.siamese_tracker import SiameseTracker, update_many

ROOT = Path(__file__).parent.parent
CONFIG = parse(
    (ROOT / "configs" / "siamrpn_resnet18.toml").read_text(encoding="utf-8"),
    # One network, whose score is what answers, and the box the head's.
    ["model.second=false", "score=false", "recovery=false", "refine=false", "online.box=false", "look_again=false"],
)
BOX = Box(160.0, 120.0, 44.0, 52.0)
MAPS = (1, 384, 15, 15)


def make(config: Config = CONFIG) -> RPNLocaliser:
    torch.manual_seed(0)
    localiser = build_tracker(build_network(config).eval(), config).localiser
    assert isinstance(localiser, RPNLocaliser)
    return localiser


@pytest.fixture(scope="module")
def fresh() -> RPNLocaliser:
    """Return a localiser whose head was never trained, on ImageNet's backbone: the filter works all the same."""
    assert CONFIG.rpn is not None
    localiser = make(replace(CONFIG, rpn=replace(CONFIG.rpn, calibration=0.0)))  # that head's boxes mean nothing
    assert isinstance(localiser.runtime, TorchRuntime)
    localiser.runtime.network.backbone = load_network("resnet18_online", device="cpu")[0].backbone
    return localiser


def learn(localiser: RPNLocaliser) -> RPNState:
    frame = paint(BOX)
    return localiser.learn(frame, BOX, mean_colour(frame))


def see(localiser: RPNLocaliser, model: RPNState, box: Box) -> Seen:
    frame = paint(box)
    region = localiser.regions(BOX)[0]
    return localiser.runtime.see([cut(frame, region, mean_colour(frame))], [model.code])


def last(localiser: RPNLocaliser) -> BoxUVWH:
    """Return BOX as the crop around it shows it."""
    return localiser.regions(BOX)[0].centred(BOX)


def blank(scores: float = 0.0, maps: float = 0.0) -> Seen:
    """Return what a network sees where nothing is: the box of the template in every cell."""
    boxes = np.broadcast_to(np.array([0, 0, 40, 40], np.float32).reshape(1, 4, 1, 1), (1, 4, 29, 29))
    return Seen(np.full(MAPS, maps, np.float32), None, np.full((1, 29, 29), scores, np.float32), boxes)


def plant(localiser: RPNLocaliser, monkeypatch: pytest.MonkeyPatch, off: tuple[float, float, float, float]) -> None:
    """Let the head see each crop's object as it is given, but `off`: its centre and its sizes, by shares of the box."""
    real = TorchRuntime.see

    def read(runtime: TorchRuntime, crops: Sequence[Frame], codes: Sequence[Code]) -> Seen:
        seen = real(runtime, crops, codes)
        if not codes:
            return seen
        w, h = codes[0][3][0]
        box = np.array([off[0] * w, off[1] * h, w * off[2], h * off[3]], np.float32).reshape(1, 4, 1, 1)
        overlaps = np.zeros((len(crops), 29, 29), np.float32)
        overlaps[:, 14, 14] = 0.9
        return seen._replace(scores=overlaps, boxes=np.broadcast_to(box, (len(crops), 4, 29, 29)))

    monkeypatch.setattr(TorchRuntime, "see", read)
    monkeypatch.setattr(localiser, "_moved", lambda search, box: [])


def test_calibration_undoes_what_the_head_sees_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CONFIG.rpn is not None
    localiser = make(replace(CONFIG, rpn=replace(CONFIG.rpn, calibration=1.0, size_smoothing=1.0, penalty_k=0.0)))
    plant(localiser, monkeypatch, (0.1, -0.05, 1.25, 0.8))
    model = learn(localiser)
    candidate, index, _ = localiser.locate(model, see(localiser, model, BOX), last(localiser))
    per_crop = localiser.regions(BOX)[0].frame_per_crop
    assert index == 0
    assert (candidate.du, candidate.dv) == pytest.approx((0, 0), abs=1e-4)
    assert (candidate.w * per_crop, candidate.h * per_crop) == pytest.approx((44, 52), rel=1e-4)


def test_size_follows_by_as_much_as_the_score_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CONFIG.rpn is not None
    localiser = make(replace(CONFIG, rpn=replace(CONFIG.rpn, size_smoothing=1.0, penalty_k=0.0)))
    plant(localiser, monkeypatch, (0.0, 0.0, 1.0, 1.0))
    model = learn(localiser)
    plant(localiser, monkeypatch, (0.0, 0.0, 1.2, 1.1))
    candidate, _, _ = localiser.locate(model, see(localiser, model, BOX), last(localiser))
    per_crop = localiser.regions(BOX)[0].frame_per_crop
    wider, higher = (candidate.w * per_crop / 44 - 1) / 0.2, (candidate.h * per_crop / 52 - 1) / 0.1
    assert wider == pytest.approx(higher, rel=1e-3)  # the answer, of which the score is what no rival shares
    assert candidate.score <= wider < 1
    assert wider > 0.5


def test_calibration_is_shared_out_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    localiser = make()
    assert CONFIG.rpn is not None
    share = CONFIG.rpn.calibration
    plant(localiser, monkeypatch, (0.0, 0.0, 1.1, 1 / 1.1))
    assert learn(localiser).calibration == pytest.approx((0, 0, -share * np.log(1.1), share * np.log(1.1)), abs=1e-5)
    plant(localiser, monkeypatch, (0.0, 0.0, 3.0, 1.0))
    assert learn(localiser).calibration[2] == pytest.approx(-share * 0.5)


def test_calibration_asks_the_cell_of_the_object_in_each_moved_crop(
    fresh: RPNLocaliser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each crop has a false peak elsewhere, higher, whose box would spoil the median."""
    localiser = make()
    search = localiser.regions(BOX)[0]
    truths = [region.box_to_crop(BOX) for region in (search, *localiser._moved(search, BOX))]

    def read(_runtime: TorchRuntime, crops: Sequence[Frame], codes: Sequence[Code]) -> Seen:
        maps = np.random.default_rng(len(crops)).random((len(crops), *MAPS[1:])).astype(np.float32)
        if not codes:
            return Seen(maps)
        assert len(crops) == len(truths)
        overlaps, boxes = np.zeros((len(crops), 29, 29)), np.full((len(crops), 4, 29, 29), 5.0)
        for i, truth in enumerate(truths):
            u, v = truth.cx - 112.5, truth.cy - 112.5
            row, column = round(14 + v / 8), round(14 + u / 8)
            overlaps[i, row, column], overlaps[i, column, row] = 0.5, 0.5
            overlaps[i, 2, 3] = 0.9
            boxes[i, :, row, column] = u, v, truth.w / 1.1, truth.h
        return Seen(maps, None, overlaps, boxes)

    monkeypatch.setattr(TorchRuntime, "see", read)
    assert CONFIG.rpn is not None
    expected = (0, 0, CONFIG.rpn.calibration * np.log(1.1), 0)
    assert learn(localiser).calibration == pytest.approx(expected, abs=1e-4)


def test_targets_of_one_frame_are_followed_as_each_alone(fresh: RPNLocaliser) -> None:
    boxes = [BOX, Box(80, 60, 30, 40)]
    first, second = paint(BOX), paint(Box(164, 122, 44, 52))
    lost = CONFIG.lost
    alone, together = ([SiameseTracker(fresh, lost) for _ in boxes] for _ in range(2))
    for one, other, box in zip(alone, together, boxes, strict=True):
        one.init(first, box)
        other.init(first, box)
    for one, found in zip(alone, update_many(together, second), strict=True):
        wanted = one.update(second)
        assert found.box.to_xywh() == pytest.approx(wanted.box.to_xywh(), abs=0.5)
        assert found.score == pytest.approx(wanted.score, abs=0.05)


@pytest.mark.parametrize("size", [255, 256])
def test_size_whose_cells_do_not_lie_over_each_other_is_refused(size: int) -> None:
    assert CONFIG.crop is not None
    with pytest.raises(ValueError, match=f"crop.search_size must be a multiple of 16 and 1, such as 257, got {size}"):
        make(replace(CONFIG, crop=replace(CONFIG.crop, search_size=size)))


def test_moved_crops_all_show_the_object(fresh: RPNLocaliser) -> None:
    search = fresh.regions(BOX)[0]
    moved = fresh._moved(search, BOX)
    assert len(moved) == len(set(moved)) == 4
    for region in moved:
        seen = region.box_to_crop(BOX)
        assert seen.w / 2 < seen.cx < region.size - seen.w / 2
        assert seen.h / 2 < seen.cy < region.size - seen.h / 2


def test_search_has_the_scale_of_the_template(fresh: RPNLocaliser) -> None:
    assert CONFIG.crop is not None
    small, large = fresh.regions(BOX)[0], fresh.regions(Box(160, 120, 88, 104))[0]
    assert large.side == pytest.approx(2 * small.side)
    assert small.size == CONFIG.crop.search_size
    size_wh = learn(fresh).code[3]
    assert size_wh[0].tolist() == pytest.approx([44 / small.frame_per_crop, 52 / small.frame_per_crop], rel=1e-5)


def test_filter_finds_a_moved_object_without_a_trained_head(fresh: RPNLocaliser) -> None:
    model = learn(fresh)
    for moved in (Box(160, 120, 44, 52), Box(172, 112, 44, 52), Box(146, 129, 44, 52)):
        candidate, _, _ = fresh.locate(model, see(fresh, model, moved), last(fresh))
        found = fresh.regions(BOX)[0].box_to_frame(
            Box(112.5 + candidate.du, 112.5 + candidate.dv, candidate.w, candidate.h)
        )
        assert iou(found, moved) > 0.5


def test_it_learns_only_from_what_answers(fresh: RPNLocaliser) -> None:
    model = learn(fresh)
    candidate, _, after = fresh.locate(model, see(fresh, model, BOX), last(fresh))
    assert CONFIG.online is not None and after.place is not None
    assert candidate.score >= CONFIG.online.gate
    assert after.place.learned == 1
    assert after.code is model.code
    candidate, _, after = fresh.locate(model, blank(), last(fresh))
    assert candidate.score < CONFIG.online.gate
    assert after is model
    assert np.isfinite([candidate.du, candidate.dv, candidate.w, candidate.h]).all()


def test_without_a_filter_the_head_decides_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    localiser = make(replace(CONFIG, online=None))
    plant(localiser, monkeypatch, (0.2, 0.0, 1.0, 1.0))
    model = learn(localiser)
    assert model.place is None
    candidate, _, after = localiser.locate(model, see(localiser, model, Box(200, 150, 44, 52)), last(localiser))
    assert candidate.score == pytest.approx(0.9)  # what the head was made to say
    assert after is model


@pytest.mark.parametrize(("trust", "moves"), [(0.89, True), (0.91, False)])
def test_box_is_read_again_from_a_score_on(monkeypatch: pytest.MonkeyPatch, trust: float, moves: bool) -> None:
    plain = make(replace(CONFIG, online=None))
    refine = RefineConfig(trust=trust, share=1.0, passes=1, calibration=0.0)
    refined = make(replace(CONFIG, online=None, refine=refine))
    assert isinstance(refined.runtime, TorchRuntime) and refined.runtime.network.refiner is not None
    says = refined.runtime.network.refiner.move[2]
    torch.nn.init.zeros_(says.weight)  # type: ignore[arg-type]
    says.bias.data = torch.tensor([0.1, -0.05, 0.2, -0.1])  # type: ignore[union-attr]
    plant(plain, monkeypatch, (0.2, 0.0, 1.0, 1.0))
    monkeypatch.setattr(refined, "_moved", lambda search, box: [])
    before, _, _ = plain.locate(learn(plain), see(plain, learn(plain), BOX), last(plain))
    model = learn(refined)
    after, _, _ = refined.locate(model, see(refined, model, BOX), last(refined))
    assert model.refined is not None and after.score == before.score == pytest.approx(0.9)
    u, v, w, h = before.box_uvwh
    wanted = (u + 0.1 * w, v - 0.05 * h, w * np.exp(0.2), h * np.exp(-0.1)) if moves else before.box_uvwh
    assert after.box_uvwh == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_features_that_are_not_numbers_are_an_error(fresh: RPNLocaliser) -> None:
    broken = blank(scores=np.nan, maps=np.nan)
    with pytest.raises(ValueError, match="not finite"):
        fresh.locate(learn(fresh), broken, last(fresh))


@pytest.mark.parametrize("table", ["crop", "rpn"])
def test_missing_table_is_named(table: str) -> None:
    config = replace(CONFIG, **{table: None})
    with pytest.raises(ValueError, match=rf"needs the tables .*\[{table}\]"):
        build_tracker(build_network(config), config)


def test_box_stays_where_nothing_answers(fresh: RPNLocaliser) -> None:
    model = learn(fresh)
    shown = fresh.regions(BOX)[0].box_to_crop(BOX)
    candidate, _, _ = fresh.locate(model, blank(), last(fresh))
    assert (candidate.du, candidate.dv, candidate.w, candidate.h) == (0, 0, shown.w, shown.h)


@dataclass
class FixedCertainty:
    """Judge every place the same; keep what was asked."""

    score: float
    config: ScoreConfig

    def start(self, maps: Array, box_uvwh: tuple[float, ...]) -> CertaintyState:
        return CertaintyState(np.ones(2), 1.0)

    def judge(self, state: CertaintyState, evidence: Evidence, maps: Array, box_uvwh: tuple[float, ...]) -> Judgement:
        self.asked = evidence, maps.shape, box_uvwh
        return Judgement(self.score, 0.5, np.ones(2))

    judge_afresh = judge

    def advanced(self, state: CertaintyState, evidence: Evidence, found: Judgement) -> CertaintyState:
        return state._replace(recent=found.score)


def with_certainty(localiser: RPNLocaliser, score: float) -> tuple[RPNLocaliser, FixedCertainty]:
    assert CONFIG.crop is not None and CONFIG.rpn is not None
    settings = ScoreConfig(0, 0, 0, 0, 0, rate=0.2, trust=0.3, appearance_rate=0.1)
    certainty = FixedCertainty(score, settings)
    made = RPNLocaliser(localiser.runtime, CONFIG.crop, CONFIG.online, CONFIG.rpn, certainty)  # type: ignore[arg-type]
    return made, certainty


@pytest.mark.parametrize(("score", "learned"), [(0.25, 0), (0.35, 1)])
def test_chance_is_the_score_and_the_filter_learns_where_it_is_trusted(
    fresh: RPNLocaliser, score: float, learned: int
) -> None:
    localiser, certainty = with_certainty(fresh, score)
    model = learn(localiser)
    candidate, _, after = localiser.locate(model, see(localiser, model, BOX), last(localiser))
    assert candidate.score == score
    assert after.place is not None and after.place.learned == learned
    assert after.certainty is not None and after.certainty.recent == score
    evidence, maps_shape, box = certainty.asked
    assert maps_shape == MAPS[1:]
    assert box == pytest.approx((candidate.du, candidate.dv, candidate.w, candidate.h))
    assert 0 <= evidence.head <= 1 and 0 <= evidence.alone <= 1


def test_looking_learns_nothing_and_has_no_favourite_place(fresh: RPNLocaliser) -> None:
    localiser, _ = with_certainty(fresh, 0.7)
    model = learn(localiser)
    scores = np.full((1, 29, 29), 0.1, np.float32)
    scores[0, 14, 14], scores[0, 2, 26] = 0.8, 0.85
    boxes = np.broadcast_to(np.array([0, 0, 40, 40], np.float32).reshape(1, 4, 1, 1), (1, 4, 29, 29)).copy()
    boxes[0, :2, 2, 26] = 96, -96
    alone = RPNLocaliser(localiser.runtime, localiser.crop, None, localiser.config, localiser.certainty)
    seen = Seen(np.zeros(MAPS, np.float32), None, scores, boxes)
    bare = model._replace(place=None, calibration=(0.0, 0.0, 0.0, 0.0))
    found = alone.look(bare, seen, (40.0, 40.0))
    assert (found.du, found.dv, found.score) == (96, -96, 0.7)
    candidate, _, _ = alone.locate(bare, seen, last(alone))
    assert (candidate.du, candidate.dv) == (0, 0)  # the window prefers the middle


@pytest.mark.parametrize("trusted", [True, False])
def test_heads_box_is_corrected_by_what_is_learned_online(
    fresh: RPNLocaliser, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    assert CONFIG.rpn is not None and CONFIG.online is not None and CONFIG.crop is not None
    box_config = parse((ROOT / "configs" / "resnet18_online.toml").read_text(encoding="utf-8")).online
    assert box_config is not None and box_config.box is not None and isinstance(fresh.runtime, TorchRuntime)
    wider, followed = Box(BOX.cx, BOX.cy, 50.0, 46.0), []
    for share in (0.5, 1.0):
        corrects = replace(box_config.box, share=share, stretch_trust=1.0)
        localiser = RPNLocaliser(
            TorchRuntime(fresh.runtime.network, hands_fine=True),
            CONFIG.crop,
            replace(CONFIG.online, trust=0.4 if trusted else 2.0, box=corrects),
            replace(CONFIG.rpn, calibration=0.0),
        )
        plant(localiser, monkeypatch, (0.0, 0.0, 1.0, 1.0))  # the head sees no change
        model = learn(localiser)
        candidate, _, after = localiser.locate(model, see(localiser, model, wider), last(localiser))
        followed.append(np.log(candidate.w / candidate.h * BOX.h / BOX.w) / np.log(wider.w / wider.h * BOX.h / BOX.w))
        assert model.box is not None and after.box is not None and after.place is not model.place
        assert (after.box is not model.box) == trusted
    assert followed[0] == pytest.approx(followed[1] / 2, rel=0.02, abs=1e-6)
    assert (0.5 < followed[1] < 1.3) if trusted else (abs(followed[1]) < 1e-6)
