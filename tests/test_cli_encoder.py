from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.data.test_omniglot import draw
from tests.test_encoder_builder import TEXT
from tracker import checkpoint, threads
from tracker.cli import main
from tracker.encoder_builder import build_encoder
from tracker.encoder_config import EncoderConfig
from tracker.toml_tree import read, to_toml
from tracker.training import encoder_run
from tracker.zoo import find_config


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Replace the training; return what it was asked for."""
    asked: list[tuple[object, ...]] = []

    def train(config: Path, data: Path, out: Path, overrides: Sequence[str], threads: int) -> Iterator[str]:
        asked.append((config, data, out, list(overrides), threads))
        yield "step 1/2"
        if data.name == "nan":
            raise FloatingPointError("the loss became nan at step 2")
        if data.name == "stop":
            raise KeyboardInterrupt
        if data.name == "wrong":
            raise ValueError("no samples\nin wrong")
        yield "step 2/2"

    monkeypatch.setattr(encoder_run, "train_encoder", train)
    return asked


def train(*options: str, data: str = "data") -> int:
    return main(["encoder", "train", "encoders/omniglot", "--data", data, "--out", "out", *options])


def test_options_reach_the_training(calls: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "free_threads", lambda: 3)
    assert train() == 0
    assert train("--threads", "4", "--set", "a.b=1", "--set", "c=d") == 0
    folders = (find_config("encoders/omniglot"), Path("data"), Path("out"))
    assert calls == [(*folders, [], 3), (*folders, ["a.b=1", "c=d"], 4)]


def test_missing_configuration_is_named(calls: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encoder", "train", "none.toml", "--data", "data", "--out", "out"]) == 2
    assert capsys.readouterr().err.startswith("siamtrack: error: no configuration 'none.toml'; give a file or one of: ")
    assert calls == []


@pytest.mark.parametrize(
    ("data", "status", "last"),
    [
        ("data", 0, f"the weights are in {Path('out', 'weights.safetensors')}"),
        ("wrong", 2, "siamtrack: error: no samples in wrong"),
        ("nan", 1, "siamtrack: error: the loss became nan at step 2"),
        ("stop", 130, "siamtrack: stopped; the same command goes on from the last save"),
    ],
)
def test_end_of_a_run_is_said_in_one_line(
    calls: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str], data: str, status: int, last: str
) -> None:
    assert train(data=data) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == last
    assert err.splitlines()[0] == "step 1/2"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return weight files of encoders that were not trained, by layout: a larger picture is told by its ink."""
    found = {}
    for layout, metric in (("omniglot", "cosine"), ("pictures", "l2"), ("clips", "cosine")):
        torch.manual_seed(0)
        encoder = "clip" if layout == "clips" else "character_cnn"
        overrides = (f"data.layout={layout}", f"model.metric={metric}", "data.size=16", f"model.encoder={encoder}")
        config = read(EncoderConfig, TEXT, overrides)
        network = build_encoder(config)
        network.train()
        if layout != "clips":
            noise = torch.randint(0, 256, (64, 1, 16, 16), generator=torch.Generator().manual_seed(0))
            for _ in range(20):
                network.embed(noise.float())
        found[layout] = tmp_path_factory.mktemp("weights") / f"{layout}.safetensors"
        checkpoint.save(found[layout], checkpoint.Checkpoint(network.state_dict(), to_toml(config), {}, {}))
    return found


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for run in ("run01", "run02"):
        lines = []
        for k in range(4):
            for side, name in (("training", "class"), ("test", "item")):
                draw(tmp_path / "runs" / run / side / f"{name}{k}.png", 20 * k + 10)
            lines.append(f"{run}/test/item{k}.png {run}/training/class{k}.png")
        (tmp_path / "runs" / run / "class_labels.txt").write_text("\n".join(lines))
    return tmp_path / "runs"


@pytest.mark.parametrize("classifier", ["nearest", "prototypes", "matching", "relation"])
def test_equal_pictures_are_told_right_in_every_run(
    weights: dict[str, Path], runs: Path, capsys: pytest.CaptureFixture[str], classifier: str
) -> None:
    assert main(["encoder", "oneshot", str(weights["omniglot"]), "--data", str(runs), "--classifier", classifier]) == 0
    out, err = capsys.readouterr()
    assert out == "accuracy 1.0000 +- 0.0000 over 2 runs\n"
    assert err.splitlines() == ["run01: 1.000", "run02: 1.000"]


