"""Write tracks in the layout that training reads: crops of the frames, and a line a track in tracks.jsonl."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from os import SEEK_END
from pathlib import Path
from shutil import rmtree
from typing import NamedTuple

import cv2

from tracker.data.tracks import BoxXYWH, ObjectTrack, TrackFrame, UnreadablePictureError, parse_track, read_lines
from tracker.file_names import in_home, natural_order
from tracker.frames import IMAGE_SUFFIXES
from tracker.geometry import Box, context_side, share_inside
from tracker.interface import Frame
from tracker.whole_file import write_whole

CONTEXT = 0.5  # margin around the object, as everywhere: a quarter of w + h on each side
REACH = 4.0  # side of a crop over the object's context square: room for the search, its shift and its scale
LEAST_INSIDE = 0.5  # of a box, in its frame: of less there is nothing to learn
CONTEXT_PX = 150.0  # pixels that a larger context square is scaled down to: more than any network's template shows
_BEGINNING = 1 << 20  # bytes of a file that tell it, with its size, from others

Row = Mapping[str, object]  # of an index, as JSON has it


class Video(NamedTuple):
    """Name a video of an index; origin: what tells what it was made of from another video of that name."""

    name: str
    origin: str = ""


def video_of(source: str, folder: Path) -> Video:
    """Return what the tracks in a folder call a video file, an image folder or a pattern.

    Its name is its own and its folder's. Where another video has that name already, as many folders more stand before
    it as it takes; a video that has tracks there keeps its name, also where it was moved together with its folder.
    """
    path = in_home(source).resolve()
    origin = _origin(source, path)
    rows = [_row(line) for line in _whole_lines(folder / "tracks.jsonl")]
    taken = {str(row.get("video")): row.get("origin") for row in rows}
    parts = path.parts[1:]
    names = ["/".join(parts[-count:]) for count in range(2, len(parts) + 1)] or [path.name]
    ours = (name for name in taken if taken[name] == origin and f"/{name}".endswith(f"/{names[0]}"))
    free = (name for name in names if name not in taken)
    return Video(next(ours, None) or next(free, f"{origin}/{names[-1]}"), origin)


def _origin(source: str, path: Path) -> str:
    """Return a digest of the size and the beginning of a file, or of a folder's or pattern's first; else of a URL."""
    if path.is_dir():
        found = [each for each in path.iterdir() if each.suffix.lower() in IMAGE_SUFFIXES and each.name[0] != "."]
    else:
        found = [path] if "://" in source or path.is_file() else [*Path(path.anchor).glob("/".join(path.parts[1:]))]
    content = source.encode()
    for first in natural_order(each for each in found if each.is_file())[:1]:
        with first.open("rb") as file:
            content = b"%d:" % first.stat().st_size + file.read(_BEGINNING)
    return sha256(content).hexdigest()[:16]


def write_track(
    folder: Path, video: Video, track: str, label: str, frames: Iterable[tuple[int, Frame, Box]]
) -> tuple[int, Path]:
    """Add a track to a folder, in the place of one with the same name; return its number of frames and the index.

    frames: number in the video, picture (H, W, 3) RGB and box, each. The index is replaced in one step, and until then
    the pictures that it names stay. Raises ValueError where no frame shows half of its box, OSError where something
    cannot be written.
    """
    index = folder / "tracks.jsonl"
    lines = _whole_lines(index)
    name = f"{video.name}:{track}"
    replaced = [line for line in lines if _name_of(line) == name]
    place = _place(folder, video.name, track)
    other = place.with_name(f"{place.name}+")  # the two take turns; `_safe` gives no such name
    if any(frame.image.parent == place for line in replaced for frame in parse_track(line, folder).frames):
        place, other = other, place
    rows = _write_pictures(folder, place, frames)
    if not rows:
        raise ValueError(f"no frame shows half of the box of {name}, so there is no track to write")
    row = {"set": "", "video": video.name, "track": name, "class": label, "origin": video.origin, "frames": rows}
    write_whole(index, "\n".join([*(line for line in lines if line not in replaced), _line(row)]) + "\n")
    rmtree(other, ignore_errors=True)
    return len(rows), index


@dataclass(slots=True)
class Imported:
    """Count what was made of another data set."""

    tracks: int = 0
    frames: int = 0
    known: int = 0  # tracks that were there already
    outside: int = 0  # frames that were passed over: their box is less than half in the picture, or of no size
    unreadable: list[Path] = field(default_factory=list)  # pictures that were passed over


def import_tracks(tracks: Iterable[ObjectTrack], folder: Path, source: str, every: int) -> Iterator[Imported]:
    """Write crops of each `every`-th frame of tracks that lie elsewhere; yield the counts after each track.

    Tracks that the index has already are passed over, so a run that was stopped goes on. `source` is the set's name.
    """
    index = folder / "tracks.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    known = {_name_of(line) for line in _whole_lines(index)}
    counts = Imported()
    numbers: Counter[str] = Counter()
    for track in tracks:
        video = f"{source}/{track.video}"
        number = numbers[video]
        numbers[video] += 1
        name = f"{video}:{number}"
        if name in known:
            counts.known += 1
        else:
            asked, unreadable = list(enumerate(track.frames))[::every], len(counts.unreadable)
            rows = _write_pictures(folder, _place(folder, video, str(number)), _readable(asked, counts))
            counts.outside += len(asked) - (len(counts.unreadable) - unreadable) - len(rows)
            if rows:
                row = {"set": source, "video": video, "track": name, "class": track.label, "frames": rows}
                with index.open("a", encoding="utf-8") as file:
                    file.write(_line(row) + "\n")
                counts.tracks += 1
                counts.frames += len(rows)
        yield counts


def _whole_lines(index: Path) -> list[str]:
    """Return the lines of an index, which ends with a whole one from now on; none where there is no index yet."""
    if not index.exists():
        return []
    _mend(index)
    return read_lines(index)


def _mend(index: Path) -> None:
    """End the index with a whole line: a run that was killed may have left a part of one."""
    content = index.read_bytes()
    last = content.rpartition(b"\n")[2]
    if not last:
        return
    try:
        json.loads(last)
        whole = True
    except ValueError:  # also where it was cut in the middle of a letter
        whole = False
    with index.open("r+b") as file:
        if whole:
            file.seek(0, SEEK_END)
            file.write(b"\n")
        else:
            file.truncate(len(content) - len(last))


def _readable(frames: Iterable[tuple[int, TrackFrame]], counts: Imported) -> Iterator[tuple[int, Frame, Box]]:
    for number, frame in frames:
        try:
            image = frame.read()
        except UnreadablePictureError:
            counts.unreadable.append(frame.image)
        else:
            yield number, image, Box.from_xywh(*frame.box_xywh)


def _place(folder: Path, video: str, track: str) -> Path:
    """Return the folder of a track's pictures."""
    return folder / "images" / _safe(video) / _safe(track)


