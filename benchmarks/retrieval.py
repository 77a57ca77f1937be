"""Measure how long a search by example takes as the index grows: what is read, what is compared, and what FAISS saves.

    python -m benchmarks.retrieval [--sizes 10000 100000 1000000] [--out R.md]

The vectors are drawn: a thousand directions with pictures around each, so that there is something to find; questions
are pictures of the index, disturbed. "read" is the time in which the file of the index is opened, which each `siamtrack
search` does once, "search" that of one question, the median of twenty. FAISS, where it is installed (pip install
faiss-cpu), answers from a graph of neighbours (HNSW, 32 links): "build" is the time in which that is made, "recall" the
share of the five best that it finds. One thread, but for the building.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.correlation import machine
from benchmarks.report import publish
from tracker.picture_index import PictureIndex, Vectors, read_index, search, write_index

_DIMENSIONS = 128  # of the shipped verifiers
_QUESTIONS = 20
_TOP = 5


def drawn_vectors(count: int, seed: int) -> Vectors:
    """Return unit vectors (count, 128) around a thousand directions."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(1000, _DIMENSIONS)).astype(np.float32)
    vectors = middles[rng.integers(len(middles), size=count)]
    vectors += 0.5 * rng.standard_normal((count, _DIMENSIONS), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def questions_about(vectors: Vectors) -> Vectors:
    """Return some of the vectors, disturbed."""
    rng = np.random.default_rng(1)
    asked = vectors[rng.integers(len(vectors), size=_QUESTIONS)]
    asked = asked + 0.03 * rng.standard_normal(asked.shape, dtype=np.float32)
    found: Vectors = asked / np.linalg.norm(asked, axis=1, keepdims=True)
    return found


def median_ms(ask: Callable[[Vectors], object], questions: Vectors) -> float:
    """Return the median time of an answer, the first left out."""
    times = []
    with threadpool_limits(1):
        for question in [questions[0], *questions]:
            began = time.perf_counter()
            ask(question)
            times.append(time.perf_counter() - began)
    return float(np.median(times[1:]) * 1e3)


def measure(count: int, folder: Path) -> str:
    """Return the row of an index of that many pictures."""
    vectors = drawn_vectors(count, seed=0)
    names = [f"{at // 1000:04d}/{at % 1000:03d}.jpg" for at in range(count)]
    path = folder / "index"
    stamps = np.ones((count, 2), np.int64)
    write_index(path, PictureIndex(Path("pictures"), "drawn", vectors[:4], names, stamps, vectors))
    began = time.perf_counter()
    index = read_index(path)
    read_s = time.perf_counter() - began
    questions = questions_about(vectors)
    exact_ms = median_ms(lambda question: search(index, question, _TOP), questions)
    best = [[hit.name for hit in search(index, question, _TOP)] for question in questions]
    row = f"| {count:,} | {path.stat().st_size / 1e6:,.0f} | {read_s:.2f} | {exact_ms:.2f} "
    return row + _faiss_columns(vectors, questions, [[names.index(name) for name in few] for few in best])


def _faiss_columns(vectors: Vectors, questions: Vectors, best: list[list[int]]) -> str:
    if find_spec("faiss") is None:
        return "| - | - | - |"
    faiss = import_module("faiss")
    graph = faiss.IndexHNSWFlat(_DIMENSIONS, 32, faiss.METRIC_INNER_PRODUCT)
    began = time.perf_counter()
    graph.add(vectors)
    build_s = time.perf_counter() - began
    faiss.omp_set_num_threads(1)
    graph.hnsw.efSearch = 64

    def ask(question: Vectors) -> set[int]:
        return set(graph.search(question[np.newaxis], _TOP)[1][0].tolist())

    found = [ask(question) for question in questions]
    recall = np.mean([len(few & set(true)) / _TOP for few, true in zip(found, best, strict=True)])
    return f"| {build_s:.1f} | {median_ms(ask, questions):.2f} | {recall:.2f} |"


def report(sizes: list[int]) -> Iterator[str]:
    """Yield the lines of the report."""
    yield "# Searching pictures by example"
    yield ""
    yield "Written by `python -m benchmarks.retrieval`, which says how to read it."
    yield ""
    yield f"{machine()} All vectors are compared; FAISS is no part of siamtrack, and these columns are why."
    yield ""
    yield "| pictures | MB | read, s | search, ms | FAISS: build, s | search, ms | recall |"
    yield "|---:|---:|---:|---:|---:|---:|---:|"
    with tempfile.TemporaryDirectory() as folder:
        for count in sizes:
            yield measure(count, Path(folder))


def main(arguments: list[str] | None = None) -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    args = parser.parse_args(arguments)
    if min(args.sizes) < _QUESTIONS:
        parser.error(f"--sizes must be {_QUESTIONS} or more")
    return publish(report(args.sizes), args.out)


if __name__ == "__main__":
    sys.exit(main())
