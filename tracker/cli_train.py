"""`siamtrack train`: make the weights of a configuration."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

Recipe = Annotated[
    Path, typer.Argument(help="Configuration with a \\[train] table, or the name of one that ships, such as finetune")
]
Init = Annotated[
    Path | None,
    typer.Option(
        help="Weight file, or name of a model, to start from. One of an unfinished run of the same configuration, data"
        " and number of processes goes on at its step and samples; only the optimizer's momentum starts afresh. A run"
        " found in --out goes first."
    ),
]
Validation = Annotated[
    Path | None,
    typer.Option(help="Folder with tracks.jsonl of other videos to track on the way; the best weights are kept"),
]
Data = Annotated[
    str, typer.Option(metavar="DATA", help="Folder with tracks.jsonl and its pictures; or shards: folder or URL")
]
Threads = Annotated[
    int | None, typer.Option(help="Threads of the network; as many as cores are free, up to 4, if not given", min=1)
]
Buffer = Annotated[int, typer.Option(help="MB of pictures that each worker holds of shards", min=1)]


def train_command(
    config: Recipe,
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the run: state, log and weights.safetensors")],
    init: Init = None,
    validation: Validation = None,
    validate_every: Annotated[int, typer.Option(help="Steps between two looks at --validation", min=1)] = 1000,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write curves for TensorBoard into --out")] = False,
    workers: Annotated[int, typer.Option(help="Processes that prepare pairs; 0: none beside the network's", min=0)] = 1,
    threads: Threads = None,
    buffer_mb: Buffer = 256,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: a.b=value")] = None,
) -> int:
    """Train a network on tracks; a run that was stopped goes on where it was, with the same configuration and data.

    In several processes, on one machine or many: torchrun --nproc-per-node 2 -m tracker train ...; `train.batch` is
    then the templates of each.
    """
    if find_spec("torch") is None:
        raise ValueError("training needs torch: pip install 'siamtrack[train]'")
    from tracker.data.storage import place_of
    from tracker.threads import free_threads
    from tracker.training.distributed import process_group, rank
    from tracker.training.run import RunOptions, train
    from tracker.zoo import find_config, shipped_weights

    init = init and (shipped_weights(str(init)) or init)
    options = RunOptions(workers, threads or free_threads(), init, validation, validate_every, tensorboard, buffer_mb)

    def lines() -> Iterator[str]:
        with process_group():
            told = train(find_config(config), place_of(data), out, overrides or (), options)
            yield from (line for line in told if rank() == 0)
            if rank() == 0:
                yield f"the weights are in {out / 'weights.safetensors'}"
                if (out / "best.safetensors").is_file():
                    yield f"those that tracked best are in {out / 'best.safetensors'}"

    return _follow(lines())


def _follow(lines: Iterator[str]) -> int:
    """Print the lines of a run as they come, and what ended it; return the exit status."""
    try:
        for line in lines:
            typer.echo(line, err=True)
    except FloatingPointError as error:
        typer.echo(f"siamtrack: error: {error}", err=True)
        return 1
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        ended = "a process that prepares pairs was ended from outside; was the memory full? take fewer --workers"
        typer.echo(f"siamtrack: error: {ended} (the same command goes on from the last save)", err=True)
        return 1
    except KeyboardInterrupt:
        typer.echo("siamtrack: stopped; the same command goes on from the last save", err=True)
        return 130
    return 0


def train_verifier_command(
    weights: Annotated[Path, typer.Argument(help="Weight file, such as runs/mine/weights.safetensors, or model name")],
    data: Annotated[Path, typer.Option(help="Folder with tracks.jsonl and its pictures")],
    out: Annotated[Path, typer.Option(help="Weight file to write: the same with a trained embedding head")],
    steps: Annotated[int, typer.Option(help="Steps of the training", min=1)] = 3000,
    seed: Annotated[int, typer.Option(help="Seed of views, batches and first weights")] = 1,
    threads: Threads = None,
) -> None:
    """Train the head of a model that tells things apart; the rest of the model stays as it is.

    The tracker's score and recovery, and `siamtrack verify`, rest on it. It takes minutes. Its configuration then says
    model.embedding = "pooled"; `siamtrack export` writes the head with the rest.
    """
    if find_spec("torch") is None:
        raise ValueError("training needs torch: pip install 'siamtrack[train]'")
    import torch

    from tracker.threads import free_threads
    from tracker.training.verifier import Recipe, train_verifier
    from tracker.zoo import find_weights

    torch.set_num_threads(threads or free_threads())
    command = f"siamtrack train-verifier --steps {steps} --seed {seed}"
    for line in train_verifier(find_weights(weights), data, out, Recipe(steps=steps, seed=seed), command):
        typer.echo(line, err=True)
    typer.echo(f"the weights are in {out}", err=True)


def combine_command(
    config: Annotated[
        Path, typer.Argument(help="Configuration with a table \\[model.second], or the name of one that ships")
    ],
    first: Annotated[Path, typer.Argument(help="Weight file, or name of a model, of the network it names first")],
    second: Annotated[Path, typer.Argument(help="Weight file, or name of a model, of that of the table")],
    out: Annotated[
        Path,
        typer.Option(
            help="Weight file to write; it tracks with CONFIG, once siamtrack train-verifier has made the embedding"
            " head where CONFIG names one"
        ),
    ],
) -> None:
    """Put two trained networks together: what they answer is averaged, and both are wrong less often than one.

    An embedding head for both is trained afterwards, by siamtrack train-verifier.
    """
    if find_spec("torch") is None:
        raise ValueError("combining needs torch: pip install 'siamtrack[torch]'")
    from tracker.combine import combine
    from tracker.zoo import find_config, find_weights

    combine(find_config(config), find_weights(first), find_weights(second), out)
    typer.echo(
        f"the weights are in {out}, without an embedding head: where the configuration names one, they track once"
        " siamtrack train-verifier has made it",
        err=True,
    )


def average_command(
    first: Annotated[
        Path, typer.Argument(help="Weight file, or name of a model, such as what a fine-tuning began with")
    ],
    second: Annotated[Path, typer.Argument(help="Weight file of the same network, such as the fine-tuned one")],
    out: Annotated[Path, typer.Option(help="Weight file to write; it tracks with the configuration of SECOND")],
    share: Annotated[float, typer.Option(help="Of the second file in the mean", min=0, max=1)] = 0.5,
) -> None:
    """Take the mean of two runs of one network: after a fine-tuning it keeps more of what was known before."""
    if find_spec("torch") is None:
        raise ValueError("averaging needs torch: pip install 'siamtrack[torch]'")
    from tracker.average import average
    from tracker.zoo import find_weights

    lost = average(find_weights(first), find_weights(second), share, out)
    typer.echo(f"the weights are in {out}", err=True)
    if lost == "head":
        typer.echo("without an embedding head: see siamtrack train-verifier", err=True)
    elif lost == "figures":
        typer.echo("the embedding head has not learned these features: see siamtrack train-verifier", err=True)
