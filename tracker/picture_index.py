"""An index of a folder's pictures, to search it by example: one file with their names and vectors."""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile, is_zipfile

import numpy as np
from numpy.typing import NDArray

from tracker.frames import IMAGE_SUFFIXES
from tracker.interface import Frame
from tracker.verifier import Embedding, Verifier, embed_file
from tracker.whole_file import replacing

_log = logging.getLogger(__name__)

_FORMAT = "siamtrack-index-1"
_PROBES = 4  # drawn pictures that tell models apart by how they embed them
_PROBE_SIDE = 64  # pixels
_ALIKE = 0.99  # cosine of a probe's vectors: runtimes and half precision keep .999, another training does not

Vectors = NDArray[np.float32]  # (N, D), each of norm 1
Stamps = NDArray[np.int64]  # (N, 2), a `Stamp` a row


class Stamp(NamedTuple):
    """Hold what tells that a file was not changed."""

    size_bytes: int
    modified_ns: int


class Entry(NamedTuple):
    """Hold a picture of the index."""

    stamp: Stamp
    vector: Embedding


@dataclass(frozen=True, slots=True, eq=False)
class PictureIndex:
    """Hold the pictures of a folder, and the model that embedded them, by name and by how it embeds `probes`."""

    folder: Path
    model: str
    probes: Vectors
    names: Sequence[str]  # paths below the folder, with forward slashes
    stamps: Stamps
    vectors: Vectors

    @classmethod
    def of(cls, folder: Path, model: str, probes: Vectors, entries: Mapping[str, Entry]) -> "PictureIndex":
        """Return the index of pictures by name."""
        stamps = np.array([entry.stamp for entry in entries.values()], np.int64).reshape(-1, 2)
        vectors = np.array([entry.vector for entry in entries.values()], np.float32)
        return cls(folder, model, probes, tuple(entries), stamps, vectors.reshape(len(entries), probes.shape[1]))

    def entries(self) -> dict[str, Entry]:
        """Return the pictures by name, each as one object: for a search of a million there is no need of them."""
        rows = zip(self.names, self.stamps.tolist(), self.vectors, strict=True)
        return {name: Entry(Stamp(*stamp), vector) for name, stamp, vector in rows}


class Visit(NamedTuple):
    """Say what became of a picture: kept from before, embedded, or (with a reason) skipped."""

    name: str
    entry: Entry | None
    kept: bool = False
    reason: str = ""


class Hit(NamedTuple):
    """Hold a picture that was found, and how similar it is."""

    name: str  # its path below the folder of the index
    path: Path
    similarity: float


def probe_vectors(verifier: Verifier) -> Vectors:
    """Return the vectors of drawn pictures: they tell which model it is, in whatever runtime it computes."""
    return np.stack([verifier.embed(_probe(seed)) for seed in range(_PROBES)])


def check_model(index: PictureIndex, verifier: Verifier) -> None:
    """Raise ValueError unless the verifier embeds as the model did that made the index."""
    probes = probe_vectors(verifier)
    if probes.shape != index.probes.shape or (probes * index.probes).sum(axis=1).min() < _ALIKE:
        raise ValueError(
            f"the index was made with another model, {index.model}: choose that one, or make the index anew"
        )


def find_pictures(folder: Path) -> dict[str, Path]:
    """Return the pictures below a folder by name, in order; hidden ones and links to folders are passed over.

    A folder in it that cannot be read is left out with a warning. Raises ValueError for what is no folder, and OSError
    for one that cannot be read itself.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")

    def warn(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise error
        _log.warning("cannot read the folder %s (%s): its pictures are left out", error.filename, error.strerror)

    found: dict[str, Path] = {}
    for parent, folders, files in os.walk(folder, onerror=warn):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(parent, name) for name in files if not name.startswith(".")]
        pictures = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
        found |= {path.relative_to(folder).as_posix(): path for path in pictures}
    return dict(sorted(found.items()))


def visit_pictures(pictures: Mapping[str, Path], verifier: Verifier, known: Mapping[str, Entry]) -> Iterator[Visit]:
    """Yield what becomes of each picture: a file that was not changed keeps its vector, one that is broken has none."""
    for name, path in pictures.items():
        try:
            status = path.stat()
            stamp = Stamp(status.st_size, status.st_mtime_ns)
            before = known.get(name)
            if before is not None and before.stamp == stamp:
                yield Visit(name, before, kept=True)
            else:
                yield Visit(name, Entry(stamp, embed_file(verifier, path)))
        except (ValueError, OSError) as error:
            yield Visit(name, None, reason=str(error))


def search(index: PictureIndex, vector: Embedding, count: int) -> list[Hit]:
    """Return the most similar pictures, the best first; of equal ones in order of the names.

    All are compared, which for a million takes a fraction of the time in which they are read
    (benchmarks/retrieval.md). Raises ValueError for an index without pictures.
    """
    if not index.names:
        raise ValueError("the index holds no pictures")
    similarities = index.vectors @ vector
    least = np.partition(similarities, -count)[-count] if count < len(similarities) else -np.inf
    near = np.flatnonzero(similarities >= least)
    best = near[np.argsort(-similarities[near], kind="stable")[:count]]
    return [Hit(index.names[at], index.folder / index.names[at], float(similarities[at])) for at in best]


def write_index(path: Path, index: PictureIndex) -> None:
    """Write an index in one step: a reader sees the old file or the new one. Raises OSError where it cannot."""
    facts = {"format": _FORMAT, "folder": str(index.folder), "model": index.model, "names": list(index.names)}
    try:
        with replacing(path) as part, part.open("wb") as file:  # a name without .npz stays as it is
            np.savez(
                file,
                facts=np.frombuffer(json.dumps(facts).encode(), np.uint8),
                probes=index.probes,
                stamps=index.stamps,
                vectors=index.vectors,
            )
    except OSError as error:
        raise OSError(f"cannot write the index {path} ({error})") from error


def read_index(path: Path) -> PictureIndex:
    """Read an index. Raises ValueError naming a file that is missing or none."""
    try:
        if path.is_file() and not is_zipfile(path):  # NumPy would speak of pickles
            raise ValueError("it is no .npz file")
        with np.load(path, allow_pickle=False) as read:
            facts = json.loads(read["facts"].tobytes())
            probes, stamps, vectors = (read[name] for name in ("probes", "stamps", "vectors"))
        if facts["format"] != _FORMAT:
            raise ValueError(f"format {facts['format']!r}, not {_FORMAT!r}")
        names = facts["names"]
        if stamps.shape != (len(names), 2) or vectors.shape != (len(names), probes.shape[1]):
            raise ValueError(f"{len(names)} names, {stamps.shape} stamps, {vectors.shape} vectors")
        return PictureIndex(Path(facts["folder"]), facts["model"], probes, names, stamps, vectors)
    except (OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, BadZipFile) as error:
        raise ValueError(f"{path} is no index of pictures ({error}); siamtrack index makes one") from error


def _probe(seed: int) -> Frame:
    """Return a picture of coloured squares: noise as fine as pixels would look alike to a network."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(_PROBE_SIDE // 8, 0).repeat(_PROBE_SIDE // 8, 1))
