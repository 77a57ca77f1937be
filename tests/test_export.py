"""Exported graphs see what torch sees, and track without it."""

import json
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from tests.videos import moving
from tracker import builder, checkpoint, openvino_files, runtime_graphs
from tracker.batch_folder import model_digest
from tracker.builder import load_tracker
from tracker.cli import main
from tracker.config import parse
from tracker.export import examples, export
from tracker.exported import CARD, Exported, begin, digest, read_card
from tracker.geometry import Box
from tracker.interface import Prediction
from tracker.models.backbones import fuse_batch_norm
from tracker.models.siamese import SiameseNetwork
from tracker.network_builder import build_network
from tracker.openvino_files import to_openvino
from tracker.runtime import Seen
from tracker.runtime_graphs import GraphRuntime, OnnxEngine, OpenVinoEngine, kept
from tracker.runtime_programs import ProgramEngine
from tracker.runtime_torch import TorchRuntime
from tracker.siamese_tracker import SiameseTracker, update_many
from tracker.toml_tree import to_toml
from tracker.zoo import find_file, find_graphs, find_weights

ROOT = Path(__file__).parent.parent
# "+ neck": with a part that the online filter was trained to read; "+ second": with another network beside it
SECOND = 'model.second={backbone="mobilenetv3_small",head="rpn_light",refiner="window"}'
MODELS = [
    "siamrpn_mobile + second",
    "siamrpn_mobile + neck",
    "siamrpn_alexnet",
    "siamfc_alexnet",
    "mobilenetv3_online + neck",
]
# Of the largest answer. OpenVINO may compute in bfloat16, which keeps 8 bits, over dozens of layers.
TOLERANCES = {"onnx": 1e-4, "openvino": 0.2, "torch": 1e-5}


def fresh(model: str) -> tuple[SiameseNetwork, str]:
    """Return a network with drawn weights, as it runs while tracking, and its configuration."""
    name, _, more = model.partition(" + ")
    text = (ROOT / "configs" / f"{name}.toml").read_text(encoding="utf-8")
    changes = {"neck": ["model.filter_channels=12"], "second": [SECOND]}
    text = to_toml(parse(text, changes.get(more, [])))
    torch.manual_seed(0)
    network = build_network(parse(text)).eval()
    fuse_batch_norm(network)
    return network, text


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[TorchRuntime, Path]:
    """Return a network in torch and the folder of its graphs."""
    network, text = fresh(request.param)
    folder = tmp_path_factory.mktemp("graphs") / request.param
    exported = export(network, text, folder, {"from": "a test"}, {"verify_threshold": 0.5})
    return TorchRuntime(network, "fine" in kept(exported)), folder


def engine_of(name: str, folder: Path, exported: Exported) -> GraphRuntime:
    if name == "torch":
        return GraphRuntime(ProgramEngine(folder, exported), exported)
    engine = (OnnxEngine if name == "onnx" else OpenVinoEngine)(folder, exported, 1)
    return GraphRuntime(engine, exported)


def crops(count: int, side: int) -> list[np.ndarray]:
    return [*np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)]


