"""Readers of lists of picture pairs that say which show the same: CSV, and pairs.txt of LFW (Huang et al. 2007)."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ListedPair:
    """Hold two pictures and whether they show the same; `fold` is the part of the list that the pair belongs to."""

    first: Path
    second: Path
    same: bool
    fold: int = 0


def read_pairs(listing: Path, images: Path) -> list[ListedPair]:
    """Read a .csv list or a pairs.txt; pictures lie below `images`. Raises ValueError naming file and line."""
    return read_pairs_csv(listing, images) if listing.suffix.lower() == ".csv" else read_lfw_pairs(listing, images)


def read_pairs_csv(listing: Path, images: Path) -> list[ListedPair]:
    """Read rows of two paths below `images` and 0 or 1, under the header a,b,same or a,b,different.

    The third name says what 1 means: both are found in the literature. Raises ValueError naming file and line of what
    does not fit, and of a picture that is not there, and for a list without pairs of either kind.
    """
    lines = csv.reader(_lines(listing))
    try:
        header, *rows = list(lines) or [[]]
    except csv.Error as error:  # a quote that nothing closes takes the rest of the list for one name
        raise ValueError(f"{listing}, line {lines.line_num}: no table of pairs ({error})") from error
    if header not in (["a", "b", "same"], ["a", "b", "different"]):
        raise ValueError(f"{listing}, line 1: the header must be a,b,same or a,b,different, got {','.join(header)}")
    found = []
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        if len(row) != 3 or row[2].strip() not in ("0", "1"):
            raise ValueError(f"{listing}, line {number}: expected two paths and 0 or 1, got {','.join(row)!r}")
        first, second = (_existing(images / name.strip(), listing, number) for name in row[:2])
        found.append(ListedPair(first, second, (row[2].strip() == "1") == (header[2] == "same")))
    return _some(found, listing)


def read_lfw_pairs(listing: Path, images: Path) -> list[ListedPair]:
    """Read the protocol of LFW: a line "folds n", then of each fold n pairs that are the same and n that are not.

    A pair is "name i j" or "name i other j", separated by tabs, and the pictures name/name_000i.jpg. Without the number
    of folds, as in pairsDevTest.txt, there is one. Raises ValueError naming file and line of what does not fit.
    """
    lines = _lines(listing)
    try:
        *folds, each = (int(number) for number in lines[0].split())
        if len(folds) > 1 or each < 1 or min(folds, default=1) < 1:
            raise ValueError(lines[0])
    except (ValueError, IndexError) as error:
        raise ValueError(f"{listing}, line 1: expected the number of folds and of pairs ({error})") from error
    expected = 2 * each * (folds[0] if folds else 1)
    rows = [(number, line) for number, line in enumerate(lines[1:], 2) if line.strip()]
    if len(rows) != expected:
        raise ValueError(f"{listing}: its first line promises {expected} pairs, it has {len(rows)}")
    found = []
    for at, (number, line) in enumerate(rows):
        fold, place = divmod(at, 2 * each)
        found.append(_lfw_pair(line.split("\t"), place < each, fold, images, f"{listing}, line {number}"))
    return found


def _lfw_pair(words: Sequence[str], same: bool, fold: int, images: Path, where: str) -> ListedPair:
    try:
        name, i, *rest = words
        other, j = (name, *rest) if same else rest
        paths = [images / who / f"{who}_{int(number):04d}.jpg" for who, number in ((name, i), (other, j))]
    except ValueError as error:
        kind = "name, two numbers" if same else "name, number, name, number"
        raise ValueError(f"{where}: expected {kind}, got {' '.join(words)!r}") from error
    for path in paths:
        if not path.is_file():
            raise ValueError(f"{where}: there is no picture {path}")
    return ListedPair(paths[0], paths[1], same, fold)


def _existing(path: Path, listing: Path, number: int) -> Path:
    if not path.is_file():
        raise ValueError(f"{listing}, line {number}: there is no picture {path}")
    return path


def _some(pairs: list[ListedPair], listing: Path) -> list[ListedPair]:
    if not pairs:
        raise ValueError(f"{listing} lists no pairs")
    for kind, wanted in (("same", True), ("different", False)):
        if all(pair.same != wanted for pair in pairs):  # said before all the pictures are read
            raise ValueError(f"{listing} lists no pairs that are {kind}, so nothing can be told apart")
    return pairs


def _lines(listing: Path) -> list[str]:
    try:
        return listing.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the pairs in {listing}: {error}") from error
