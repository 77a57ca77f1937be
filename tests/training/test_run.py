import json
import math
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tracker import checkpoint, whole_file
from tracker.builder import load_tracker
from tracker.config import parse
from tracker.geometry import Box, iou
from tracker.interface import Frame
from tracker.network_builder import build_network
from tracker.toml_tree import to_toml
from tracker.training import run
from tracker.training.run import RunOptions
from tracker.training.trainer import Trainer
from tracker.training.watch import Watch

ROOT = Path(__file__).parents[2]
STEPS = 5
# The smallest crops that the backbone takes: 87 px are one cell, 103 px are three.
CONFIG = f"""
description = "tiny"
[model]
backbone = "siamfc_alexnet"
head = "siamfc"
[crop]
template_size = 87
search_size = 151
context = 0.5
[scale_search]
scales = 3
scale_step = 1.04
scale_penalty = 0.97
size_smoothing = 0.6
window_influence = 0.2
upsample = 16
[lost]
enter = 0.25
leave = 0.45
patience = 3
[train]
pairs = {2 * STEPS}
batch = 1
search_size = 103
label_radius = 8.0
lr_start = 0.01
lr_end = 0.001
warmup_pairs = 2
momentum = 0.9
weight_decay = 0.0005
seed = 1
[train.data]
searches_per_template = 2
max_gap = 100
still_share = 0.2
negative_share = 0.1
same_class_share = 0.5
max_shift = 8.0
max_scale = 1.1
colour = 0.2
grey_chance = 0.15
blur_chance = 0.15
cover_chance = 0.1
[train.data.weights]
clips = 2.0
"""


