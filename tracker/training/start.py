"""Start a run from the weights of another."""

from pathlib import Path

from tracker import checkpoint
from tracker.config import Config, CropConfig, ModelConfig, TrainConfig, parse
from tracker.data.pairs import Pairs
from tracker.toml_tree import to_toml
from tracker.training.distributed import world_size
from tracker.training.run_folder import same_data
from tracker.training.trainer import Trainer
from tracker.training.watch import BEST


def recipe(text: str) -> tuple[ModelConfig, CropConfig | None, TrainConfig | None]:
    """Return what of a configuration's text decides what is learned: the rest changes tracking."""
    config = parse(text)
    return config.model, config.crop, config.train


def refiners_of(weights: Path) -> tuple[str, ...]:
    """Return the refiner of each network of a weight file."""
    return parse(checkpoint.load(weights).config).model.refiners


def start_from(path: Path, trainer: Trainer[Pairs], config: Config, data: str) -> None:
    """Load the weights of a file and, if its run was this one and is unfinished, go on from its step.

    A model with another head or none, such as a backbone that was trained elsewhere, leaves the head as it is, and one
    without the filter's neck or the refiner leaves that. An embedding head that only one of the two has does not
    matter: pairs do not train it. The layer to a teacher's features is in no file, so a run with a teacher starts at
    its first step. Raises ValueError for weights that do not fit.
    """
    if path.resolve() == (trainer.run_dir / BEST).resolve():
        raise ValueError(f"{path} is what the run would write over; choose another folder, or start from a copy")
    loaded = checkpoint.load(path)
    here = trainer.network.state_dict()
    embedding = {name: tensor for name, tensor in here.items() if name.startswith("embedding.")}
    there = embedding | {n: t for n, t in loaded.tensors.items() if n in embedding or not n.startswith("embedding.")}
    before = parse(loaded.config).model
    for part, kept in (
        ("head.", before.heads == config.model.heads),
        ("filter_neck.", before.filter_channels == config.model.filter_channels),
        ("refiner.", before.refiners == config.model.refiners),
        ("regressor.", False),
    ):
        if not kept:
            fresh = {name: tensor for name, tensor in here.items() if name.startswith(part)}
            there = fresh | {name: tensor for name, tensor in there.items() if not name.startswith(part)}
    for name in sorted(here.keys() | there.keys()):
        sizes = [str(tuple(tensors[name].shape)) if name in tensors else "missing" for tensors in (here, there)]
        if sizes[0] != sizes[1]:
            raise ValueError(f"{path} does not fit the configuration: {name} is {sizes[1]} there, {sizes[0]} here")
    trainer.restart(there)
    said = loaded.provenance
    done = int(said.get("steps", "0"))
    taught = config.train is not None and bool(config.train.teacher)
    same_run = (
        recipe(loaded.config) == recipe(to_toml(config))
        and same_data(said.get("data", ""), data)
        and said.get("processes", "1") == str(world_size())  # else a step is of another size
    )
    if same_run and not taught and done < trainer.schedule.steps:
        trainer.step, trainer.seconds = done, 3600 * float(said.get("hours", "0"))