def assert_alike(found: Seen, wanted: Seen, tolerance: float, boxes_share: float = 1.0) -> None:
    """Hold all numbers to the tolerance, of the boxes a share."""
    for name, ours, theirs in zip(Seen._fields, found, wanted, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            assert ours.shape == theirs.shape and ours.dtype == np.float32
            near = np.abs(ours - theirs) <= tolerance * np.abs(theirs).max()
            assert near.mean() >= (boxes_share if name == "boxes" else 1.0)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_graphs_see_what_torch_sees(pair: tuple[TorchRuntime, Path], engine: str) -> None:
    assert_sees(pair[0], pair[1], engine)


def test_graphs_in_the_form_of_openvino_see_what_torch_sees(pair: tuple[TorchRuntime, Path], tmp_path: Path) -> None:
    in_torch, folder = pair
    given = examples(in_torch.network, parse(read_card(folder).config))
    written = to_openvino(folder, tmp_path / "files", half=False, examples=given)
    assert (written.kind, read_card(tmp_path / "files")) == ("openvino", written)
    assert written.provenance.items() > read_card(folder).provenance.items()
    assert_sees(in_torch, tmp_path / "files", "openvino")


@pytest.mark.parametrize("model", ["siamrpn_mobile", "siamfc_alexnet", "mobilenetv3_online + neck"])
def test_programs_see_what_torch_sees(model: str, tmp_path: Path) -> None:
    network, text = fresh(model)
    exported = export(network, text, tmp_path, {"from": "a test"}, {}, kind="torch")
    assert_sees(TorchRuntime(network, "fine" in kept(exported)), tmp_path, "torch")
    for graph in exported.outputs:
        with zipfile.ZipFile(exported.path(tmp_path, graph)) as program:
            assert not any(b".py" in program.read(part) for part in program.namelist())  # of this machine


def assert_sees(in_torch: TorchRuntime, folder: Path, engine: str) -> None:
    exported = read_card(folder)
    runtime = engine_of(engine, folder, exported)
    config = parse(exported.config)
    side = config.crop.search_size if config.crop else 241
    tolerance = TOLERANCES[engine]
    code = in_torch.encode(crops(1, config.crop.template_size)[0], (50.0, 70.0)) if config.crop else ()
    if config.crop:
        ours = runtime.encode(crops(1, config.crop.template_size)[0], (50.0, 70.0))
        assert len(ours) == len(code)
        for found, wanted in zip(ours, code, strict=True):
            assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()
    # Where two anchors of a cell answer alike, rounding says whose box it is.
    boxes_share = 0.9 if config.model.head == "rpn_up_channel" and engine == "openvino" else 1.0
    for count in (1, 3):
        pictures = crops(count, side)
        assert_alike(runtime.see(pictures, ()), in_torch.see(pictures, ()), tolerance)
        if code:
            ours, theirs = runtime.see(pictures, [code] * count), in_torch.see(pictures, [code] * count)
            assert_alike(ours, theirs, tolerance, boxes_share)


def test_card_says_what_the_weight_file_does(pair: tuple[TorchRuntime, Path]) -> None:
    _, folder = pair
    exported = read_card(folder)
    assert exported.provenance["from"] == "a test"
    assert exported.metrics == {"verify_threshold": 0.5}
    card = json.loads((folder / "model.json").read_text())
    del card["metrics"]  # as written before there were any
    bare = folder.with_name(f"{folder.name}_bare")
    shutil.copytree(folder, bare)
    (bare / "model.json").write_text(json.dumps(card))
    assert read_card(bare).metrics == {}


def test_what_was_seen_stays_when_the_network_looks_again(pair: tuple[TorchRuntime, Path]) -> None:
    _, folder = pair
    runtime = engine_of("openvino", folder, read_card(folder))
    config = parse(runtime.exported.config)
    side = config.crop.search_size if config.crop else 241
    seen = runtime.see(crops(1, side), ())
    before = seen.maps.copy()
    runtime.see([255 - crop for crop in crops(1, side)], ())
    assert np.array_equal(seen.maps, before)


def test_targets_of_one_batch_keep_their_own_codes(pair: tuple[TorchRuntime, Path]) -> None:
    _, folder = pair
    runtime = engine_of("openvino", folder, read_card(folder))
    config = parse(runtime.exported.config)
    if config.crop is None:
        pytest.skip("without a head there are no codes")
    templates = crops(2, config.crop.template_size)
    codes = [runtime.encode(crop, size) for crop, size in zip(templates, ((50.0, 70.0), (80.0, 30.0)), strict=True)]
    pictures = crops(2, config.crop.search_size)
    alone = [runtime.see([crop], [code]) for crop, code in zip(pictures, codes, strict=True)]
    together = runtime.see(pictures, codes)
    for at, wanted in enumerate(alone):  # seen before, and untouched since
        for ours, theirs in zip(together.part(at, 1), wanted, strict=True):
            assert (ours is None) == (theirs is None)
            assert ours is None or theirs is None or np.array_equal(ours, theirs)
    assert together.scores is not None
    assert not np.array_equal(together.scores[0], runtime.see(pictures, codes[::-1]).scores[0])  # type: ignore[index]


def predictions(tracker: SiameseTracker) -> list[Prediction]:
    (first, box), *rest = moving(8, (4.0, 2.0))
    tracker.init(first, box)
    return [tracker.update(frame) for frame, _ in rest]


@pytest.mark.parametrize("model", ["siamrpn_mobile", "siamrpn_resnet18", "mobilenetv3_online", "siamfc_alexnet"])
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_shipped_graphs_track_as_torch_does(model: str, runtime: builder.RuntimeName) -> None:
    wanted = predictions(load_tracker(model, "cpu", runtime="torch"))
    assert_close_tracks(predictions(load_tracker(model, "cpu", runtime=runtime)), wanted)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
@pytest.mark.parametrize("model", ["siamrpn_mobile", "siamfc_alexnet"])
def test_shipped_graphs_search_squares_of_other_sizes(model: str, runtime: builder.RuntimeName) -> None:
    other = ("crop.search_size=223", "near=false") if model == "siamfc_alexnet" else ("crop.search_size=241",)
    wanted = predictions(load_tracker(model, "cpu", other, runtime="torch"))
    assert_close_tracks(predictions(load_tracker(model, "cpu", other, runtime=runtime)), wanted)


def assert_close_tracks(found: list[Prediction], wanted: list[Prediction]) -> None:
    for ours, theirs in zip(found, wanted, strict=True):
        # The tolerance of half precision: decisions, not digits.
        assert np.hypot(ours.box.cx - theirs.box.cx, ours.box.cy - theirs.box.cy) < 1
        assert ours.box.w == pytest.approx(theirs.box.w, rel=0.03)
        assert ours.score == pytest.approx(theirs.score, abs=0.05)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_settings_are_read_once_and_not_in_each_frame(
    runtime: builder.RuntimeName, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = load_tracker("siamrpn_mobile", "cpu", runtime=runtime)
    monkeypatch.setattr(runtime_graphs, "parse", None)  # calling it fails
    assert len(predictions(tracker)) == 7


def test_targets_share_the_graphs() -> None:
    tracker = load_tracker("mobilenetv3_online", "cpu", runtime="onnx")
    (first, box), (second, _) = moving(2, (4.0, 2.0))
    others = [tracker.fork() for _ in range(3)]
    for one in others:
        one.init(first, box)
    found = update_many(others, second)
    assert all(one.box.to_xywh() == pytest.approx(found[0].box.to_xywh(), abs=0.01) for one in found)


def test_weights_in_half_precision_take_half_the_size(tmp_path: Path) -> None:
    network, text = fresh("mobilenetv3_online")
    full = export(network, text, tmp_path / "full", {}, {})
    half = export(network, text, tmp_path / "half", {}, {}, half=True)
    sizes = [one.path(tmp_path / name, "backbone").stat().st_size for name, one in (("full", full), ("half", half))]
    assert sizes[1] < 0.7 * sizes[0]  # the graph itself is as long
    picture = crops(1, 241)
    both = [engine_of("onnx", tmp_path / name, one).see(picture, ()) for name, one in (("full", full), ("half", half))]
    assert_alike(both[1], both[0], 1e-2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = tmp_path / "graphs"
    shutil.copytree(ROOT / "weights" / "graphs" / "mobilenetv3_online", copy)
    return copy


def test_graph_that_was_changed_is_refused(folder: Path) -> None:
    path = folder / "backbone.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ValueError, match=r"backbone.onnx was changed .*export the model again"):
        load_tracker(folder, "cpu", runtime="onnx")
    path.unlink()
    with pytest.raises(ValueError, match=r"backbone.onnx is missing; export the model again"):
        load_tracker(folder, "cpu", runtime="onnx")


def test_folder_without_graphs_is_told_from_one_that_was_damaged(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").touch()  # a run's folder
    with pytest.raises(ValueError, match=r"holds no exported graphs, .*model.json; give a weight file, or export it"):
        load_tracker(tmp_path, "cpu")


def test_graphs_of_another_version_are_refused(folder: Path) -> None:
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | {"format": "siamtrack-graphs-0"}))
    with pytest.raises(ValueError, match=r"model.json is of another version than siamtrack-graphs-2"):
        load_tracker(folder, "cpu", runtime="onnx")
    (folder / "model.json").write_text(json.dumps(card | {"sha256": {}}))
    with pytest.raises(ValueError, match=r"model.json has no hash of each graph"):
        load_tracker(folder, "cpu", runtime="onnx")
    (folder / "model.json").write_text(json.dumps({"format": card["format"], "outputs": {}}))
    with pytest.raises(ValueError, match=r"model.json does not say what it should"):
        load_tracker(folder, "cpu", runtime="onnx")
    (folder / "model.json").write_text("{")
    with pytest.raises(ValueError, match=r"cannot read .*model.json"):
        load_tracker(folder, "cpu", runtime="onnx")


def test_setting_that_is_part_of_the_graph_cannot_be_changed(folder: Path) -> None:
    for model, way in ((folder, "the weights it was exported from"), ("mobilenetv3_online", "--runtime torch")):
        with pytest.raises(ValueError, match=rf"online.fine_weight = 1.0, not 0.5; use {way}, or export"):
            load_tracker(model, "cpu", ["online.fine_weight=0.5"], runtime="onnx")
    assert load_tracker(folder, "cpu", ["online.gate=0.6"], runtime="onnx").localiser.config.gate == 0.6


@pytest.mark.parametrize(("runtime", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_runtime_that_is_not_installed_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, runtime: builder.RuntimeName, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match="is not installed: pip install"):
        load_tracker(folder, "cpu", runtime=runtime)


def test_model_without_graphs_says_how_to_get_them() -> None:
    weights = ROOT / "weights" / "mobilenetv3_online.safetensors"
    with pytest.raises(ValueError, match=r"onnx needs exported graphs, .*siamtrack export makes them"):
        load_tracker(weights, "cpu", runtime="onnx")
    with pytest.raises(ValueError, match="unknown runtime 'tpu'; use one of auto, torch, onnx, openvino"):
        load_tracker(weights, "cpu", runtime="tpu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="onnx runs on the CPU, not on 'cuda'; use --runtime torch"):
        load_tracker("mobilenetv3_online", "cuda", runtime="onnx")


def test_folder_of_graphs_is_taken_where_there_is_a_gpu_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "_sees_cuda", lambda: True)
    assert builder.choose_runtime(folder, "auto", "auto") in ("openvino", "onnx")
    assert builder.choose_runtime("mobilenetv3_online", "auto", "auto") == "torch"
    with pytest.raises(ValueError, match="holds exported graphs, which torch does not run"):
        load_tracker(folder, "cpu", runtime="torch")


def test_the_form_of_openvino_tracks_as_torch_does(tmp_path: Path) -> None:
    assert main(["export", "siamrpn_mobile", "--to", "openvino", "--out", str(tmp_path)]) == 0
    recipe = checkpoint.load(find_weights("siamrpn_mobile")).config
    assert read_card(tmp_path).config == recipe and recipe.startswith("# ")  # its comments too
    wanted = predictions(load_tracker("siamrpn_mobile", "cpu", runtime="torch"))
    assert builder.choose_runtime(tmp_path, "cpu", "auto") == "openvino"
    assert_close_tracks(predictions(load_tracker(tmp_path, "cpu")), wanted)
    assert model_digest(str(tmp_path), "openvino") == digest(tmp_path / CARD)
    for other in ("onnx", "torch"):
        with pytest.raises(ValueError, match=f"holds exported graphs, which {other} does not run; use openvino"):
            load_tracker(tmp_path, "cpu", runtime=other)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="openvino runs on the CPU, not on 'cuda'; use the weights it was exported"):
        load_tracker(tmp_path, "cuda")
    changed = tmp_path / "backbone.bin"
    changed.write_bytes(changed.read_bytes() + b"\0")
    with pytest.raises(ValueError, match=r"backbone.bin was changed after it was written"):
        load_tracker(tmp_path, "cpu")
    changed.unlink()
    with pytest.raises(ValueError, match=r"backbone.bin is missing"):
        load_tracker(tmp_path, "cpu")


def test_graphs_that_run_may_be_exported_again(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "files"
    to_openvino(folder, out, half=True, examples={})
    running = load_tracker(out, "cpu")
    before = predictions(running)
    to_openvino(folder, out, half=True, examples={})  # the files that it has mapped into its memory
    assert predictions(running) == before
    assert sorted(path.name for path in out.iterdir()) == ["backbone.bin", "backbone.xml", CARD]


def test_export_clears_what_one_before_left_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    before, other = tmp_path / "before", tmp_path / "other"
    to_openvino(folder, before, half=True, examples={})
    other.mkdir()
    for mine in (before / "notes.txt", other / "backbone.onnx"):
        mine.write_text("mine", encoding="utf-8")
        begin(mine.parent)
        assert [path.name for path in mine.parent.iterdir()] == [mine.name]


def test_what_cannot_be_exported_leaves_what_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", "mobilenetv3_online", "--out", str(folder)]
    assert main([*command, "--set", "online=false"]) == 2
    assert "tracks nothing: it is not exported" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(command) == 2
    assert "the exporter is not installed: pip install 'siamtrack[export]'" in capsys.readouterr().err
    assert read_card(folder).kind == "onnx"


def test_graphs_that_are_read_are_not_written_over(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    same = folder / ".." / folder.name
    with pytest.raises(ValueError, match="holds the graphs that are read: give another folder"):
        to_openvino(folder, same, half=True, examples={})
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_programs_track_as_torch_does_and_are_not_loaded_by_a_tracker(tmp_path: Path) -> None:
    changed = ["--set", "lost.patience=7"]
    assert main(["export", "siamrpn_mobile", "--to", "torch", "--out", str(tmp_path), *changed]) == 0
    wanted = predictions(load_tracker("siamrpn_mobile", "cpu", runtime="torch"))
    exported = read_card(tmp_path)
    assert parse(exported.config).lost.patience == 7
    tracker = builder.assemble(engine_of("torch", tmp_path, exported), parse(exported.config))
    assert_close_tracks(predictions(tracker), wanted)
    for runtime in get_args(builder.RuntimeName):
        with pytest.raises(ValueError, match="holds programs of torch for other programs; use the weights it was"):
            load_tracker(tmp_path, "cpu", runtime=runtime)


def test_graphs_in_the_form_of_openvino_are_checked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = {"images": np.stack(crops(1, 241))}
    monkeypatch.setitem(openvino_files._TOLERANCES, "float32", -1.0)
    with pytest.raises(ValueError, match="the graph backbone in OpenVINO's form is off by"):
        to_openvino(folder, folder / "out", half=True, examples={"backbone": images})
    assert not (folder / "out" / CARD).exists()  # what failed is no model


def test_programs_have_no_other_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in (["--half"], ["--int8", str(tmp_path)]):
        assert main(["export", "mobilenetv3_online", "--to", "torch", "--out", str(tmp_path / "out"), *option]) == 2
        assert option[0] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_graphs_of_a_kind_that_is_none_are_refused(folder: Path) -> None:
    card = json.loads((folder / CARD).read_text())
    for kind in ("tflite", ["onnx"]):
        (folder / CARD).write_text(json.dumps(card | {"kind": kind}))
        with pytest.raises(ValueError, match=r"model.json is of graphs of another kind, .*; export the model again"):
            load_tracker(folder, "cpu")
    del card["kind"]
    (folder / CARD).write_text(json.dumps(card))
    assert read_card(folder).kind == "onnx"  # as cards of before


def test_path_that_ends_as_a_shipped_model_is_a_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = folder.rename(folder.with_name("mobilenetv3_online"))
    monkeypatch.chdir(mine.parent)
    shipped = ROOT / "weights" / "graphs" / "mobilenetv3_online"
    assert find_graphs("mobilenetv3_online") == shipped and find_file("mobilenetv3_online", "onnx") == shipped / CARD
    for path in ("./mobilenetv3_online", "mobilenetv3_online/", str(mine)):
        found = find_graphs(path)
        assert found is not None and found.resolve() == mine
        with pytest.raises(ValueError, match="holds exported graphs, which torch does not run; use openvino or onnx"):
            load_tracker(path, "cpu", runtime="torch")
    monkeypatch.chdir(mine)
    assert find_graphs(".") == Path() and find_graphs("..") == Path("..")
    assert load_tracker(".", "cpu", runtime="onnx").localiser.runtime.stride == 16


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_graphs_are_needed_no_more_once_they_are_loaded(
    folder: Path, runtime: builder.RuntimeName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    tracker = load_tracker(folder.name, "cpu", runtime=runtime)
    shutil.rmtree(folder)
    monkeypatch.chdir(ROOT)
    shipped = load_tracker("mobilenetv3_online", "cpu", runtime=runtime)
    found, wanted = (predictions(one)[-1].box.to_xywh() for one in (tracker, shipped))
    assert found == pytest.approx(wanted, abs=0.05)


def test_threads_of_the_network_are_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "tracker.builder")
    for threads in (1, 2):
        load_tracker(folder, "cpu", runtime="onnx", threads=threads)
    assert [message.rpartition(", ")[2] for message in caplog.messages] == ["1 thread", "2 threads"]


def test_unknown_model_is_that_without_torch_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "find_spec", lambda _name: None)
    with pytest.raises(ValueError, match="unknown model 'siamrpn'; give a weight file or one of"):
        load_tracker("siamrpn", "cpu")
    with pytest.raises(ValueError, match=r"torch is not installed: pip install 'siamtrack\[torch\]'"):
        load_tracker(ROOT / "weights" / "mobilenetv3_online.safetensors", "cpu")


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("crop.template_size=145", "crop.template_size = 129, not 145"),
        ("model.backbone=mobilenetv3_small", "model = "),
    ],
)
def test_what_graphs_were_made_for_cannot_be_changed(override: str, name: str) -> None:
    with pytest.raises(ValueError, match=rf"were made for {name}"):
        load_tracker("siamrpn_resnet18", "cpu", [override], runtime="onnx")


def test_boxes_are_not_corrected_on_what_graphs_do_not_hand_on() -> None:
    online = parse((ROOT / "configs" / "resnet18_online.toml").read_text(encoding="utf-8")).online
    assert online is not None and online.box is not None
    table = ", ".join(f"{name} = {value}" for name, value in asdict(online.box).items())
    with pytest.raises(ValueError, match="do not hand on the fine features that online.box reads; use --runtime torch"):
        load_tracker("siamrpn_mobile", "cpu", [f"online.box={{{table}}}"], runtime="onnx")
    tracker = load_tracker("siamrpn_mobile", "cpu", [f"online.box={{{table}}}", "online.trust=0.0"], runtime="torch")
    assert predictions(tracker) != predictions(load_tracker("siamrpn_mobile", "cpu", runtime="torch"))


def test_targets_in_two_threads_do_not_mix() -> None:
    tracker = load_tracker("mobilenetv3_online", "cpu", runtime="openvino")
    videos = [list(moving(8, step)) for step in ((4.0, 2.0), (-3.0, 1.0))]

    def follow(video: list[tuple[np.ndarray, Box]]) -> list[Prediction]:
        own = tracker.fork()
        own.init(*video[0])
        return [own.update(frame) for frame, _ in video[1:]]

    alone = [follow(video) for video in videos]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(follow, videos))
    for found, wanted in zip(together, alone, strict=True):
        for ours, theirs in zip(found, wanted, strict=True):  # where an array lies in memory may change its last digits
            assert ours.box.to_xywh() == pytest.approx(theirs.box.to_xywh(), abs=0.05)


