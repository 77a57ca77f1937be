import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from benchmarks import stages
from benchmarks.clocks import StageClock, backbone_work, network_of
from tests.videos import moving
from tracker.builder import build_tracker, load_tracker
from tracker.config import parse
from tracker.network_builder import build_network

ROOT = Path(__file__).parent.parent
ONLINE_STAGES = (
    *("crop", "batch, normalisation, casts", "backbone to fine", "backbone, fine to deep", "joined maps", "projection"),
    *("response, peak", "normal equations", "solve", "box correction", "box learning", "rest", "**update**", "init"),
)
BOXES = ["box correction", "box learning"]
SMALL = "refiner, embedding"


@pytest.fixture(autouse=True)
def thread_counts() -> Iterator[None]:
    counts = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(counts[0])
    cv2.setNumThreads(counts[1])


def rows(report: str) -> dict[str, list[str]]:
    """Return the cells of the rows of the first table by their first cell."""
    lines = report.partition("\n| ")[2].partition("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: rest for first, *rest in cells}


def test_the_report_has_a_row_for_each_stage_of_the_online_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "stages.md"
    options = ["--model", "resnet18_online", "--updates", "3", "--size", "320x240", "--out", str(out)]
    assert stages.main(options) == 0
    printed = capsys.readouterr().out
    assert out.read_text(encoding="utf-8") == printed.rstrip() + "\n"
    table = rows(printed)
    assert list(table)[2:] == list(ONLINE_STAGES)  # after the head and its line
    assert all(float(cell) > 0 for name in ONLINE_STAGES for cell in table[name][2:])
    share = sum(float(table[name][1].rstrip("%")) for name in ONLINE_STAGES[:-2])
    assert share == pytest.approx(100, abs=1)  # each is rounded to 0.1
    assert "frames of 320x240" in printed and re.search(r"^3 updates, the worst \d+\.\d+ times", printed, re.MULTILINE)
    assert torch.get_num_threads() == cv2.getNumThreads() == 1


def test_work_of_the_backbone_is_that_of_its_paper() -> None:
    follower = load_tracker("resnet18_online", "cpu", ["online.search_size=225"], runtime="torch")
    (first, box), (second, _) = moving(2, (2.0, 1.0))
    follower.init(first, box)
    work = backbone_work(follower, second)
    # He et al. 2016, table 1, at 225 px: 113, 57, 57, 29 and 15 cells a side. A block is two 3x3 convolutions.
    conv1 = 113**2 * 64 * 3 * 49
    stage1 = 57**2 * 4 * 64 * 64 * 9
    stage2 = 29**2 * ((64 + 3 * 128) * 128 * 9 + 64 * 128)
    stage3 = 15**2 * ((128 + 3 * 256) * 256 * 9 + 128 * 256)
    assert (work.fine_macs, work.deep_macs) == (conv1 + stage1 + stage2, stage3)
    assert work.boundaries == (network_of(follower).backbone.layer3[0].downsample[0],)


def test_the_scale_search_model_has_its_own_stages() -> None:
    text = (ROOT / "configs" / "siamfc_alexnet.toml").read_text(encoding="utf-8")
    config = parse(text, ["online=false"])
    torch.manual_seed(0)
    network = build_network(config).eval()
    with_filter = parse(text)
    learned = ["projection", "response, peak", "normal equations", "solve"]
    names = stages.stage_names(build_tracker(network, with_filter))
    assert names == [*ONLINE_STAGES[:5], "correlation", *learned, SMALL, "decode", "box refinement", *BOXES, "rest"]
    follower = build_tracker(network, config)
    frames, boxes = zip(*moving(stages.PASS_UPDATES + 1, (1.0, 0.5)), strict=True)
    figures = stages.measure(follower, frames, boxes, updates=2)
    names = stages.stage_names(follower)
    assert names == [*ONLINE_STAGES[:5], "correlation", SMALL, "decode", "box refinement", "rest"]
    always = [name for name in names if name not in (SMALL, "box refinement")]  # where the answer is sure
    assert {name: len(figures.stages[name]) for name in always} == dict.fromkeys(always, 2)
    assert len(figures.updates) == 2 and len(figures.inits) == 1
    # Bertinetto et al. 2016, table 1, at 255 px and one scale, two groups in conv2, conv4 and conv5.
    fine = 123**2 * 96 * 3 * 121 + 57**2 * 256 * 48 * 25
    deep = 26**2 * 384 * 256 * 9 + 24**2 * 384 * 192 * 9 + 22**2 * 256 * 192 * 9
    assert (figures.work.fine_macs, figures.work.deep_macs) == (fine, deep)


def test_the_anchor_model_has_its_own_stages() -> None:
    config = parse((ROOT / "configs" / "siamrpn_resnet18.toml").read_text(encoding="utf-8"))
    torch.manual_seed(0)
    follower = build_tracker(build_network(config).eval(), config)
    frames, boxes = zip(*moving(stages.PASS_UPDATES + 1, (1.0, 0.5)), strict=True)
    figures = stages.measure(follower, frames, boxes, updates=2)
    names = stages.stage_names(follower)
    learned = ["projection", "response, peak", "normal equations", "solve"]
    assert names == [
        *ONLINE_STAGES[:5],
        "head",
        *learned,
        SMALL,
        "certainty",
        "decode",
        "box refinement",
        *BOXES,
        "rest",
    ]
    counts = {name: len(figures.stages[name]) for name in names}
    assert {counts[name] for name in names if name not in (*learned[2:], "box refinement", *BOXES)} == {2}


def test_work_of_an_ensemble_is_that_of_its_members() -> None:
    works = []
    for name, change in (
        ("siamrpn_resnet18", ()),
        ("siamrpn_resnet18", ("model.second=false",)),
        ("siamrpn_mobile", ("crop.search_size=225",)),
    ):
        config = parse((ROOT / "configs" / f"{name}.toml").read_text(encoding="utf-8"), change)
        torch.manual_seed(0)
        follower = build_tracker(build_network(config).eval(), config)
        (first, box), (second, _) = moving(2, (1.0, 0.5))
        follower.init(first, box)
        works.append(backbone_work(follower, second))
    both, *alone = works
    assert both.fine_macs == sum(work.fine_macs for work in alone) and len(both.boundaries) == 2
    assert both.deep_macs == sum(work.deep_macs for work in alone)


def test_the_tracker_is_as_before_and_so_are_its_boxes() -> None:
    frames, boxes = zip(*moving(stages.PASS_UPDATES + 1, (2.0, 1.0)), strict=True)
    follower, plain = (load_tracker("resnet18_online", "cpu", runtime="torch") for _ in range(2))
    before = {(id(owner), name): getattr(owner, name) for owner, name, _ in stages.places(follower)}
    stages.measure(follower, frames, boxes, updates=2)
    assert {(id(owner), name): getattr(owner, name) for owner, name, _ in stages.places(follower)} == before
    backbone = network_of(follower).backbone
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.modules())
    plain.init(frames[0], boxes[0])
    for frame in frames[1:3]:
        plain.update(frame)
    assert follower.state is not None and plain.state is not None
    assert follower.state.box == plain.state.box != boxes[0]


