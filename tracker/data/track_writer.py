"""Write tracks in the layout that training reads: crops of the frames, and a line a track in tracks.jsonl."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from tracker.data.tracks import ObjectTrack, TrackFrame, read_lines
from tracker.geometry import Box, context_side, share_inside
from tracker.interface import Frame
from tracker.whole_file import write_whole

CONTEXT = 0.5  # margin around the object, as everywhere: a quarter of w + h on each side
REACH = 4.0  # side of a crop over the object's context square: room for the search, its shift and its scale
LEAST_INSIDE = 0.5  # of a box, in its frame: of less there is nothing to learn
CONTEXT_PX = 150.0  # pixels that a larger context square is scaled down to: more than any network's template shows


def write_track(
    folder: Path, video: str, track: str, label: str, frames: Iterable[tuple[int, Frame, Box]]
) -> tuple[int, Path]:
    """Add a track to a folder, in the place of one with the same name; return its number of frames and the index.

    frames: number in the video, picture (H, W, 3) RGB and box, each. The index is replaced in one step. Raises OSError
    where something cannot be written.
    """
    line, count = _write_pictures(folder, "", video, track, label, frames)
    index = folder / "tracks.jsonl"
    kept = [old for old in read_lines(index) if _name_of(old) != _name_of(line)] if index.exists() else []
    write_whole(index, "\n".join([*kept, line]) + "\n")
    return count, index


@dataclass(slots=True)
class Imported:
    """Count what was made of another data set."""

    tracks: int = 0
    frames: int = 0
    known: int = 0  # tracks that were there already
    unreadable: list[Path] = field(default_factory=list)  # pictures that were passed over


def import_tracks(tracks: Iterable[ObjectTrack], folder: Path, source: str, every: int) -> Iterator[Imported]:
    """Write crops of each `every`-th frame of tracks that lie elsewhere; yield the counts after each track.

    Tracks that the index has already are passed over, so a run that was stopped goes on. `source` is the set's name.
    """
    index = folder / "tracks.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    known = {_name_of(line) for line in read_lines(index)} if index.exists() else set()
    _mend(index)
    counts = Imported()
    numbers: Counter[str] = Counter()
    for track in tracks:
        video = f"{source}/{track.video}"
        number = numbers[video]
        numbers[video] += 1
        if f"{video}:{number}" in known:
            counts.known += 1
        else:
            shown = _readable(list(enumerate(track.frames))[::every], counts)
            line, count = _write_pictures(folder, source, video, str(number), track.label, shown)
            if count:
                with index.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
                counts.tracks += 1
                counts.frames += count
        yield counts


def _mend(index: Path) -> None:
    """End the index with a whole line: a run that was killed may have left a part of one."""
    content = index.read_bytes() if index.exists() else b""
    if content and not content.endswith(b"\n"):
        whole, _, last = content.rpartition(b"\n")
        kept = content if _name_of(last.decode(errors="replace")) else whole
        index.write_bytes(kept.removesuffix(b"\n") + b"\n" if kept else b"")


def _readable(frames: Iterable[tuple[int, TrackFrame]], counts: Imported) -> Iterator[tuple[int, Frame, Box]]:
    for number, frame in frames:
        image = cv2.imread(str(frame.image), cv2.IMREAD_COLOR_RGB)
        if image is None:
            counts.unreadable.append(frame.image)
        else:
            yield number, image, Box.from_xywh(*frame.box_xywh)  # type: ignore[misc]


def _write_pictures(
    folder: Path, source: str, video: str, track: str, label: str, frames: Iterable[tuple[int, Frame, Box]]
) -> tuple[str, int]:
    """Write the crops of a track; return its line of the index and the number of its frames."""
    pictures = folder / "images" / _safe(video) / _safe(track)
    pictures.mkdir(parents=True, exist_ok=True)
    for old in pictures.glob("*.jpg"):
        old.unlink()
    rows = []
    for number, frame, box in frames:
        if share_inside(box, (frame.shape[0], frame.shape[1])) < LEAST_INSIDE:
            continue
        picture, shown = shown_part(frame, box)
        path = pictures / f"{number:06d}.jpg"
        if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95]):
            raise OSError(f"cannot write {path}")
        rows.append({"image": path.relative_to(folder).as_posix(), "box": [round(v, 2) for v in shown.to_xywh()]})
    row = {"set": source, "video": video, "track": f"{video}:{track}", "class": label, "frames": rows}
    return json.dumps(row, ensure_ascii=False), len(rows)


def _name_of(line: str) -> str:
    try:
        return str(json.loads(line).get("track", ""))
    except (ValueError, AttributeError):  # a line that was cut off
        return ""


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
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
