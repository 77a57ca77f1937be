"""The training loop: any objective, resumable after a kill, the same losses as without one."""

import csv
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from tracker.data.pairs import Pairs

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast: steps in all, linear warm-up, then a geometric fall of the learning rate."""

    steps: int
    warmup_steps: int
    lr_start: float
    lr_end: float

    def lr(self, step: int) -> float:
        """Return the learning rate of a step, 0-based."""
        if step < self.warmup_steps:
            return self.lr_start * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        return self.lr_start * (self.lr_end / self.lr_start) ** progress


@dataclass(frozen=True, slots=True)
class Progress:
    """Report one step: its number from 1, the loss, pairs a second and the share of time spent waiting for data."""

    step: int
    loss: float
    pairs_per_s: float
    waiting: float


class _From(Sampler[int]):
    """Yield indices from `first` on: how a resumed run goes on with the next sample."""

    def __init__(self, first: int, length: int) -> None:
        self.first, self.length = first, length

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.length))

    def __len__(self) -> int:
        return self.length - self.first


class Trainer:
    """Minimise an objective over batches of pairs.

    The state in `run_dir` (weights, optimiser, step) is written every `save_every` steps, in one move; a run that
    finds one there goes on from it. `log.csv` keeps step, loss, learning rate and pairs a second.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Callable[[nn.Module, Pairs], Tensor],
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        run_dir: Path,
        save_every: int = 200,
    ) -> None:
        self.network = network
        self.objective = objective
        self.optimizer = optimizer
        self.schedule = schedule
        self.run_dir = run_dir
        self.save_every = save_every
        self.step = 0
        run_dir.mkdir(parents=True, exist_ok=True)
        if self._state_path.exists():
            self._resume()

    @property
    def _state_path(self) -> Path:
        return self.run_dir / "state.pt"

    def run(self, dataset: Dataset[Pairs], batch: int, workers: int) -> Iterator[Progress]:
        """Train to the end of the schedule and yield what each step did.

        The dataset must hold `schedule.steps * batch` samples. Raises FloatingPointError at a loss that is not finite
        and leaves the batch in `run_dir/bad_batch.pt`.
        """
        sampler = _From(self.step * batch, self.schedule.steps * batch)
        loader = DataLoader(dataset, batch, sampler=sampler, num_workers=workers, drop_last=True)
        start = time.perf_counter()
        for pairs in loader:
            ready = time.perf_counter()
            loss = self._train_step(pairs)
            if self.step % self.save_every == 0 or self.step == self.schedule.steps:
                self._save()
            end = time.perf_counter()
            progress = Progress(
                self.step, loss, pairs.positive.numel() / (end - start), (ready - start) / (end - start)
            )
            self._append_log(progress)
            yield progress
            start = time.perf_counter()

    def _train_step(self, pairs: Pairs) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.lr(self.step)
        loss = self.objective(self.network, pairs)
        value = float(loss.detach())
        if not math.isfinite(value):
            torch.save(tuple(pairs), self.run_dir / "bad_batch.pt")
            raise FloatingPointError(
                f"the loss became {value} at step {self.step + 1}; the batch is in {self.run_dir / 'bad_batch.pt'}; "
                "lower train.lr_start"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step += 1
        return value

    def _save(self) -> None:
        state = {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        part = self._state_path.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self._state_path)

    def _resume(self) -> None:
        state = torch.load(self._state_path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        _log.info("resumed from step %d of %d in %s", self.step, self.schedule.steps, self.run_dir)

    def _append_log(self, progress: Progress) -> None:
        path = self.run_dir / "log.csv"
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", "loss", "lr", "pairs_per_s", "waiting"])
            lr = self.optimizer.param_groups[0]["lr"]
            writer.writerow(
                [progress.step, f"{progress.loss:.5f}", f"{lr:.3g}", f"{progress.pairs_per_s:.1f}",
                 f"{progress.waiting:.3f}"]
            )
