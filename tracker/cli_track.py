"""`siamtrack track`: follow objects through a source and write what was found."""

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, cast

import typer

from tracker.cli_options import Device, Model, Runtime, Threads
from tracker.geometry import Box, check_initial_box
from tracker.whole_file import refuse_source

if TYPE_CHECKING:  # imported where they are used, so that `siamtrack --help` stays quick
    from rich.progress import Progress

    from tracker.builder import RuntimeName
    from tracker.frames import Frames
    from tracker.interface import Frame, Prediction
    from tracker.loop import Latency
    from tracker.pipeline import ReadAhead
    from tracker.siamese_tracker import SiameseTracker
    from tracker.tally import Tally
    from tracker.window import Window


@dataclass(frozen=True, slots=True)
class _Options:
    """Hold what the command was asked to do; without targets the user drags them."""

    source: str
    targets: list[Box]
    start: int
    end: int | None
    video: Path | None
    table: Path | None
    show: bool
    model: str | None
    device: str
    runtime: "RuntimeName"
    threads: int
    recover: bool
    stop_when_lost: bool
    quiet: bool


_Recover = Annotated[
    bool, typer.Option("--recover/--no-recover", help="Search the whole frame for a target that is lost.")
]
_StopWhenLost = Annotated[
    bool, typer.Option("--stop-when-lost", help="Stop, with status 3, where every target is lost.")
]


def track_command(  # typer reads the options of a command from its parameters
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="Video file, webcam index, stream URL, image folder or quoted glob pattern."
        ),
    ],
    init: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y,W,H", help="Box in the first frame, pixels; repeat for more targets."),
    ] = None,
    select: Annotated[bool, typer.Option("--select", help="Drag the boxes in a window.")] = False,
    start: Annotated[int, typer.Option(help="First frame, counted from 0.")] = 0,
    end: Annotated[int | None, typer.Option(help="Frame to stop before.")] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="VIDEO", help="Write the drawn video: .mp4, .mkv, .mov, .avi or .webm.")
    ] = None,
    boxes: Annotated[Path | None, typer.Option(metavar="TABLE", help="Write the boxes: .csv or .jsonl.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Watch in a window: Space pauses, Esc stops.")] = False,
    model: Model = None,
    device: Device = "auto",
    runtime: Runtime = "auto",
    threads: Threads = None,
    recover: _Recover = True,
    stop_when_lost: _StopWhenLost = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> int:
    """Follow one object or more from their boxes in the first frame.

    Ctrl-C stops early and leaves complete files.
    """
    if bool(init) == select:
        raise ValueError("say what to follow: give either --init X,Y,W,H or --select")
    targets = [_parse_box(text) for text in init or ()]
    for output in (save, boxes):
        if output is not None:
            refuse_source(source, output)
    from tracker.threads import free_threads

    engine = cast("RuntimeName", runtime)  # load_tracker refuses what is none
    free = threads or free_threads()
    files = (save, boxes, show)
    return _track(
        _Options(source, targets, start, end, *files, model, device, engine, free, recover, stop_when_lost, quiet)
    )


def _parse_box(text: str) -> Box:
    try:
        return Box.parse(text)
    except ValueError:
        raise ValueError(f"--init must be X,Y,W,H in pixels, such as 120,80,64,48, got {text!r}") from None


def _track(options: _Options) -> int:
    """Prepare everything that can fail before the first update, then follow. Returns the exit status."""
    from tracker.builder import load_tracker
    from tracker.frames import open_frames
    from tracker.pipeline import ReadAhead
    from tracker.window import Window

    if not options.quiet:
        logging.getLogger("tracker.builder").setLevel(logging.INFO)  # it says what computes the network
    with ExitStack() as inputs:
        frames = inputs.enter_context(open_frames(options.source, options.start, options.end))
        # Before the first frame: a live source should not run on while the model loads.
        changes = () if options.recover else ("recovery=false",)
        tracker = load_tracker(
            options.model, options.device, overrides=changes, runtime=options.runtime, threads=options.threads
        )
        window = None
        if options.show or not options.targets:
            window = inputs.enter_context(Window(options.source, None if frames.live else frames.fps))
        first, boxes = (
            _drag_boxes(window, frames) if window and not options.targets else (next(frames), options.targets)
        )
        for box in boxes:
            check_initial_box(box, first.shape[:2])
        if window and not options.show:
            window.close()
            window = None
        reader = ReadAhead(frames)
        outputs = _Outputs(options, frames, reader, first, window)
        trackers = [tracker, *(tracker.fork() for _ in boxes[1:])]
        expected = frames.frame_count
        return _follow(options, (reader, expected), first, trackers, boxes, outputs)


