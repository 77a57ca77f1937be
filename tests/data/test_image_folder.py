import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tracker.data.image_folder import read_clips, read_pictures, read_sequences
from tracker.data.labelled import decode_picture, gather, read_picture, with_rotations

RED_LUMA = 76  # .299 of 255


def save(path: Path, image: Image.Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def solid(mode: str, colour: object, size: tuple[int, int] = (6, 4)) -> Image.Image:
    return Image.new(mode, size, colour)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "grey", "rgb"),
    [
        (solid("L", 90), 90, (90, 90, 90)),
        (solid("RGB", (255, 0, 0)), RED_LUMA, (255, 0, 0)),
        (solid("RGBA", (255, 0, 0, 7)), RED_LUMA, (255, 0, 0)),  # what shines through is not asked
        (solid("LA", (90, 7)), 90, (90, 90, 90)),
        (solid("1", 1), 255, (255, 255, 255)),
        (solid("RGB", (255, 0, 0)).quantize(4), RED_LUMA, (255, 0, 0)),
        (solid("I;16", 90 * 256), 90, (90, 90, 90)),
        (solid("L", 90, (1, 1)), 90, (90, 90, 90)),
    ],
    ids=["grey", "RGB", "RGBA", "grey with alpha", "black and white", "palette", "16 bits", "one pixel"],
)
def test_every_colour_mode_and_size_becomes_the_same(
    tmp_path: Path, image: Image.Image, grey: int, rgb: tuple[int, int, int]
) -> None:
    path = save(tmp_path / "one.png", image)
    found = read_picture(path, 8, 1)
    assert (found.shape, found.dtype) == ((1, 8, 8), np.uint8)
    assert (found == grey).all()
    colour = read_picture(path, 8, 3)
    assert colour.shape == (3, 8, 8)
    assert (colour == np.array(rgb).reshape(3, 1, 1)).all()


def test_picture_shrinks_by_area(tmp_path: Path) -> None:
    stripes = np.tile(np.array([0, 200], np.uint8), (8, 4))
    path = tmp_path / "stripes.png"
    cv2.imwrite(str(path), stripes)
    assert (read_picture(path, 4, 1) == 100).all()


def test_other_numbers_of_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="1 channel or 3, not 4"):
        decode_picture(b"", "x", 8, 4)


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


VAST = b"".join(
    [
        b"\x89PNG\r\n\x1a\n",
        chunk(b"IHDR", (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"),
        chunk(b"IDAT", zlib.compress(bytes(9))),
        chunk(b"IEND", b""),
    ]
)


@pytest.mark.parametrize(
    "content", [b"", b"no picture", None, VAST], ids=["empty", "text", "missing", "more pixels than OpenCV takes"]
)
def test_picture_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read the picture .*broken.png"):
        read_picture(path, 8, 1)


def test_folders_are_classes_by_name(tmp_path: Path) -> None:
    for name, values in (("b", (10, 20)), ("a", (30,))):
        for value in values:
            save(tmp_path / name / f"{value}.PNG", solid("L", value))
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    found = read_pictures(tmp_path, 8, 1)
    assert found.names == ("a", "b")
    assert found.labels.tolist() == [0, 1, 1]
    assert [int(value[0, 0, 0]) for value in found.values] == [30, 10, 20]


def test_clips_are_folders_of_frames(tmp_path: Path) -> None:
    for clip, count in (("one", 12), ("two", 1)):
        for k in range(count):
            save(tmp_path / "wave" / clip / f"{k}.png", solid("L", 10 * k))
    found = read_clips(tmp_path, 8, 1)
    assert [value.shape for value in found.values] == [(12, 1, 8, 8), (1, 1, 8, 8)]
    assert found.values[0][:, 0, 0, 0].tolist() == list(range(0, 120, 10))  # 2.png comes before 10.png


def test_sequences_are_arrays(tmp_path: Path) -> None:
    (tmp_path / "up").mkdir()
    np.save(tmp_path / "up" / "0.npy", np.arange(6).reshape(3, 2))
    found = read_sequences(tmp_path, 2)
    assert found.values[0].dtype == np.float32
    assert found.values[0].tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((3, 4)), r"should hold numbers \(T, 2\), has float64 \(3, 4\)"),
        (np.zeros(3), "should hold numbers"),
        (np.zeros((0, 2)), "should hold numbers"),
        (np.array([["a", "b"]]), "should hold numbers"),
        (np.array([[0.0, np.nan]]), "not finite"),
        (np.array([[0.0, 1e300]]), "not finite in float32"),
        (np.array([[None, 1]]), "cannot read the sequence"),  # objects are pickled, and never unpickled
    ],
)
def test_sequences_that_are_none_are_named(tmp_path: Path, values: np.ndarray, said: str) -> None:
    (tmp_path / "up").mkdir()
    np.save(tmp_path / "up" / "0.npy", values)
    with pytest.raises(ValueError, match=rf"up/0.npy.*{said}|{said}.*up/0.npy"):
        read_sequences(tmp_path, 2)


