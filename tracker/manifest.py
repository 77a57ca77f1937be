"""Read the list of videos that a batch tracks: CSV under a header, or JSON lines with the same keys.

video       file, image folder, quoted glob pattern or URL; relative to the folder of the list
x, y, w, h  box of a target in its first frame, pixels
start, end  first frame, counted from 0, and frame to stop before; may be left out
name        what the results are called; if left out, the video's name, with start and end where they are given

Rows with the same video, start and end are the targets of one pass, in their order.
"""

import csv
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from glob import escape
from pathlib import Path
from typing import TextIO

from tracker.file_names import in_home
from tracker.geometry import Box

REQUIRED = ("video", "x", "y", "w", "h")
OPTIONAL = ("start", "end", "name")
_RESERVED = {"results"}  # results.csv lies beside the tables of boxes
_LONGEST_NAME = 200  # bytes; file systems take 255 with the ending

Row = Mapping[str, object]  # cells of CSV are text, JSON has numbers; what was left out is missing, empty or None
Pass = tuple[str, int, int | None]  # video, start, end


@dataclass(frozen=True, slots=True)
class VideoJob:
    """Hold one pass over a video: what is read, which targets are followed, and what the results are called."""

    name: str
    video: str  # absolute path, glob pattern or URL
    boxes: tuple[Box, ...]  # of the targets, in the first frame
    start: int
    end: int | None

    def digest(self) -> str:
        """Return what tells that a row was changed."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Named:
    """Hold what a pass is called, and the line that says so."""

    name: str
    given: bool
    line: int


def read_manifest(path: Path) -> list[VideoJob]:
    """Return the passes of a .csv or .jsonl list, in its order. Raises ValueError naming file and line."""
    names: dict[Pass, _Named] = {}
    boxes: dict[Pass, list[Box]] = {}
    lines: dict[str, int] = {}  # of each name
    for line, row in _read_rows(path):
        try:
            what, box, name = _parse(row, path.absolute().parent)
            known = names.get(what)
            if known is None:
                chosen = name or _default_name(row, what)
                _check_name(chosen, lines)
                lines[chosen.casefold()] = line
                names[what] = _Named(chosen, bool(name), line)
            elif name and name != known.name:
                raise ValueError(
                    f"the name {name!r}, but line {known.line} calls the same video, start and end {known.name!r}"
                )
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from None
        boxes.setdefault(what, []).append(box)
    if not names:
        raise ValueError(f"{path} lists no videos")
    return [VideoJob(named.name, what[0], tuple(boxes[what]), *what[1:]) for what, named in names.items()]


def _read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield each row with the number of its line."""
    readers = {".csv": _csv_rows, ".jsonl": _json_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: the name of a list of videos must end in .csv or .jsonl")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from reader(file, path)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no list of videos in UTF-8 ({error})") from error


def _csv_rows(file: TextIO, path: Path) -> Iterator[tuple[int, Row]]:
    reader = csv.reader(file)
    header = [cell.strip() for cell in next(reader, [])]
    missing = [name for name in REQUIRED if name not in header]
    twice = sorted({name for name in header if header.count(name) > 1})
    if missing or twice:
        told = f"the header lacks {', '.join(missing)}" if missing else f"the header has {', '.join(twice)} twice"
        raise ValueError(f"{path}, line 1: {told}; it must be {','.join(REQUIRED)}, with {','.join(OPTIONAL)} or not")
    _check_keys(header, f"{path}, line 1: the header")
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise ValueError(f"{path}, line {reader.line_num}: {len(cells)} cells under a header of {len(header)}")
        yield reader.line_num, dict(zip(header, (cell.strip() for cell in cells), strict=True))


def _json_rows(file: TextIO, path: Path) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{where}: no JSON ({error})") from None
        if not isinstance(row, dict):
            raise ValueError(f"{where}: expected an object with the keys {', '.join(REQUIRED)}")
        _check_keys(list(row), f"{where}: the row")
        yield number, row


def _check_keys(keys: list[str], where: str) -> None:
    unknown = [key for key in keys if key not in (*REQUIRED, *OPTIONAL)]
    if unknown:
        raise ValueError(f"{where} has the unknown {unknown[0]!r}; known are {', '.join((*REQUIRED, *OPTIONAL))}")


def _parse(row: Row, folder: Path) -> tuple[Pass, Box, str]:
    """Return the pass that a row belongs to, its box and its name, empty where none is given."""
    x, y, w, h = (_number(row, key) for key in "xywh")
    if w <= 0 or h <= 0:
        raise ValueError(f"a box must have a positive width and height, got w,h = {w:g},{h:g}")
    start, end = _whole(row, "start"), _whole(row, "end")
    if end is not None and end <= (start or 0):
        raise ValueError(f"end must be greater than start, got start {start or 0} and end {end}")
    return (_locate(_text(row, "video"), folder), start or 0, end), Box.from_xywh(x, y, w, h), _text(row, "name")


def _locate(video: str, folder: Path) -> str:
    if not video:
        raise ValueError("video is empty")
    if "://" in video:
        return video
    path = in_home(video)
    if set("*?[") & set(video) and not (folder / path).exists():  # a pattern, which the folder's own name is no part of
        folder = Path(escape(str(folder)))
    return str(folder / path)


def _text(row: Row, key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str | None):
        raise ValueError(f"{key} must be text, got {value!r}")
    return (value or "").strip()


def _number(row: Row, key: str) -> float:
    value = row.get(key)
    try:
        number = float(value) if isinstance(value, str | float | int) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{key} must be a finite number, got {value!r}")
    return number


def _whole(row: Row, key: str) -> int | None:
    value = row.get(key)
    if value in (None, ""):
        return None
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,15}", str(value), re.ASCII):
        raise ValueError(f"{key} must be a whole number of 0 or more, got {value!r}")
    return int(str(value))


def _default_name(row: Row, what: Pass) -> str:
    video, start, end = what
    stem = Path(_text(row, "video").partition("?")[0] if "://" in video else video).stem
    return stem if not start and end is None else f"{stem}_{start}-{'' if end is None else end}"


def _check_name(name: str, lines: Mapping[str, int]) -> None:
    """Raise ValueError for a name that is taken, also in other letters, or cannot be a file's on some system."""
    if name.casefold() in lines:
        raise ValueError(f"the name {name!r} is that of line {lines[name.casefold()]}; tell them apart by a name each")
    unfit = re.search(r'[\\/:*?"<>|\x00-\x1f]', name) or name.startswith(".") or name.casefold() in _RESERVED
    if unfit or not name or len(name.encode()) > _LONGEST_NAME:
        raise ValueError(f"the results cannot be called {name!r}; give another name")
