import os
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from tracker.data.omniglot import read_omniglot, read_runs


def draw(path: Path, column: int) -> None:
    """Write a stroke, black on white, at a column of a picture of 105x105 pixels."""
    image = np.full((105, 105), 255, np.uint8)
    image[20:90, column : column + 6] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


def archive(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as content:
        for path in sorted(folder.rglob("*")):
            content.write(path, path.relative_to(folder.parent))


@pytest.fixture
def background(tmp_path: Path) -> Path:
    folder = tmp_path / "images_background_small1"
    for alphabet, characters in (("Greek", 2), ("Korean", 1)):
        for character in range(1, characters + 1):
            for who in (1, 2, 3):
                name = f"{alphabet[0]}{character}_{who:02d}.png"
                draw(folder / alphabet / f"character{character:02d}" / name, 20 * character + 5 * who)
    return folder


def test_characters_are_classes_and_ink_is_bright(background: Path) -> None:
    found = read_omniglot(background, 35)
    assert found.names == ("Greek/character01", "Greek/character02", "Korean/character01")
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert {value.shape for value in found.values} == {(1, 35, 35)}
    first = found.values[0][0]
    assert first[15, 8:10].max() > 200  # the stroke at column 25 of 105
    assert (first[0] == 0).all()


def test_zip_files_hold_the_same_and_what_both_hold_counts_once(background: Path, tmp_path: Path) -> None:
    plain = read_omniglot(background, 28)
    zips = tmp_path / "zips"
    zips.mkdir()
    for number in (1, 2):
        archive(background, zips / f"images_background_small{number}.zip")
    for root in (zips, zips / "images_background_small2.zip"):
        found = read_omniglot(root, 28)
        assert (found.names, found.labels.tolist()) == (plain.names, plain.labels.tolist())
        assert all((a == b).all() for a, b in zip(found.values, plain.values, strict=True))


def test_root_without_characters_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no Omniglot: expected alphabet/character01/\*.png"):
        read_omniglot(tmp_path, 28)


def test_broken_files_are_named(background: Path, tmp_path: Path) -> None:
    (background / "Greek" / "character01" / "G1_02.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"cannot read the picture .*Greek/character01/G1_02.png"):
        read_omniglot(background, 28)
    (tmp_path / "images_background.zip").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"cannot read the archive .*images_background.zip"):
        read_omniglot(tmp_path / "images_background.zip", 28)


@pytest.mark.parametrize("damage", ["compressed", "method", "password"])
def test_archive_that_cannot_be_unpacked_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "images_background.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as content:
        content.writestr("Greek/character01/1.png", np.random.default_rng(0).bytes(200) * 9)
    broken = bytearray(path.read_bytes())
    central = broken.rindex(b"PK\x01\x02")
    if damage == "compressed":
        broken[60:70] = b"\xff" * 10
    elif damage == "method":
        broken[central + 10] = 99
    else:
        broken[6] |= 1
        broken[central + 8] |= 1
    path.write_bytes(broken)
    with pytest.raises(ValueError, match=r"cannot read the archive .*images_background.zip"):
        read_omniglot(tmp_path, 28)


def test_what_a_mac_adds_is_passed_over(background: Path, tmp_path: Path) -> None:
    plain = read_omniglot(background, 28)
    for folder in ("Greek", "__MACOSX/Greek"):
        path = background / folder / "character01" / "._G1_01.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no picture")
    archive(background, tmp_path / "images_background.zip")
    for root in (background, tmp_path / "images_background.zip"):
        found = read_omniglot(root, 28)
        assert (found.names, found.labels.tolist()) == (plain.names, plain.labels.tolist())


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    root = tmp_path / "all_runs"
    for run in (1, 2):
        for k in range(3):
            draw(root / f"run{run:02d}" / "training" / f"class{k + 1:02d}.png", 20 * k + 10)
            draw(root / f"run{run:02d}" / "test" / f"item{k + 1:02d}.png", 20 * k + 12)
        order = (2, 0, 1) if run == 1 else (0, 1, 2)
        lines = [f"run{run:02d}/test/item{k + 1:02d}.png run{run:02d}/training/class{k + 1:02d}.png" for k in order]
        (root / f"run{run:02d}" / "class_labels.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("zipped", [False, True])
def test_runs_are_read_with_their_answers(runs: Path, zipped: bool) -> None:
    root = runs
    if zipped:
        root = runs.parent / "all_runs.zip"
        with zipfile.ZipFile(root, "w") as content:
            for path in sorted(runs.rglob("*")):
                content.write(path, path.relative_to(runs))  # as the official archive: runs at its top
    found = read_runs(root, 35)
    assert [run.name for run in found] == ["run01", "run02"]
    assert [run.answers.tolist() for run in found] == [[2, 0, 1], [0, 1, 2]]
    for run in found:
        for item, answer in zip(run.items, run.answers, strict=True):
            gaps = [np.abs(item.astype(int) - one).sum() for one in run.classes]
            assert int(np.argmin(gaps)) == answer


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("run01/test/item01.png", "line 3: expected two pictures"),
        ("run01/test/item01.png run01/training/class09.png", "line 3: there is no picture run01/training/class09.png"),
    ],
)
def test_what_is_wrong_in_a_listing_is_named(runs: Path, line: str, said: str) -> None:
    path = runs / "run01" / "class_labels.txt"
    path.write_text("\n".join([*path.read_text().splitlines()[:2], line]))
    with pytest.raises(ValueError, match=f"run01/class_labels.txt, {said}"):
        read_runs(runs, 28)


def test_folder_without_runs_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no one-shot runs: expected run01/class_labels.txt"):
        read_runs(tmp_path, 28)


def test_empty_listing_is_named(runs: Path) -> None:
    (runs / "run02" / "class_labels.txt").write_text("\n")
    shutil.rmtree(runs / "run01")
    with pytest.raises(ValueError, match=r"run02/class_labels.txt names no pictures"):
        read_runs(runs, 28)


@pytest.mark.data
def test_official_files_hold_what_their_authors_say() -> None:
    root = Path(os.environ["SIAMTRACK_DATA"]) / "verify" / "omniglot"
    found = read_omniglot(root, 28)
    alphabets = {name.partition("/")[0] for name in found.names}
    assert alphabets == {
        *("Balinese", "Early_Aramaic", "Greek", "Japanese_(katakana)", "Korean", "Latin", "Sanskrit", "Tagalog")
    }
    assert len(found.names) == 242
    assert np.bincount(found.labels).tolist() == [20] * 242
    runs = read_runs(root, 28)
    assert len(runs) == 20
    assert all(len(run.classes) == len(run.items) == 20 for run in runs)
    assert all(sorted(run.answers.tolist()) == list(range(20)) for run in runs)
    # No picture of the runs was trained on: they are drawn by other hands, of other alphabets.
    known = {value.tobytes() for value in found.values}
    assert not any(picture.tobytes() in known for run in runs for picture in (*run.classes, *run.items))
