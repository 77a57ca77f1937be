import logging
from pathlib import Path

import numpy as np
import pytest

from tests.drawn_sequences import moving, rows, write_otb
from tracker.data.otb import read_otb
from tracker.data.sequence import Sequence, select


def empty_images(folder: Path, count: int, first: int = 1) -> None:
    folder.mkdir(parents=True)
    for i in range(first, first + count):
        (folder / f"{i:04d}.jpg").touch()


def sequence(root: Path, name: str, images: int, boxes: np.ndarray) -> Sequence:
    empty_images(root / name / "img", images)
    (root / name / "groundtruth_rect.txt").write_text(rows(boxes))
    (found,) = read_otb(root)
    return found


@pytest.mark.parametrize("separator", [",", "\t", " ", ", ", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_separator_and_line_end_of_otb_is_read(tmp_path: Path, separator: str, end: str) -> None:
    empty_images(tmp_path / "Car" / "img", 3)
    text = rows(moving(3), separator=separator).replace("\n", end) + end
    (tmp_path / "Car" / "groundtruth_rect.txt").write_bytes(text.encode())
    (found,) = read_otb(tmp_path)
    assert found.name == "Car"
    assert [path.name for path in found.image_paths] == ["0001.jpg", "0002.jpg", "0003.jpg"]
    np.testing.assert_array_equal(found.boxes_xywh, moving(3))


def test_the_index_base_moves_x_and_y_only(tmp_path: Path) -> None:
    write_otb(tmp_path, "a", moving(2), index_base=1)
    np.testing.assert_array_equal(read_otb(tmp_path)[0].boxes_xywh, moving(2))
    np.testing.assert_array_equal(read_otb(tmp_path, index_base=0)[0].boxes_xywh, moving(2) + [1, 1, 0, 0])
    with pytest.raises(ValueError, match="index base must be 0 or 1, got 2"):
        read_otb(tmp_path, index_base=2)


def test_absent_objects_are_nan(tmp_path: Path) -> None:
    truth = moving(3)
    truth[1] = np.nan
    write_otb(tmp_path, "a", truth)
    np.testing.assert_array_equal(read_otb(tmp_path)[0].boxes_xywh, truth)


# The toolkit's own cut of each video, counted in the names of its images.
@pytest.mark.parametrize(
    ("name", "images", "first", "last"),
    [
        ("David", 770, 300, 770),
        ("Football1", 90, 1, 74),
        ("Freeman3", 470, 1, 460),
        ("Freeman4", 290, 1, 283),
        ("Diving", 231, 1, 215),
    ],
)
def test_partly_annotated_videos_are_cut_as_the_toolkit_does(
    tmp_path: Path, name: str, images: int, first: int, last: int, caplog: pytest.LogCaptureFixture
) -> None:
    found = sequence(tmp_path, name, images, moving(last - first + 1))
    assert (found.image_paths[0].stem, found.image_paths[-1].stem) == (f"{first:04d}", f"{last:04d}")
    assert not caplog.records  # as it should be: nothing to warn of


def test_david_unpacked_from_frame_300_on_is_taken_whole(tmp_path: Path) -> None:
    empty_images(tmp_path / "David" / "img", 471, first=300)
    (tmp_path / "David" / "groundtruth_rect.txt").write_text(rows(moving(471)))
    (found,) = read_otb(tmp_path)
    assert (found.image_paths[0].stem, found.image_paths[-1].stem) == ("0300", "0770")


def test_images_beyond_the_last_box_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = sequence(tmp_path, "Board", 5, moving(3))
    assert [path.stem for path in found.image_paths] == ["0001", "0002", "0003"]
    assert "Board: 5 images but 3 boxes" in caplog.text


def test_missing_images_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds 3 images for 5 boxes; unpack Board again"):
        sequence(tmp_path, "Board", 3, moving(5))


def test_several_targets_get_numbers_and_empty_files_do_not_count(tmp_path: Path) -> None:
    for name in ("Jogging", "Human4"):
        empty_images(tmp_path / name / "img", 2)
        (tmp_path / name / "groundtruth_rect.2.txt").write_text(rows(moving(2, x=30)))
    (tmp_path / "Jogging" / "groundtruth_rect.1.txt").write_text(rows(moving(2)))
    (tmp_path / "Human4" / "groundtruth_rect.1.txt").write_text("\n")
    found = read_otb(tmp_path)
    assert [s.name for s in found] == ["Human4", "Jogging.1", "Jogging.2"]
    assert [s.boxes_xywh[0, 0] for s in found] == [30, 5, 30]


def test_stray_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    write_otb(tmp_path, "a", moving(2))
    (tmp_path / "a" / "img" / "._0001.png").touch()
    (tmp_path / "a" / "img" / "Thumbs.db").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "other").mkdir()
    assert [(s.name, len(s.image_paths)) for s in read_otb(tmp_path)] == [("a", 2)]


@pytest.mark.parametrize("text", ["1,2,3\n", "1,2,3,4,5\n", "1,2,3,x\n"])
def test_a_bad_line_is_named(tmp_path: Path, text: str) -> None:
    empty_images(tmp_path / "a" / "img", 2)
    (tmp_path / "a" / "groundtruth_rect.txt").write_text("1,2,3,4\n" + text)
    with pytest.raises(ValueError, match=r"groundtruth_rect\.txt line 2: expected x, y, w, h"):
        read_otb(tmp_path)


def test_no_root_and_no_sequences_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder .*absent"):
        read_otb(tmp_path / "absent")
    with pytest.raises(ValueError, match="holds no OTB sequence: expected <name>/img"):
        read_otb(tmp_path)


def test_a_sequence_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    paths = (tmp_path / "1.jpg", tmp_path / "2.jpg")
    with pytest.raises(ValueError, match="a has no images"):
        Sequence("a", (), np.empty((0, 4)))
    with pytest.raises(ValueError, match=r"a has 2 images and boxes of shape \(3, 4\)"):
        Sequence("a", paths, moving(3))
    absent = moving(2)
    absent[0] = np.nan
    with pytest.raises(ValueError, match="a has no box in its first frame"):
        Sequence("a", paths, absent).first_box()


def test_sequences_are_selected_by_name_in_the_order_of_the_set(tmp_path: Path) -> None:
    for name in "abc":
        write_otb(tmp_path, name, moving(2))
    found = read_otb(tmp_path)
    assert [s.name for s in select(found, ["c", "a"])] == ["a", "c"]
    with pytest.raises(ValueError, match="no sequence 'd' in the data set; it has a, b, c"):
        select(found, ["a", "d"])
    assert [len(s.head(1).image_paths) for s in found] == [1, 1, 1]
