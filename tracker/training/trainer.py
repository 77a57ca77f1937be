"""The training loop: any objective, resumable after a kill, the same losses as without one."""

import io
import logging
import math
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

import cv2
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, Sampler

from tracker.training.distributed import average_gradients, check_same_everywhere, mean_over_ranks, rank, world_size
from tracker.whole_file import naming, write_whole

STATE = "state.pt"

_log = logging.getLogger(__name__)


class Batch(Protocol):
    """What a step learns from: a NamedTuple of tensors, so that the data loader can stack it."""

    @property
    def samples(self) -> int:
        """Number of samples, of which pairs are one, that the pace is counted in."""

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the tensors."""


AnyBatch = TypeVar("AnyBatch", bound=Batch)

_LOG_HEADER = "step,loss,lr,pairs_per_s,waiting"


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast: steps in all, linear warm-up, then a fall of the learning rate.

    It falls in geometric steps, or along half a cosine, which stays high for longer.
    """

    steps: int
    warmup_steps: int
    lr_start: float
    lr_end: float
    fall: Literal["geometric", "cosine"] = "geometric"

    def lr(self, step: int) -> float:
        """Return the learning rate of a step, 0-based."""
        if step < self.warmup_steps:
            return self.lr_start * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        if self.fall == "cosine":
            return self.lr_end + (self.lr_start - self.lr_end) * (1 + math.cos(math.pi * progress)) / 2
        return self.lr_start * math.pow(self.lr_end / self.lr_start, progress)


@dataclass(frozen=True, slots=True)
class Progress:
    """Report one step: its number from 1, the loss, pairs a second and the share of time spent waiting for data."""

    step: int
    loss: float
    pairs_per_s: float  # or what else the batch counts
    waiting: float
    seconds: float  # that the step took, waiting included
    saved: bool  # whether the state was written after it


class _From(Sampler[int]):
    """Yield this process's indices from `step` on: a resumed run goes on with the next sample.

    Each step has `batch` indices a process, side by side.
    """

    def __init__(self, step: int, steps: int, batch: int) -> None:
        self.step, self.steps, self.batch = step, steps, batch

    def __iter__(self) -> Iterator[int]:
        for step in range(self.step, self.steps):
            first = (step * world_size() + rank()) * self.batch
            yield from range(first, first + self.batch)

    def __len__(self) -> int:
        return (self.steps - self.step) * self.batch


@dataclass(frozen=True, slots=True)
class Steps:
    """Say how a step is taken beyond the optimizer: see `config.TrainConfig` for the meaning of both."""

    clip_norm: float = 0.0
    ema: float = 0.0


