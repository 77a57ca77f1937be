"""Weight files that explain themselves: safetensors with configuration, provenance, scores and a hash inside."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from tracker.whole_file import write_whole
from tracker.zoo import WEIGHT_FORMAT


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Hold what a weight file says: tensors by name, the TOML configuration, provenance and metrics."""

    tensors: dict[str, Tensor]
    config: str
    provenance: dict[str, str]  # code revision, data, command, hardware, ...
    metrics: dict[str, float]


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a weight file in one step: a reader sees the old file or the new one, never a part.

    Raises OSError naming the file where it cannot be written.
    """
    meta = {
        "format": WEIGHT_FORMAT,
        "config": checkpoint.config,
        "provenance": json.dumps(checkpoint.provenance, sort_keys=True),
        "metrics": json.dumps(checkpoint.metrics, sort_keys=True),
    }
    meta["sha256"] = _digest(checkpoint.tensors, meta)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = to_bytes({name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}, metadata=meta)
    write_whole(path, content)  # safetensors' own writer makes a file that nobody else may read


def load(path: Path) -> Checkpoint:
    """Read a weight file and check its hash. Raises ValueError naming the file for anything but an intact one."""
    try:
        with safe_open(path, framework="pt") as file:
            meta = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot read the weight file {path} ({error}); fetch it again") from error
    if meta.get("format") != WEIGHT_FORMAT:
        raise ValueError(f"{path} is no siamtrack weight file (format {meta.get('format')!r}, not {WEIGHT_FORMAT!r})")
    claimed = meta.pop("sha256", "")
    if claimed != _digest(tensors, meta):
        raise ValueError(f"the weight file {path} was changed after it was written (sha256 differs); fetch it again")
    return Checkpoint(tensors, meta["config"], json.loads(meta["provenance"]), json.loads(meta["metrics"]))


def _digest(tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(dict(meta), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
