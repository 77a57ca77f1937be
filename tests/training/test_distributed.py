"""Two processes, started as a user starts them, against one with a doubled batch."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.tolerances import assert_close
from tests.training.test_run import CONFIG, write_data
from tracker import checkpoint
from tracker.training import run
from tracker.training.distributed import SyncedBatchNorm, average_gradients, mean_over_ranks, rank, world_size
from tracker.training.run import RunOptions

ROOT = Path(__file__).parents[2]


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("taught", [[], ["train.teacher=mobilenetv3_online", "train.teacher_weight=1.0"]])
def test_two_processes_learn_what_one_with_the_doubled_batch_does(tmp_path: Path, taught: list[str]) -> None:
    data = write_data(tmp_path / "data")
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG.replace("pairs = 10", "pairs = 16"))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tracker"]
    command += ["train", str(config), "--data", str(data), "--out", str(tmp_path / "two")]
    command += ["--workers", "0", "--threads", "1", *(word for change in taught for word in ("--set", change))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stderr
    options = RunOptions(workers=0, threads=torch.get_num_threads())
    list(run.train(config, data, tmp_path / "one", ["train.batch=2", *taught], options))
    two, one = rows(tmp_path / "two"), rows(tmp_path / "one")
    assert [row["step"] for row in two] == [row["step"] for row in one] == ["1", "2", "3", "4"]
    # In half precision, where it is used, the batches of 1 and 2 round differently.
    for a, b in zip(two, one, strict=True):
        assert float(a["loss"]) == pytest.approx(float(b["loss"]), rel=5e-3)
        assert a["lr"] == b["lr"]
    first, second = (checkpoint.load(tmp_path / name / "weights.safetensors") for name in ("two", "one"))
    assert first.provenance["pairs"] == second.provenance["pairs"] == "16"
    assert first.tensors.keys() == second.tensors.keys()
    assert done.stderr.count("step 4/4") == 1  # one of them tells


def test_run_of_two_processes_is_not_gone_on_with_by_one(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG)
    options = RunOptions(workers=0, threads=torch.get_num_threads())
    list(run.train(config, data, tmp_path / "run", (), options))
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert state["processes"] == 1
    torch.save(state | {"processes": 2}, tmp_path / "run" / "state.pt")
    with pytest.raises(ValueError, match="of a run of 2 processes, not 1; go on with as many"):
        list(run.train(config, data, tmp_path / "run", (), options))


def test_alone_nothing_changes() -> None:
    assert (world_size(), rank()) == (1, 0)
    value = torch.tensor([3.0], requires_grad=True)
    assert mean_over_ranks(value).tolist() == [3] and not mean_over_ranks(value).requires_grad
    layer = nn.Linear(2, 1)
    layer(torch.ones(1, 2)).sum().backward()
    before = layer.weight.grad.clone()
    average_gradients(layer)
    assert torch.equal(layer.weight.grad, before)


@pytest.mark.parametrize("training", [True, False])
def test_synchronised_batch_norm_is_torch_s(training: bool) -> None:
    torch.manual_seed(0)
    plain, other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    for norm in (plain, other):
        nn.init.uniform_(norm.weight, 0.5, 2)
        norm.load_state_dict(plain.state_dict())
    synced = SyncedBatchNorm(other).train(training)
    plain.train(training)
    x = torch.randn(4, 3, 5, 6, requires_grad=True)
    weights = torch.randn(4, 3, 5, 6)
    results = []
    for norm in (plain, synced):
        y = norm(x)
        gradients = torch.autograd.grad((y * weights).sum(), [x, norm.weight, norm.bias])
        results.append([y.detach(), *gradients, norm.running_mean, norm.running_var])
    for ours, theirs in zip(results[1], results[0], strict=True):
        assert_close(ours, theirs, "float32")
    assert plain.state_dict().keys() == synced.state_dict().keys()
