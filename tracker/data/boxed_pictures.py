"""Readers of data sets of single pictures with boxes in them: COCO, Pascal VOC. Each object is a track of one frame."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from tracker.data.tracks import BoxXYWH, ObjectTrack, TrackFrame
from tracker.file_names import shown_files

_ENDINGS = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG")


def read_coco(root: Path) -> Iterator[ObjectTrack]:
    """Yield the objects of COCO: annotations/instances_<part>.json and <part>/*.jpg; pixels count from 0.

    Crowds are left out. Raises ValueError for a root without any, and for a file that cannot be read.
    """
    files = sorted(root.glob("annotations/instances_*.json"))
    if not files:
        raise ValueError(f"{root} holds nothing of COCO: expected annotations/instances_<part>.json")
    for file in files:
        folder = root / file.stem.removeprefix("instances_")
        try:
            content = json.loads(file.read_text(encoding="utf-8-sig"))
            names = {image["id"]: image["file_name"] for image in content["images"]}
            labels = {category["id"]: category["name"] for category in content["categories"]}
            for note in content["annotations"]:
                x, y, w, h = (float(value) for value in note["bbox"])
                if not note.get("iscrowd") and w > 0 and h > 0:
                    name = names[note["image_id"]]
                    yield ObjectTrack("", name, labels[note["category_id"]], (TrackFrame(folder / name, (x, y, w, h)),))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file} is no file of COCO instances ({type(error).__name__}: {error})") from error


def read_notes(file: Path) -> ElementTree.Element:
    """Return the content of an XML file as Pascal VOC has them. Raises ValueError naming a file that is none."""
    try:
        return ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise ValueError(f"cannot read {file}: {error}") from error


def corners(thing: ElementTree.Element, file: Path) -> BoxXYWH:
    """Return xmin, ymin, xmax, ymax of an object; NaN where one is missing. Raises ValueError naming the file."""
    sides = [thing.findtext(f"bndbox/{side}", "nan") for side in ("xmin", "ymin", "xmax", "ymax")]
    try:
        x0, y0, x1, y1 = (float(side) for side in sides)
    except ValueError:
        raise ValueError(f"cannot read {file}: a box has the corners {', '.join(sides)}") from None
    return x0, y0, x1, y1


def read_voc(root: Path) -> Iterator[ObjectTrack]:
    """Yield the objects of Pascal VOC: Annotations/*.xml and JPEGImages/*.jpg.

    Its corners count pixels from 1 and are the first and the last one that belong to the object. Where there is no
    picture of the name that a file gives, its own name counts. Raises ValueError for a root without any, and for a
    file that cannot be read.
    """
    files = shown_files(root / "Annotations", ".xml")
    if not files:
        raise ValueError(f"{root} holds nothing of Pascal VOC: expected Annotations/*.xml")
    for file in files:
        content = read_notes(file)
        image = _picture(root / "JPEGImages", content.findtext("filename", ""), file.stem)
        for thing in content.iter("object"):
            x0, y0, x1, y1 = corners(thing, file)
            box = (x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1)
            if box[2] > 0 and box[3] > 0:
                yield ObjectTrack("", file.stem, thing.findtext("name", "object"), (TrackFrame(image, box),))


def _picture(folder: Path, name: str, stem: str) -> Path:
    paths = [folder / f"{stem}{ending}" for ending in _ENDINGS]
    return next((path for path in (folder / name, *paths) if path.is_file()), folder / name if name else paths[0])