def test_sequence_that_is_damaged_or_an_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "up" / "0.npy"
    path.parent.mkdir()
    np.save(path, np.zeros((3, 2)))
    path.write_bytes(path.read_bytes().replace(b"}", b" "))
    with pytest.raises(ValueError, match=r"cannot read the sequence .*up/0.npy"):
        read_sequences(tmp_path, 2)
    with path.open("wb") as file:
        np.savez(file, np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"up/0.npy should hold one array"):
        read_sequences(tmp_path, 2)


def test_what_programs_leave_hidden_is_passed_over(tmp_path: Path) -> None:
    for k in range(2):
        save(tmp_path / "pictures" / "a" / f"{k}.png", solid("L", k))
        save(tmp_path / "clips" / "a" / "clip" / f"{k}.png", solid("L", k))
    (tmp_path / "sequences" / "a").mkdir(parents=True)
    np.save(tmp_path / "sequences" / "a" / "0.npy", np.zeros((3, 2)))
    for folder in ("pictures", "clips", "sequences", "clips/a"):
        (tmp_path / folder / ".ipynb_checkpoints").mkdir()
    for name in ("pictures/a/._0.png", "clips/a/clip/._0.png", "sequences/a/._0.npy"):
        (tmp_path / name).write_bytes(b"of a Mac")
    found = read_pictures(tmp_path / "pictures", 8, 1)
    assert (found.names, len(found.values)) == (("a",), 2)
    assert [len(clip) for clip in read_clips(tmp_path / "clips", 8, 1).values] == [2]
    assert len(read_sequences(tmp_path / "sequences", 2).values) == 1


def test_folders_without_samples_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no folders; expected one a class"):
        read_pictures(tmp_path, 8, 1)
    with pytest.raises(ValueError, match="none holds no folders"):
        read_pictures(tmp_path / "none", 8, 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no pictures"):
        read_pictures(tmp_path, 8, 1)
    with pytest.raises(ValueError, match="empty holds no sequences"):
        read_sequences(tmp_path, 2)
    with pytest.raises(ValueError, match="there are no samples"):
        gather([("empty", [])])


def test_turned_classes_are_classes_of_their_own() -> None:
    corner = np.zeros((1, 3, 3), np.uint8)
    corner[0, 0, 0] = 1
    found = with_rotations(gather([("a", [corner]), ("b", [corner * 2])]))
    assert found.names == ("a", "b", *(f"{name} turned {k}" for k in (90, 180, 270) for name in "ab"))
    assert found.labels.tolist() == list(range(8))
    places = [tuple(np.argwhere(value[0])[0].tolist()) for value in found.values[::2]]
    assert places == [(0, 0), (2, 0), (2, 2), (0, 2)]  # against the clock
    assert [int(value.max()) for value in found.values] == [1, 2] * 4