def picture(box: Box) -> Frame:
    """Return noise with a chequered square on it."""
    frame = np.random.default_rng(0).integers(0, 120, (96, 128, 3), dtype=np.uint8)
    x, y, w, h = (round(value) for value in box.to_xywh())
    frame[y : y + h, x : x + w] = (250, 200, 40)
    frame[y : y + h // 2, x : x + w // 2] = (30, 60, 240)
    return frame


def write_data(folder: Path) -> Path:
    """Write a video of four frames and a still; return their folder."""
    folder.mkdir(exist_ok=True)
    rows = []
    for video, count in (("walk", 4), ("still", 1)):
        frames = []
        for i in range(count):
            box = Box.from_xywh(30 + 4 * i, 30, 24, 24)
            cv2.imwrite(str(folder / f"{video}{i}.png"), picture(box)[..., ::-1])
            frames.append({"image": f"{video}{i}.png", "box": list(box.to_xywh())})
        rows.append({"set": "clips", "video": video, "track": f"{video}:1", "class": "square", "frames": frames})
    (folder / "tracks.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def config(data: Path) -> Path:
    path = data / "tiny.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(autouse=True)
def save_every_second_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "Trainer", partial(Trainer, save_every=2))
    monkeypatch.setattr(run, "_REPORT_EVERY", 1)  # so that a test can stop after any step


def options(init: Path | None = None) -> RunOptions:
    return RunOptions(workers=0, threads=torch.get_num_threads(), init=init)


def train(config: Path, data: Path, out: Path, *overrides: str, init: Path | None = None, until: int = STEPS) -> None:
    """Run to a step and leave it as a kill would."""
    for line in run.train(config, data, out, overrides, options(init)):
        if line.startswith(f"step {until}/"):
            break


@pytest.fixture(scope="module")
def whole(config: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was never stopped."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    for _ in run.train(config, data, out, (), options()):
        pass
    return out


def losses(out: Path) -> dict[int, str]:
    rows = [line.split(",") for line in (out / "log.csv").read_text().splitlines()[1:]]
    return {int(row[0]): row[1] for row in rows}


def weights(out: Path) -> checkpoint.Checkpoint:
    return checkpoint.load(out / "weights.safetensors")


def steps_in(out: Path) -> int:
    return int(weights(out).provenance["steps"])


def same_tensors(a: Path, b: Path) -> bool:
    first, second = weights(a).tensors, weights(b).tensors
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_weight_file_tracks(whole: Path) -> None:
    tracker = load_tracker(whole / "weights.safetensors", device="cpu")
    box = Box.from_xywh(40, 40, 24, 24)
    tracker.init(picture(box), box)
    for _ in range(3):
        prediction = tracker.update(picture(box))
    assert iou(prediction.box, box) > 0.7
    assert 0 <= prediction.score <= 1


def test_weight_file_is_half_the_size_and_holds_what_was_learned(whole: Path) -> None:
    state = torch.load(whole / "state.pt", weights_only=True)["network"]
    tensors = weights(whole).tensors
    assert tensors.keys() == state.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == (torch.float16 if state[name].is_floating_point() else torch.int64)
        assert torch.equal(tensor, state[name].to(tensor.dtype))


def test_weight_file_says_where_it_comes_from(whole: Path, config: Path, data: Path) -> None:
    loaded = weights(whole)
    assert parse(loaded.config) == parse(CONFIG)
    assert loaded.metrics == {}
    facts = loaded.provenance
    assert facts["command"] == f"siamtrack train {data.name}/tiny.toml --data {data.parent.name}/{data.name}" + (
        f" --out {whole.parent.name}/whole"
    )
    assert facts["steps"] == str(STEPS)
    assert facts["pairs"] == str(2 * STEPS)
    assert facts["data"].startswith(f"2 tracks of {data.name}/tracks.jsonl, sha256 ")
    assert len(facts["data"].rpartition(" ")[2]) == 64
    assert 0 <= float(facts["hours"]) < 0.1
    assert "threads" in facts["hardware"] or torch.cuda.is_available()
    assert facts["torch"] == torch.__version__
    assert facts["revision"] == "unknown" or len(facts["revision"].removesuffix("-dirty")) == 40
    assert len(facts["date"].split("-")) == 3
    assert not any(str(Path.home()) in value or str(data) in value for value in facts.values())


def test_overrides_are_in_the_file(config: Path, data: Path, tmp_path: Path) -> None:
    train(config, data, tmp_path, "lost.patience=7", "description=two words", until=2)
    loaded = weights(tmp_path)
    assert parse(loaded.config) == replace(
        parse(CONFIG), description="two words", lost=replace(parse(CONFIG).lost, patience=7)
    )
    assert loaded.provenance["command"].endswith("--set lost.patience=7 --set 'description=two words'")
    assert parse((tmp_path / "config.toml").read_text()) == parse(loaded.config)


def test_stopped_run_leaves_weights_and_goes_on_as_if_it_had_not_been(
    whole: Path, config: Path, data: Path, tmp_path: Path
) -> None:
    train(config, data, tmp_path, until=3)
    assert steps_in(tmp_path) == 2
    hours = weights(tmp_path).provenance["hours"]
    load_tracker(tmp_path / "weights.safetensors", device="cpu")
    train(config, data, tmp_path, init=tmp_path / "unused.safetensors")  # the state goes first
    assert losses(tmp_path) == losses(whole)
    assert steps_in(tmp_path) == STEPS
    assert same_tensors(tmp_path, whole)
    assert float(weights(tmp_path).provenance["hours"]) >= float(hours)


def test_finished_run_only_writes_its_weights(config: Path, data: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copy(whole / "state.pt", tmp_path)
    assert list(run.train(config, data, tmp_path, (), options())) == [finished(tmp_path)]
    assert same_tensors(tmp_path, whole)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    again = options(tmp_path / "unused.safetensors")
    assert list(run.train(config, data, tmp_path, ("lost.patience=9",), again)) == [finished(tmp_path)]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def finished(out: Path, steps: int = STEPS) -> str:
    return f"the run in {out} is finished already: it has taken its {steps} steps"


def test_progress_is_told(config: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_REPORT_EVERY", 3)
    lines = list(run.train(config, data, tmp_path, (), options()))
    done = [float(loss) for loss in losses(tmp_path).values()]
    assert [line.split()[1] for line in lines] == [f"3/{STEPS}", f"{STEPS}/{STEPS}"]
    for line, mean in zip(lines, (sum(done[:3]) / 3, sum(done[3:]) / 2), strict=True):
        assert math.isclose(float(line.split()[3]), mean, abs_tol=1e-4)
        assert "pairs/s" in line
        assert "waiting" in line


def test_run_is_watched_by_tracking(config: Path, data: Path, whole: Path, tmp_path: Path) -> None:
    watched = replace(options(), validation=data, validate_every=2, tensorboard=True)
    lines = [line for line in run.train(config, data, tmp_path, (), watched) if "validation" in line]
    assert [line.split(":")[0] for line in lines] == ["step 2", "step 4", f"step {STEPS}"]
    header, *rows = (tmp_path / "validation.csv").read_text().splitlines()
    assert header == "step,success_auc"
    scores = [float(row.split(",")[1]) for row in rows]
    assert all(0 <= score <= 1 for score in scores)
    best = checkpoint.load(tmp_path / "best.safetensors")
    assert math.isclose(best.metrics["validation_auc"], max(scores), abs_tol=1e-4)
    assert int(best.provenance["steps"]) == (2, 4, STEPS)[int(np.argmax(scores))]
    assert [path.name for path in sorted((tmp_path / "samples").iterdir())][-1] == f"step_{STEPS:06d}.png"
    assert any((tmp_path / "tensorboard").iterdir())
    assert losses(tmp_path) == losses(whole)  # looking changes nothing


def test_look_that_was_stopped_is_taken_again(
    config: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = replace(options(), validation=data, validate_every=2)

    def stopped(self: Watch, weights: Path, step: int) -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "look", stopped)
        with pytest.raises(KeyboardInterrupt):
            list(run.train(config, data, tmp_path, (), watched))
    lines = [line for line in run.train(config, data, tmp_path, (), watched) if "validation" in line]
    assert [line.split(":")[0] for line in lines] == ["step 2", "step 4", f"step {STEPS}"]
    assert list(run.train(config, data, tmp_path, (), watched)) == [finished(tmp_path)]


def test_finished_run_is_looked_at_where_it_was_not(config: Path, data: Path, whole: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    watched = replace(options(), validation=data)
    told, look = run.train(config, data, out, (), watched)
    assert told == finished(out) and look.startswith(f"step {STEPS}: success AUC ")
    assert (out / "best.safetensors").is_file()
    assert list(run.train(config, data, out, (), watched)) == [finished(out)]


def test_run_that_begins_forgets_what_was_best_before(config: Path, data: Path, tmp_path: Path) -> None:
    list(run.train(config, data, tmp_path, (), replace(options(), validation=data, validate_every=2)))
    (tmp_path / "state.pt").unlink()
    best = tmp_path / "best.safetensors"
    with pytest.raises(ValueError, match=r"best.safetensors is what the run would write over"):
        train(config, data, tmp_path, init=best)
    assert best.is_file()
    train(config, data, tmp_path, until=1)
    assert not {"best.safetensors", "validation.csv", "samples"} & {path.name for path in tmp_path.iterdir()}


def test_pictures_that_cannot_be_read_are_counted_and_end_a_run_past_the_limit(
    config: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "data"
    shutil.copytree(data, broken)
    (broken / "walk1.png").write_bytes(b"no picture")
    lines = list(run.train(config, broken, tmp_path / "whole", (), options()))
    told = int(lines[-1].split()[0])
    assert told > 0 and "cannot be read" in lines[-1]
    monkeypatch.setattr(run, "_SKIPPED_FREE", 0)
    with pytest.raises(ValueError, match=r"of \d draws met pictures that cannot be read, more than 1%"):
        list(run.train(config, broken, tmp_path / "stopped", (), options()))


def test_folder_of_another_run_is_not_touched(config: Path, data: Path, tmp_path: Path) -> None:
    train(config, data, tmp_path, until=2)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"holds a run of another configuration, see .*config.toml"):
        train(config, data, tmp_path, "train.lr_start=0.02")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    train(config, data, tmp_path, "lost.patience=9")  # training does not depend on it
    assert steps_in(tmp_path) == STEPS


@pytest.mark.parametrize("until", [1, 3])  # before the first save, and a step after it
def test_folder_in_which_another_run_is_at_work_is_not_touched(
    config: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: int
) -> None:
    monkeypatch.setattr(whole_file, "_WAIT_S", 0.05)
    first = run.train(config, data, tmp_path, (), options())
    next(line for line in first if line.startswith(f"step {until}/"))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for change in ("train.lr_start=0.01", "train.lr_start=0.02"):
        with pytest.raises(ValueError, match="another process is at work in "):
            train(config, data, tmp_path, change)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    first.close()
    train(config, data, tmp_path)
    assert steps_in(tmp_path) == STEPS


def more_data(data: Path, folder: Path) -> Path:
    """Return a copy of the data with one track more."""
    shutil.copytree(data, folder)
    rows = (data / "tracks.jsonl").read_text().splitlines()
    (folder / "tracks.jsonl").write_text("\n".join([*rows, rows[0].replace("walk", "again", 1)]))
    return folder


@pytest.mark.parametrize("until", [2, STEPS])
def test_run_does_not_go_on_with_other_data(config: Path, data: Path, tmp_path: Path, until: int) -> None:
    out, more = tmp_path / "out", more_data(data, tmp_path / "more")
    train(config, data, out, until=until)
    before = {path: path.read_bytes() for path in out.iterdir()}
    told = rf"holds a run on other data, 2 tracks of {data.name}/tracks.jsonl, sha256 .*; choose another folder, where "
    told += r"--init starts from its weights, or delete .*state.pt to start afresh"
    with pytest.raises(ValueError, match=told):
        train(config, more, out)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    moved = shutil.copytree(data, tmp_path / "moved")
    train(config, moved, out)  # the same, elsewhere
    assert steps_in(out) == STEPS


def test_run_that_did_not_write_down_its_data_goes_on(config: Path, data: Path, tmp_path: Path) -> None:
    train(config, data, tmp_path, until=2)
    kept = tmp_path / "config.toml"
    kept.write_text(kept.read_text().partition("\n")[2])  # as older versions wrote it
    train(config, data, tmp_path)
    assert steps_in(tmp_path) == STEPS
    assert kept.read_text().startswith(f"# data: 2 tracks of {data.name}/tracks.jsonl, sha256 ")


def test_state_of_another_model_is_told_by_its_configuration(config: Path, data: Path, tmp_path: Path) -> None:
    train(config, data, tmp_path, until=2)
    with pytest.raises(ValueError, match=r"holds a run of another configuration, see .*config.toml; choose another"):
        train(config, data, tmp_path, "model.refiner=window", "train.refine_weight=1.0")


def test_unfinished_weight_file_is_gone_on_from(
    whole: Path, config: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config, data, tmp_path / "a", until=3)
    (tmp_path / "a" / "state.pt").unlink()
    init = tmp_path / "a" / "weights.safetensors"
    drawn = []
    original = run.PairDataset.__getitem__
    monkeypatch.setattr(run.PairDataset, "__getitem__", lambda self, i: drawn.append(i) or original(self, i))
    train(config, data, tmp_path / "b", "lost.patience=9", init=init)
    assert drawn == [2, 3, 4]
    assert list(losses(tmp_path / "b")) == [3, 4, 5]
    # Step 3 sees the same weights, rounded to half precision, and the same pairs; later the momentum differs.
    assert math.isclose(float(losses(tmp_path / "b")[3]), float(losses(whole)[3]), rel_tol=0.05)
    assert steps_in(tmp_path / "b") == STEPS
    facts = weights(tmp_path / "b").provenance
    assert "--init a/weights.safetensors" in facts["command"]
    assert float(facts["hours"]) >= float(checkpoint.load(init).provenance["hours"])


@pytest.mark.parametrize("change", ["train.seed=2", "train.lr_start=0.02", "train.data.max_gap=3"])
def test_weights_of_another_configuration_start_a_new_run(
    config: Path, data: Path, tmp_path: Path, change: str
) -> None:
    train(config, data, tmp_path / "a", until=2)
    first = weights(tmp_path / "a")
    with_more = replace(first, tensors={**first.tensors, "head.bias": torch.tensor(100.0)})
    checkpoint.save(tmp_path / "init.safetensors", with_more)
    train(config, data, tmp_path / "b", change, init=tmp_path / "init.safetensors", until=1)
    assert list(losses(tmp_path / "b")) == [1]
    assert float(losses(tmp_path / "b")[1]) > 20  # the bias was taken: the negative cells cost half of 100


@pytest.mark.parametrize("change", ["data", "processes"])
def test_weights_of_a_run_with_other_steps_start_a_new_run(
    config: Path, data: Path, tmp_path: Path, change: str
) -> None:
    train(config, data, tmp_path / "a", until=2)
    first, init = weights(tmp_path / "a"), tmp_path / "init.safetensors"
    facts = first.provenance | ({"processes": "2"} if change == "processes" else {})
    checkpoint.save(init, replace(first, provenance=facts))
    shown = more_data(data, tmp_path / "more") if change == "data" else data
    train(config, shown, tmp_path / "b", init=init, until=1)
    assert list(losses(tmp_path / "b")) == [1]


def test_finished_weight_file_starts_a_new_run(whole: Path, config: Path, data: Path, tmp_path: Path) -> None:
    train(config, data, tmp_path, init=whole / "weights.safetensors", until=1)
    assert list(losses(tmp_path)) == [1]
    assert losses(tmp_path)[1] != losses(whole)[1]


def shipped(frozen: str) -> tuple[str, ...]:
    """Return what makes the recipe of fine-tuning two steps long."""
    return ("train.pairs=4", "train.batch=1", "train.warmup_pairs=0", "train.ema=0.0", f"train.frozen={frozen}")


@pytest.mark.parametrize("moves", [False, True])
def test_embedding_head_is_vouched_for_while_the_backbone_keeps_its_weights(
    data: Path, tmp_path: Path, moves: bool
) -> None:
    recipe, init = ROOT / "configs" / "finetune.toml", ROOT / "weights" / "siamrpn_mobile.safetensors"
    before = checkpoint.load(init)
    frozen = '["conv1"]' if moves else '["backbone"]'
    lines = list(run.train(recipe, data, tmp_path, shipped(frozen), options(init)))
    after = weights(tmp_path)
    moved = [name for name, tensor in after.tensors.items() if not torch.equal(tensor, before.tensors[name])]
    changed = {name.partition(".")[0] for name in moved}
    assert changed == ({"head", "refiner", "backbone"} if moves else {"head", "refiner"})
    kept = {name: value for name, value in before.metrics.items() if name.startswith("verify_")}
    assert after.metrics == ({} if moves else kept) and "verify_threshold" in kept
    assert ("embedding_data" in after.provenance) is not moves
    assert ("train-verifier" in lines[-1]) is moves
    if not moves:  # a run that goes on knows it from its own file
        again = list(run.train(recipe, data, tmp_path, shipped(frozen), options(tmp_path / "unused.safetensors")))
        assert again == [finished(tmp_path, 2)] and weights(tmp_path).metrics == kept


def test_filters_neck_is_trained_with_the_head_and_kept_by_the_next_run(data: Path, tmp_path: Path) -> None:
    recipe, init = ROOT / "configs" / "finetune.toml", ROOT / "weights" / "siamrpn_mobile.safetensors"
    whole = '["conv1", "layer1", "layer2", "layer3"]'
    neck = (*shipped(whole), "model.filter_channels=8", "train.filter_weight=0.2", "train.data.negative_share=0.0")
    for name, start in (("first", init), ("second", tmp_path / "first" / "weights.safetensors")):
        list(run.train(recipe, data, tmp_path / name, (*neck, f"train.seed={len(name)}"), options(start)))
    first, second = (weights(tmp_path / name).tensors["filter_neck.project.weight"] for name in ("first", "second"))
    assert first.shape == (8, 312, 1, 1)
    # A fresh one would have other directions altogether.
    cosines = torch.cosine_similarity(first.float().flatten(1), second.float().flatten(1))
    assert not torch.equal(first, second) and float(cosines.min()) > 0.99
    tracker = load_tracker(tmp_path / "second" / "weights.safetensors", "cpu", runtime="torch")
    seen = tracker.localiser.runtime.see([np.zeros((257, 257, 3), np.uint8)], ())
    assert seen.filtered.shape == (1, 8, 17, 17) and seen.maps.shape == (1, 312, 17, 17)


def test_neck_alone_learns_where_all_else_is_frozen(data: Path, tmp_path: Path) -> None:
    recipe, init = ROOT / "configs" / "finetune.toml", ROOT / "weights" / "siamrpn_mobile.safetensors"
    before = checkpoint.load(init)
    frozen = shipped('["conv1", "layer1", "layer2", "layer3", "head"]')
    narrow = ("train.filter_weight=1.0", "model.filter_channels=8", "train.data.negative_share=0.0")
    narrow = (*frozen, *narrow, "train.refine_weight=0.0")
    list(run.train(recipe, data, tmp_path / "neck", narrow, options(init)))
    after = weights(tmp_path / "neck")
    old = {name: tensor for name, tensor in after.tensors.items() if not name.startswith("filter_neck.")}
    # What BatchNorm knows of the searches is part of it.
    assert all(torch.equal(tensor, before.tensors[name]) for name, tensor in old.items())
    assert {name: value for name, value in before.metrics.items() if name.startswith("verify_")} == after.metrics
    again = (*narrow, "train.seed=9")
    list(run.train(recipe, data, tmp_path / "again", again, options(tmp_path / "neck" / "weights.safetensors")))
    first, second = (weights(tmp_path / name).tensors["filter_neck.project.weight"] for name in ("neck", "again"))
    assert not torch.equal(first, second)


def test_refiner_alone_learns_where_all_else_is_frozen(data: Path, tmp_path: Path) -> None:
    recipe, init = ROOT / "configs" / "finetune.toml", ROOT / "weights" / "siamrpn_mobile.safetensors"
    loaded = checkpoint.load(init)
    bare = {name: tensor for name, tensor in loaded.tensors.items() if not name.startswith("refiner.")}
    text = to_toml(parse(loaded.config, ["model.refiner=none", "refine=false"]))
    checkpoint.save(tmp_path / "bare.safetensors", replace(loaded, tensors=bare, config=text))
    frozen = (*shipped('["backbone", "head"]'), "model.refiner=window", "train.refine_weight=1.0")
    lines = list(run.train(recipe, data, tmp_path / "first", frozen, options(tmp_path / "bare.safetensors")))
    assert lines[0].startswith("the refiner starts from nothing")
    after = weights(tmp_path / "first")
    refiner = {name for name in after.tensors if name.startswith("refiner.")}
    assert refiner == after.tensors.keys() - bare.keys()
    # What BatchNorm knows of the searches is part of it.
    assert all(torch.equal(after.tensors[name], tensor) for name, tensor in bare.items())
    assert {name: value for name, value in loaded.metrics.items() if name.startswith("verify_")} == after.metrics
    again = (*frozen, "train.seed=9")
    lines = list(
        run.train(recipe, data, tmp_path / "again", again, options(tmp_path / "first" / "weights.safetensors"))
    )
    assert not any("refiner" in line for line in lines)
    first, second = (weights(tmp_path / name).tensors["refiner.compare.0.weight"] for name in ("first", "again"))
    assert not torch.equal(first, second)
    assert float(torch.cosine_similarity(first.float().flatten(), second.float().flatten(), dim=0)) > 0.99
    light = (*frozen, "model.refiner=window_light")  # another size is another refiner
    lines = list(
        run.train(recipe, data, tmp_path / "light", light, options(tmp_path / "first" / "weights.safetensors"))
    )
    assert lines[0].startswith("the refiner starts from nothing")


def test_both_networks_of_an_ensemble_learn(data: Path, tmp_path: Path) -> None:
    recipe = ROOT / "configs" / "finetune.toml"
    second = 'model.second={backbone="resnet18",head="rpn_light",refiner="window_light"}'
    changes = (*shipped('["conv1", "layer1"]'), second, "train.refine_weight=1.0")
    config = parse(recipe.read_text(encoding="utf-8"), changes)
    start = {name: tensor.half().float() for name, tensor in build_network(config).state_dict().items()}
    checkpoint.save(tmp_path / "start.safetensors", checkpoint.Checkpoint(start, to_toml(config), {}, {}))
    train(recipe, data, tmp_path / "run", *changes, init=tmp_path / "start.safetensors")
    after = weights(tmp_path / "run").tensors
    for number in (0, 1):
        for part in ("backbone", "head", "refiner"):
            mine = [name for name in after if name.startswith(f"{part}.members.{number}.")]
            learned = {name for name in mine if not torch.equal(start[name], after[name].float())}
            frozen = {n for n in mine if part == "backbone" and n.split(".")[3] in ("conv1", "layer1")}
            assert learned and not learned & frozen and (frozen or part != "backbone")


def test_an_ensemble_that_was_stopped_goes_on_as_if_it_had_not_been(data: Path, tmp_path: Path) -> None:
    recipe = ROOT / "configs" / "finetune.toml"
    second = 'model.second={backbone="mobilenetv3_small",head="rpn_light",refiner="window_light"}'
    changes = (*shipped('["conv1", "layer1"]'), second, "train.refine_weight=1.0", "train.pairs=8")
    train(recipe, data, tmp_path / "whole", *changes)
    train(recipe, data, tmp_path / "stopped", *changes, until=3)
    rest = list(run.train(recipe, data, tmp_path / "stopped", changes, options()))
    assert [line.split("/")[0] for line in rest if line.startswith("step ")] == ["step 3", "step 4"]
    assert steps_in(tmp_path / "stopped") == 4
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")
    assert same_tensors(tmp_path / "stopped", tmp_path / "whole")


def test_refiner_is_trained_beside_siamfc_and_resumed(config: Path, data: Path, tmp_path: Path) -> None:
    refined = ("model.refiner=window", "train.refine_weight=1.0")
    train(config, data, tmp_path / "none")
    train(config, data, tmp_path / "whole", *refined)
    train(config, data, tmp_path / "stopped", *refined, until=3)
    train(config, data, tmp_path / "stopped", *refined)
    assert same_tensors(tmp_path / "stopped", tmp_path / "whole")
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")
    assert losses(tmp_path / "whole")[1] > losses(tmp_path / "none")[1]
    assert not any("refiner.deep" in name for name in weights(tmp_path / "whole").tensors)  # both maps have one stride


def test_network_without_anything_to_learn_is_refused(data: Path, tmp_path: Path) -> None:
    recipe, init = ROOT / "configs" / "finetune.toml", ROOT / "weights" / "siamrpn_mobile.safetensors"
    frozen = shipped('["conv1", "layer1", "layer2", "layer3", "head"]')
    with pytest.raises(ValueError, match="train.frozen names all that could learn"):
        nothing = ("model.filter_channels=0", "train.refine_weight=0.0")
        list(run.train(recipe, data, tmp_path, (*frozen, *nothing), options(init)))
    with pytest.raises(ValueError, match="train.frozen names 'layer9'; this network has backbone, conv1, .*, head"):
        list(run.train(recipe, data, tmp_path, shipped('["layer9"]'), options(init)))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (("train.filter_weight=1.0",), r"needs the table \[online\] and model.filter_channels"),
        (
            ("train.filter_weight=1.0", "model.filter_channels=8", "train.data.searches_per_template=1"),
            "needs train.data.searches_per_template = 2 or more",
        ),
    ],
)
def test_filter_that_cannot_be_trained_for_is_refused(
    data: Path, tmp_path: Path, changes: tuple[str, ...], complaint: str
) -> None:
    recipe, init = ROOT / "configs" / "siamrpn_mobile.toml", ROOT / "weights" / "siamrpn_mobile.safetensors"
    with pytest.raises(ValueError, match=f"train.filter_weight {complaint}"):
        list(run.train(recipe, data, tmp_path, ("model.filter_channels=0", *changes), options(init)))


def test_backbone_learns_from_a_teacher_of_the_zoo(config: Path, data: Path, tmp_path: Path) -> None:
    taught = ("train.teacher=mobilenetv3_online", "train.teacher_weight=20.0")
    train(config, data, tmp_path / "none")
    train(config, data, tmp_path / "taught", *taught)
    none, other = (weights(tmp_path / name).tensors for name in ("none", "taught"))
    assert none.keys() == other.keys()  # neither the teacher nor the layer to its features is part of what is written
    assert any(not torch.equal(other[name], none[name]) for name in none)
    train(config, data, tmp_path / "stopped", *taught, until=3)
    train(config, data, tmp_path / "stopped", *taught)  # its state holds that layer
    assert same_tensors(tmp_path / "stopped", tmp_path / "taught")
    assert losses(tmp_path / "stopped") == losses(tmp_path / "taught")


def test_backbone_alone_is_taught_before_a_head_learns_on_it(config: Path, data: Path, tmp_path: Path) -> None:
    taught = ("train.teacher=mobilenetv3_online", "train.teacher_weight=1.0", "train.optimizer=adamw")
    train(config, data, tmp_path / "taught", "model.head=none", *taught, "train.lr_start=0.001")
    assert 0.5 < float(losses(tmp_path / "taught")[1]) < 2  # of a variance of 1
    backbone = weights(tmp_path / "taught").tensors
    assert backbone and all(name.startswith("backbone.") for name in backbone)
    train(config, data, tmp_path / "begun", "model.head=none", *taught, "train.lr_start=0.001", until=2)
    begun = weights(tmp_path / "begun").tensors
    assert not any(torch.equal(begun[name], backbone[name]) for name in begun if begun[name].ndim == 4)  # it learned
    frozen = 'train.frozen=["layers"]'
    train(config, data, tmp_path / "head", frozen, init=tmp_path / "taught" / "weights.safetensors")
    after = weights(tmp_path / "head").tensors
    assert all(torch.equal(after[name], backbone[name]) for name in backbone)
    assert float(after["head.bias"]) != 0


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (("train.teacher_weight=1.0",), "go together"),
        (("train.teacher=mobilenetv3_online",), "go together"),
        (
            ("train.teacher_weight=-1.0", "train.teacher=mobilenetv3_online"),
            "train.teacher_weight must not be negative",
        ),
        (("train.teacher_weight=1.0", "train.teacher=siamfc_alexnet"), "stride 16, siamfc_alexnet has 8"),
        (("train.teacher_weight=1.0", "train.teacher=nobody"), "nobody"),
        (("model.head=none",), "a model without a head learns from pairs only what train.teacher tells"),
        (
            ("train.teacher_weight=1.0", "train.teacher=mobilenetv3_online", 'train.frozen=["layers"]'),
            "nothing of the backbone that train.teacher could teach",
        ),
        (("train.teacher_weight=1.0", "train.teacher=mobilenetv3_online", "train.search_size=104"), "must be odd"),
        (("train.refine_weight=1.0", "model.refiner=none"), "train.refine_weight needs model.refiner"),
        (("train.refine_weight=-1.0", "model.refiner=window"), "train.refine_weight must not be negative"),
        (("model.refiner=window", "model.head=none"), "model.refiner needs a head"),
        (("refine={trust=0.4,share=1.0,passes=1,calibration=0.7}",), r"\[refine\] needs model.refiner"),
        (("model.refiner=window", "model.backbone=resnet18"), "beside the siamfc head needs a backbone of stride 8"),
        (("train.filter_weight=1.0",), "train.filter_weight needs the head rpn or rpn_light, not siamfc"),
    ],
)
def test_part_that_cannot_be_trained_is_refused(
    config: Path, data: Path, tmp_path: Path, changes: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        train(config, data, tmp_path, *changes)


def test_taught_run_starts_at_its_first_step_without_its_state(config: Path, data: Path, tmp_path: Path) -> None:
    taught = ("train.teacher=mobilenetv3_online", "train.teacher_weight=1.0")
    train(config, data, tmp_path / "begun", *taught, until=2)
    assert steps_in(tmp_path / "begun") == 2
    train(config, data, tmp_path / "other", *taught, init=tmp_path / "begun" / "weights.safetensors")
    assert [*losses(tmp_path / "other")] == [1, 2, 3, 4, 5]


def test_what_does_not_track_is_not_watched(config: Path, data: Path, tmp_path: Path) -> None:
    taught = ("model.head=none", "train.teacher=mobilenetv3_online", "train.teacher_weight=1.0")
    watched = replace(options(), validation=data)
    with pytest.raises(ValueError, match="leave --validation out"):
        list(run.train(config, data, tmp_path, taught, watched))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"head.bias": None}, r"head.bias is missing there, \(\) here"),
        ({"extra": torch.ones(2)}, r"extra is \(2,\) there, missing here"),
        ({"head.bias": torch.ones(3)}, r"head.bias is \(3,\) there, \(\) here"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    whole: Path, config: Path, data: Path, tmp_path: Path, change: dict[str, torch.Tensor | None], complaint: str
) -> None:
    loaded = weights(whole)
    tensors = {name: tensor for name, tensor in (loaded.tensors | change).items() if tensor is not None}
    init = tmp_path / "init.safetensors"
    checkpoint.save(init, replace(loaded, tensors=tensors))
    with pytest.raises(ValueError, match=f"init.safetensors does not fit the configuration: {complaint}"):
        train(config, data, tmp_path / "out", init=init)


