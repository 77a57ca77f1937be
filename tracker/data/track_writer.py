"""Write tracks in the layout that training reads: crops of the frames, and a line a track in tracks.jsonl."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import cv2

from tracker.data.tracks import read_lines
from tracker.geometry import Box, context_side
from tracker.interface import Frame

_REACH = 4.0  # side of a crop over the object's context square: room for the search, its shift and its scale
_CONTEXT_PX = 150.0  # pixels that a larger context square is scaled down to: more than any network's template shows


def write_track(
    folder: Path, video: str, track: str, label: str, frames: Iterable[tuple[int, Frame, Box]]
) -> tuple[int, Path]:
    """Add a track to a folder, in the place of one with the same name; return its number of frames and the index.

    frames: number in the video, picture (H, W, 3) RGB and box, each. The index is replaced in one step. Raises OSError
    where something cannot be written.
    """
    name = f"{video}:{track}"
    pictures = folder / "images" / _safe(video) / _safe(track)
    pictures.mkdir(parents=True, exist_ok=True)
    for old in pictures.glob("*.jpg"):
        old.unlink()
    rows = []
    for number, frame, box in frames:
        picture, shown = shown_part(frame, box)
        path = pictures / f"{number:06d}.jpg"
        if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95]):
            raise OSError(f"cannot write {path}")
        rows.append({"image": path.relative_to(folder).as_posix(), "box": [round(v, 2) for v in shown.to_xywh()]})
    line = json.dumps({"video": video, "track": name, "class": label, "frames": rows}, ensure_ascii=False)
    index = folder / "tracks.jsonl"
    kept = [old for old in read_lines(index) if json.loads(old).get("track") != name] if index.exists() else []
    part = index.with_suffix(".part")
    part.write_text("\n".join([*kept, line]) + "\n", encoding="utf-8")
    part.replace(index)
    return len(rows), index


def shown_part(frame: Frame, box: Box) -> tuple[Frame, Box]:
    """Return the part of a frame around a box, scaled down where the object is large, and the box in its pixels."""
    height, width = frame.shape[:2]
    side = context_side(box.w, box.h, 0.5)
    reach = _REACH * side / 2
    x0, y0 = (max(int(centre - reach), 0) for centre in (box.cx, box.cy))
    x1, y1 = min(int(box.cx + reach) + 1, width), min(int(box.cy + reach) + 1, height)
    part = frame[y0:y1, x0:x1]
    scale = min(_CONTEXT_PX / side, 1.0)
    size = max(round((x1 - x0) * scale), 1), max(round((y1 - y0) * scale), 1)
    sx, sy = size[0] / (x1 - x0), size[1] / (y1 - y0)
    if scale < 1:
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return part, Box((box.cx - x0) * sx, (box.cy - y0) * sy, box.w * sx, box.h * sy)


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip(".") or "_"
