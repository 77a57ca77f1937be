"""`siamtrack data ...`: look after training data."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from tracker.cli_options import Device

if TYPE_CHECKING:  # imported where they are used, so that `siamtrack --help` stays quick
    from fractions import Fraction

    from tracker.annotation import JpegFrames, Proposal
    from tracker.data.check import Findings
    from tracker.data.shard_check import ShardFindings
    from tracker.frames import Frames
    from tracker.geometry import Box
    from tracker.interface import Frame

_LISTED = 20  # problems that are printed one by one
_REPORT_EVERY = 100  # tracks
_LAYOUTS = ("coco", "got10k", "lasot", "masks", "mot", "otb", "trackingnet", "vid", "voc", "vot")


def check_command(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Folder with tracks.jsonl and its pictures; or shards: folder or URL")
    ],
    sheet: Annotated[
        Path | None, typer.Option(help="Also draw some of the tracks into this picture (.png, .jpg)")
    ] = None,
    tracks: Annotated[int, typer.Option(help="Tracks on the picture", min=1)] = 40,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar")] = False,
) -> int:
    """Read every track and picture of a training set; report what is there and what is wrong.

    Of shards it also says which were changed since they were packed.
    The exit status is 1 where something is wrong.
    """
    from rich.console import Console
    from rich.progress import Progress

    from tracker.data.check import contact_sheet
    from tracker.draw import write_picture

    console = Console(stderr=True)
    with Progress(console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task("reading", total=1.0)
        findings = _check(data, tracks, lambda share: bar.update(task, completed=share))
    typer.echo(
        f"{findings.tracks} tracks of {len(findings.videos)} videos, {findings.frames} frames; {findings.stills} stills"
    )
    for name, counts in (("sets", findings.sources), ("classes", findings.labels)):
        listed = ", ".join(f"{label or '-'} {count}" for label, count in counts.most_common(10))
        typer.echo(f"{len(counts)} {name}: {listed}{', ...' if len(counts) > 10 else ''}")
    for problem in findings.problems[:_LISTED]:
        line = f"line {problem.line}: " if problem.line else ""
        typer.echo(f"{line}{problem.image}{': ' if problem.image else ''}{problem.what}")
    if len(findings.problems) > _LISTED:
        typer.echo(f"... and {len(findings.problems) - _LISTED} more")
    if sheet is not None:
        write_picture(sheet, contact_sheet(findings.readable, tracks))
        typer.echo(f"a picture of the tracks is in {sheet}")
    typer.echo(f"{len(findings.problems)} problems" if findings.problems else "no problems")
    return 1 if findings.problems else 0


def _check(data: str, sheet_tracks: int, progress: Callable[[float], None]) -> "Findings | ShardFindings":
    from tracker.data.check import check_tracks
    from tracker.data.shard_check import check_shards
    from tracker.data.shard_index import holds_shards
    from tracker.data.storage import place_of

    place = place_of(data)
    return (
        check_shards(place, sheet_tracks, progress)
        if holds_shards(place)
        else check_tracks(Path(data, "tracks.jsonl"), progress)
    )


def pairs_command(
    config: Annotated[Path, typer.Argument(help="Configuration with a \\[train] table, or the name of one that ships")],
    data: Annotated[
        str, typer.Option(metavar="DATA", help="Folder with tracks.jsonl and its pictures; or shards: folder or URL")
    ],
    out: Annotated[Path, typer.Option(help="Picture to write (.png, .jpg)")],
    count: Annotated[int, typer.Option(help="Templates on the picture, each with its searches", min=1)] = 24,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: a.b=value")] = None,
) -> int:
    """Draw the first pairs that a training run would see: the object's box green, another object's red."""
    if find_spec("torch") is None:
        raise ValueError("drawing pairs needs torch: pip install 'siamtrack[train]'")
    from tracker.data.pair_sheet import pair_sheet
    from tracker.data.storage import place_of
    from tracker.draw import write_picture
    from tracker.training.run import sample_pairs
    from tracker.zoo import find_config

    write_picture(out, pair_sheet(sample_pairs(find_config(config), place_of(data), count, overrides or ())))
    typer.echo(f"the pairs are drawn in {out}")
    return 0


def import_command(
    layout: Annotated[str, typer.Argument(metavar="LAYOUT", help=f"One of {', '.join(_LAYOUTS)}")],
    root: Annotated[Path, typer.Argument(help="Folder of the data set")],
    out: Annotated[Path, typer.Option(help="Folder of the training set; tracks are added")],
    every: Annotated[int, typer.Option(help="Keep one frame of so many", min=1)] = 10,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress")] = False,
) -> int:
    """Make training tracks of a data set in the layout of another: crops of its frames, and an index of them.

    Tracks that are there already are passed over, so the same command goes on where it was stopped.
    """
    from tracker.data.layouts import LAYOUTS
    from tracker.data.track_writer import Imported, import_tracks

    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}; known are {', '.join(LAYOUTS)}")
    if not root.is_dir():
        raise ValueError(f"no folder {root}")
    counts = Imported()
    for counts in import_tracks(LAYOUTS[layout](root), out, layout, every):
        if not quiet and (counts.tracks + counts.known) % _REPORT_EVERY == 0:
            typer.echo(f"{counts.tracks} tracks, {counts.frames} frames", err=True)
    typer.echo(f"{counts.tracks} tracks and {counts.frames} frames added, {counts.known} tracks were there already")
    _list_passed_over(counts.outside, counts.unreadable)
    return 1 if counts.unreadable else 0


def pack_command(
    data: Annotated[Path, typer.Argument(help="Folder with tracks.jsonl and its pictures")],
    out: Annotated[Path, typer.Option(help="Folder of the shards")],
    shard_mb: Annotated[float, typer.Option(help="MB after which a shard ends", min=0.001)] = 64,
    quality: Annotated[
        int | None,
        typer.Option(
            help="Of the JPEGs; if not given, those that need no crop stay as they are, others get 95", min=1, max=100
        ),
    ] = None,
    every: Annotated[int, typer.Option(help="Keep one frame of so many", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of the order of the tracks", min=0)] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress")] = False,
) -> int:
    """Pack a training set into shards: tar files of crops that training reads from front to back.

    `siamtrack train --data` takes their folder, or a URL of it. The same command goes on where it was stopped.
    """
    from tracker.data.pack import pack
    from tracker.data.shard_index import PackRule

    counts = None
    for counts in pack(data, out, PackRule(shard_mb, quality, every, seed)):
        if not quiet:
            typer.echo(f"{counts.lines} of {counts.of} tracks, {counts.shards} shards", err=True)
    assert counts is not None
    typer.echo(
        f"{counts.tracks} tracks and {counts.frames} frames in {counts.shards} shards, {counts.bytes / 1e6:.1f} MB"
    )
    _list_passed_over(counts.outside, counts.unreadable)
    return 1 if counts.unreadable else 0


def _list_passed_over(outside: int, paths: list[Path]) -> None:
    if outside:
        typer.echo(f"{outside} frames passed over: their box is less than half in the picture, or of no size")
    for path in paths[:_LISTED]:
        typer.echo(f"passed over {path}: cannot be read")
    if len(paths) > _LISTED:
        typer.echo(f"... and {len(paths) - _LISTED} more")


def annotate_command(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Video file, image folder or quoted glob pattern.")],
    keys: Annotated[
        list[str],
        typer.Option("--key", metavar="N:X,Y,W,H", help="Box in frame N, drawn by hand; repeat it where it is wanted."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the training set; the track is added or replaced.")],
    label: Annotated[str, typer.Option("--class", help="What kind of thing it is.")] = "object",
    name: Annotated[str, typer.Option(help="Name of this object among those of the video.")] = "0",
    every: Annotated[int, typer.Option(help="Keep one frame of so many, and all keys.", min=1)] = 3,
    start: Annotated[int, typer.Option(help="First frame, counted from 0.")] = 0,
    end: Annotated[int | None, typer.Option(help="Frame to stop before.")] = None,
    preview: Annotated[
        Path | None, typer.Option(metavar="VIDEO", help="Write the video with the proposed boxes, to look at.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model that tracks between the keys.")] = None,
    device: Device = "auto",
) -> int:
    """Make a training track of your own video from a few boxes drawn by hand.

    Between two keys the object is tracked from both; where the tracks disagree no frame is kept, and another key there
    helps. Frames are counted from 0, as `siamtrack track --boxes` numbers them.
    """
    from tracker.annotation import propose
    from tracker.builder import load_tracker
    from tracker.data.track_writer import video_of, write_track

    boxes = _parse_keys(keys)
    if preview is not None:
        _check_preview(source, preview)
    held = _hold(source, start, end)
    frames = held.frames
    _check_keys(boxes, start, start + len(frames))
    video = video_of(source, out)
    proposals = propose(load_tracker(model, device), frames, {at - start: box for at, box in boxes.items()})
    asked = {at for at in range(len(frames)) if at % every == 0 or start + at in boxes}
    kept = [p for p in proposals if p.kept and p.frame in asked]
    shown = ((start + p.frame, frames[p.frame], p.box) for p in kept)  # decoded one at a time: they may be many
    count, index = write_track(out, video, name, label, shown)
    typer.echo(f"{count} frames kept of {len(asked)} to choose from, of {len(frames)} in all; the track is in {index}")
    _ask_for_keys(proposals, start, start + len(frames))
    if preview is not None:
        _write_preview(preview, held, proposals, start)
        typer.echo(f"the boxes are drawn in {preview}")
    return 0


def _ask_for_keys(proposals: "list[Proposal]", start: int, end: int) -> None:
    from tracker.annotation import doubtful_spans

    spans = [(start + first, start + last) for first, last in doubtful_spans(proposals)]
    if spans:
        first, last = max(spans, key=lambda span: span[1] - span[0])
        listed = ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in spans)
        typer.echo(f"doubtful, and left out: frames {listed}; a --key near frame {(first + last) // 2} helps most")
    lost = start + proposals[-1].frame + 1
    if lost < end:
        typer.echo(f"lost at frame {lost}: add a --key after it if the object is still there")


class _Held(NamedTuple):
    """Hold the frames of a source, in memory, the time of each, seconds, and the source's rate and shape of pixels."""

    frames: "JpegFrames"
    times: list[float]
    fps: float | None
    pixel_aspect: "Fraction"


