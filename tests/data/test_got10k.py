from pathlib import Path

import numpy as np
import pytest

from tests.drawn_sequences import moving, write_got10k
from tracker.data.got10k import is_published, read_got10k


@pytest.mark.parametrize("below", ["", "val"])
def test_a_split_is_read_from_the_data_set_or_its_own_folder(tmp_path: Path, below: str) -> None:
    write_got10k(tmp_path, "val", "GOT-10k_Val_000001", moving(3), [8, 8, 8])
    (found,) = read_got10k(tmp_path / below, "val")
    assert found.name == "GOT-10k_Val_000001"
    assert [path.name for path in found.image_paths] == ["00000001.png", "00000002.png", "00000003.png"]
    np.testing.assert_array_equal(found.boxes_xywh, moving(3))
    assert is_published(found)


def test_hidden_objects_are_nan_but_the_first_box_stays(tmp_path: Path) -> None:
    write_got10k(tmp_path, "val", "a", moving(4), [0, 8, 0, 1])
    boxes = read_got10k(tmp_path)[0].boxes_xywh
    assert np.isnan(boxes).any(axis=1).tolist() == [False, False, True, False]


def test_the_test_split_has_one_box(tmp_path: Path) -> None:
    write_got10k(tmp_path, "test", "a", moving(3), None)
    (found,) = read_got10k(tmp_path, "test")
    np.testing.assert_array_equal(found.boxes_xywh[0], moving(1)[0])
    assert np.isnan(found.boxes_xywh[1:]).all()
    assert not is_published(found)


def test_the_list_gives_the_order_and_may_name_more_than_is_there(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_got10k(tmp_path, "val", name, moving(2), [8, 8])
    (tmp_path / "val" / "list.txt").write_text("c\nnot_downloaded\na\n")
    assert [s.name for s in read_got10k(tmp_path)] == ["c", "a"]
    (tmp_path / "val" / "list.txt").unlink()
    assert [s.name for s in read_got10k(tmp_path)] == ["a", "b", "c"]


def test_names_of_the_list_may_have_spaces_and_come_from_windows(tmp_path: Path) -> None:
    for name in ("my clip", "b"):
        write_got10k(tmp_path, "val", name, moving(2), [8, 8])
    (tmp_path / "val" / "list.txt").write_bytes(b"\xef\xbb\xbfmy clip\r\nb\r\n\r\n")
    assert [s.name for s in read_got10k(tmp_path)] == ["my clip", "b"]


def test_damaged_sequences_are_errors(tmp_path: Path) -> None:
    write_got10k(tmp_path, "val", "a", moving(3), [8, 8, 8])
    (tmp_path / "val" / "a" / "cover.label").write_text("8\n8\n")
    with pytest.raises(ValueError, match=r"cover\.label must hold one number for each of 3 frames"):
        read_got10k(tmp_path)
    (tmp_path / "val" / "a" / "00000002.png").unlink()
    with pytest.raises(ValueError, match="holds 2 images for 3 boxes; unpack a again"):
        read_got10k(tmp_path)


def test_no_root_and_no_sequences_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder .*absent"):
        read_got10k(tmp_path / "absent")
    with pytest.raises(ValueError, match="holds no GOT-10k sequence: expected <name>/"):
        read_got10k(tmp_path)
