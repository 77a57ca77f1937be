from pathlib import Path

from tracker.file_names import natural_order


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["img1.jpg", "img2.jpg", "img10.jpg", "img0011.jpg", "x2/1.jpg", "x10/1.jpg"]
    assert natural_order([Path(name) for name in reversed(names)]) == [Path(name) for name in names]
    same = [Path("01.jpg"), Path("1.jpg")]
    assert natural_order(same) == natural_order(same[::-1])
