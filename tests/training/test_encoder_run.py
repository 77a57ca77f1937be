import shutil
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.utils import Bunch

from tests.test_encoder_builder import TEXT
from tracker import checkpoint, whole_file
from tracker.encoder_builder import load_encoder
from tracker.encoder_config import EncoderConfig
from tracker.encoding import embed_samples
from tracker.models.encoders import SiameseEncoder
from tracker.toml_tree import read
from tracker.training import encoder_run
from tracker.training.encoder_run import train_encoder
from tracker.training.mining import draw_pairs
from tracker.training.trainer import Trainer
from tracker.verification import RocCurve, area, equal_error_rate, roc_curve

STEPS = 5


@pytest.fixture(autouse=True)
def saving_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_run, "Trainer", partial(Trainer, save_every=2))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for k in range(4):
        (root / str(k)).mkdir()
        for i in range(3):
            image = (60 * k + rng.integers(0, 30, (9, 7))).astype(np.uint8)
            cv2.imwrite(str(root / str(k) / f"{i}.png"), image)
    return root


@pytest.fixture(scope="module")
def config(data: Path) -> Path:
    path = data.parent / "tiny.toml"
    path.write_text(TEXT)
    return path


OVERRIDES = (f"train.steps={STEPS}", "train.mining=distance_weighted", "train.ema=0.5", "train.margin=0.7")
BENT = "train.distortion={rotate=9.0, shear=0.1, scale=0.1, shift=0.1, bend=0.02, stroke_chance=0.5}"


def train(config: Path, data: Path, out: Path, *overrides: str) -> list[str]:
    return list(train_encoder(config, data, out, (*OVERRIDES, BENT, *overrides), threads=1))


def rows(out: Path) -> list[str]:
    return [",".join(line.split(",")[:3]) for line in (out / "log.csv").read_text().splitlines()[1:]]


@pytest.fixture(scope="module")
def whole(config: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    assert train(config, data, out)[-1].startswith(f"step {STEPS}/{STEPS}  loss ")
    return out


def test_folder_in_which_another_run_is_at_work_is_not_touched(
    config: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_file, "_WAIT_S", 0.05)
    monkeypatch.setattr(encoder_run, "_REPORT_EVERY", 1)
    first = train_encoder(config, data, tmp_path, OVERRIDES, threads=1)
    next(line for line in first if line.startswith("step 3/"))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="another process is at work in "):
        list(train_encoder(config, data, tmp_path, OVERRIDES, threads=1))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_same_seed_gives_the_same_losses(config: Path, data: Path, whole: Path, tmp_path: Path) -> None:
    train(config, data, tmp_path / "again")
    train(config, data, tmp_path / "other", "train.seed=2")
    assert rows(tmp_path / "again") == rows(whole)
    assert rows(tmp_path / "other") != rows(whole)


def test_resumed_run_equals_an_uninterrupted_one(
    config: Path, data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer._train_step

    def killed(self: Trainer, found: object) -> float:
        if self.step == 3:
            raise KeyboardInterrupt
        return step(self, found)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, data, tmp_path)
    assert checkpoint.load(tmp_path / "weights.safetensors").provenance["steps"] == "2"
    train(config, data, tmp_path)
    assert rows(tmp_path) == rows(whole)
    ours, theirs = (checkpoint.load(out / "weights.safetensors").tensors for out in (tmp_path, whole))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_weights_are_half_and_say_where_they_come_from(data: Path, whole: Path) -> None:
    loaded = checkpoint.load(whole / "weights.safetensors")
    facts = loaded.provenance
    assert {tensor.dtype for tensor in loaded.tensors.values()} == {torch.float16, torch.int64}
    assert facts["command"].startswith("siamtrack encoder train ")
    assert (
        facts["command"].endswith(f"--set 'train.ema=0.5' --set train.margin=0.7 --set '{BENT}'")
        or BENT in facts["command"]
    )
    assert facts["data"].startswith("12 samples of 4 classes in ")
    assert facts["steps"] == str(STEPS)
    assert not any(str(data.parent) in value for value in facts.values())
    assert load_encoder(whole / "weights.safetensors")[1].train.steps == STEPS


