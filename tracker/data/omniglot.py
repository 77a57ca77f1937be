"""Readers of Omniglot (Lake et al. 2015): the background alphabets and the official one-shot runs.

Pictures are (1, S, S) uint8 with the ink at 255 on 0: files have it the other way round.
"""

import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from tracker.data.labelled import LabelledSamples, decode_picture, gather

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class OneShotRun:
    """Hold one run: a picture of each class, and pictures whose class is to be told."""

    name: str
    classes: tuple[Picture, ...]
    items: tuple[Picture, ...]
    answers: NDArray[np.int64]  # (items,), places in `classes`


def read_omniglot(root: Path, size: int) -> LabelledSamples:
    """Read characters from folders alphabet/character*/*.png anywhere below `root`, and from zip files in it.

    `root` may be one zip file. A class is "alphabet/character"; what two archives both hold, as the two small sets do
    with Greek and Latin, counts once. Raises ValueError where there is no character, and naming a broken file.
    """
    found: dict[str, dict[str, Picture]] = defaultdict(dict)
    for path, content in _files(root, "images_*.zip"):
        parts = PurePosixPath(path).parts
        if len(parts) >= 3 and parts[-2].startswith("character") and parts[-1].endswith(".png"):
            members = found["/".join(parts[-3:-1])]
            if parts[-1] not in members:
                members[parts[-1]] = _ink(content, f"{root}: {path}", size)
    if not found:
        raise ValueError(f"{root} holds no Omniglot: expected alphabet/character01/*.png, in folders or images_*.zip")
    return gather([(name, list(found[name].values())) for name in sorted(found)])


def read_runs(root: Path, size: int) -> list[OneShotRun]:
    """Read the one-shot runs run*/class_labels.txt, their class and test pictures, from a folder or all_runs.zip.

    A line of class_labels.txt names a test picture and the class picture that it shows. Raises ValueError where there
    is no run, and naming file and line of what does not fit.
    """
    files = dict(_files(root, "all_runs*.zip"))
    listings = sorted(path for path in files if re.search(r"run\d+/class_labels\.txt$", path))
    if not listings:
        raise ValueError(f"{root} holds no one-shot runs: expected run01/class_labels.txt, in folders or all_runs.zip")
    return [_read_run(listing, files, root, size) for listing in listings]


def _read_run(listing: str, files: dict[str, bytes], root: Path, size: int) -> OneShotRun:
    folder = PurePosixPath(listing).parent
    pairs = []
    for number, line in enumerate(files[listing].decode("utf-8").splitlines(), 1):
        names = line.split()
        if not names:
            continue
        if len(names) != 2:
            raise ValueError(f"{root}: {listing}, line {number}: expected two pictures, got {line!r}")
        for name in names:
            if _resolve(folder, name) not in files:
                raise ValueError(f"{root}: {listing}, line {number}: there is no picture {name}")
        pairs.append((_resolve(folder, names[0]), _resolve(folder, names[1])))
    if not pairs:
        raise ValueError(f"{root}: {listing} names no pictures")
    classes = sorted({shown for _, shown in pairs})
    return OneShotRun(
        folder.name,
        tuple(_ink(files[path], f"{root}: {path}", size) for path in classes),
        tuple(_ink(files[path], f"{root}: {path}", size) for path, _ in pairs),
        np.array([classes.index(shown) for _, shown in pairs]),
    )


def _resolve(folder: PurePosixPath, name: str) -> str:
    """Return the path of a picture that a listing names from the folder above its run."""
    return str(folder.parent / name)


def _files(root: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of the files below a folder and in the zip files that it holds, or in one zip file."""
    archives = [root] if root.is_file() else sorted(root.glob(pattern))
    for archive in archives:
        try:
            with zipfile.ZipFile(archive) as content:
                for name in sorted(content.namelist()):
                    if not name.endswith("/") and not _is_left_behind(name):
                        yield name, content.read(name)
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:  # RuntimeError: a password
            raise ValueError(f"cannot read the archive {archive}: {error}") from error
    if root.is_dir():
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.suffix in (".png", ".txt") and not _is_left_behind(name):
                yield name, path.read_bytes()


def _is_left_behind(name: str) -> bool:
    """Return whether a path is hidden, or of what macOS adds to archives: not the data set's own."""
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def _ink(content: bytes, name: str, size: int) -> Picture:
    return 255 - decode_picture(content, name, size, channels=1)
