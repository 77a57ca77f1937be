"""The got10k toolkit's experiments on our own readers: its records, reports and plots, whatever part of a set is there.

The toolkit insists on (and downloads) the whole of OTB, fails on absent objects, and takes a half-written record for
a finished one. Each is changed here by the means that its own experiments use: another data set object, another
`_calc_metrics`, another `_record`. Importing this module needs the `eval` extra.
"""

import csv
import io
from collections.abc import Sequence as Items
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from got10k.experiments import ExperimentGOT10k, ExperimentOTB
from numpy.typing import NDArray
from PIL import Image

from tracker.data.sequence import Sequence, read_boxes
from tracker.evaluation import follow
from tracker.geometry import Box
from tracker.interface import Tracker
from tracker.metrics import Floats, TrackScore, mean_score, present, score_track
from tracker.whole_file import replacing

_FOLDERS = {"otb": "OTB2015", "got10k": "GOT-10k"}  # the toolkit's names for the folders of records and reports


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Say which experiment runs, under which tracker name, and where its files go.

    `index_base` is what the data set's files call the first pixel: records are written in the same way, so that they
    stand beside those of other trackers.
    """

    dataset: Literal["otb", "got10k"]
    tracker_name: str
    results: Path
    index_base: int
    published: bool  # whether there is ground truth beyond the first frame

    @property
    def record_folder(self) -> Path:
        """The folder of the tracker's boxes and times."""
        return self.results.resolve() / _FOLDERS[self.dataset] / self.tracker_name

    @property
    def report_folder(self) -> Path:
        """The folder of the tracker's scores and plots."""
        return self.results.resolve() / "reports" / _FOLDERS[self.dataset] / self.tracker_name

    def record(self, sequence: Sequence) -> Path:
        """Return the file that holds the tracker's boxes in a sequence."""
        if self.dataset == "otb":
            return self.record_folder / f"{sequence.name}.txt"
        return self.record_folder / sequence.name / f"{sequence.name}_001.txt"

    def read_record(self, sequence: Sequence) -> Floats | None:
        """Return the recorded boxes, 0-based (n, 4); None if there is no whole record of this sequence."""
        path = self.record(sequence)
        if not path.is_file() or not path.read_text().endswith("\n"):
            return None
        try:
            boxes = read_boxes(path, self.index_base)
        except ValueError:
            return None
        # a record of another data set, or in another index base, starts elsewhere; records have three decimals
        whole = len(boxes) == len(sequence.image_paths) and np.allclose(boxes[0], sequence.boxes_xywh[0], atol=1e-3)
        return boxes if whole else None


@dataclass(frozen=True, slots=True)
class SequenceReport:
    """Hold the scores of one sequence and the speed of the tracker on it."""

    name: str
    score: TrackScore
    fps: float


@dataclass(frozen=True, slots=True)
class Report:
    """Hold the scores of an experiment; `score` and `fps` are of the whole, as the toolkit averages them."""

    rows: tuple[SequenceReport, ...]
    score: TrackScore
    fps: float


def pending(benchmark: Benchmark, sequences: Items[Sequence]) -> list[Sequence]:
    """Return the sequences without a whole record; what there is of a broken record is removed."""
    rest = [sequence for sequence in sequences if benchmark.read_record(sequence) is None]
    for sequence in rest:
        benchmark.record(sequence).unlink(missing_ok=True)
    return rest


@dataclass(frozen=True, slots=True)
class RunExperiment:
    """Run the toolkit's experiment on one sequence: the job of a worker process."""

    benchmark: Benchmark

    def __call__(self, tracker: Tracker, sequence: Sequence) -> None:
        """Track the sequence and leave its record."""
        sequence.first_box()  # says what is wrong if the object is absent at the start
        with redirect_stdout(io.StringIO()):  # the toolkit prints a line for each sequence
            _experiment(self.benchmark, [sequence], subset="val").run(_Adapter(tracker, self.benchmark))


def report(benchmark: Benchmark, sequences: Items[Sequence]) -> Report | None:
    """Write the toolkit's report, plots and a table of sequences; return the scores.

    All sequences must have their record. Without published ground truth the records are packed for the server, as
    `record_folder` with the suffix .zip, and the result is None. Raises ValueError for a sequence without a record.
    """
    records = [_required(benchmark, sequence) for sequence in sequences]
    matplotlib.use("Agg")  # plots go to files; a computer without a display must do
    import matplotlib.pyplot as plt

    experiment = _experiment(benchmark, sequences, subset="val" if benchmark.published else "test")
    with redirect_stdout(io.StringIO()), matplotlib.rc_context():
        performance = experiment.report([benchmark.tracker_name])
    plt.close("all")
    if performance is None:
        return None
    result = _scores(benchmark, sequences, records, performance[benchmark.tracker_name])
    _write_table(benchmark.report_folder / "sequences.csv", result)
    return result


def _required(benchmark: Benchmark, sequence: Sequence) -> Floats:
    boxes = benchmark.read_record(sequence)
    if boxes is None:
        raise ValueError(f"no whole record of sequence {sequence.name} in {benchmark.record_folder}; run it first")
    return boxes