def _write_pictures(
    folder: Path, place: Path, frames: Iterable[tuple[int, Frame, Box]]
) -> list[dict[str, str | BoxXYWH]]:
    """Write the crops of a track and return its frames as the index has them; what was in `place` goes."""
    rows: list[dict[str, str | BoxXYWH]] = []
    for number, frame, box in frames:
        part = written_part(frame, box)
        if part is None:
            continue
        if not rows:
            rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
        path = place / f"{number:06d}.jpg"
        if not cv2.imwrite(str(path), cv2.cvtColor(part[0], cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95]):
            raise OSError(f"cannot write {path}")
        rows.append({"image": path.relative_to(folder).as_posix(), "box": part[1]})
    return rows


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False)


def _row(line: str) -> Row:
    """Return what a line holds; empty for one that is broken."""
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def _name_of(line: str) -> str:
    return str(_row(line).get("track", ""))


def written_part(frame: Frame, box: Box) -> tuple[Frame, BoxXYWH] | None:
    """Return the part of a frame around a box, and the box (x, y, w, h) in it as it is written, to .01 pixels.

    None where nothing is to be learned: less than half of the box is in the frame, or a side of it is written as 0.
    """
    if share_inside(box, (frame.shape[0], frame.shape[1])) < LEAST_INSIDE:
        return None
    part, shown = shown_part(frame, box)
    x, y, w, h = (round(value, 2) for value in shown.to_xywh())
    return (part, (x, y, w, h)) if w and h else None


def shown_part(frame: Frame, box: Box) -> tuple[Frame, Box]:
    """Return the part of a frame around a box, scaled down where the object is large, and the box in its pixels.

    The box must lie in the frame, in part at least.
    """
    height, width = frame.shape[:2]
    side = context_side(box.w, box.h, CONTEXT)
    reach = REACH * side / 2
    x0, y0 = (max(int(centre - reach), 0) for centre in (box.cx, box.cy))
    x1, y1 = min(int(box.cx + reach) + 1, width), min(int(box.cy + reach) + 1, height)
    part = frame[y0:y1, x0:x1]
    scale = min(CONTEXT_PX / side, 1.0)
    size = max(round((x1 - x0) * scale), 1), max(round((y1 - y0) * scale), 1)
    sx, sy = size[0] / (x1 - x0), size[1] / (y1 - y0)
    if scale < 1:
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return part, Box((box.cx - x0) * sx, (box.cy - y0) * sy, box.w * sx, box.h * sy)


def _safe(name: str) -> str:
    """Return a name for a folder; different names give different ones."""
    safe = re.sub(r"[^\w.-]+", "_", name).strip(".")
    return safe if safe == name else f"{safe}-{sha256(name.encode()).hexdigest()[:8]}"