@pytest.mark.parametrize(
    ("installed", "device", "graphs", "wanted"),
    [
        ({"openvino", "onnxruntime"}, "cpu", True, "openvino"),
        ({"onnxruntime"}, "auto", True, "onnx"),
        ({"torch"}, "cpu", True, "torch"),
        ({"openvino", "onnxruntime", "torch"}, "cpu", False, "torch"),
        ({"openvino", "torch"}, "cuda:0", True, "torch"),
    ],
)
def test_auto_takes_the_fastest_that_is_there(
    monkeypatch: pytest.MonkeyPatch, installed: set[str], device: str, graphs: bool, wanted: str
) -> None:
    monkeypatch.setattr(builder, "find_spec", lambda name: name if name in installed else None)
    assert builder._choose(Path("graphs") if graphs else None, device) == wanted


def test_tracking_needs_no_torch() -> None:
    code = """
import sys
for name in ("torch", "numba", "openvino"):
    sys.modules[name] = None  # importing it fails, as where it is not installed
import numpy as np
from tracker import Box, load_tracker
tracker = load_tracker("mobilenetv3_online", runtime="onnx")
frame = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
tracker.init(frame, Box.from_xywh(100, 80, 40, 40))
print(tracker.update(frame).score > 0.9)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "True", done.stderr


def test_ctrl_c_is_survived_after_trackers_that_are_gone() -> None:
    code = """
import os, signal
from tracker import load_tracker
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started this may have it ignored
first, second = (load_tracker("mobilenetv3_online", runtime="openvino") for _ in range(2))
del first
del second
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.strip()) == (0, "interrupted"), done.stderr


@pytest.mark.parametrize(
    "graph", sorted((ROOT / "weights" / "graphs").glob("*/*.onnx")), ids=lambda p: f"{p.parent.name}-{p.stem}"
)
def test_shipped_graphs_name_no_file_of_the_machine_that_made_them(graph: Path) -> None:
    assert b'.py", line' not in graph.read_bytes()  # as the exporter notes it


def test_graphs_name_no_file_of_this_machine(pair: tuple[TorchRuntime, Path]) -> None:
    for graph in pair[1].glob("*.onnx"):
        assert b'.py", line' not in graph.read_bytes()  # as the exporter notes it
