"""Put two trained networks together as the ensemble that a configuration names."""

from pathlib import Path

from torch import Tensor

from tracker import checkpoint
from tracker.config import ModelConfig, SecondConfig, parse

_PARTS = ("backbone", "head", "refiner")  # that each network brings


def combine(config: Path, first: Path, second: Path, out: Path) -> None:
    """Write the weights of an ensemble, whose members are two weight files: the one `model.second` names comes last.

    The provenance names both. What reads the features of both, an embedding head, neither file has: it is left out.
    Raises ValueError for a configuration that names no ensemble, or one with a filter's neck, which is to be trained,
    and for a file that is not of the network that the configuration names there.
    """
    text = config.read_text(encoding="utf-8")
    model = parse(text).model
    if model.second is None:
        raise ValueError(f"{config} names no ensemble: it has no table [model.second]")
    if model.filter_channels:
        raise ValueError(f"{config}: model.filter_channels asks for what neither member has learned; leave it out")
    tensors: dict[str, Tensor] = {}
    facts: dict[str, str] = {}
    members: list[tuple[Path, ModelConfig | SecondConfig]] = [(first, model), (second, model.second)]
    for number, (path, wanted) in enumerate(members):
        loaded = checkpoint.load(path)
        found = parse(loaded.config).model
        if found.second is not None:
            raise ValueError(f"{path} is an ensemble; a member is one network")
        if _names(found) != _names(wanted):
            raise ValueError(f"{path} is a network of {_names(found)}, where {config} names {_names(wanted)}")
        tensors |= _as_member(loaded.tensors, number)
        told = {key: said for key, said in loaded.provenance.items() if not key.startswith("embedding")}
        facts |= {f"member_{number + 1}_{key}": said for key, said in told.items()}
    checkpoint.save(out, checkpoint.Checkpoint(tensors, text, facts, {}))


def _names(model: ModelConfig | SecondConfig) -> str:
    return ", ".join(getattr(model, part) for part in _PARTS)


def _as_member(tensors: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    """Return the tensors of a network's parts under their names in an ensemble."""
    parts = ((name.partition("."), tensor) for name, tensor in tensors.items())
    return {f"{part}.members.{number}.{rest}": tensor for (part, _, rest), tensor in parts if part in _PARTS}
