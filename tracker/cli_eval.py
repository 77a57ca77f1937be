"""`siamtrack eval`: run the got10k toolkit's OTB or GOT-10k experiment."""

import hashlib
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from tracker.cli_options import Device, Runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracker.builder import RuntimeName
    from tracker.data.sequence import Sequence
    from tracker.evaluation_toolkit import Benchmark, Report
    from tracker.interface import Tracker

_LISTED = 10  # up to so many sequences are printed one by one


class Dataset(str, Enum):
    """Name a benchmark of the toolkit."""

    OTB = "otb"
    GOT10K = "got10k"


class Split(str, Enum):
    """Name a part of GOT-10k."""

    VAL = "val"
    TEST = "test"


def eval_command(
    dataset: Annotated[Dataset, typer.Option(help="Layout and rules of the benchmark.")],
    root: Annotated[Path, typer.Option(help="Folder of the sequences (any part of the data set will do).")],
    model: Annotated[str, typer.Option(help="Name of a model, weight file or folder of graphs.")],
    results: Annotated[Path, typer.Option(help="Folder for records, scores and plots.")] = Path("results"),
    device: Device = "auto",
    runtime: Runtime = "auto",
    workers: Annotated[int, typer.Option(help="Processes, one thread each; speed is measured in each.", min=1)] = 1,
    sequences: Annotated[str, typer.Option(help="Only these, separated by commas.")] = "",
    split: Annotated[Split, typer.Option(help="Part of GOT-10k.")] = Split.VAL,
    index_base: Annotated[int, typer.Option(help="What the files call the first pixel.", min=0, max=1)] = 1,
) -> int:
    """Measure a model on OTB or GOT-10k with the got10k toolkit; a run that was stopped goes on where it was.

    Frames whose ground truth is NaN (the object is absent) count in no score.
    """
    names = [name.strip() for name in sequences.split(",") if name.strip()]
    chosen = _read(dataset, root, split.value, index_base, names)
    benchmark = _benchmark(dataset, model, results, index_base, chosen)
    from tracker.builder import choose_runtime, load_tracker

    asked = cast("RuntimeName", runtime)
    _check_weights(benchmark, model, choose_runtime(model, device, asked))
    factory = partial(load_tracker, model, device, runtime=asked, threads=1)
    try:
        _run(benchmark, chosen, factory, workers)
        _print(benchmark, chosen)
    except OSError as error:  # such as a full disk, or a process that died
        typer.echo(f"siamtrack: error: {error}; the same command goes on where it stopped", err=True)
        return 1
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on where it stopped", err=True)
        return 130
    return 0


def _read(dataset: Dataset, root: Path, split: str, index_base: int, names: list[str]) -> "list[Sequence]":
    from tracker.data.got10k import read_got10k
    from tracker.data.otb import read_otb
    from tracker.data.sequence import check_followable, select

    found = read_otb(root, index_base) if dataset is Dataset.OTB else read_got10k(root, split, index_base)
    chosen = select(found, names) if names else found
    check_followable(chosen)
    return chosen


def _benchmark(
    dataset: Dataset, model: str, results: Path, index_base: int, sequences: "list[Sequence]"
) -> "Benchmark":
    try:
        from tracker.evaluation_toolkit import Benchmark
    except ImportError as error:
        raise ValueError(f"siamtrack eval needs {error.name}: pip install 'siamtrack[eval]'") from error
    from tracker.data.got10k import is_published

    path = Path(model).resolve()  # "." has no name
    name = path.name if path.is_dir() else path.stem if _model_file(model) == Path(model) else model
    unpublished = [] if dataset is Dataset.OTB else [one.name for one in sequences if not is_published(one)]
    benchmark = Benchmark(dataset.value, name, results, index_base, len(unpublished) < len(sequences))
    if dataset is Dataset.GOT10K and benchmark.published:
        if unpublished:
            raise ValueError(f"sequence {unpublished[0]} has no box after its first frame, others have; leave it out")
        unfit = next((path for path in map(benchmark.record, sequences) if "[" in str(path)), None)
        if unfit is not None:
            raise ValueError(f"the toolkit finds no record with a [ in its path, such as {unfit}; give other names")
    return benchmark


def _model_file(model: str) -> Path | None:
    from tracker.zoo import zoo

    listed = next((card.path for card in zoo() if card.name == model), None)
    return listed or (Path(model) if Path(model).is_file() else None)


def _check_weights(benchmark: "Benchmark", model: str, runtime: str) -> None:
    """Raise ValueError if the records in the results folder were made with other weights, runtime or index base."""
    from tracker.zoo import find_file

    weights = hashlib.sha256(find_file(model, runtime).read_bytes()).hexdigest()
    made_with = f"{runtime} {weights} index base {benchmark.index_base}"
    note = benchmark.report_folder / "weights.sha256"
    told = note.read_text().strip() if note.is_file() else ""
    if told != made_with and (told or any(benchmark.record_folder.rglob("*.txt"))):
        raise ValueError(
            f"{benchmark.record_folder} holds results of other weights, another runtime or another --index-base, named "
            f"{benchmark.tracker_name!r}; give another --results, or delete {benchmark.record_folder} and "
            f"{benchmark.report_folder}"
        )
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(made_with + "\n")


def _run(benchmark: "Benchmark", sequences: "list[Sequence]", factory: "Callable[[], Tracker]", workers: int) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from tracker.evaluation import map_sequences
    from tracker.evaluation_toolkit import RunExperiment, pending

    rest = pending(benchmark, sequences)
    if len(rest) < len(sequences):
        done = len(sequences) - len(rest)
        typer.echo(f"{done} of {len(sequences)} sequences are already in {benchmark.record_folder}", err=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("sequences", total=len(sequences), completed=len(sequences) - len(rest))
        for sequence, _ in map_sequences(factory, RunExperiment(benchmark), rest, workers):
            progress.update(task, advance=1, description=sequence.name)


def _print(benchmark: "Benchmark", sequences: "list[Sequence]") -> None:
    from tracker.evaluation_toolkit import report

    result = report(benchmark, sequences)
    if result is None:
        typer.echo(f"boxes of {len(sequences)} sequences are packed in {benchmark.record_folder}.zip")
        typer.echo("this split has no public ground truth: upload that file to http://got-10k.aitestunion.com/")
        return
    _print_table(benchmark, result)
    absent = sum(len(sequence.image_paths) for sequence in sequences) - sum(row.score.frames for row in result.rows)
    if benchmark.dataset == "got10k":
        absent -= len(sequences)  # the first frames, which GOT-10k leaves out by rule
    if absent:
        typer.echo(f"{absent} frames without the object count in no score")
    typer.echo(f"scores, plots and sequences.csv: {benchmark.report_folder}")
    typer.echo(f"boxes and times: {benchmark.record_folder}")


def _print_table(benchmark: "Benchmark", result: "Report") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from tracker.evaluation_toolkit import SequenceReport

    table = Table(title=f"{escape(benchmark.tracker_name)} on {benchmark.record_folder.parent.name}")
    for column in ("sequence", "success AUC", "precision@20px", "AO", "SR@0.5", "SR@0.75", "fps"):
        table.add_column(column, justify="left" if column == "sequence" else "right")
    rows = list(result.rows) if len(result.rows) <= _LISTED else []
    for row in (*rows, SequenceReport(f"mean of {len(result.rows)}", result.score, result.fps)):
        score = row.score
        values = (score.success_auc, score.precision, score.ao, score.sr_50, score.sr_75)
        table.add_row(escape(row.name), *(f"{value:.3f}" for value in values), f"{row.fps:.1f}")
    Console().print(table)