def _hold(source: str, start: int, end: int | None) -> _Held:
    from tracker.annotation import JpegFrames
    from tracker.frames import open_frames

    with open_frames(source, start, end) as opened:
        if opened.live:
            raise ValueError(f"{source} is live; record it first, and annotate the file")
        times: list[float] = []
        return _Held(JpegFrames(_noting_times(opened, times)), times, opened.fps, opened.pixel_aspect)


def _noting_times(opened: "Frames", times: list[float]) -> "Iterator[Frame]":
    for frame in opened:
        times.append(opened.time)
        yield frame


def _check_preview(source: str, preview: Path) -> None:
    from tracker.video_writer import encoder_for
    from tracker.whole_file import check_folder, refuse_source

    refuse_source(source, preview)
    encoder_for(preview)
    check_folder(preview)


def _parse_keys(texts: list[str]) -> dict[int, "Box"]:
    keys = [_parse_key(text) for text in texts]
    boxes = dict(keys)
    if len(boxes) < len(keys):
        raise ValueError("two --key for one frame; give one box a frame")
    return boxes


def _check_keys(keys: dict[int, "Box"], start: int, end: int) -> None:
    for at in keys:
        if not start <= at < end:
            raise ValueError(f"--key {at}:... lies outside the frames {start} to {end - 1}")


def _parse_key(text: str) -> tuple[int, "Box"]:
    from tracker.geometry import Box

    number, _, numbers = text.partition(":")
    try:
        return int(number), Box.parse(numbers)
    except ValueError:
        raise ValueError(f"--key must be N:X,Y,W,H, frame and pixels, such as 30:120,80,64,48, got {text!r}") from None


def _write_preview(path: Path, held: _Held, proposals: "list[Proposal]", start: int) -> None:
    from tracker.draw import draw_predictions
    from tracker.interface import Prediction
    from tracker.video_reader import DEFAULT_FPS
    from tracker.video_writer import FILE_GAP_S, VideoWriter

    by_frame = {proposal.frame: proposal for proposal in proposals}
    height, width = held.frames[0].shape[:2]
    fps, aspect = held.fps or DEFAULT_FPS, held.pixel_aspect
    with VideoWriter(path, fps, (height, width), FILE_GAP_S, aspect) as video:
        for at, seconds in enumerate(held.times):
            found = by_frame.get(at)
            shown = [Prediction(found.box, found.trust, not found.kept)] if found else []
            video.write(draw_predictions(held.frames[at], shown, start + at), seconds)
