"""`siamtrack verify`, `verify-pairs`, `index` and `search`: ask whether it is the same, or where one like it is."""

import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from tracker.cli_options import Device, Model, Runtime, Threads
from tracker.geometry import Box

if TYPE_CHECKING:  # imported where they are used, so that `siamtrack --help` stays quick
    import numpy as np
    from numpy.typing import NDArray

    from tracker.builder import RuntimeName
    from tracker.data.pair_lists import ListedPair
    from tracker.picture_index import Entry, Hit
    from tracker.verification import Floats
    from tracker.verifier import Verifier

Threshold = Annotated[
    float | None, typer.Option(help="Similarity from which on two are the same; the model's own, if not given.")
]

_RATES = (0.01, 0.001)  # of false accepts, for which true accepts are printed


def verify_command(
    a: Annotated[Path, typer.Argument(metavar="A", help="Picture.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    box_a: Annotated[
        str | None, typer.Option(metavar="X,Y,W,H", help="Box of the object in A, pixels; all of it, if not given.")
    ] = None,
    box_b: Annotated[str | None, typer.Option(metavar="X,Y,W,H", help="The same in B.")] = None,
    threshold: Threshold = None,
    model: Model = None,
    device: Device = "auto",
    runtime: Runtime = "auto",
    threads: Threads = None,
) -> int:
    """Say whether two pictures show the same thing."""
    boxes = _parse_box(box_a, "--box-a"), _parse_box(box_b, "--box-b")
    try:
        from tracker.verifier import embed_file

        verifier = _load(model, device, runtime, threads)
        needed = verifier.chosen_threshold(threshold)
        first, second = (embed_file(verifier, path, box) for path, box in zip((a, b), boxes, strict=True))
        similarity = verifier.similarity(first, second)
        same = similarity >= needed
        verdict = f"{'same' if same else 'different'} (threshold {needed:.4f})"
        _print_whole(f"similarity  {similarity:.4f}\nverdict     {verdict}")
    except Exception as error:  # Python ends with 1, which here says that the two differ
        raise ValueError(str(error) or type(error).__name__) from error
    return 0 if same else 1


def _print_whole(text: str) -> None:
    """Print a text at once. Raises OSError where nobody reads it, or there is no room for it."""
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries once more when it ends
        raise


def verify_pairs_command(
    pairs: Annotated[
        Path, typer.Argument(metavar="PAIRS", help=".csv under the header a,b,same, or a pairs.txt of LFW.")
    ],
    images: Annotated[
        Path | None, typer.Option(help="Folder below which the pictures lie; that of the list, if not given.")
    ] = None,
    false_accepts: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Print the threshold that accepts that share of different pairs."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Write the ROC curve as a picture; needs 'siamtrack\\[eval]'.")
    ] = None,
    model: Model = None,
    device: Device = "auto",
    runtime: Runtime = "auto",
    threads: Threads = None,
) -> None:
    """Measure how well pairs of pictures of the same thing are told from others."""
    from tracker.data.pair_lists import read_pairs
    from tracker.verifier import pair_similarities

    if false_accepts is not None and not 0 <= false_accepts <= 1:
        raise ValueError(f"--false-accepts must be in [0, 1], got {false_accepts}")
    if plot is not None:
        from tracker.roc_plot import check_plot

        check_plot(plot)
    listed = read_pairs(pairs, images or pairs.parent)
    verifier = _load(model, device, runtime, threads)
    similarities = pair_similarities(verifier, listed)
    for line in _figures(similarities, listed, verifier.threshold, false_accepts):
        typer.echo(line)
    if plot is not None:
        from tracker.roc_plot import write_roc
        from tracker.verification import roc_curve

        same, different, _ = _kinds(similarities, listed)
        write_roc({pairs.stem: roc_curve(same, different)}, plot)


def index_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of pictures, searched to the bottom.")],
    out: Annotated[
        Path, typer.Option(metavar="INDEX", help="File of the index; one that is there is brought up to date.")
    ],
    model: Model = None,
    device: Device = "auto",
    runtime: Runtime = "auto",
    threads: Threads = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> int:
    """Embed all pictures of a folder, to search them by example; only what is new or changed is read.

    Ctrl-C stops early; the same command goes on from there.
    """
    from tracker.picture_index import PictureIndex, check_model, find_pictures, probe_vectors, read_index, write_index
    from tracker.threads import stop_signals_raise_once
    from tracker.whole_file import check_folder
    from tracker.zoo import DEFAULT_MODEL

    pictures = find_pictures(folder)
    check_folder(out)
    known = read_index(out) if out.exists() else None
    verifier = _load(model, device, runtime, threads)
    if known is not None:
        check_model(known, verifier)
    before = {} if known is None else known.entries()
    name = known.model if known else model or DEFAULT_MODEL
    with stop_signals_raise_once():
        entries, counts, stopped = _embed_all(pictures, verifier, before, quiet)
        kept = {**before, **entries} if stopped else entries
        index = PictureIndex.of(folder.absolute(), name, probe_vectors(verifier), dict(sorted(kept.items())))
        try:
            write_index(out, index)
        except KeyboardInterrupt:  # the first signal: more of them are ignored
            write_index(out, index)
            stopped = True
    gone = len(before.keys() - kept.keys())
    typer.echo(
        f"{len(kept)} pictures in {out}: {counts['embedded']} embedded, {counts['kept']} as they were, {gone} gone; "
        f"{counts['skipped']} cannot be used"
    )
    if stopped:
        typer.echo("siamtrack: stopped early; the same command goes on from here", err=True)
    return 130 if stopped else 0


