import csv
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.tolerances import assert_close
from tests.training.toy import BATCH, SCHEDULE, STEPS, ToyPairs, make_trainer, objective
from tracker.data.pairs import Pairs
from tracker.training.trainer import Schedule, Steps, Trainer

ROOT = Path(__file__).parents[2]


def losses(trainer: Trainer, until: int = STEPS, workers: int = 0) -> dict[int, float]:
    """Train until a step and return the loss of each; the trainer is then left as a kill would leave it."""
    done = {}
    for progress in trainer.run(ToyPairs(), BATCH, workers):
        done[progress.step] = progress.loss
        if progress.step == until:
            break
    return done


def log(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("step", "lr"),
    [
        (0, 0.001),  # a tenth of the warm-up
        (4, 0.005),
        (9, 0.01),
        (10, 0.01),  # the fall begins: 0.01 * 0.01 ** (k / 90)
        (55, 0.001),
        (99, 0.01 * 0.01 ** (89 / 90)),
    ],
)
def test_learning_rate_warms_up_and_falls_geometrically(step: int, lr: float) -> None:
    assert_close(Schedule(steps=100, warmup_steps=10, lr_start=0.01, lr_end=0.0001).lr(step), lr, "float64")


def test_schedule_needs_no_warm_up() -> None:
    schedule = Schedule(steps=4, warmup_steps=0, lr_start=1.0, lr_end=1 / 16)
    assert_close([schedule.lr(step) for step in range(4)], [1, 1 / 2, 1 / 4, 1 / 8], "float64")


def test_optimizer_uses_the_schedule(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    used = []
    for _ in trainer.run(ToyPairs(), BATCH, workers=0):
        used.append(trainer.optimizer.param_groups[0]["lr"])
    assert used == [SCHEDULE.lr(step) for step in range(STEPS)]


def test_same_seed_gives_the_same_losses(tmp_path: Path) -> None:
    first = losses(make_trainer(tmp_path / "a"))
    assert losses(make_trainer(tmp_path / "b")) == first
    assert losses(make_trainer(tmp_path / "c", seed=1)) != first


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_workers_do_not_change_the_losses(tmp_path: Path) -> None:
    alone = losses(make_trainer(tmp_path / "a"))
    assert losses(make_trainer(tmp_path / "b"), workers=2) == alone


def test_loss_falls(tmp_path: Path) -> None:
    done = list(losses(make_trainer(tmp_path)).values())
    assert sum(done[-10:]) / 10 < 0.5 * sum(done[:5]) / 5


def test_learning_rate_may_fall_along_half_a_cosine() -> None:
    schedule = Schedule(steps=110, warmup_steps=10, lr_start=0.01, lr_end=0.001, fall="cosine")
    assert_close([schedule.lr(step) for step in (4, 10, 60, 110)], [0.005, 0.01, 0.0055, 0.001], "float64")


def test_group_may_take_a_share_of_the_learning_rate(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.optimizer.param_groups[0]["lr_share"] = 0.25
    losses(trainer, until=3)
    assert trainer.optimizer.param_groups[0]["lr"] == 0.25 * SCHEDULE.lr(2)


def test_gradient_is_clipped_to_its_norm(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, steps=Steps(clip_norm=1e-3))
    losses(trainer, until=1)
    gradients = torch.cat([p.grad.flatten() for p in trainer.network.parameters() if p.grad is not None])
    assert_close(gradients.norm(), 1e-3, "float32")


def test_result_is_the_mean_of_the_weights_over_the_steps(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, steps=Steps(ema=0.75))
    expected: dict[str, Tensor] = {}
    for _ in trainer.run(ToyPairs(), BATCH, workers=0):
        for name, value in trainer.network.state_dict().items():
            expected[name] = 0.75 * expected[name] + 0.25 * value if name in expected else value.clone()
    for name, value in trainer.result.state_dict().items():
        if value.is_floating_point():
            assert_close(value, expected[name], "float32")
    assert not torch.equal(trainer.result.state_dict()["0.weight"], trainer.network.state_dict()["0.weight"])
    without = make_trainer(tmp_path / "without")
    assert without.result is without.network


def test_weights_given_at_the_start_are_the_means_too(tmp_path: Path) -> None:
    trainer, other = (make_trainer(tmp_path / str(seed), seed, steps=Steps(ema=0.9)) for seed in (0, 1))
    trainer.restart(other.network.state_dict())
    for network in (trainer.network, trainer.result):
        for name, value in network.state_dict().items():
            assert torch.equal(value, other.network.state_dict()[name])


@pytest.mark.parametrize("stopped", [5, 12, STEPS - 1])
@pytest.mark.parametrize("steps", [Steps(), Steps(clip_norm=0.5, ema=0.9)], ids=["plain", "clipped mean"])
def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, stopped: int, steps: Steps) -> None:
    whole_run = make_trainer(tmp_path / "whole", steps=steps)
    whole = losses(whole_run)
    first = losses(make_trainer(tmp_path / "parts", steps=steps), until=stopped)
    resumed = make_trainer(tmp_path / "parts", seed=7, steps=steps)  # another start, which the state replaces
    saved = stopped // 5 * 5
    assert resumed.step == saved
    second = losses(resumed)
    assert min(second) == saved + 1
    assert first | second == whole
    assert {step: loss for step, loss in first.items() if step in second} == {
        step: loss for step, loss in second.items() if step in first
    }
    final = [torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "parts")]
    for name, tensor in final[0]["network"].items():
        assert torch.equal(tensor, final[1]["network"][name])
    for name, tensor in whole_run.result.state_dict().items():
        assert torch.equal(tensor, resumed.result.state_dict()[name])


