"""The layouts of data sets that training tracks can be made of: one reader each, see their modules."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tracker.data.boxed_pictures import read_coco, read_voc
from tracker.data.got10k import read_got10k
from tracker.data.masks import read_masks
from tracker.data.otb import read_otb
from tracker.data.sequence import Sequence
from tracker.data.tracks import ObjectTrack, TrackFrame
from tracker.data.video_tracks import read_mot, read_vid
from tracker.data.videos import read_lasot, read_trackingnet, read_vot


def _from_otb(root: Path) -> Iterator[ObjectTrack]:
    yield from (as_track(sequence, "object") for sequence in read_otb(root))


def _from_got10k(root: Path) -> Iterator[ObjectTrack]:
    yield from (as_track(sequence, "object") for sequence in read_got10k(root, "train"))


def as_track(sequence: Sequence, label: str) -> ObjectTrack:
    """Return a sequence as a track: frames without the object are left out."""
    frames = tuple(
        TrackFrame(path, (float(box[0]), float(box[1]), float(box[2]), float(box[3])))
        for path, box in zip(sequence.image_paths, sequence.boxes_xywh, strict=True)
        if np.isfinite(box).all() and box[2] > 0 and box[3] > 0
    )
    return ObjectTrack("", sequence.name, label, frames)


LAYOUTS: dict[str, Callable[[Path], Iterator[ObjectTrack]]] = {
    "coco": read_coco,
    "got10k": _from_got10k,
    "lasot": read_lasot,
    "masks": read_masks,
    "mot": read_mot,
    "otb": _from_otb,
    "trackingnet": read_trackingnet,
    "vid": read_vid,
    "voc": read_voc,
    "vot": read_vot,
}
