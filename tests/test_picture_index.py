"""The index of a folder's pictures: what is read again, what is found, and what is refused."""

import os
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import pytest

from tests.verifiers import write_weights
from tracker import verifier as verifier_module
from tracker.picture_index import (
    Entry,
    PictureIndex,
    Stamp,
    Visit,
    check_model,
    find_pictures,
    probe_vectors,
    read_index,
    search,
    visit_pictures,
    write_index,
)
from tracker.verifier import Verifier, load_verifier

from .verifiers import thing


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    path = write_weights(tmp_path_factory.mktemp("weights") / "drawn.safetensors", {})
    return load_verifier(path, "cpu", "torch")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/2.png", "b/deep/1.jpg", "a.png", ".hidden/3.png", "b/.4.png"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), thing(len(name))[..., ::-1])
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    (tmp_path / "pictures" / "folder.png").mkdir()
    return tmp_path / "pictures"


def visits(folder: Path, verifier: Verifier, known: dict[str, Entry] | None = None) -> list[Visit]:
    return list(visit_pictures(find_pictures(folder), verifier, known or {}))


def entries(found: list[Visit]) -> dict[str, Entry]:
    return {visit.name: visit.entry for visit in found if visit.entry is not None}


def made(count: int, dimensions: int = 8, seed: int = 0) -> PictureIndex:
    vectors = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = {f"{at:03d}.png": Entry(Stamp(at, at), vector) for at, vector in enumerate(vectors)}
    return PictureIndex.of(Path("pictures"), "a model", vectors[:4], found)


def test_pictures_are_found_to_the_bottom_in_order(folder: Path) -> None:
    assert list(find_pictures(folder)) == ["a.png", "b/2.png", "b/deep/1.jpg"]
    with pytest.raises(ValueError, match="notes.txt is no folder"):
        find_pictures(folder / "notes.txt")


def test_folder_that_cannot_be_read_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain, locked = os.scandir, folder / "b" / "deep"

    def scan(path: str | Path) -> object:
        if Path(path) == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert list(find_pictures(folder)) == ["a.png", "b/2.png"]
    assert caplog.messages == [f"cannot read the folder {locked} (Permission denied): its pictures are left out"]
    with pytest.raises(PermissionError):
        find_pictures(locked)