def _scores(
    benchmark: Benchmark, sequences: Items[Sequence], records: Items[Floats], performance: dict[str, Any]
) -> Report:
    # The toolkit's own figures where it has them. It leaves GOT-10k's first frame out and clips boxes to the image.
    first = 0 if benchmark.dataset == "otb" else 1
    rows = []
    for sequence, boxes in zip(sequences, records, strict=True):
        said = performance["seq_wise"][sequence.name]
        score = score_track(boxes[first:], sequence.boxes_xywh[first:])
        if benchmark.dataset == "otb":
            score = _with_otb_figures(score, said)
        else:
            score = replace(score, ao=float(said["ao"]), sr_50=float(said["sr"]))
        rows.append(SequenceReport(sequence.name, score, float(said["speed_fps"])))
    said = performance["overall"]
    mean = mean_score(row.score for row in rows)
    if benchmark.dataset == "otb":
        mean = _with_otb_figures(mean, said)
    else:
        # over all frames at once; its curve has 101 thresholds, 0.75 is number 75
        mean = replace(mean, ao=float(said["ao"]), sr_50=float(said["sr"]), sr_75=float(said["succ_curve"][75]))
    return Report(tuple(rows), mean, float(said["speed_fps"]))


def _with_otb_figures(score: TrackScore, said: dict[str, Any]) -> TrackScore:
    return replace(score, success_auc=float(said["success_score"]), precision=float(said["precision_score"]))


def _write_table(path: Path, result: Report) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        names = list(asdict(result.score))
        table.writerow(["sequence", *names, "fps"])
        for row in (*result.rows, SequenceReport("mean", result.score, result.fps)):
            values = asdict(row.score)
            table.writerow([row.name, values.pop("frames"), *(f"{v:.4f}" for v in values.values()), f"{row.fps:.1f}"])


class _Adapter:
    """Be the toolkit's tracker: it hands over files and a box in the data set's index base, and wants boxes back."""

    is_deterministic = True  # GOT-10k's experiment runs such a tracker once, not three times

    def __init__(self, tracker: Tracker, benchmark: Benchmark) -> None:
        self.name = benchmark.tracker_name
        self._tracker = tracker
        self._base = benchmark.index_base

    def track(self, img_files: list[str], box: Floats, visualize: bool = False) -> tuple[Floats, Floats]:
        """Return boxes (n, 4) and seconds (n,); `visualize` is the toolkit's and always False here."""
        x, y, w, h = (float(value) for value in box)
        start = Box.from_xywh(x - self._base, y - self._base, w, h)
        track = follow(self._tracker, [Path(file) for file in img_files], start)
        return _shifted(track.boxes_xywh, self._base), track.times_s


class _Sequences:
    """Be the toolkit's data set object on our sequences: `seq_names`, length, access by number or name."""

    def __init__(self, sequences: Items[Sequence], index_base: int, published: bool) -> None:
        self.seq_names = [sequence.name for sequence in sequences]
        self.return_meta = False  # set by GOT-10k's experiment
        self._sequences = sequences
        self._index_base = index_base
        self._published = published

    def __len__(self) -> int:
        return len(self._sequences)

    def __getitem__(self, index: int | str) -> tuple[Any, ...]:
        sequence = self._sequences[self.seq_names.index(index) if isinstance(index, str) else index]
        truth = _shifted(sequence.boxes_xywh, self._index_base)
        files = [str(path) for path in sequence.image_paths]
        if not self.return_meta:
            return files, truth if self._published else truth[:1]
        with Image.open(files[0]) as image:  # reads the header only
            # cover: 8 parts of the object visible, or none; only "more than none" matters to the report
            meta = {"resolution": str(image.size), "cover": np.where(present(truth), 8, 0)}
        return files, truth, meta


class _OTB(ExperimentOTB):  # type: ignore[misc]
    def __init__(self, benchmark: Benchmark, dataset: _Sequences) -> None:
        self.dataset = dataset
        self.result_dir = str(benchmark.record_folder.parent)
        self.report_dir = str(benchmark.report_folder.parent)
        self.nbins_iou = 21
        self.nbins_ce = 51

    def _calc_metrics(self, boxes: Floats, anno: Floats) -> tuple[Floats, Floats]:
        known = present(anno)  # NaN compares false, so an absent object would count as a miss
        ious, errors = super()._calc_metrics(boxes[known], anno[known])
        return ious, errors

    def _record(self, record_file: str, boxes: Floats, times: Floats) -> None:
        record = Path(record_file)
        _save(record.parent / "times" / f"{record.stem}_time.txt", times, "%.8f")
        _save(record, boxes, "%.3f")


class _GOT10k(ExperimentGOT10k):  # type: ignore[misc]
    def __init__(self, benchmark: Benchmark, dataset: _Sequences, subset: str) -> None:
        self.dataset = dataset
        self.subset = subset
        self.result_dir = str(benchmark.record_folder.parent)
        self.report_dir = str(benchmark.report_folder.parent)
        self.nbins_iou = 101
        self.repetitions = 3

    def _record(self, record_file: str, boxes: Floats, times: Floats) -> None:
        record = Path(record_file)
        name = record.stem.rpartition("_")[0]  # without the number of the repetition
        _save(record.with_name(f"{name}_time.txt"), times[:, None], "%.8f")
        _save(record, boxes, "%.3f")


def _experiment(benchmark: Benchmark, sequences: Items[Sequence], subset: str) -> "_OTB | _GOT10k":
    dataset = _Sequences(sequences, benchmark.index_base, benchmark.published)
    return _OTB(benchmark, dataset) if benchmark.dataset == "otb" else _GOT10k(benchmark, dataset, subset)


def _shifted(boxes_xywh: Floats, offset: int) -> Floats:
    return boxes_xywh + np.array([offset, offset, 0, 0], dtype=np.float64)


def _save(path: Path, rows: NDArray[np.float64], fmt: str) -> None:
    # in one step: a record that is there is whole, and it comes after its times
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        np.savetxt(part, rows, fmt=fmt, delimiter=",")