def test_a_stage_is_timed_without_those_inside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def spend(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(time, "thread_time", lambda: now / 2)
    clock = StageClock()
    inner = clock.wrap("inner", lambda: spend(4.0))

    def work() -> str:
        spend(1.0)
        inner()
        clock.switch("second half")
        spend(2.0)
        inner()
        return "done"

    spend(8.0)  # before and after: nobody's
    assert clock.wrap("outer", work)() == "done"
    spend(16.0)
    assert clock.spent == {"outer": (1.0, 0.5), "inner": (8.0, 4.0), "second half": (2.0, 1.0)}


def test_a_stage_that_fails_is_closed() -> None:
    clock = StageClock()
    with pytest.raises(ZeroDivisionError):
        clock.wrap("broken", lambda: 1 / 0)()
    clock.wrap("next", lambda: None)()
    assert list(clock.spent) == ["broken", "next"]
    with pytest.raises(IndexError):  # nothing is open
        clock.switch("nothing")


def test_the_truth_is_scaled_with_the_clip() -> None:
    frames, boxes = stages.clip((320, 120))
    originals, truth = stages.clip((640, 480))
    assert frames[0].shape == (120, 320, 3) and originals[0].shape == (480, 640, 3)
    assert len(frames) == len(boxes) == len(originals) == len(truth)
    assert np.allclose(boxes[7].to_xywh(), np.array(truth[7].to_xywh()) * (0.5, 0.25, 0.5, 0.25))


def test_what_is_wrong_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert stages.main(["--model", "nothing"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown model 'nothing'")
    for options, complaint in (
        (["--size", "640"], "--size must be width x height of at least 64, such as 640x480, got 640"),
        (["--updates", "0"], "--updates must be at least 1, got 0"),
    ):
        with pytest.raises(SystemExit):
            stages.main(options)
        assert complaint in capsys.readouterr().err


def test_graphs_have_one_stage_for_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "resnet18_online", "--runtime", "onnx", "--updates", "3", "--size", "320x240"]
    assert stages.main(options) == 0
    printed = capsys.readouterr().out
    assert "## resnet18_online, onnx" in printed
    table = rows(printed)
    assert list(table)[2:5] == ["crop", "batch, normalisation, casts", "network"]
    assert "matrix product" not in printed  # what it can be compared with is not known


def test_judging_is_a_stage_of_the_default_model() -> None:
    follower = load_tracker(None, "cpu", runtime="onnx", threads=1)
    frames, boxes = zip(*moving(stages.PASS_UPDATES + 1, (1.0, 0.5)), strict=True)
    figures = stages.measure(follower, frames, boxes, updates=2)
    assert stages.stage_names(follower)[-4:] == ["certainty", "decode", "box refinement", "rest"]
    assert len(figures.stages["certainty"]) == 2


def test_a_model_that_ships_without_graphs_runs_in_torch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def load(name: str, device: str, runtime: str) -> object:
        loaded.append((name, runtime))
        return object()

    def measure(*_: object) -> None:
        raise ValueError("enough")

    cards = [SimpleNamespace(name=name) for name in ("siamrpn_alexnet", "mobilenetv3_online")]
    monkeypatch.setattr(stages, "zoo", lambda: cards)
    monkeypatch.setattr(stages, "find_graphs", lambda name: None if name == "siamrpn_alexnet" else Path(name))
    monkeypatch.setattr(stages, "load_tracker", load)
    monkeypatch.setattr(stages, "measure", measure)
    assert stages.main([]) == 2
    assert loaded == [("siamrpn_alexnet", "torch"), ("mobilenetv3_online", "torch"), ("mobilenetv3_online", "openvino")]


def test_the_backbone_is_compared_where_all_of_the_square_was_searched() -> None:
    near = "near={size=145,moved=0.5,score=0.0}"  # after the first update of each piece
    follower = load_tracker("resnet18_online", "cpu", [near], runtime="torch")
    frames, boxes = zip(*moving(stages.PASS_UPDATES + 1, (0.5, 0.2)), strict=True)
    figures = stages.measure(follower, frames, boxes, updates=3)
    assert figures.whole == [241] and figures.crops == [[241], [145], [145]]
    wall, cpu = figures.stages["backbone to fine"][0]
    assert figures.work is not None
    figures.stages["backbone to fine"][1:] = [(wall / 100, cpu / 100)] * 2  # whatever a smaller square took
    line = next(line for line in stages.limit_table(figures) if line.startswith("| backbone to fine"))
    assert float(line.split("|")[4]) == pytest.approx(2 * figures.work.fine_macs / cpu / 1e9, abs=0.06)
