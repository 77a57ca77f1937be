"""`siamtrack data ...`: look after training data."""

from pathlib import Path
from typing import Annotated

import typer

_LISTED = 20  # problems that are printed one by one


def check_command(
    data: Annotated[Path, typer.Argument(help="Folder with tracks.jsonl and its pictures")],
    sheet: Annotated[
        Path | None, typer.Option(help="Also draw some of the tracks into this picture (.png, .jpg)")
    ] = None,
    tracks: Annotated[int, typer.Option(help="Tracks on the picture", min=1)] = 40,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar")] = False,
) -> int:
    """Read every track and picture of a training set; report what is there and what is wrong.

    The exit status is 1 where something is wrong.
    """
    from rich.console import Console
    from rich.progress import Progress

    from tracker.data.check import check_tracks, contact_sheet
    from tracker.data.tracks import read_tracks

    index = data / "tracks.jsonl"
    console = Console(stderr=True)
    with Progress(console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task("reading", total=1.0)
        findings = check_tracks(index, lambda share: bar.update(task, completed=share))
    typer.echo(
        f"{findings.tracks} tracks of {len(findings.videos)} videos, {findings.frames} frames; {findings.stills} stills"
    )
    for name, counts in (("sets", findings.sources), ("classes", findings.labels)):
        listed = ", ".join(f"{label or '-'} {count}" for label, count in counts.most_common(10))
        typer.echo(f"{len(counts)} {name}: {listed}{', ...' if len(counts) > 10 else ''}")
    for problem in findings.problems[:_LISTED]:
        typer.echo(f"line {problem.line}: {problem.image}{': ' if problem.image else ''}{problem.what}")
    if len(findings.problems) > _LISTED:
        typer.echo(f"... and {len(findings.problems) - _LISTED} more")
    if sheet is not None:
        _write(sheet, contact_sheet(read_tracks(index), tracks))
        typer.echo(f"a picture of the tracks is in {sheet}")
    typer.echo(f"{len(findings.problems)} problems" if findings.problems else "no problems")
    return 1 if findings.problems else 0


def _write(path: Path, picture: object) -> None:
    import cv2

    try:
        written = cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))  # type: ignore[call-overload]
    except cv2.error as error:  # an ending that OpenCV does not know
        raise ValueError(f"cannot write {path}: name a .png or .jpg file") from error
    if not written:
        raise ValueError(f"cannot write {path}: is there such a folder, and may you write there?")
