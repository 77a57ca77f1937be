"""`siamtrack train`: make the weights of a configuration."""

from pathlib import Path
from typing import Annotated

import typer


def train_command(
    config: Annotated[Path, typer.Argument(help="Configuration with a [train] table, such as configs/siamfc_alexnet.toml")],
    data: Annotated[Path, typer.Option(help="Folder with tracks.jsonl and its pictures")],
    out: Annotated[Path, typer.Option(help="Folder of the run: state, log and, at the end, the weights")],
    workers: Annotated[int, typer.Option(help="Processes that prepare pairs")] = 1,
    threads: Annotated[int, typer.Option(help="Threads of the network")] = 2,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: a.b=value")] = None,
) -> None:
    """Train a network on tracks; a run that was stopped goes on where it was."""
    from tracker.training.run import train

    for line in train(config, data, out, workers, threads, overrides or ()):
        typer.echo(line, err=True)