class Trainer(Generic[AnyBatch]):
    """Minimise an objective over batches, such as of pairs.

    Each group of the optimizer takes the schedule's learning rate times its "lr_share", 1 where it names none.

    The state in `run_dir` (weights, optimiser, step, seconds so far) is written every `save_every` steps and at the
    end, in one move; a run that finds one there goes on from it. `log.csv` keeps step, loss, learning rate and pairs a
    second. Raises ValueError for a state that is broken or does not fit the network, and OSError naming the file where
    one cannot be written.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Callable[[nn.Module, AnyBatch], Tensor],
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        run_dir: Path,
        save_every: int = 200,
        steps: Steps = Steps(),
    ) -> None:
        self.network = network
        self.objective = objective
        self.optimizer = optimizer
        self.schedule = schedule
        self.run_dir = run_dir
        self.save_every = save_every
        self.steps = steps
        average = get_ema_multi_avg_fn(steps.ema)  # type: ignore[no-untyped-call]
        self.mean = AveragedModel(network, multi_avg_fn=average, use_buffers=True) if steps.ema else None
        self.step = 0
        self.seconds = 0.0  # spent on steps, waiting for data included
        run_dir.mkdir(parents=True, exist_ok=True)
        if self._state_path.exists():
            self._resume()
        check_same_everywhere(self.step, "step")
        if rank() == 0:
            self._trim_log()

    @property
    def result(self) -> nn.Module:
        """The network to keep: the mean of the weights over the last steps, or the weights as they are."""
        return self.network if self.mean is None else self.mean.module

    def restart(self, tensors: dict[str, Tensor]) -> None:
        """Take the network's weights, the mean's too."""
        self.network.load_state_dict(tensors)
        self.result.load_state_dict(tensors)

    @property
    def _state_path(self) -> Path:
        return self.run_dir / STATE

    @property
    def _log_path(self) -> Path:
        return self.run_dir / "log.csv"

    def run(self, dataset: Dataset[AnyBatch], batch: int, workers: int) -> Iterator[Progress]:
        """Train to the end of the schedule and yield what each step did.

        The dataset must hold `schedule.steps * batch` samples a process. In several processes (see `distributed`) each
        yields the same but its own time, and the first alone writes. Raises FloatingPointError at a loss or a gradient
        that is not finite and leaves the batch in `run_dir`.
        """
        sampler = _From(self.step, self.schedule.steps, batch)
        if workers:
            cv2.setNumThreads(1)  # before the workers fork: they are many, and OpenCV's threads do not survive it
        loader = DataLoader(dataset, batch, sampler=sampler, num_workers=workers, drop_last=True)
        start = time.perf_counter()
        for found in _in_own_words(loader):
            ready = time.perf_counter()
            loss = self._train_step(found)
            seconds = time.perf_counter() - start
            self.seconds += seconds
            saved = self.step % self.save_every == 0 or self.step == self.schedule.steps
            rate, waiting = world_size() * found.samples / seconds, (ready - start) / seconds
            progress = Progress(self.step, loss, rate, waiting, seconds, saved)
            if rank() == 0:
                self._append_log(progress)  # before the state: what is too much of it a resumed run drops
                if saved:
                    self._save()
            yield progress
            start = time.perf_counter()

    def _train_step(self, found: AnyBatch) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.lr(self.step) * group.get("lr_share", 1.0)
        loss = self.objective(self.network, found)
        value = float(mean_over_ranks(loss))
        self._check_finite(value, "loss", found)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.network)
        norm = clip_grad_norm_(self.network.parameters(), self.steps.clip_norm or math.inf)
        self._check_finite(float(norm), "gradient", found)
        self.optimizer.step()
        if self.mean is not None:
            self.mean.update_parameters(self.network)
        self.step += 1
        return value

    def _check_finite(self, value: float, what: str, found: AnyBatch) -> None:
        if math.isfinite(value):
            return
        kept = self.run_dir / (f"bad_batch_{rank()}.pt" if world_size() > 1 else "bad_batch.pt")
        torch.save(tuple(found), kept)
        raise FloatingPointError(
            f"the {what} became {value} at step {self.step + 1}; the batch is in {kept}; lower train.lr_start"
        )

    def _save(self) -> None:
        state = {
            "step": self.step,
            "processes": world_size(),
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        if self.mean is not None:
            state["mean"] = self.mean.state_dict()
        content = io.BytesIO()  # torch's own writer does not say that a disk is full
        torch.save(state, content)
        write_whole(self._state_path, content.getbuffer())

    def _resume(self) -> None:
        try:
            state = torch.load(self._state_path, map_location="cpu", weights_only=True)
            if not isinstance(state, dict):
                raise ValueError("it holds no state of a run")
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.mean is not None:
                self.mean.load_state_dict(state["mean"])
            self.step = state["step"]
        except (OSError, RuntimeError, ValueError, TypeError, KeyError, EOFError, pickle.UnpicklingError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"cannot go on from {self._state_path} ({reason}); choose another folder, or delete it to start afresh"
            ) from error
        self.seconds = state.get("seconds", 0.0)
        before = state.get("processes", 1)
        if before != world_size():  # the steps would be of another size, and samples come twice
            raise ValueError(
                f"{self._state_path} is of a run of {before} processes, not {world_size()}; go on with as many, or"
                " choose another folder and start from its weights with --init"
            )
        _log.info("resumed from step %d of %d in %s", self.step, self.schedule.steps, self.run_dir)

    def _trim_log(self) -> None:
        """Drop what the log says of steps after the saved one: they are about to be done again."""
        if not self._log_path.exists():
            return
        header, *lines = self._log_path.read_text(encoding="utf-8").splitlines() or [_LOG_HEADER]
        whole = [line for line in lines if line.count(",") == _LOG_HEADER.count(",")]  # a kill may cut the last one
        kept = [line for line in whole if int(line.partition(",")[0]) <= self.step]
        if kept != lines:
            write_whole(self._log_path, "\n".join([header, *kept, ""]))

    def _append_log(self, progress: Progress) -> None:
        lr = self.schedule.lr(self.step - 1)
        new = not self._log_path.exists()
        with naming(self._log_path), self._log_path.open("a", encoding="utf-8") as file:
            if new:
                file.write(_LOG_HEADER + "\n")
            file.write(
                f"{progress.step},{progress.loss:.5f},{lr:.3g},{progress.pairs_per_s:.1f},{progress.waiting:.3f}\n"
            )


def _in_own_words(batches: Iterable[AnyBatch]) -> Iterator[AnyBatch]:
    """Yield batches; what is wrong with one in a worker is said as it was there, without where the code stood."""
    fetched = iter(batches)
    while True:
        try:
            found = next(fetched)
        except StopIteration:
            return
        except (ValueError, OSError) as error:
            text = str(error).rstrip()
            if not text.startswith("Caught "):
                raise
            raise ValueError(text.rpartition("\n")[2].partition(": ")[2]) from error
        yield found
