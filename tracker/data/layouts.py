"""The layouts of data sets that training tracks can be made of: one reader each, see their modules."""

from collections.abc import Callable, Iterator
from pathlib import Path

from tracker.data.boxed_pictures import read_coco, read_voc
from tracker.data.got10k import read_got10k
from tracker.data.masks import read_masks
from tracker.data.otb import read_otb
from tracker.data.tracks import ObjectTrack, track_of
from tracker.data.video_tracks import read_mot, read_vid
from tracker.data.videos import read_lasot, read_trackingnet, read_vot


def _from_otb(root: Path) -> Iterator[ObjectTrack]:
    yield from (track_of(one.name, "object", one.image_paths, one.boxes_xywh) for one in read_otb(root))


def _from_got10k(root: Path) -> Iterator[ObjectTrack]:
    yield from (track_of(one.name, "object", one.image_paths, one.boxes_xywh) for one in read_got10k(root, "train"))


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
