"""The folder of a run: which run its state is of, and the weight file beside it."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from tracker import checkpoint
from tracker.training.distributed import rank
from tracker.training.provenance import hardware, shrunk
from tracker.training.trainer import STATE, Trainer
from tracker.whole_file import alone_in, write_whole

WEIGHTS = "weights.safetensors"
_CONFIG = "config.toml"
_DATA = "# data: "  # its first line
_HASH = "sha256 "


def alone(folder: Path) -> AbstractContextManager[None]:
    """Keep other runs out of a run's folder, see `whole_file.alone_in`; of several processes the first alone asks."""
    return alone_in(folder) if rank() == 0 else nullcontext()


def check_same_run(
    folder: Path, config: str, data: str, learned: Callable[[str], object], remedy: str = "choose another folder"
) -> None:
    """Raise ValueError where the state in a folder is of a run of another configuration or on other data.

    config: TOML text. data: what the weight file says of the data; see `same_data`. learned: what of a configuration's
    text decides what is learned. remedy: what to do but delete the state.
    """
    kept, state = folder / _CONFIG, folder / STATE
    if not state.exists() or not kept.exists():
        return
    text = kept.read_text(encoding="utf-8")
    otherwise = f"{remedy}, or delete {state} to start afresh"
    if learned(text) != learned(config):
        raise ValueError(f"{folder} holds a run of another configuration, see {kept}; {otherwise}")
    first, _, _ = text.partition("\n")
    if first.startswith(_DATA) and not same_data(first, data):  # older versions wrote down none
        raise ValueError(f"{folder} holds a run on other data, {first.removeprefix(_DATA)}; {otherwise}")


def same_data(first: str, second: str) -> bool:
    """Return whether two texts on data end with the same hash, wherever the data lay."""
    return first.rpartition(_HASH)[2] == second.rpartition(_HASH)[2]


def claim(folder: Path, config: str, data: str) -> None:
    """Write down which run a folder holds, for `check_same_run`."""
    write_whole(folder / _CONFIG, f"{_DATA}{' '.join(data.split())}\n{config}")


def has_weights(trainer: Trainer[Any]) -> bool:
    """Return whether the weight file in the run's folder is of the trainer's step: a kill may come in between."""
    try:
        said = checkpoint.load(trainer.run_dir / WEIGHTS).provenance
    except ValueError:  # none, or a broken one
        return False
    return all(said.get(name) == value for name, value in _place(trainer).items())


def write_weights(
    trainer: Trainer[Any], config: str, facts: Mapping[str, str], metrics: Mapping[str, float] | None = None
) -> None:
    """Write the weight file of a run as it stands; of several processes the first alone does."""
    if rank() != 0:
        return
    provenance = {
        **facts,
        **_place(trainer),
        "hardware": hardware(),
        "torch": torch.__version__,
        "date": datetime.now(timezone.utc).date().isoformat(),
    }
    tensors = {
        name: shrunk(tensor.cpu())
        for name, tensor in trainer.result.state_dict().items()
        if not name.startswith("regressor.")  # to a teacher's features
    }
    checkpoint.save(trainer.run_dir / WEIGHTS, checkpoint.Checkpoint(tensors, config, provenance, dict(metrics or {})))


def _place(trainer: Trainer[Any]) -> dict[str, str]:
    return {"steps": str(trainer.step), "hours": f"{trainer.seconds / 3600:.4f}"}
