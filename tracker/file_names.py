"""Order files as people do, and find what they name."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """Return paths in the order of their names, whose numbers count as numbers: img2 comes before img10."""
    return sorted(paths, key=lambda path: (_natural_key(str(path)), str(path)))


def shown_files(folder: Path, ending: str) -> list[Path]:
    """Return the files of a folder with an ending, in natural order; hidden ones, such as macOS leaves, are no data."""
    return natural_order(path for path in folder.glob(f"*{ending}") if not path.name.startswith("."))


def folders_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield a folder and all below it but hidden ones, by name; links are followed, but not back into what holds them.

    above: the folders that hold it, without links. None where there is no such folder; raises OSError for one that
    cannot be read.
    """
    real = folder.resolve()
    if real in above or not folder.is_dir():
        return
    yield folder
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    for name in names:
        yield from folders_below(folder / name, (*above, real))


def in_home(name: str) -> Path:
    """Return the path of a name, in which ~ stands for a home; "~clip.mp4" is a file where nobody is called so."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 - Path's own raises RuntimeError where there is no such user


def _natural_key(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in re.split(r"(\d+)", name)]