def test_log_has_each_step_once_even_after_a_kill(tmp_path: Path) -> None:
    losses(make_trainer(tmp_path), until=12)
    assert [int(row["step"]) for row in log(tmp_path)] == list(range(1, 13))
    with (tmp_path / "log.csv").open("a") as file:
        file.write("13,0.2")  # cut off
    done = losses(make_trainer(tmp_path))
    rows = log(tmp_path)
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    assert list(rows[0]) == ["step", "loss", "lr", "pairs_per_s", "waiting"]
    for row in rows[10:]:
        assert float(row["loss"]) == round(done[int(row["step"])], 5)
        assert float(row["lr"]) == pytest.approx(SCHEDULE.lr(int(row["step"]) - 1), rel=0.01)
        assert 0 <= float(row["waiting"]) <= 1
        assert float(row["pairs_per_s"]) > 0


def test_log_of_a_run_without_a_state_begins_anew(tmp_path: Path) -> None:
    losses(make_trainer(tmp_path), until=3)
    losses(make_trainer(tmp_path), until=2)
    assert [row["step"] for row in log(tmp_path)] == ["1", "2"]


def test_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    losses(make_trainer(tmp_path))
    assert losses(make_trainer(tmp_path)) == {}


def test_progress_says_when_the_state_was_saved(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, schedule=Schedule(7, 0, 0.01, 0.01))
    saved = {progress.step: progress.saved for progress in trainer.run(ToyPairs(), BATCH, workers=0)}
    assert [step for step, value in saved.items() if value] == [5, 7]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "state.pt"]


def test_seconds_go_on_over_resumes(tmp_path: Path) -> None:
    first = make_trainer(tmp_path)
    losses(first, until=5)
    resumed = make_trainer(tmp_path)
    assert 0 < resumed.seconds <= first.seconds
    before = resumed.seconds
    losses(resumed)
    assert resumed.seconds > before


