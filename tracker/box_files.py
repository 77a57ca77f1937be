"""Write predictions to a table of boxes: CSV or JSON lines.

Both have the same columns, one row a target and frame:

frame   index of the frame in the source, 0-based
time    seconds since the first frame of the source
target  index of the target, 0-based, in the order of the initial boxes
x, y    left and top edge in frame pixels, 0-based
w, h    width and height in frame pixels
score   0 to 1; 1 for the initial box
lost    1 where the tracker is lost, else 0 (JSON: true, false)
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tracker.interface import Prediction
from tracker.whole_file import naming

COLUMNS = ("frame", "time", "target", "x", "y", "w", "h", "score", "lost")


class BoxWriter:
    """Write boxes to a .csv or .jsonl file, each frame at once: what was written stays readable; a context manager.

    What was in the file before goes with the first frame.
    """

    def __init__(self, path: Path) -> None:
        """Create the file. Raises ValueError for another extension, OSError where it cannot be written."""
        self.path = path
        suffix = path.suffix.lower()
        if suffix not in (".csv", ".jsonl"):
            raise ValueError(f"cannot write boxes as {path}: the name must end in .csv or .jsonl")
        self._format, self._yes_no = (_json_line, ("true", "false")) if suffix == ".jsonl" else (_csv_line, ("1", "0"))
        self._head = _csv_line(COLUMNS) if suffix == ".csv" else ""
        self._size = -1  # bytes of whole rows; below 0 nothing was written
        with naming(path):
            self._file = path.open("ab", buffering=0)

    def write(self, frame_index: int, seconds: float, predictions: Sequence[Prediction]) -> None:
        """Append the predictions of one frame, all or none. Raises OSError, for example when the disk is full."""
        with naming(self.path):
            rows = []
            if self._size < 0:
                self._cut(0)
                self._size = 0
                rows.append(self._head)
            for target, prediction in enumerate(predictions):
                lost = self._yes_no[0 if prediction.lost else 1]
                box = [f"{value:.2f}" for value in prediction.box.to_xywh()]
                row = [str(frame_index), f"{seconds:.4f}", str(target), *box, f"{prediction.score:.4f}", lost]
                rows.append(self._format(row))
            self._append("".join(rows).encode())

    def _append(self, content: bytes) -> None:
        written = 0
        try:
            while written < len(content):  # a disk that gets full takes a part, and none of the rest
                written += self._file.write(content[written:]) or 0
        except OSError:
            self._cut(self._size)
            raise
        self._size += written

    def _cut(self, size: int) -> None:
        if stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):  # a pipe keeps nothing
            self._file.truncate(size)

    def close(self) -> None:
        """Close the file, and remove one that is empty."""
        with naming(self.path):
            self._file.close()
            if self._size < 0 and self.path.is_file() and not self.path.stat().st_size:
                self.path.unlink()

    def __enter__(self) -> "BoxWriter":
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file, whatever happened."""
        self.close()


def _csv_line(cells: Sequence[str]) -> str:
    return ",".join(cells) + "\n"


def _json_line(cells: Sequence[str]) -> str:
    return "{" + ", ".join(f'"{name}": {cell}' for name, cell in zip(COLUMNS, cells, strict=True)) + "}\n"