def test_views_are_averaged(
    weights: dict[str, Path], runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = checkpoint.load(weights["omniglot"])
    bent = "train.distortion={rotate=40.0, shear=0.5, scale=0.5, shift=0.4, bend=0.2, stroke_chance=0.5}"
    config = read(EncoderConfig, loaded.config, [bent])
    path = tmp_path / "bent.safetensors"
    checkpoint.save(path, checkpoint.Checkpoint(loaded.tensors, to_toml(config), {}, {}))
    said = []
    for views in ("0", "3"):
        assert main(["encoder", "oneshot", str(path), "--data", str(runs), "--views", views]) == 0
        said.append(capsys.readouterr().out)
    assert all(one.startswith("accuracy ") and one.endswith("over 2 runs\n") for one in said)
    assert main(["encoder", "oneshot", str(weights["omniglot"]), "--data", str(runs), "--views", "3"]) == 2
    assert "--views needs a distortion" in capsys.readouterr().err


def test_encoder_of_other_things_does_not_read_characters(
    weights: dict[str, Path], runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["encoder", "oneshot", str(weights["pictures"]), "--data", str(runs)]) == 2
    assert "embeds pictures, not the characters of Omniglot" in capsys.readouterr().err


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Write four classes of six pictures, each class of a brightness of its own."""
    rng = np.random.default_rng(0)
    for k in range(4):
        (tmp_path / "pictures" / f"c{k}").mkdir(parents=True)
        for i in range(6):
            image = np.zeros((16, 16), np.uint8)
            image[4 * k : 4 * k + 4] = 200 + rng.integers(0, 10)
            cv2.imwrite(str(tmp_path / "pictures" / f"c{k}" / f"{i}.png"), image)
    return tmp_path / "pictures"


def test_episodes_are_measured(weights: dict[str, Path], pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["encoder", "episodes", str(weights["pictures"]), "--data", str(pictures), "--ways", "4", "--count", "20"]
    assert main(command) == 0
    assert capsys.readouterr().out == "accuracy 1.0000 +- 0.0000 over 20 episodes\n"
    assert main([*command, "--shots", "3"]) == 2
    said = "needs 4 classes of 8 samples; there are 0, of 4 classes with up to 6 samples"
    assert said in capsys.readouterr().err


def listing(pictures: Path) -> Path:
    rows = [f"c{k}/0.png,c{k}/1.png,1\nc{k}/2.png,c{(k + 1) % 4}/3.png,0" for k in range(4)]
    path = pictures.parent / "pairs.csv"
    path.write_text("\n".join(["a,b,same", *rows]))
    return path


def test_pairs_are_measured(weights: dict[str, Path], pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["encoder", "pairs", str(weights["pictures"]), "--images", str(pictures), "--pairs"]
    assert main([*command, str(listing(pictures))]) == 0
    assert capsys.readouterr().out == "AUC 1.0000, EER 0.0000 on 8 pairs\n"


def test_pairs_of_lfw_are_judged_by_folds(
    weights: dict[str, Path], pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in pictures.iterdir():
        for i in range(6):
            (folder / f"{i}.png").rename(folder / f"{folder.name}_{i:04d}.jpg")
    lines = [f"c{k}\t0\t0\nc{k}\t2\tc{(k + 1) % 4}\t3" for k in range(4)]
    (pictures.parent / "pairs.txt").write_text("\n".join(["4\t1", *lines]))
    command = ["encoder", "pairs", str(weights["pictures"]), "--images", str(pictures), "--pairs"]
    assert main([*command, str(pictures.parent / "pairs.txt")]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "AUC 1.0000, EER 0.0000 on 8 pairs"
    assert second == "accuracy 1.0000 (1.0000 to 1.0000) over 4 folds"


def test_encoder_of_other_things_does_not_compare_pictures(
    weights: dict[str, Path], pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["encoder", "pairs", str(weights["clips"]), "--images", str(pictures), "--pairs", str(listing(pictures))]
    assert main(command) == 2
    assert "pairs are of pictures; this encoder embeds clips" in capsys.readouterr().err


def test_weights_of_a_tracker_are_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parent.parent / "weights" / "mobilenetv3_online.safetensors"
    assert main(["encoder", "oneshot", str(path), "--data", str(runs)]) == 2
    assert "holds no encoder" in capsys.readouterr().err


def test_broken_weights_are_seen(weights: dict[str, Path], pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = checkpoint.load(weights["pictures"])
    loaded.tensors["encoder.read.bias"][0] = float("nan")
    path = pictures.parent / "broken.safetensors"
    checkpoint.save(path, loaded)
    assert main(["encoder", "episodes", str(path), "--data", str(pictures), "--ways", "2"]) == 2
    assert "embeddings are not finite: the weights of the encoder are broken" in capsys.readouterr().err
