"""Readers of data sets with several objects a video, each with a number of its own: ImageNet VID, MOT."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tracker.data.boxed_pictures import corners, read_notes
from tracker.data.sequence import list_images
from tracker.data.tracks import BoxXYWH, ObjectTrack, TrackFrame
from tracker.file_names import folders_below, shown_files

_MOT_LEAST_VISIBLE = 0.3  # share of the object that must be seen
_MOT_DETECTOR = re.compile(r"-(DPM|FRCNN|SDP)$")  # of MOT17: its boxes are no truth, and are not read


def read_vid(root: Path) -> Iterator[ObjectTrack]:
    """Yield the tracks of ImageNet VID: Annotations/VID/<part>/**/<snippet>/*.xml and Data/VID/... beside it.

    Boxes are corners, pixels counted from 0. Raises ValueError for a root without any.
    """
    notes = root / "Annotations" / "VID"
    snippets = [folder for folder in folders_below(notes) if shown_files(folder, ".xml")]
    if not snippets:
        raise ValueError(f"{root} holds nothing of ImageNet VID: expected Annotations/VID/<part>/<snippet>/*.xml")
    for snippet in snippets:
        images = root / "Data" / "VID" / snippet.relative_to(notes)
        frames: dict[tuple[str, str], list[TrackFrame]] = defaultdict(list)
        for path in shown_files(snippet, ".xml"):
            for thing in read_notes(path).iter("object"):
                x0, y0, x1, y1 = corners(thing, path)
                key = thing.findtext("trackid", ""), thing.findtext("name", "")
                if x1 > x0 and y1 > y0:
                    frames[key].append(TrackFrame(images / f"{path.stem}.JPEG", (x0, y0, x1 - x0, y1 - y0)))
        yield from (
            ObjectTrack("", snippet.relative_to(notes).as_posix(), label, tuple(of_one))
            for (_, label), of_one in sorted(frames.items())
        )


def read_mot(root: Path) -> Iterator[ObjectTrack]:
    """Yield the tracks of MOT: <name>/gt/gt.txt and pictures <name>/img1/<n>.jpg; frames and pixels count from 1.

    Lines that are marked to be ignored, and boxes of which less than 0.3 is seen, are left out. A video that MOT17
    ships for each of three detectors is read once. Raises ValueError for a root without any sequence, and for lines
    that cannot be read.
    """
    truths = {folder: truth for folder in folders_below(root) if (truth := folder / "gt" / "gt.txt").is_file()}
    if not truths:
        raise ValueError(f"{root} holds nothing of MOT: expected <name>/gt/gt.txt")
    videos: dict[str, Path] = {}
    for folder in truths:
        videos.setdefault(_MOT_DETECTOR.sub("", str(folder)), folder)
    for folder in videos.values():
        images = {int(path.stem): path for path in list_images(folder / "img1") if path.stem.isdecimal()}
        frames: dict[int, dict[int, TrackFrame]] = defaultdict(dict)
        for thing, number, box in _mot_boxes(truths[folder]):
            image = images.get(number, folder / "img1" / f"{number:06d}.jpg")
            frames[thing][number] = TrackFrame(image, box)
        yield from (
            ObjectTrack("", folder.name, "person", tuple(of_one[number] for number in sorted(of_one)))
            for _, of_one in sorted(frames.items())
        )


def _mot_boxes(truth: Path) -> Iterator[tuple[int, int, BoxXYWH]]:
    """Yield object, frame and box of the lines that count."""
    for number, line in enumerate(truth.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = [float(field) for field in line.split(",")]
            frame, thing, x, y, w, h, counts = values[:7]
        except ValueError:
            raise ValueError(f"{truth} line {number}: expected frame,id,x,y,w,h,..., got {line[:60]!r}") from None
        # MOT15 has ten columns, the last three places in the world; with nine, the last is what is seen.
        visible = values[8] if len(values) == 9 and values[8] >= 0 else 1.0
        if counts and visible >= _MOT_LEAST_VISIBLE and w > 0 and h > 0:
            yield int(thing), int(frame), (x - 1, y - 1, w, h)
