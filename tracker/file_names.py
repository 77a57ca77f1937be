"""Order files as people do, and find what they name."""

import os
import re
from collections.abc import Iterable
from pathlib import Path


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """Return paths in the order of their names, whose numbers count as numbers: img2 comes before img10."""
    return sorted(paths, key=lambda path: (_natural_key(str(path)), str(path)))


def in_home(name: str) -> Path:
    """Return the path of a name, in which ~ stands for a home; "~clip.mp4" is a file where nobody is called so."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 - Path's own raises RuntimeError where there is no such user


def _natural_key(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in re.split(r"(\d+)", name)]