def _drag_boxes(window: "Window", frames: "Frames") -> tuple["Frame", list[Box]]:
    """Return the frame to begin with and the boxes that the user drags in it. Raises ValueError when there is none."""
    first = window.freeze(frames) if frames.live else next(frames)
    boxes = [] if first is None else window.select_boxes(first)
    if first is None or not boxes:
        raise ValueError("no box was selected, so there is nothing to follow")
    return first, boxes


class _Outputs:
    """Take each tracked frame to the files and the window that were asked for; a context manager."""

    def __init__(
        self, options: _Options, source: "Frames", reader: "ReadAhead", first: "Frame", window: "Window | None"
    ) -> None:
        """Open the files; source: what `reader` reads. Raises ValueError or OSError where one cannot be written."""
        from tracker.box_files import BoxWriter
        from tracker.pipeline import WriteBehind
        from tracker.video_reader import DEFAULT_FPS
        from tracker.video_writer import FILE_GAP_S, VideoWriter

        self._reader = reader
        self._window = window
        with ExitStack() as files:
            self._table = files.enter_context(BoxWriter(options.table)) if options.table else None
            self._video = None
            if options.video:
                gap_s = 1.0 if source.live else FILE_GAP_S  # a live source goes on while the window pauses
                fps, size_hw = source.fps or DEFAULT_FPS, (first.shape[0], first.shape[1])
                video = VideoWriter(options.video, fps, size_hw, gap_s, source.pixel_aspect)
                self._video = files.enter_context(video)
            self._jobs = files.enter_context(WriteBehind())  # closed before the file it writes
            self._files = files.pop_all()

    def write(self, frame: "Frame", predictions: Sequence["Prediction"]) -> bool:
        """Write the frame that the source gave last. Return False when the user wants to stop."""
        from tracker.draw import draw_predictions

        index, seconds, video = self._reader.index, self._reader.time, self._video
        if self._table:
            self._table.write(index, seconds, predictions)
        if self._window:
            drawn = draw_predictions(frame, predictions, index)
            if video:
                self._jobs.submit(lambda: video.write(drawn, seconds))
            return self._window.show(drawn)
        if video:
            self._jobs.submit(lambda: video.write(draw_predictions(frame, predictions, index), seconds))
        return True

    def __enter__(self) -> "_Outputs":
        """Return the outputs."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the files, whatever happened."""
        self._files.close()


def _follow(
    options: _Options,
    source: "tuple[ReadAhead, int | None]",
    first: "Frame",
    trackers: Sequence["SiameseTracker"],
    boxes: Sequence[Box],
    outputs: _Outputs,
) -> int:
    """Track to the end, a failure or Ctrl-C; finish the files, sum up and return the exit status.

    source: the frames after the first, and how many there may be with it.
    """
    from tracker.loop import LatencyMeter, track_many
    from tracker.siamese_tracker import update_many
    from tracker.tally import Tally
    from tracker.threads import stop_signals_raise_once

    meter = LatencyMeter()
    tally = Tally(len(boxes))
    reader, expected = source
    status = 0
    with stop_signals_raise_once():
        try:
            with outputs, reader, _progress(options.quiet) as progress:
                task = progress.add_task("", total=expected, speed=0.0)
                for frame, predictions in track_many(trackers, chain([first], reader), boxes, update_many, meter):
                    tally.add(reader.index, predictions)
                    progress.update(task, advance=1, speed=tally.frames_a_second())
                    if not outputs.write(frame, predictions):
                        break
                    if options.stop_when_lost and tally.all_lost:
                        status = 3
                        print(f"siamtrack: lost in frame {reader.index}; the files end here", file=sys.stderr)
                        break
        except KeyboardInterrupt:
            status = 130
            print("siamtrack: stopped early; the files end here", file=sys.stderr)
        except (ValueError, OSError) as error:
            status = 1
            print(f"siamtrack: error: {error}", file=sys.stderr)
        _print_summary(options, tally, reader.dropped, meter.latency())
    return status


def _progress(quiet: bool) -> "Progress":
    """Return a progress bar on stderr, one that stays silent with --quiet or where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames, {task.fields[speed]:.0f} a second"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty())


def _print_summary(options: _Options, tally: "Tally", dropped: int, latency: "Latency | None") -> None:
    print(f"frames   {tally.frames}, {tally.frames_a_second():.0f} a second with reading and writing")
    if dropped:
        print(f"dropped  {dropped} frames that came while another was tracked")
    several = len(tally.lost) > 1
    for target in range(len(tally.lost)):
        print(f"lost in  {f'target {target}: ' if several else ''}{tally.told(target)}")
    if latency:
        median, p95 = f"median {latency.median_ms:.1f} ms", f"p95 {latency.p95_ms:.1f} ms"
        print(f"update   {median}, {p95}, {latency.fps:.0f} a second")
    written = ", ".join(str(path) for path in (options.video, options.table) if path)
    print(f"wrote    {written or 'nothing: add --save VIDEO or --boxes TABLE to keep the result'}")