def test_only_what_is_new_or_changed_is_read(folder: Path, verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    plain = verifier_module.read_image
    monkeypatch.setattr(verifier_module, "read_image", lambda path: read.append(path.name) or plain(path))
    first = entries(visits(folder, verifier))
    assert read == ["a.png", "2.png", "1.jpg"] and list(first) == ["a.png", "b/2.png", "b/deep/1.jpg"]
    read.clear()
    assert all(visit.kept for visit in visits(folder, verifier, first)) and read == []
    cv2.imwrite(str(folder / "a.png"), thing(9)[..., ::-1])
    os.utime(folder / "b" / "2.png", ns=(1, 1))
    cv2.imwrite(str(folder / "new.png"), thing(8)[..., ::-1])
    (folder / "b" / "deep" / "1.jpg").unlink()
    second = visits(folder, verifier, first)
    assert read == ["a.png", "2.png", "new.png"]
    assert [visit.name for visit in second] == ["a.png", "b/2.png", "new.png"]
    assert not np.array_equal(entries(second)["a.png"].vector, first["a.png"].vector)
    assert np.array_equal(entries(second)["b/2.png"].vector, first["b/2.png"].vector)


def test_picture_that_cannot_be_used_is_passed_over_with_a_reason(folder: Path, verifier: Verifier) -> None:
    before = entries(visits(folder, verifier))
    (folder / "a.png").write_bytes(b"broken")
    cv2.imwrite(str(folder / "dot.png"), np.zeros((1, 1, 3), np.uint8))
    (folder / "gone.png").symlink_to(folder / "nowhere.png")  # not found at all: it is no file
    found = {visit.name: visit for visit in visits(folder, verifier, before)}
    assert found["a.png"].entry is None and "damaged or not an image" in found["a.png"].reason
    assert found["dot.png"].entry is None and "too small" in found["dot.png"].reason
    assert found["b/2.png"].kept and "gone.png" not in found


@pytest.mark.parametrize("count", [1, 5, 40])
def test_search_is_that_of_a_plain_loop(count: int) -> None:
    index = made(40)
    asked = made(1, seed=7).vectors[0]
    pictures = zip(index.names, index.vectors, strict=True)
    wanted = sorted(((float(vector @ asked), name) for name, vector in pictures), reverse=True)[:count]
    found = search(index, asked, count)
    assert [hit.name for hit in found] == [name for _, name in wanted]
    assert [hit.similarity for hit in found] == pytest.approx([similarity for similarity, _ in wanted], abs=1e-6)
    assert found[0].path == Path("pictures") / found[0].name
    assert len(search(index, asked, 99)) == 40


def test_equal_pictures_come_in_order_of_their_names() -> None:
    index = made(6)
    entry = index.entries()["003.png"]
    same = PictureIndex.of(index.folder, "", index.probes, dict.fromkeys(index.names, entry))
    assert [hit.name for hit in search(same, entry.vector, 3)] == ["000.png", "001.png", "002.png"]


def test_index_is_read_as_it_was_written(tmp_path: Path) -> None:
    index = made(3)
    first, second, _ = index.entries().values()
    odd = {"a b/ü.png": first, "\udcff.png": second}  # names that are no UTF-8
    for kept in (odd, {}):
        path = tmp_path / "index.of.mine"
        write_index(path, PictureIndex.of(tmp_path, "a model", index.probes, kept))
        read = read_index(path)
        assert (read.folder, read.model, list(read.names)) == (tmp_path, "a model", list(kept))
        assert np.array_equal(read.probes, index.probes)
        found = read.entries()
        for name, entry in kept.items():
            assert found[name].stamp == entry.stamp
            assert np.array_equal(found[name].vector, entry.vector)
    assert [file.name for file in tmp_path.iterdir()] == ["index.of.mine"]


def test_two_processes_may_write_one_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, path = np.savez, tmp_path / "index"

    def write_between(file: BinaryIO, **arrays: np.ndarray) -> None:
        plain(file, **arrays)
        with monkeypatch.context() as other:  # another process, which is quicker
            other.setattr(np, "savez", plain)
            other.setattr(os, "getpid", lambda: 1)
            write_index(path, made(5))

    monkeypatch.setattr(np, "savez", write_between)
    write_index(path, made(3))
    assert len(read_index(path).names) == 3  # the last one's, whole
    assert [file.name for file in tmp_path.iterdir()] == ["index"]


def test_stopped_writing_leaves_the_old_index_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(file: BinaryIO, **_: np.ndarray) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    path = tmp_path / "index"
    write_index(path, made(3))
    monkeypatch.setattr(np, "savez", stop)
    with pytest.raises(KeyboardInterrupt):
        write_index(path, made(5))
    assert len(read_index(path).names) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["index"]


def test_index_without_pictures_cannot_be_searched() -> None:
    with pytest.raises(ValueError, match="the index holds no pictures"):
        search(made(0), np.ones(8, np.float32), 5)


def test_file_that_is_no_index_is_named(tmp_path: Path) -> None:
    path = tmp_path / "index"
    with pytest.raises(ValueError, match=r"index is no index of pictures .*No such file"):
        read_index(path)
    path.write_text("a,b,same")
    with pytest.raises(ValueError, match=r"index is no index of pictures \(it is no .npz file\)"):
        read_index(path)
    with path.open("wb") as file:
        np.savez(file, vectors=np.zeros(3))
    with pytest.raises(ValueError, match="is no index of pictures"):
        read_index(path)
    with path.open("wb") as file:
        np.savez(file, facts=np.frombuffer(b'{"format": "other"}', np.uint8), probes=0, stamps=0, vectors=0)
    with pytest.raises(ValueError, match="format 'other', not 'siamtrack-index-1'"):
        read_index(path)
    write_index(path, replace(made(3), names=("a.png", "b.png")))
    with pytest.raises(ValueError, match=r"\(2 names, \(3, 2\) stamps, \(3, 8\) vectors\)"):
        read_index(path)
    write_index(path, made(3))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="is no index of pictures"):
        read_index(path)
    write_index(path, made(3))
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"PK\x01\x02") + 10] = 99  # a way to compress that nobody knows
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="is no index of pictures"):
        read_index(path)
    with pytest.raises(ValueError, match="is no index of pictures"):
        read_index(tmp_path)
    with pytest.raises(OSError, match=r"cannot write the index .*nowhere"):
        write_index(tmp_path / "nowhere" / "index", made(3))


def test_index_knows_its_model(verifier: Verifier, tmp_path: Path) -> None:
    index = PictureIndex.of(tmp_path, "drawn", probe_vectors(verifier), {})
    check_model(index, verifier)
    other = load_verifier(write_weights(tmp_path / "other.safetensors", {}, seed=1), "cpu", "torch")
    with pytest.raises(ValueError, match="made with another model, drawn: choose that one, or make the index anew"):
        check_model(index, other)
    with pytest.raises(ValueError, match="made with another model"):
        check_model(made(5), verifier)  # of another number of dimensions
