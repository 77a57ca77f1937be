"""The folder of a batch: what became of each video, and what made it, so that a stopped run goes on and mixes nothing.

NAME.csv       boxes, see `box_files`; there only when whole
NAME.mp4       the drawn video, where it was asked for
results.csv    a row a video: name, status (done or failed), frames, lost_frames (of all targets together), seconds,
               error (of one that is done: what reading it warned of), row (digest of its rows in the manifest)
batch.json     the model, runtime, settings and version that made all of them
.lock          empty; one batch at a time holds it
"""

import csv
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tracker.batch_video import PART, Outcome, Recipe
from tracker.exported import digest
from tracker.loop import AnyTracker
from tracker.manifest import VideoJob
from tracker.whole_file import alone_in, write_whole
from tracker.zoo import find_file

COLUMNS = ("name", "status", "frames", "lost_frames", "seconds", "error", "row")
RESULTS = "results.csv"
RECORD = "batch.json"
_STATUS = ("failed", "done")

Cells = tuple[str, ...]  # of a row of results.csv


@dataclass(frozen=True, slots=True)
class Maker:
    """Say what makes the boxes of a batch."""

    model: str  # as it was asked for
    sha256: str  # of the weight file, or of the card of the graphs, which has their hashes
    runtime: str
    settings: tuple[str, ...]
    version: str  # of siamtrack

    def difference(self, other: "Maker") -> str:
        """Return in what another maker differs, empty where it does not; one model may have several names."""
        if self.sha256 != other.sha256:
            return f"model {self.model}, not {other.model}" if self.model != other.model else "other weights"
        for name in ("runtime", "settings", "version"):
            mine, others = getattr(self, name), getattr(other, name)
            if mine != others:
                return f"{name} {_told(mine)}, not {_told(others)}"
        return ""


def _told(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value) or "none"


def model_digest(model: str | None, runtime: str) -> str:
    """Return what tells that a model was changed. Raises ValueError naming what is no model."""
    return digest(find_file(model, runtime))


class BatchFolder:
    """Keep the record of a batch; it is up to date on disk after each outcome."""

    def __init__(self, path: Path, maker: Maker) -> None:
        """Read the record of a folder, and write nothing yet. Raises ValueError where another maker made it."""
        self.path = path
        self.results = path / RESULTS
        self._read = _read_rows(self.results)
        self._rows = {row[0]: row for row in self._read}
        self._ours = (path / RECORD).exists()
        if self._ours and any(row[1] == "done" for row in self._rows.values()):
            difference = _read_maker(path / RECORD).difference(maker)
            if difference:
                raise ValueError(f"{path} holds results of {difference}; give another --out, or delete that folder")
        self._maker = maker

    def pending(self, jobs: Sequence[VideoJob], recipe: Recipe[AnyTracker], sources: Sequence[Path]) -> list[VideoJob]:
        """Return the jobs that are not done, or no longer as their rows say.

        sources: files that are read. Raises ValueError where results would take the place of these, of a video, or of
        files that no batch made.
        """
        kept = {path.resolve() for path in (*sources, *(Path(job.video) for job in jobs))}
        rest = [job for job in jobs if not self._is_done(job, recipe)]
        for job in rest:
            for path in recipe.outputs(job.name):
                if path.resolve() in kept:
                    raise ValueError(f"{path} is read by this batch; give another --out")
                if path.exists() and not self._ours:
                    raise ValueError(f"{path} is there already, and no batch made it; give another --out")
        return rest

    @contextmanager
    def begin(self, rest: Iterable[VideoJob], recipe: Recipe[AnyTracker]) -> Iterator[None]:
        """Make the folder and delete what is left of earlier results of the jobs that are done inside.

        Raises ValueError where another batch is at work in the folder, or was since its record was read.
        """
        with alone_in(self.path):
            if _read_rows(self.results) != self._read:
                raise ValueError(f"another batch was at work in {self.path} until now; give the command again")
            write_whole(self.path / RECORD, json.dumps(asdict(self._maker), indent=1) + "\n")
            for job in rest:
                self._rows.pop(job.name, None)
                for path in recipe.outputs(job.name):
                    path.unlink(missing_ok=True)
            self._sweep()
            self._write(self._rows.values())
            yield

    def _is_done(self, job: VideoJob, recipe: Recipe[AnyTracker]) -> bool:
        row = self._rows.get(job.name)
        same = row is not None and row[1] == "done" and row[-1] == job.digest()
        return same and all(path.is_file() for path in recipe.outputs(job.name))

    def add(self, job: VideoJob, outcome: Outcome) -> None:
        """Append what became of a job. Raises OSError where it cannot be written."""
        counts = (str(outcome.frames), str(outcome.lost_frames), f"{outcome.seconds:.2f}")
        row = (job.name, _STATUS[outcome.done], *counts, outcome.error, job.digest())
        self._rows[job.name] = row
        with (self.results).open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(row)

    def close(self, jobs: Iterable[VideoJob]) -> None:
        """Put the record in the order of the jobs, those of other lists last, and delete what is not whole."""
        ordered = {job.name: self._rows[job.name] for job in jobs if job.name in self._rows}
        self._write([*ordered.values(), *(row for name, row in self._rows.items() if name not in ordered)])
        self._sweep()

    def _write(self, rows: Iterable[Cells]) -> None:
        part = self.path / f"{PART}{RESULTS}"
        with part.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
        part.replace(self.results)

    def _sweep(self) -> None:
        for folder in self.path.glob(f"{PART}*"):  # of processes that were killed
            shutil.rmtree(folder, ignore_errors=True)


def _read_rows(path: Path) -> list[Cells]:
    """Return the whole rows of a record: the last one may have been cut off when the machine was."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace").replace("\0", "")
    header, *rows = list(csv.reader(io.StringIO(text))) or [[]]
    if tuple(header) != COLUMNS:
        raise ValueError(f"{path} is no record of a batch; give another --out")
    return [tuple(row) for row in rows if len(row) == len(COLUMNS)]


def _read_maker(path: Path) -> Maker:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        return Maker(**{**read, "settings": tuple(read["settings"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} does not say what made this batch ({error}); give another --out") from error
