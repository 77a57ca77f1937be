"""Order files as people do."""

import re
from collections.abc import Iterable
from pathlib import Path


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """Return paths in the order of their names, whose numbers count as numbers: img2 comes before img10."""
    return sorted(paths, key=lambda path: (_natural_key(str(path)), str(path)))


def _natural_key(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in re.split(r"(\d+)", name)]
