from pathlib import Path

import pytest

from tracker.data.pair_lists import ListedPair, read_pairs


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for who, count in (("Ann_Bee", 3), ("Cy", 2)):
        for k in range(1, count + 1):
            path = tmp_path / "images" / who / f"{who}_{k:04d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return tmp_path / "images"


def listing(images: Path, text: str, name: str = "pairs.csv") -> Path:
    path = images.parent / name
    path.write_text(text)
    return path


A, B, C = "Ann_Bee/Ann_Bee_0001.jpg", "Ann_Bee/Ann_Bee_0002.jpg", "Cy/Cy_0001.jpg"


def test_header_says_what_one_means(images: Path) -> None:
    expected = [ListedPair(images / A, images / B, True), ListedPair(images / A, images / C, False)]
    assert read_pairs(listing(images, f"a,b,same\n{A},{B},1\n\n{A},{C},0\n"), images) == expected
    assert read_pairs(listing(images, f"\ufeffa,b,same\n{A},{B},1\n{A},{C},0\n"), images) == expected  # as Excel writes
    assert read_pairs(listing(images, f"a,b,different\n{A},{B},0\n{A}, {C} ,1\n"), images) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: the header must be a,b,same or a,b,different"),
        (f"{A},{B},1\n", "line 1: the header must be"),
        (f"a,b,same\n{A},{B},1\n{A},none.jpg,0\n", "line 3: there is no picture .*none.jpg"),
        (f"a,b,same\n{A},{B},yes\n", "line 2: expected two paths and 0 or 1"),
        (f"a,b,same\n{A},{B}\n", "line 2: expected two paths and 0 or 1"),
        ("a,b,same\n", "lists no pairs"),
        (f"a,b,same\n{A},{B},1\n{B},{A},1\n", "lists no pairs that are different"),
        (f"a,b,different\n{A},{C},1\n", "lists no pairs that are same"),
        (f'a,b,same\n"{A},{B},1\n' + f"{A},{C},0\n" * 4000, "line .*: no table of pairs .*field"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(images: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"pairs.csv.*{said}"):
        read_pairs(listing(images, text), images)


LFW = "2\t1\nAnn_Bee\t1\t3\nAnn_Bee\t2\tCy\t1\nCy\t1\t2\nCy\t2\tAnn_Bee\t1\n"


def test_protocol_of_lfw_is_read_with_its_folds(images: Path) -> None:
    found = read_pairs(listing(images, LFW, "pairs.txt"), images)
    assert [(pair.same, pair.fold) for pair in found] == [(True, 0), (False, 0), (True, 1), (False, 1)]
    assert found[0] == ListedPair(images / A, images / "Ann_Bee/Ann_Bee_0003.jpg", True, 0)
    assert found[1] == ListedPair(images / B, images / C, False, 0)


def test_list_without_folds_is_one(images: Path) -> None:
    found = read_pairs(listing(images, LFW.replace("2\t1\n", "1\n", 1).rpartition("Cy\t1")[0], "dev.txt"), images)
    assert [(pair.same, pair.fold) for pair in found] == [(True, 0), (False, 0)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: expected the number of folds and of pairs"),
        ("ten\t300\n", "line 1: expected the number of folds and of pairs"),
        ("2\t0\n", "line 1: expected the number of folds and of pairs"),
        ("2\t2\nCy\t1\t2\n", "its first line promises 8 pairs, it has 1"),
        (LFW.replace("Cy\t1\t2", "Cy\t1"), "line 4: expected name, two numbers, got 'Cy 1'"),
        (LFW.replace("Cy\t1\t2", "Cy\tone\t2"), "line 4: expected name, two numbers"),
        (LFW.replace("Cy\t1\t2", "\n\nCy\tone\t2"), "line 6: expected name, two numbers"),
        (LFW.replace("Ann_Bee\t2\tCy\t1", "Ann_Bee\t2\t1"), "line 3: expected name, number, name, number"),
        (LFW.replace("Cy\t1\t2", "Cy\t1\t5"), "line 4: there is no picture .*Cy_0005.jpg"),
    ],
)
def test_what_is_wrong_in_the_protocol_is_named(images: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"pairs.txt.*{said}"):
        read_pairs(listing(images, text, "pairs.txt"), images)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"], ids=["missing", "no text"])
def test_list_that_cannot_be_read_is_named(images: Path, content: bytes | None) -> None:
    path = images.parent / "other.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read the pairs in .*other.csv"):
        read_pairs(path, images)