def test_finished_run_has_nothing_left_to_do_but_its_weights(
    config: Path, data: Path, whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    (tmp_path / "weights.safetensors").unlink()
    told = [f"the run in {tmp_path} is finished already: it has taken its {STEPS} steps"]
    assert train(config, data, tmp_path) == told
    assert (tmp_path / "weights.safetensors").exists()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert train(config, data, tmp_path) == told
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_folder_of_another_configuration_is_refused(config: Path, data: Path, whole: Path) -> None:
    with pytest.raises(ValueError, match="holds a run of another configuration, see .*config.toml"):
        train(config, data, whole, "train.margin=0.3")
    kept = read(EncoderConfig, (whole / "config.toml").read_text())
    assert kept.train.margin == 0.7


def test_run_does_not_go_on_with_other_samples(config: Path, data: Path, tmp_path: Path) -> None:
    train(config, data, tmp_path / "out", "train.steps=1")
    moved = shutil.copytree(data, tmp_path / "moved")
    assert "finished already" in train(config, moved, tmp_path / "out", "train.steps=1")[0]
    cv2.imwrite(str(moved / "0" / "0.png"), np.zeros((9, 7), np.uint8))
    with pytest.raises(ValueError, match=r"holds a run on other data, 12 samples of 4 classes in .*; choose another"):
        train(config, moved, tmp_path / "out", "train.steps=1")


def test_setting_out_of_range_is_refused(config: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data.size must be 8 or more"):
        train(config, data, tmp_path, "data.size=0")


def test_class_with_one_sample_is_named(config: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "lone").mkdir()
    shutil.copy(data / "0" / "0.png", tmp_path / "data" / "lone")
    with pytest.raises(ValueError, match="class 'lone' has 1 samples"):
        train(config, tmp_path / "data", tmp_path / "out")


def test_turned_pictures_are_more_classes_but_sequences_do_not_turn(config: Path, data: Path, tmp_path: Path) -> None:
    train(config, data, tmp_path / "out", "data.rotations=true", "train.classes=16", "train.steps=1")
    facts = checkpoint.load(tmp_path / "out" / "weights.safetensors").provenance
    assert facts["data"].startswith("48 samples of 16 classes")
    (tmp_path / "arrays" / "a").mkdir(parents=True)
    np.save(tmp_path / "arrays" / "a" / "0.npy", np.zeros((3, 1)))
    with pytest.raises(ValueError, match="data.rotations turns pictures; sequences have none"):
        train(config, tmp_path / "arrays", tmp_path / "none", "data.layout=sequences", "data.rotations=true")


def pictures_of(digits: Bunch, chosen: NDArray[np.bool_], size: int) -> list[NDArray[np.uint8]]:
    """Return the chosen digits, 8x8 with values 0 to 16, as pictures with values 0 to 240."""
    images = (15 * digits.images[chosen]).astype(np.uint8)
    return [cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)[None] for image in images]


def verified(network: SiameseEncoder, pictures: list[NDArray[np.uint8]], labels: NDArray[np.int64]) -> RocCurve:
    """Compare 20,000 pairs drawn from the pictures, half of them the same."""
    embeddings = embed_samples(network, pictures, sequential=False)
    first, second, same = draw_pairs(labels, 20_000, np.random.default_rng(0))
    similarities = network.metric(embeddings[first], embeddings[second]).double().numpy()
    curve = roc_curve(similarities[same.numpy()], similarities[~same.numpy()])
    assert area(curve) == pytest.approx(roc_auc_score(same.numpy(), similarities), abs=1e-9)
    return curve


def test_digits_that_were_never_seen_are_told_apart(config: Path, tmp_path: Path) -> None:
    """Train on the digits 0 to 6 of scikit-learn and verify 7, 8 and 9; benchmarks/oneshot.md has what was measured."""
    digits = load_digits()
    known = digits.target <= 6
    for number in range(7):
        (tmp_path / "known" / str(number)).mkdir(parents=True)
        for at, picture in enumerate(pictures_of(digits, digits.target == number, 8)):
            cv2.imwrite(str(tmp_path / "known" / str(number) / f"{at}.png"), picture[0])
    recipe = ("model.width=24", "model.dimensions=256", "data.size=16", "data.rotations=true", "train.classes=16")
    steps = ("train.samples=4", "train.steps=150", "train.lr_start=0.0005", "train.warmup_steps=10", "train.ema=0.9")
    loss = ("train.loss=supervised_contrastive",)
    bent = "train.distortion={rotate=15.0, shear=0.3, scale=0.2, shift=0.1, bend=0.04, stroke_chance=0.3}"
    train(config, tmp_path / "known", tmp_path / "out", *recipe, *steps, *loss, bent)
    network, _ = load_encoder(tmp_path / "out" / "weights.safetensors")
    curve = verified(network, pictures_of(digits, ~known, 16), digits.target[~known])
    assert area(curve) > 0.74
    assert equal_error_rate(curve) < 0.32