@pytest.mark.parametrize("change", ["crop.template_size=30", "train.search_size=80"])
def test_crops_that_the_network_cannot_read_are_refused(config: Path, data: Path, tmp_path: Path, change: str) -> None:
    with pytest.raises(ValueError, match=r"no crops of crop.template_size = \d+ and train.search_size = \d+ pixels"):
        train(config, data, tmp_path / "out", change)
    assert not (tmp_path / "out").exists()


def test_missing_weight_file_is_named(config: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot read the weight file .*none.safetensors"):
        train(config, data, tmp_path / "out", init=tmp_path / "none.safetensors")


def test_what_cannot_be_trained_is_refused(config: Path, data: Path, tmp_path: Path) -> None:
    tracking = tmp_path / "tracking.toml"
    tracking.write_text(to_toml(replace(parse(CONFIG), train=None)))
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"tracking.toml has no \[train\] table"):
        train(tracking, data, out)
    with pytest.raises(ValueError, match=r"train.pairs = 1 must hold a step, .* = 2"):
        train(config, data, out, "train.pairs=1", "train.warmup_pairs=0")
    with pytest.raises(ValueError, match=r"train.data.negative_share must be 0 to 1, got 2"):
        train(config, data, out, "train.data.negative_share=2")
    with pytest.raises(ValueError, match="cannot read the tracks"):
        train(config, tmp_path, out)
    assert not out.exists()