def test_state_of_an_older_run_without_seconds_is_taken(tmp_path: Path) -> None:
    losses(make_trainer(tmp_path), until=5)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    del state["seconds"]
    torch.save(state, tmp_path / "state.pt")
    trainer = make_trainer(tmp_path)
    assert (trainer.step, trainer.seconds) == (5, 0.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_stops_and_keeps_the_batch(tmp_path: Path, value: float) -> None:
    trainer = make_trainer(tmp_path)

    def failing(network: nn.Module, pairs: Pairs) -> Tensor:
        loss = objective(network, pairs)
        return loss * value if trainer.step == 7 else loss

    trainer.objective = failing
    before = None
    with pytest.raises(FloatingPointError, match=r"became (nan|inf) at step 8; .*bad_batch.pt; lower train.lr_start"):
        for progress in trainer.run(ToyPairs(), BATCH, workers=0):
            if progress.step == 7:
                before = [parameter.detach().clone() for parameter in trainer.network.parameters()]
    assert before is not None
    for was, parameter in zip(before, trainer.network.parameters(), strict=True):
        assert torch.equal(was, parameter)
    kept = torch.load(tmp_path / "bad_batch.pt", weights_only=True)
    for part, values in enumerate(kept):
        assert torch.equal(values, torch.stack([ToyPairs()[i][part] for i in range(7 * BATCH, 8 * BATCH)]))
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 5


@pytest.mark.parametrize("clip_norm", [0.0, 10.0])
def test_gradient_that_is_not_finite_stops_before_the_step(tmp_path: Path, clip_norm: float) -> None:
    trainer = make_trainer(tmp_path, steps=Steps(clip_norm=clip_norm))

    def failing(network: nn.Module, pairs: Pairs) -> Tensor:
        weight = next(network.parameters())
        bent = (weight - weight).sum().square().sqrt() if trainer.step == 4 else 0.0  # 0, whose slope is no number
        return objective(network, pairs) + bent

    trainer.objective = failing
    with pytest.raises(FloatingPointError, match=r"the gradient became nan at step 5; the batch is in .*bad_batch.pt"):
        losses(trainer)
    assert all(torch.isfinite(parameter).all() for parameter in trainer.network.parameters())
    assert trainer.step == 4 and not (tmp_path / "state.pt").exists()


def test_log_has_the_step_of_the_state_before_it_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Trainer) -> None:
        assert [int(row["step"]) for row in log(tmp_path)] == [1, 2, 3, 4, 5]
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_save", killed)
    with pytest.raises(KeyboardInterrupt):
        losses(make_trainer(tmp_path))


def test_full_disk_is_said_and_leaves_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses(make_trainer(tmp_path), until=5)
    before = (tmp_path / "state.pt").read_bytes()

    def full(self: Path, content: object) -> int:
        self.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"cannot write .*state.pt: .*No space left on device"):
        losses(make_trainer(tmp_path))
    assert (tmp_path / "state.pt").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


class BrokenPairs(ToyPairs):
    """Pairs of which one cannot be drawn."""

    def __getitem__(self, index: int) -> Pairs:
        if index == 9:
            raise ValueError("the picture nine: it cannot be read")
        return super().__getitem__(index)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_error_in_a_worker_is_told_in_its_own_words(tmp_path: Path, workers: int) -> None:
    with pytest.raises(ValueError) as caught:
        list(make_trainer(tmp_path).run(BrokenPairs(), BATCH, workers))
    assert str(caught.value) == "the picture nine: it cannot be read"


@pytest.mark.parametrize("content", [b"", b"no state", "truncated", {"step": 5}, [1, 2], {"network": 3}])
def test_broken_state_is_named(tmp_path: Path, content: object) -> None:
    losses(make_trainer(tmp_path), until=5)
    path = tmp_path / "state.pt"
    if content == "truncated":
        path.write_bytes(path.read_bytes()[:-500])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=r"cannot go on from .*state.pt .*; choose another folder") as caught:
        make_trainer(tmp_path)
    assert "\n" not in str(caught.value)


def test_state_of_another_network_is_named(tmp_path: Path) -> None:
    losses(make_trainer(tmp_path), until=5)
    network = nn.Linear(12, 2)
    with pytest.raises(ValueError, match=r"cannot go on from .*state.pt"):
        Trainer(network, objective, torch.optim.SGD(network.parameters(), lr=1.0), SCHEDULE, tmp_path)


@pytest.mark.slow
def test_killed_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.training.toy", str(tmp_path / "killed")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("12 "):
                process.kill()  # SIGKILL: nothing can be tidied up
                break
    assert process.returncode == -9
    assert not list((tmp_path / "killed").glob("*.part"))
    again = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=100).stdout
    printed = {int(step): float(loss) for step, loss in map(str.split, again.splitlines())}
    assert min(printed) == 11
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = losses(make_trainer(tmp_path / "whole"))
    finally:
        torch.set_num_threads(threads)
    assert printed == {step: loss for step, loss in whole.items() if step >= 11}
    assert [int(row["step"]) for row in log(tmp_path / "killed")] == list(range(1, STEPS + 1))
