"""Readers of data sets with several objects a video, each with a number of its own: ImageNet VID, MOT."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tracker.data.boxed_pictures import corners, read_notes
from tracker.data.tracks import ObjectTrack, TrackFrame

_MOT_LEAST_VISIBLE = 0.3  # share of the object that must be seen


def read_vid(root: Path) -> Iterator[ObjectTrack]:
    """Yield the tracks of ImageNet VID: Annotations/VID/<part>/**/<snippet>/*.xml and Data/VID/... beside it.

    Boxes are corners, pixels counted from 0. Raises ValueError for a root without any.
    """
    notes = root / "Annotations" / "VID"
    snippets = sorted({path.parent for path in notes.rglob("*.xml")})
    if not snippets:
        raise ValueError(f"{root} holds nothing of ImageNet VID: expected Annotations/VID/<part>/<snippet>/*.xml")
    for snippet in snippets:
        images = root / "Data" / "VID" / snippet.relative_to(notes)
        frames: dict[tuple[str, str], list[TrackFrame]] = defaultdict(list)
        for path in sorted(snippet.glob("*.xml")):
            for thing in read_notes(path).iter("object"):
                x0, y0, x1, y1 = corners(thing)
                key = thing.findtext("trackid", ""), thing.findtext("name", "")
                if x1 > x0 and y1 > y0:
                    frames[key].append(TrackFrame(images / f"{path.stem}.JPEG", (x0, y0, x1 - x0, y1 - y0)))
        yield from (
            ObjectTrack("", snippet.relative_to(notes).as_posix(), label, tuple(of_one))
            for (_, label), of_one in sorted(frames.items())
        )


def read_mot(root: Path) -> Iterator[ObjectTrack]:
    """Yield the tracks of MOT: <name>/gt/gt.txt and <name>/img1/*.jpg; frames and pixels count from 1.

    Lines that are marked to be ignored, and boxes of which less than 0.3 is seen, are left out. Raises ValueError for
    a root without any sequence, and for lines that cannot be read.
    """
    truths = sorted(root.rglob("gt/gt.txt"))
    if not truths:
        raise ValueError(f"{root} holds nothing of MOT: expected <name>/gt/gt.txt")
    for truth in truths:
        folder = truth.parent.parent
        frames: dict[int, list[TrackFrame]] = defaultdict(list)
        for number, line in enumerate(truth.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            try:
                values = [float(field) for field in line.split(",")]
                frame, thing, x, y, w, h, counts = values[:7]
            except ValueError:
                raise ValueError(f"{truth} line {number}: expected frame,id,x,y,w,h,..., got {line[:60]!r}") from None
            visible = values[8] if len(values) > 8 and values[8] >= 0 else 1.0  # -1: MOT15 does not say
            if counts and visible >= _MOT_LEAST_VISIBLE and w > 0 and h > 0:
                image = folder / "img1" / f"{int(frame):06d}.jpg"
                frames[int(thing)].append(TrackFrame(image, (x - 1, y - 1, w, h)))
        yield from (
            ObjectTrack("", folder.name, "person", tuple(sorted(of_one, key=lambda one: one.image.name)))
            for _, of_one in sorted(frames.items())
        )