def search_command(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Picture of what is searched for.")],
    index: Annotated[Path, typer.Option(metavar="INDEX", help="File that `siamtrack index` made.")],
    top: Annotated[int, typer.Option(min=1, help="Pictures to find.")] = 5,
    box: Annotated[
        str | None, typer.Option(metavar="X,Y,W,H", help="Box of the object, pixels; all of it, if not given.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a picture of what was found (.png, .jpg).")] = None,
    threshold: Threshold = None,
    model: Model = None,
    device: Device = "auto",
    runtime: Runtime = "auto",
    threads: Threads = None,
) -> None:
    """Find the pictures of an index that are most like one: similarity, verdict and path, the best first."""
    from tracker.picture_index import check_model, read_index, search
    from tracker.verifier import embed_file
    from tracker.whole_file import check_folder, refuse_source

    marked = _parse_box(box, "--box")
    if sheet is not None:
        check_folder(sheet)
        for source in (image, index):
            refuse_source(str(source), sheet)
    found = read_index(index)
    verifier = _load(model, device, runtime, threads)
    check_model(found, verifier)
    needed = verifier.threshold if threshold is None else verifier.chosen_threshold(threshold)
    hits = search(found, embed_file(verifier, image, marked), top)
    for hit in hits:
        verdict = "-" if needed is None else "same" if hit.similarity >= needed else "different"
        typer.echo(f"{hit.similarity:.4f}  {verdict:<9}  {hit.path}")
    if sheet is not None:
        _draw_hits(sheet, image, marked, hits, needed)


def _load(model: str | None, device: str, runtime: str, threads: int | None) -> "Verifier":
    from tracker.threads import free_threads
    from tracker.verifier import load_verifier

    engine = cast("RuntimeName", runtime)  # load_verifier refuses what is none
    return load_verifier(model, device, engine, threads or free_threads())


def _parse_box(text: str | None, option: str) -> Box | None:
    if text is None:
        return None
    try:
        return Box.parse(text)
    except ValueError:
        raise ValueError(f"{option} must be X,Y,W,H in pixels, such as 120,80,64,48, got {text!r}") from None


def _figures(
    similarities: "Floats", pairs: "Sequence[ListedPair]", threshold: float | None, false_accepts: float | None
) -> Iterator[str]:
    """Yield what the pairs say of the verifier, a line a figure, and what thresholds do."""
    import numpy as np

    from tracker.verification import area, bootstrap, equal_error_rate, fold_accuracy, threshold_above, true_accepts_at

    same, different, is_same = _kinds(similarities, pairs)
    yield f"pairs         {len(same)} same, {len(different)} different"
    measured = {"AUC": area, "EER": equal_error_rate}
    for rate in _RATES:
        if len(different) * rate >= 1:  # of fewer pairs that share is none
            measured[f"TAR@FAR {rate:.1%}"] = partial(true_accepts_at, false_accepts=rate)
    drawn = bootstrap(same, different, list(measured.values()), np.random.default_rng(0))
    for name, found in zip(measured, drawn, strict=True):
        yield f"{name:<14}{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"
    folds = np.array([pair.fold for pair in pairs])
    if folds.any():
        found = fold_accuracy(similarities, is_same, folds)
        yield f"accuracy      {found.value:.4f} ({found.low:.4f} to {found.high:.4f}) over {folds.max() + 1} folds"
    asked = None if false_accepts is None else _as_printed(threshold_above(different, false_accepts))
    for value, source in ((threshold, "of the model"), (asked, "as asked for")):
        if value is not None:
            accepted = f"{(same >= value).mean():.2%} of the same, {(different >= value).mean():.2%} of the different"
            yield f"threshold     {value:.4f} {source}: accepts {accepted}"


def _as_printed(threshold: float) -> float:
    """Return the nearest number of four digits that is no lower: one that was rounded down would accept more."""
    near = round(threshold, 4)
    return near if near >= threshold else round(near + 1e-4, 4)


def _kinds(similarities: "Floats", pairs: "Sequence[ListedPair]") -> "tuple[Floats, Floats, NDArray[np.bool_]]":
    """Return the similarities of the same pairs and of the different ones, and which are the same."""
    import numpy as np

    is_same = np.array([pair.same for pair in pairs])
    return similarities[is_same], similarities[~is_same], is_same


def _embed_all(
    pictures: "Mapping[str, Path]", verifier: "Verifier", known: "Mapping[str, Entry]", quiet: bool
) -> "tuple[dict[str, Entry], Counter[str], bool]":
    """Return the pictures that have a vector, how many were met in each way, and whether it was stopped early."""
    from rich.console import Console
    from rich.progress import track

    from tracker.picture_index import visit_pictures

    entries, counts = {}, Counter[str]()
    visits = visit_pictures(pictures, verifier, known)
    silent = quiet or not sys.stderr.isatty()
    try:
        for visit in track(visits, "", len(pictures), console=Console(stderr=True), disable=silent):
            counts["skipped" if visit.entry is None else "kept" if visit.kept else "embedded"] += 1
            if visit.entry is None:
                typer.echo(f"left out: {visit.reason}", err=True)
            else:
                entries[visit.name] = visit.entry
    except KeyboardInterrupt:
        return entries, counts, True
    return entries, counts, False


def _draw_hits(path: Path, asked: Path, box: Box | None, hits: "Sequence[Hit]", threshold: float | None) -> None:
    from tracker.draw import write_picture
    from tracker.frames import read_image
    from tracker.result_sheet import Shown, result_sheet

    shown = []
    for hit in hits:
        try:
            picture = read_image(hit.path)
        except (ValueError, OSError):  # the folder may have changed since
            picture = None
        same = threshold is not None and hit.similarity >= threshold
        shown.append(Shown(picture, hit.name, hit.similarity, same))
    write_picture(path, result_sheet(read_image(asked), box, shown))
