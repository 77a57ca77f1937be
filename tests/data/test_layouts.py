"""Every layout on a written fixture: a white square on black, 20x10 pixels from the pixel with index (5, 7)."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tracker.cli import main
from tracker.cli_data import _LAYOUTS
from tracker.data.check import check_tracks
from tracker.data.layouts import LAYOUTS
from tracker.data.tracks import ObjectTrack, read_tracks

SIZE_HW = (40, 60)


def picture(path: Path, step: int = 0) -> None:
    """Draw the square, moved right by `step`."""
    image = np.zeros((*SIZE_HW, 3), np.uint8)
    image[7:17, 5 + step : 25 + step] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = ".jpg" if path.suffix == ".JPEG" else path.suffix
    path.write_bytes(cv2.imencode(suffix, image)[1].tobytes())


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def lasot(root: Path) -> None:
    folder = root / "guitar" / "guitar-3"
    for i in range(4):
        picture(folder / "img" / f"{i + 1:08d}.jpg", i)
    text(folder / "groundtruth.txt", *(f"{6 + i},8,20,10" for i in range(4)))
    text(folder / "full_occlusion.txt", "0,0,1,0")
    text(folder / "out_of_view.txt", "0,0,0,0")


def trackingnet(root: Path) -> None:
    for i in range(12):
        picture(root / "TRAIN_0" / "frames" / "abc" / f"{i}.jpg", i)
    text(root / "TRAIN_0" / "anno" / "abc.txt", *(f"{5 + i},7,20,10" for i in range(12)))


def vot(root: Path) -> None:
    for i in range(2):
        picture(root / "ball" / "color" / f"{i + 1:08d}.jpg", i)
    text(root / "ball" / "groundtruth.txt", "5,7,25,7,25,17,5,17", "6,7,20,10")


def xml(name: str, corners: tuple[int, ...], extra: str = "") -> str:
    sides = "".join(f"<{s}>{v}</{s}>" for s, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object>{extra}<name>{name}</name><bndbox>{sides}</bndbox></object>"


def vid(root: Path) -> None:
    for i in range(2):
        picture(root / "Data" / "VID" / "train" / "a" / "s1" / f"{i:06d}.JPEG", i)
        things = xml("n01", (5 + i, 7, 25 + i, 17), "<trackid>0</trackid>")
        things += xml("n02", (1, 1, 5, 5), "<trackid>1</trackid>") if i else ""
        text(root / "Annotations" / "VID" / "train" / "a" / "s1" / f"{i:06d}.xml", f"<annotation>{things}</annotation>")


def mot(root: Path) -> None:
    for i in range(3):
        picture(root / "train" / "MOT-01" / "img1" / f"{i + 1:06d}.jpg", i)
    rows = [f"{i + 1},7,{6 + i},8,20,10,1,1,1.0" for i in (0, 2)]
    rows += ["1,9,6,8,20,10,0,1,1.0", "2,7,7,8,20,10,1,1,0.1", "2,4,2,3,10,12,1,1,0.5"]  # ignored, hidden, another
    text(root / "train" / "MOT-01" / "gt" / "gt.txt", *rows)


def coco(root: Path) -> None:
    picture(root / "val" / "1.jpg")
    notes = [{"image_id": 1, "bbox": [5, 7, 20, 10], "category_id": 3, "iscrowd": 0}]
    notes.append({"image_id": 1, "bbox": [0, 0, 60, 40], "category_id": 3, "iscrowd": 1})
    content = {"images": [{"id": 1, "file_name": "1.jpg"}], "categories": [{"id": 3, "name": "cat"}]}
    text(root / "annotations" / "instances_val.json", json.dumps({**content, "annotations": notes}))


def voc(root: Path) -> None:
    picture(root / "JPEGImages" / "x.jpg")
    text(
        root / "Annotations" / "x.xml",
        f"<annotation><filename>x.jpg</filename>{xml('dog', (6, 8, 25, 17))}</annotation>",
    )


def masks(root: Path) -> None:
    for i in range(2):
        picture(root / "JPEGImages" / "480p" / "bear" / f"{i:05d}.jpg", i)
        mask = np.zeros((*SIZE_HW, 3), np.uint8)
        mask[7:17, 5 + i : 25 + i] = (0, 0, 128)
        mask[30:34, 2:9] = (0, 128, 0)
        path = root / "Annotations" / "480p" / "bear" / f"{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), mask if i else mask * (mask != (0, 128, 0)).any(axis=2, keepdims=True))


def otb(root: Path) -> None:
    for i in range(2):
        picture(root / "Deer" / "img" / f"{i + 1:04d}.jpg", i)
    text(root / "Deer" / "groundtruth_rect.txt", "6,8,20,10", "7,8,20,10")


def got10k(root: Path) -> None:
    folder = root / "train" / "GOT-10k_Train_000001"
    for i in range(3):
        picture(folder / f"{i + 1:08d}.jpg", i)
    text(folder / "groundtruth.txt", *(f"{6 + i},8,20,10" for i in range(3)))
    text(folder / "cover.label", "8", "8", "0")


WRITERS: dict[str, Callable[[Path], None]] = {
    "coco": coco,
    "got10k": got10k,
    "lasot": lasot,
    "masks": masks,
    "mot": mot,
    "otb": otb,
    "trackingnet": trackingnet,
    "vid": vid,
    "voc": voc,
    "vot": vot,
}
# Tracks by video, label and the steps of the square that its frames show; the other objects of a fixture follow.
EXPECTED: dict[str, list[tuple[str, str, list[int]]]] = {
    "coco": [("1.jpg", "cat", [0])],
    "got10k": [("GOT-10k_Train_000001", "object", [0, 1])],
    "lasot": [("guitar-3", "guitar", [0, 1, 3])],
    "masks": [("480p/bear", "object", [0, 1])],
    "mot": [("MOT-01", "person", [0, 2])],
    "otb": [("Deer", "object", [0, 1])],
    "trackingnet": [("abc", "object", list(range(12)))],
    "vid": [("train/a/s1", "n01", [0, 1])],
    "voc": [("x", "dog", [0])],
    "vot": [("ball", "object", [0, 1])],
}
OTHERS = {
    "masks": [[(2.0, 30.0, 7.0, 4.0)]],
    "mot": [[(1.0, 2.0, 10.0, 12.0)]],
    "vid": [[(1.0, 1.0, 4.0, 4.0)]],
}


def square(track: ObjectTrack) -> bool:
    return track.frames[0].box_xywh[2:] == (20, 10)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_is_read(tmp_path: Path, layout: str) -> None:
    WRITERS[layout](tmp_path)
    tracks = list(LAYOUTS[layout](tmp_path))
    found = [track for track in tracks if square(track)]
    assert [(t.video, t.label, [f.box_xywh[0] - 5 for f in t.frames]) for t in found] == EXPECTED[layout]
    for track in found:
        for frame in track.frames:
            x, y, w, h = frame.box_xywh
            assert (y, w, h) == (7, 20, 10)
            image = cv2.imread(str(frame.image), cv2.IMREAD_GRAYSCALE)
            assert image is not None
            rows, columns = np.nonzero(image > 127)  # what lies in the box is the square, to the pixel
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x, y, x + w, y + h)
    others = [[frame.box_xywh for frame in track.frames] for track in tracks if not square(track)]
    assert others == OTHERS.get(layout, [])


def test_command_knows_each_layout() -> None:
    assert tuple(LAYOUTS) == _LAYOUTS
    assert set(WRITERS) == set(LAYOUTS)


@pytest.mark.parametrize("digits", [0, 8])
@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_pictures_of_mot_are_found_by_their_number(tmp_path: Path, digits: int, ending: str) -> None:
    for i in range(11):
        picture(tmp_path / "a" / "img1" / f"{i + 1:0{digits}d}{ending}", i)
    text(tmp_path / "a" / "gt" / "gt.txt", *(f"{i},1,{5 + i},8,20,10,1,1,1" for i in (11, 2, 1)))
    (track,) = LAYOUTS["mot"](tmp_path)
    assert [int(frame.image.stem) for frame in track.frames] == [1, 2, 11]
    assert [frame.box_xywh[0] for frame in track.frames] == [5, 6, 15]
    assert all(frame.image.is_file() for frame in track.frames)


def test_video_of_mot_is_read_once_for_all_detectors(tmp_path: Path) -> None:
    for name in ("MOT17-02-DPM", "MOT17-02-FRCNN", "MOT17-02-SDP", "MOT17-04-SDP", "MOT20-01"):
        picture(tmp_path / "train" / name / "img1" / "000001.jpg")
        text(tmp_path / "train" / name / "gt" / "gt.txt", "1,1,6,8,20,10,1,1,1")
    assert [track.video for track in LAYOUTS["mot"](tmp_path)] == ["MOT17-02-DPM", "MOT17-04-SDP", "MOT20-01"]


def test_video_with_masks_is_read_in_its_smallest_size(tmp_path: Path) -> None:
    masks(tmp_path)
    for name in ("480p/lion", "1080p/bear", "Full-Resolution/bear", "1080p/wolf", "day1/fox", "day2/fox"):
        picture(tmp_path / "Annotations" / name / "00000.png")
    assert sorted({track.video for track in LAYOUTS["masks"](tmp_path)}) == [
        *("1080p/wolf", "480p/bear", "480p/lion", "day1/fox", "day2/fox")
    ]


@pytest.mark.parametrize("name", ["<filename>x</filename>", "<filename>gone.jpg</filename>", ""])
def test_picture_of_voc_is_found_by_the_name_of_its_file(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "JPEGImages" / "x.png")
    text(tmp_path / "Annotations" / "x.xml", f"<annotation>{name}{xml('dog', (6, 8, 25, 17))}</annotation>")
    (track,) = LAYOUTS["voc"](tmp_path)
    assert track.frames[0].image == tmp_path / "JPEGImages" / "x.png"


def test_void_of_a_mask_is_no_object(tmp_path: Path) -> None:
    masks(tmp_path)
    for path in (tmp_path / "Annotations" / "480p" / "bear").iterdir():
        mask = cv2.imread(str(path))
        assert mask is not None
        mask[36:] = (192, 224, 224)  # colour 255 of the palette, BGR
        assert cv2.imwrite(str(path), mask)
    tracks = list(LAYOUTS["masks"](tmp_path))
    assert [len(track.frames) for track in tracks if square(track)] == [2]
    assert [[frame.box_xywh for frame in track.frames] for track in tracks if not square(track)] == OTHERS["masks"]


@pytest.mark.parametrize(
    ("layout", "folder"),
    [
        ("masks", "Annotations/480p/bear"),
        ("trackingnet", "TRAIN_0/anno"),
        ("vid", "Annotations/VID/train/a/s1"),
        ("voc", "Annotations"),
    ],
)
def test_hidden_files_of_macos_are_no_annotations(tmp_path: Path, layout: str, folder: str) -> None:
    WRITERS[layout](tmp_path)
    expected = list(LAYOUTS[layout](tmp_path))
    for path in list((tmp_path / folder).iterdir()):
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    assert list(LAYOUTS[layout](tmp_path)) == expected


@pytest.mark.parametrize(("layout", "folder"), [("masks", "Annotations/480p"), ("mot", "train")])
def test_links_to_folders_are_followed(tmp_path: Path, layout: str, folder: str) -> None:
    root, disk = tmp_path / "root", tmp_path / "disk"
    WRITERS[layout](root)
    expected = list(LAYOUTS[layout](root))
    (root / folder).rename(disk)
    (root / folder).symlink_to(disk)
    assert list(LAYOUTS[layout](root)) == expected


def test_part_of_vid_that_is_a_link_is_read_beside_the_others(tmp_path: Path) -> None:
    root, disk = tmp_path / "root", tmp_path / "disk"
    vid(root)
    for kind in ("Annotations", "Data"):
        (disk / kind).parent.mkdir(exist_ok=True)
        (root / kind / "VID" / "train").rename(disk / kind)
        (root / kind / "VID" / "train").symlink_to(disk / kind)
    picture(root / "Data" / "VID" / "val" / "s2" / "000000.JPEG")
    seen = xml("n01", (5, 7, 25, 17), "<trackid>0</trackid>")
    text(root / "Annotations" / "VID" / "val" / "s2" / "000000.xml", f"<annotation>{seen}</annotation>")
    assert [track.video for track in LAYOUTS["vid"](root) if square(track)] == ["train/a/s1", "val/s2"]


@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ("coco", "annotations/instances_val.json"),
        ("mot", "train/MOT-01/gt/gt.txt"),
        ("vot", "ball/groundtruth.txt"),
    ],
)
def test_byte_order_mark_of_windows_is_passed_over(tmp_path: Path, layout: str, file: str) -> None:
    WRITERS[layout](tmp_path)
    expected = list(LAYOUTS[layout](tmp_path))
    (tmp_path / file).write_bytes(b"\xef\xbb\xbf" + (tmp_path / file).read_bytes().replace(b"\n", b"\r\n"))
    assert list(LAYOUTS[layout](tmp_path)) == expected


def test_names_without_zeros_are_in_order(tmp_path: Path) -> None:
    for i in range(11):
        picture(tmp_path / "ball" / f"{i + 1}.jpg", i)
    text(tmp_path / "ball" / "groundtruth.txt", *(f"{5 + i},7,20,10" for i in range(11)), "", "")
    (track,) = LAYOUTS["vot"](tmp_path)
    assert [(int(frame.image.stem), frame.box_xywh[0] - 4) for frame in track.frames] == [(i, i) for i in range(1, 12)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_empty_folder_is_refused_with_what_was_expected(tmp_path: Path, layout: str) -> None:
    with pytest.raises(ValueError, match=rf"{tmp_path}.* holds"):
        list(LAYOUTS[layout](tmp_path))


@pytest.mark.parametrize(
    ("layout", "file", "content", "complaint"),
    [
        ("vot", "ball/groundtruth.txt", "m3,4,5,6,7", r"line 1: expected 4 or 8 numbers, got 'm3,4,5,6,7'"),
        ("mot", "train/MOT-01/gt/gt.txt", "1,2,3", r"line 1: expected frame,id,x,y,w,h"),
        ("voc", "Annotations/x.xml", "<annotation>", "cannot read .*x.xml"),
        ("vid", "Annotations/VID/train/a/s1/000000.xml", "", "cannot read .*000000.xml"),
        ("voc", "Annotations/x.xml", f"<a>{xml('dog', (1, 2, 9, 8)).replace('9', 'abc')}</a>", "x.xml: .*1, 2, abc, 8"),
        ("coco", "annotations/instances_val.json", "[]", "is no file of COCO instances"),
        ("lasot", "guitar/guitar-3/full_occlusion.txt", "0,1", "must hold one number for each of 4 frames"),
        ("trackingnet", "TRAIN_0/anno/abc.txt", "1,1,5,5\n" * 19, "12 images for 19 boxes"),
    ],
)
def test_damage_is_named(tmp_path: Path, layout: str, file: str, content: str, complaint: str) -> None:
    WRITERS[layout](tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(ValueError, match=complaint):
        list(LAYOUTS[layout](tmp_path))


def test_command_writes_crops_and_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    mot(root)
    command = ["data", "import", "mot", str(root), "--out", str(out), "--every", "2", "-q"]
    assert main(command) == 0
    assert capsys.readouterr().out == "2 tracks and 2 frames added, 0 tracks were there already\n"
    assert check_tracks(out / "tracks.jsonl", lambda _: None).problems == []
    tracks = read_tracks(out / "tracks.jsonl")
    assert [(t.source, t.video, t.label, len(t.frames)) for t in tracks] == [("mot", "mot/MOT-01", "person", 1)] * 2
    (frame,) = next(track for track in tracks if square(track)).frames
    x, y, w, h = (round(v) for v in frame.box_xywh)
    crop = cv2.imread(str(frame.image), cv2.IMREAD_GRAYSCALE)
    assert crop is not None
    assert crop[y : y + h, x : x + w].min() > 200
    lines = (out / "tracks.jsonl").read_text().splitlines()
    (out / "tracks.jsonl").write_text(lines[0] + "\n")  # as a run that was stopped leaves it
    assert main(command) == 0
    assert capsys.readouterr().out == "1 tracks and 1 frames added, 1 tracks were there already\n"
    assert (out / "tracks.jsonl").read_text().splitlines() == lines
    for cut in (lines[0] + "\n" + lines[1][:60], lines[0] + "\n" + lines[1]):  # in the middle of a line, or at its end
        (out / "tracks.jsonl").write_text(cut)
        assert main(command) == 0
        assert (out / "tracks.jsonl").read_text().splitlines() == lines


def test_line_that_was_cut_in_a_letter_is_taken_out_and_one_without_a_name_stays(tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    mot(root)
    command = ["data", "import", "mot", str(root), "--out", str(out), "-q"]
    assert main(command) == 0
    index = out / "tracks.jsonl"
    whole = index.read_bytes()
    index.write_bytes(whole + '{"video": "ä'.encode()[:-1])
    assert main(command) == 0
    assert index.read_bytes() == whole
    mine = json.dumps({"video": "mine", "class": "dog", "frames": [{"image": "a.jpg", "box": [1, 2, 9, 9]}]})
    index.write_bytes(mine.encode())
    assert main(command) == 0
    assert index.read_bytes() == mine.encode() + b"\n" + whole


def test_sets_that_do_not_say_what_is_seen_are_taken_whole(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "img1" / "000001.jpg")
    for columns in ("-1,-1,-1", "-3.2,0.1,0"):  # MOT15: places in the world, where they are known
        text(tmp_path / "a" / "gt" / "gt.txt", f"1,1,6,8,20,10,1,{columns}", "")
        (track,) = LAYOUTS["mot"](tmp_path)
        assert square(track)


def test_box_outside_its_frame_is_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    otb(root)
    text(root / "Deer" / "groundtruth_rect.txt", "6,8,20,10", "-17,8,20,10")
    assert main(["data", "import", "otb", str(root), "--out", str(out), "--every", "1", "-q"]) == 0
    (track,) = read_tracks(out / "tracks.jsonl")
    assert len(track.frames) == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        "1 frames passed over: their box is less than half in the picture, or of no size"
    ]


def test_picture_that_cannot_be_read_is_passed_over_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    otb(root)
    broken = root / "Deer" / "img" / "0002.jpg"
    broken.write_bytes(broken.read_bytes()[:-40])
    assert main(["data", "import", "otb", str(root), "--out", str(out), "--every", "1", "-q"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "1 tracks and 1 frames added, 0 tracks were there already",
        f"passed over {broken}: cannot be read",
    ]


@pytest.mark.parametrize(
    ("layout", "root", "complaint"), [("x", ".", "unknown layout 'x'"), ("otb", "no", "no folder")]
)
def test_wrong_use_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str, root: str, complaint: str
) -> None:
    assert main(["data", "import", layout, str(tmp_path / root), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"siamtrack: error: {complaint}")
