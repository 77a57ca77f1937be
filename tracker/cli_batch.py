"""`siamtrack batch`: track thousands of videos, in processes of this machine or on a Ray cluster."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tracker.cli_options import Model, Runtime

if TYPE_CHECKING:  # imported where they are used, so that `siamtrack --help` stays quick
    from rich.progress import Progress

    from tracker.batch_folder import BatchFolder
    from tracker.batch_video import Outcome, Recipe
    from tracker.builder import RuntimeName
    from tracker.manifest import VideoJob
    from tracker.workers import Workers

_LISTED = 20  # failures that are printed one by one


def batch_command(
    manifest: Annotated[
        Path, typer.Argument(metavar="MANIFEST", help=".csv under the header video,x,y,w,h, or .jsonl with these keys.")
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the results.")],
    on: Annotated[
        str, typer.Option("--on", metavar="WHERE", help="local, ray (this machine's cluster) or ray://host:port.")
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Videos tracked at once, one thread each; as cores are free, if not given."),
    ] = None,
    save_videos: Annotated[bool, typer.Option("--save-videos", help="Write the drawn videos too: .mp4.")] = False,
    model: Model = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; on Ray the CPU.")] = "auto",
    runtime: Runtime = "auto",
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: a.b=value.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> int:
    """Track all videos of a list; the same command goes on where a stopped run was, and tries again what failed.

    A row is a video and a box in its first frame: video,x,y,w,h and, where wanted, start,end,name. Rows of the same
    video, start and end are targets of one pass. Ctrl-C stops early; what is done stays.
    """
    from tracker.batch_folder import BatchFolder
    from tracker.manifest import read_manifest

    if on not in ("local", "ray") and not on.startswith("ray://"):
        raise ValueError(f"--on must be local, ray or ray://host:port, got {on!r}")
    jobs = read_manifest(manifest)
    maker, recipe = _prepare(out.absolute(), save_videos, (model, _device(on, device), runtime), overrides or ())
    folder = BatchFolder(recipe.out, maker)
    rest = folder.pending(jobs, recipe, [manifest])
    if not quiet and len(rest) < len(jobs):
        print(f"siamtrack: {len(jobs) - len(rest)} of {len(jobs)} videos are done already", file=sys.stderr)
    counts = _Counts()
    status = 0
    if rest:
        recipe.load()  # a model that cannot be used is wrong use, not a failure of every video
        with closing(_open_workers(recipe, on, workers)) as opened, folder.begin(rest, recipe):
            status = _run(folder, (jobs, rest), opened, counts, quiet)
    _print_summary(folder, counts, len(jobs) - len(rest))
    return status


def _device(on: str, device: str) -> str:
    if on == "local":
        return device
    if device not in ("auto", "cpu"):
        raise ValueError(f"on Ray videos are tracked on the CPU, not on {device!r}; use --on local")
    return "cpu"


def _prepare(
    out: Path, save_videos: bool, engine: tuple[str | None, str, str], settings: Sequence[str]
) -> "tuple[Any, Recipe[Any]]":
    """Return what makes the boxes and how; engine: model, device and runtime, as they were asked for."""
    from tracker import __version__
    from tracker.batch_folder import Maker, model_digest
    from tracker.batch_video import Recipe
    from tracker.builder import choose_runtime, load_tracker
    from tracker.siamese_tracker import SiameseTracker, update_many
    from tracker.zoo import DEFAULT_MODEL, shipped_weights

    model, device, asked = engine
    chosen = choose_runtime(model, device, cast("RuntimeName", asked))
    name = model if model is None or shipped_weights(model) else str(Path(model).absolute())
    load = partial(
        load_tracker, name, device, overrides=tuple(settings), runtime=cast("RuntimeName", chosen), threads=1
    )
    maker = Maker(model or DEFAULT_MODEL, model_digest(model, chosen), chosen, tuple(settings), __version__)
    return maker, Recipe(load, SiameseTracker.fork, update_many, out, save_videos)


def _open_workers(recipe: "Recipe[Any]", on: str, workers: int | None) -> "Workers":
    from tracker.threads import free_cores
    from tracker.workers import LocalWorkers

    if on == "local":
        return LocalWorkers(recipe, workers or free_cores())
    from tracker.ray_workers import RayWorkers

    return RayWorkers(recipe, None if on == "ray" else on, workers)


@dataclass(slots=True)
class _Counts:
    """Add up what one run has done."""

    done: int = 0
    frames: int = 0
    failed: "list[Outcome]" = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    def add(self, outcome: "Outcome") -> None:
        self.frames += outcome.frames
        if outcome.done:
            self.done += 1
        else:
            self.failed.append(outcome)

    def frames_a_second(self) -> float:
        return self.frames / max(time.perf_counter() - self.began, 1e-9)


def _run(
    folder: "BatchFolder",
    lists: "tuple[list[VideoJob], list[VideoJob]]",
    workers: "Workers",
    counts: _Counts,
    quiet: bool,
) -> int:
    """Track to the end, a failure of the record or Ctrl-C; return the exit status. lists: all jobs, those to do."""
    from tracker.threads import stop_signals_raise_once
    from tracker.workers import run_jobs

    jobs, rest = lists
    by_name = {job.name: job for job in rest}
    try:
        with stop_signals_raise_once(), ExitStack() as ends, _progress(quiet) as progress:
            ends.callback(folder.close, jobs)
            ends.callback(workers.close)  # before the folders are swept that its processes write to
            task = progress.add_task("", total=len(jobs), completed=len(jobs) - len(rest), speed=0.0)
            for outcome in run_jobs(rest, workers):
                folder.add(by_name[outcome.name], outcome)
                counts.add(outcome)
                progress.update(task, advance=1, speed=counts.frames_a_second())
        return 1 if counts.failed else 0
    except KeyboardInterrupt:
        print("siamtrack: stopped early; the same command goes on from here", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"siamtrack: error: {error}; the same command goes on from here", file=sys.stderr)
        return 1


def _progress(quiet: bool) -> "Progress":
    """Return a progress bar on stderr, one that stays silent with --quiet or where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("videos, {task.fields[speed]:.0f} frames a second"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty())


def _print_summary(folder: "BatchFolder", counts: _Counts, before: int) -> None:
    for outcome in counts.failed[:_LISTED]:
        print(f"siamtrack: error: {outcome.name}: {outcome.error}", file=sys.stderr)
    if len(counts.failed) > _LISTED:
        more = len(counts.failed) - _LISTED
        print(f"siamtrack: error: {more} more failed, see {folder.results}", file=sys.stderr)
    print(f"videos   {counts.done} done, {before} were done before, {len(counts.failed)} failed")
    print(f"frames   {counts.frames}, {counts.frames_a_second():.0f} a second")
    print(f"wrote    {folder.results}, and a table of boxes a video beside it")
