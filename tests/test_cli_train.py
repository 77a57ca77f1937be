from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tracker import checkpoint, threads
from tracker.builder import load_runtime, load_tracker
from tracker.cli import main
from tracker.config import parse
from tracker.toml_tree import to_toml
from tracker.training import run
from tracker.zoo import find_config, find_weights


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Replace the training; return what it was asked for."""
    asked: list[tuple[object, ...]] = []

    def train(config: Path, data: Path, out: Path, overrides: Sequence[str], options: run.RunOptions) -> Iterator[str]:
        asked.append((config, data, out, list(overrides), options))
        yield "step 1/2"
        if data.name == "nan":
            raise FloatingPointError("the loss became nan at step 2")
        if data.name == "stop":
            raise KeyboardInterrupt
        if data.name == "wrong":
            raise ValueError("no tracks\nin wrong")
        if data.name == "memory":
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
        if data.name == "bug":
            raise RuntimeError("of another kind")
        yield "step 2/2"

    monkeypatch.setattr(run, "train", train)
    return asked


def train(*options: str, data: str = "data") -> int:
    return main(["train", "siamfc_alexnet", "--data", data, "--out", "out", *options])


def test_options_reach_the_training(calls: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "free_threads", lambda: 3)
    assert train() == 0
    options = ["--workers", "3", "--threads", "4", "--set", "a.b=1", "--set", "c=d", "--init", "w.safetensors"]
    watched = ["--validation", "videos", "--validate-every", "50", "--tensorboard"]
    assert train(*options, *watched) == 0
    folders = (find_config("siamfc_alexnet"), Path("data"), Path("out"))
    plain = run.RunOptions(workers=1, threads=3)
    told = run.RunOptions(3, 4, Path("w.safetensors"), Path("videos"), validate_every=50, tensorboard=True)
    assert calls == [(*folders, [], plain), (*folders, ["a.b=1", "c=d"], told)]


def test_what_ships_is_known_by_its_name(calls: list[tuple[object, ...]]) -> None:
    root = Path(__file__).parent.parent
    assert main(["train", "finetune", "--data", "data", "--out", "out", "--init", "siamrpn_mobile"]) == 0
    ((config, _, _, _, options),) = calls
    assert config == root / "configs" / "finetune.toml"
    assert isinstance(options, run.RunOptions) and options.init == root / "weights" / "siamrpn_mobile.safetensors"


def test_progress_goes_to_stderr(calls: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    assert train() == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["step 1/2", "step 2/2", f"the weights are in {Path('out', 'weights.safetensors')}"]


@pytest.mark.parametrize(
    ("data", "status", "last"),
    [
        ("wrong", 2, "siamtrack: error: no tracks in wrong"),
        ("nan", 1, "siamtrack: error: the loss became nan at step 2"),
        ("stop", 130, "siamtrack: stopped; the same command goes on from the last save"),
        (
            "memory",
            1,
            "siamtrack: error: a process that prepares pairs was ended from outside; was the memory full?"
            " take fewer --workers (the same command goes on from the last save)",
        ),
    ],
)
def test_what_ends_a_run_early_is_said_in_one_line(
    calls: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str], data: str, status: int, last: str
) -> None:
    assert train(data=data) == status
    assert capsys.readouterr().err.splitlines() == ["step 1/2", last]


def test_error_of_our_own_is_not_hidden(calls: list[tuple[object, ...]]) -> None:
    with pytest.raises(RuntimeError, match="of another kind"):
        train(data="bug")


@pytest.mark.parametrize("options", [["--workers", "-1"], ["--threads", "0"], ["--data"], ["--colour", "red"]])
def test_wrong_options_are_refused(
    calls: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    assert train(*options) == 2
    assert capsys.readouterr().err.startswith("siamtrack: error: ")
    assert calls == []


def test_missing_configuration_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folders = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
    threads = ["--threads", str(torch.get_num_threads())]  # they are the process's, and other tests come after
    assert main(["train", str(tmp_path / "none.toml"), *folders, *threads]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("siamtrack: error: ")
    assert f"no configuration '{tmp_path / 'none.toml'}'; give a file or one of: encoders/omniglot, finetune, " in line


def test_help_says_what_init_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for words in (
        "--init",
        "unfinished run of the same configuration, data and number of processes",
        "momentum starts afresh",
    ):
        assert words in text


def test_two_models_are_put_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = 'model.second={backbone="mobilenetv3_small",head="rpn_light",refiner="window_light"}'
    config, out = tmp_path / "both.toml", tmp_path / "both.safetensors"
    config.write_text(to_toml(parse(find_config("siamrpn_mobile").read_text(encoding="utf-8"), [second])))
    assert main(["combine", str(config), "siamrpn_mobile", "siamrpn_mobile", "--out", str(out)]) == 0
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"the weights are in {out}, without an embedding head: where the configuration names one, ")
    assert "siamtrack train-verifier" in told
    with pytest.raises(ValueError, match="train-verifier makes it"):
        load_tracker(out, "cpu", runtime="torch")
    assert load_tracker(out, "cpu", ["model.embedding=none", "score=false", "recovery=false"], runtime="torch")
    assert main(["combine", "siamrpn_mobile", "siamrpn_mobile", "siamrpn_mobile", "--out", str(out)]) == 2
    assert "names no ensemble" in capsys.readouterr().err


def test_a_model_and_what_was_made_of_it_are_averaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = checkpoint.load(find_weights("siamrpn_mobile"))
    tuned = {
        name: tensor + 1 if name.startswith("head.") and tensor.is_floating_point() else tensor
        for name, tensor in shipped.tensors.items()
    }
    checkpoint.save(tmp_path / "tuned.safetensors", replace(shipped, tensors=tuned))
    out = tmp_path / "mean.safetensors"
    files = ["average", "siamrpn_mobile", str(tmp_path / "tuned.safetensors"), "--out", str(out)]
    assert main([*files, "--share", "0.25"]) == 0
    assert capsys.readouterr().err.splitlines() == [f"the weights are in {out}"]
    mean = checkpoint.load(out)
    for name, tensor in mean.tensors.items():
        moved = 0.25 if name.startswith("head.") and tensor.is_floating_point() else 0.0
        assert torch.allclose(tensor.float(), shipped.tensors[name].float() + moved, rtol=1e-2, atol=1e-2)
    assert load_tracker(out, "cpu", runtime="torch")
    assert (
        load_runtime(out, "cpu", (), "torch", None).metrics["verify_threshold"] == shipped.metrics["verify_threshold"]
    )
    moved = {name: tensor * 2 if name.startswith("backbone.") else tensor for name, tensor in tuned.items()}
    checkpoint.save(tmp_path / "tuned.safetensors", replace(shipped, tensors=moved))
    assert main(files) == 0
    assert "the embedding head has not learned these features: see siamtrack train-verifier" in capsys.readouterr().err
    bare = {name: tensor for name, tensor in tuned.items() if not name.startswith("embedding.")}
    checkpoint.save(tmp_path / "tuned.safetensors", replace(shipped, tensors=bare))
    assert main(files) == 0
    assert "without an embedding head: see siamtrack train-verifier" in capsys.readouterr().err
    assert main(["average", "nobody", *files[2:]]) == 2
    assert "unknown model 'nobody'" in capsys.readouterr().err
