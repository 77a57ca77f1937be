"""Measure whether a tracker knows when it is lost, and fit the table [score] that makes it know.

    python -m benchmarks.certainty --data DIR --model NAME [--set a.b=c] [--workers 2] [--plot P.png] [--out R.md]
    python -m benchmarks.certainty --data DIR --model NAME --set recovery=false --set score.embed_every=1
        --kinds whole starts splices --fit

Four kinds of videos are made of the development sequences (see benchmarks/development.py):
- "whole": each from its first frame.
- "starts": each from four places, forwards and backwards, up to 150 frames: more of what goes wrong.
- "splices": each up to its middle, 40 frames of another scene, then its rest, up to 200 frames in all: the object is
  out of view, and known to be. Counted are those where the object was still followed when it went.
- "elsewhere": splices whose last part is rolled round by about half its width, so that the object comes back elsewhere
  and in one piece: by the eighth of the width nearest to four that cuts its box in the fewest of 30 frames.
AO is the mean overlap, each video counting once, where the object is there.
AUROC tells frames with overlap > .5 from those with < .1 (the object being away counts as 0). ECE is the expected
calibration error of the score as the chance of overlap > .5. --fit prints the table that fits the kinds asked for; its
figures are of sequences that it was not fitted on, a sixth at a time.
"""

import argparse
import sys
from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np

from benchmarks.development import find_sets
from benchmarks.report import publish
from tracker.builder import load_tracker
from tracker.certainty import Certainty, CertaintyState, Evidence, Judgement
from tracker.data.sequence import Sequence
from tracker.evaluation import map_sequences, read_frame
from tracker.metrics import overlaps, score_auroc
from tracker.runtime import Array
from tracker.siamese_tracker import SiameseTracker
from tracker.verification import calibration_error, reliability

_KINDS = ("whole", "starts", "splices", "elsewhere")
GAP = 40  # frames of another scene
_SPLICED = 200  # frames of the video itself, at most
_STARTS = 4
_FRAMES = 150  # from each start, at most
_FEWEST = 12  # frames
_FOLDS = 6
_FOUND = 0.3  # overlap from which the object counts as found again
_RETURN = 30  # frames within which it should be
_WEIGHTS = ("alone", "head", "similarity", "recent")  # of config.ScoreConfig that are fitted


@dataclass(frozen=True, eq=False)
class Known:
    """Hold what a tracker said of a video's frames but the first, and what was true."""

    name: str
    overlaps: np.ndarray  # (n,), 0 where the object is away, NaN where unknown
    away: np.ndarray  # (n,) bool
    scores: np.ndarray  # (n,)
    lost: np.ndarray  # (n,) bool
    facts: np.ndarray  # (n, len(_WEIGHTS)), what the score is made of; NaN for a tracker without [score]


class _Recorder:
    """Judge as another `Certainty` does, and keep what it was asked at the last place."""

    def __init__(self, certainty: Certainty) -> None:
        self._certainty = certainty
        self.config = certainty.config
        self.start = certainty.start
        self.judge_afresh = certainty.judge_afresh
        self.advanced = certainty.advanced
        self.elsewhere = certainty.elsewhere
        self.last = np.full(len(_WEIGHTS), np.nan)

    def judge(
        self, state: CertaintyState, evidence: Evidence, maps: Array, box_uvwh: tuple[float, float, float, float]
    ) -> Judgement:
        found = self._certainty.judge(state, evidence, maps, box_uvwh)
        self.last = np.array([evidence.alone, evidence.head, found.similarity, state.recent])
        return found


def make_tracker(model: str, overrides: Items[str], runtime: str, fit: bool) -> SiameseTracker:
    """Return a tracker whose evidence can be read; to fit [score] it needs one. Raises ValueError where it has none."""
    tracker = load_tracker(model, "cpu", overrides, runtime, threads=1)  # type: ignore[arg-type]
    certainty = getattr(tracker.localiser, "certainty", None)
    if fit and certainty is None:
        raise ValueError(f"{model} has no table [score] to fit: give it that of configs/siamrpn_mobile.toml first")
    if certainty is not None:
        tracker.localiser.certainty = _Recorder(certainty)  # type: ignore[attr-defined]
    return tracker


def watch(tracker: SiameseTracker, sequence: Sequence) -> Known:
    """Follow a sequence; frames of other sizes are made as large as the first."""
    recorder = getattr(getattr(tracker, "localiser", None), "certainty", None)  # any tracker can be watched
    truth = sequence.boxes_xywh.copy()
    back = _back(sequence) if sequence.name.startswith("elsewhere") else len(truth)
    boxes, scores, lost, facts = [], [], [], []
    size_hw = None
    shift = 0
    for at, path in enumerate(sequence.image_paths):
        frame = read_frame(path)
        size_hw = size_hw or frame.shape[:2]
        if frame.shape[:2] != size_hw:
            frame = cv2.resize(frame, size_hw[::-1], interpolation=cv2.INTER_AREA)
        if at >= back:
            shift = shift or _shift(truth[back : back + _RETURN], frame.shape[1])
            frame, truth[at] = np.roll(frame, shift, axis=1), _rolled(truth[at], shift, frame.shape[1])
        if at == 0:
            tracker.init(frame, sequence.first_box())
            continue
        prediction = tracker.update(frame)
        boxes.append(prediction.box.to_xywh())
        scores.append(prediction.score)
        lost.append(prediction.lost)
        facts.append(np.full(len(_WEIGHTS), np.nan) if recorder is None else recorder.last)
    away = np.isnan(sequence.boxes_xywh[1:]).any(axis=1)
    values = np.where(away, 0.0, overlaps(np.array(boxes), truth[1:]))
    return Known(sequence.name, values, away, np.array(scores), np.array(lost), np.array(facts))


def _back(sequence: Sequence) -> int:
    """Return the first frame after the gap of a splice."""
    return int(sequence.name.rpartition("/")[2]) + GAP


def _shift(boxes_xywh: np.ndarray, width: int) -> int:
    """Return by how many pixels to roll frames, so that few of the boxes (n, 4) are cut in two."""
    shifts = [width * eighths // 8 for eighths in (4, 3, 5, 2, 6)]
    return min(shifts, key=lambda shift: sum(np.isnan(_rolled(box, shift, width)).any() for box in boxes_xywh))


def _rolled(box_xywh: np.ndarray, shift: int, width: int) -> np.ndarray:
    """Return the box in a frame rolled round by so many pixels; NaN for one that is cut in two."""
    box = box_xywh.copy()
    box[0] = (box[0] + shift) % width
    return box if box[0] + box[2] <= width else np.full(4, np.nan)


def make_videos(sets: dict[str, list[Sequence]]) -> dict[str, list[Sequence]]:
    """Return the videos of each kind; each is named kind/sequence/start."""
    whole = [sequence for sequences in sets.values() for sequence in sequences]
    splices = [_splice(s, whole[(at + len(whole) // 2) % len(whole)]) for at, s in enumerate(whole)]
    return {
        "whole": [_part(s, "whole", range(len(s.image_paths))) for s in whole],
        "starts": [part for s in whole for part in _starts(s)],
        "splices": splices,
        "elsewhere": [replace(s, name=s.name.replace("splices", "elsewhere", 1)) for s in splices],
    }


def _part(sequence: Sequence, kind: str, places: Items[int]) -> Sequence:
    name = f"{kind}/{sequence.name}/{places[0]}"
    return Sequence(name, tuple(sequence.image_paths[i] for i in places), sequence.boxes_xywh[list(places)])


def _starts(sequence: Sequence) -> Iterator[Sequence]:
    length = len(sequence.image_paths)
    step = max(length // _STARTS, _FEWEST)
    for start in range(0, length - _FEWEST, step):
        last = length - 1 - start
        for places in (range(start, length), range(last, -1, -1)):
            known = not np.isnan(sequence.boxes_xywh[places[0]]).any()
            if known and len(places) >= _FEWEST and places != range(length):
                yield _part(sequence, "starts", places[:_FRAMES])


def _splice(sequence: Sequence, other: Sequence) -> Sequence:
    length = min(len(sequence.image_paths), _SPLICED)
    half = length // 2
    gap = tuple(islice(cycle(other.image_paths), GAP))
    paths, boxes = sequence.image_paths, sequence.boxes_xywh
    return Sequence(
        f"splices/{sequence.name}/{half}",
        (*paths[:half], *gap, *paths[half:length]),
        np.concatenate([boxes[:half], np.full((len(gap), 4), np.nan), boxes[half:length]]),
    )


@dataclass(frozen=True)
class SpliceFigures:
    """Hold the shares of splices that were counted: lost soon after the object went, followed soon after it came."""

    counted: int
    lost_in_10: float
    lost_at_all: float
    found_in_30: float


def judge_splices(videos: Items[Known]) -> SpliceFigures:
    """Return the figures of splices whose object was still followed when it went."""
    soon, ever, found = [], [], []
    for video in videos:
        half = int(video.name.rpartition("/")[2]) - 1  # row 0 is frame 1
        back = half + GAP
        if not np.nanmean(video.overlaps[max(half - 5, 0) : half]) > _FOUND:
            continue
        soon.append(video.lost[half : half + 10].any())
        ever.append(video.lost[half:back].any())
        found.append((np.nan_to_num(video.overlaps[back : back + _RETURN]) > _FOUND).any())
    return SpliceFigures(len(soon), *(float(np.mean(share)) for share in (soon, ever, found)))


def _figures(videos: Items[Known]) -> str:
    values, scores, lost = (
        np.concatenate([getattr(v, name) for v in videos]) for name in ("overlaps", "scores", "lost")
    )
    good, bad = values > 0.5, values < 0.1
    known = ~np.isnan(values)
    followed = [np.nanmean(np.where(video.away, np.nan, video.overlaps)) for video in videos]
    figures = [
        float(np.mean(followed)),
        score_auroc(scores, values),
        calibration_error(scores[known], good[known]),
        lost[good].mean() if good.any() else np.nan,
        lost[bad].mean() if bad.any() else np.nan,
    ]
    return " | ".join([str(len(videos)), str(len(values)), str(bad.sum()), *(f"{value:.3f}" for value in figures)])


def report(kinds: dict[str, list[Known]]) -> Iterator[str]:
    """Yield a table of one row a kind and of all, and one of what happened at the splices."""
    yield "| kind | videos | frames | bad | AO | AUROC | ECE | lost, of good | lost, of bad |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    rows = kinds | ({"all": [video for videos in kinds.values() for video in videos]} if len(kinds) > 1 else {})
    for kind, videos in rows.items():
        yield f"| {kind} | {_figures(videos)} |"
    spliced = {kind: judge_splices(kinds[kind]) for kind in ("splices", "elsewhere") if kind in kinds}
    if spliced:
        yield ""
        yield f"| kind | counted | lost within 10 frames | in {GAP} | found within {_RETURN} |"
        yield "|---|---:|---:|---:|---:|"
    for kind, found in spliced.items():
        shares = f"{found.lost_in_10:.2f} | {found.lost_at_all:.2f} | {found.found_in_30:.2f}"
        yield f"| {kind} | {found.counted} | {shares} |"


def fit(videos: Items[Known]) -> tuple[np.ndarray, float, np.ndarray]:
    """Return weights, bias and, for each video in turn, the chances by weights fitted without its sequence."""
    facts = np.concatenate([video.facts for video in videos])
    good = np.concatenate([video.overlaps for video in videos]) > 0.5
    names = np.concatenate([[video.name.split("/")[1]] * len(video.scores) for video in videos])
    distinct = np.random.default_rng(0).permutation(np.unique(names))
    chances = np.empty(len(good))
    for fold in range(_FOLDS):
        there = np.isin(names, distinct[fold::_FOLDS])
        weights, bias = fit_logistic(facts[~there], good[~there])
        chances[there] = 1 / (1 + np.exp(-(facts[there] @ weights + bias)))
    return *fit_logistic(facts, good), chances


def fit_logistic(facts: np.ndarray, good: np.ndarray, steps: int = 30) -> tuple[np.ndarray, float]:
    """Return weights (F,) and bias of the logistic regression of good (n,) on facts (n, F), by Newton's method."""
    inputs = np.column_stack([facts, np.ones(len(facts))])
    solution = np.zeros(inputs.shape[1])
    decay = 1e-3 * len(facts) * np.diag([*np.full(facts.shape[1], 1e-2), 0.0])
    for _ in range(steps):
        chance = 1 / (1 + np.exp(-np.clip(inputs @ solution, -30, 30)))
        slope = inputs.T @ (good - chance) - decay @ solution
        bend = (inputs * (chance * (1 - chance))[:, None]).T @ inputs + decay
        solution = solution + np.linalg.solve(bend, slope)
    return solution[:-1], float(solution[-1])


def _fitted(videos: list[Known]) -> tuple[list[Known], str]:
    """Return the videos with the scores that a fit without their sequence gives, and the table of the whole fit."""
    weights, bias, chances = fit(videos)
    at, judged = 0, []
    for video in videos:
        own = chances[at : at + len(video.scores)]
        judged.append(Known(video.name, video.overlaps, video.away, own, video.lost, video.facts))
        at += len(own)
    lines = [f"bias = {bias:.2f}", *(f"{name} = {weight:.2f}" for name, weight in zip(_WEIGHTS, weights, strict=True))]
    return judged, "\n".join(["[score]", *lines])


def _plot(videos: Items[Known], path: Path) -> None:
    from matplotlib.figure import Figure

    scores = np.concatenate([video.scores for video in videos])
    good = np.concatenate([video.overlaps for video in videos]) > 0.5
    rows = reliability(scores, good)
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    axes.plot([row[0] for row in rows], [row[1] for row in rows], marker="o")
    for chance, share, count in rows:
        axes.annotate(f"{count}", (chance, share), textcoords="offset points", xytext=(6, -10), fontsize=8)
    axes.set(xlabel="score", ylabel="share of frames with overlap > .5", xlim=(0, 1), ylim=(0, 1))
    figure.savefig(path, dpi=110)


def _measure(args: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the report, each kind being followed before its row."""
    if args.plot:
        args.plot.parent.mkdir(parents=True, exist_ok=True)
    videos = make_videos(find_sets(args.data, None))
    changes = "".join(f" --set {change}" for change in args.overrides)
    yield "# Does it know when it is lost?"
    yield ""
    yield f"Written by `python -m benchmarks.certainty --data DIR --model {args.model}{changes}"
    kinds_asked = f"--kinds {' '.join(args.kinds)}{' --fit' if args.fit else ''}"
    yield f"--runtime {args.runtime} {kinds_asked}`, which says how to read it."
    yield ""
    factory = partial(make_tracker, args.model, tuple(args.overrides), args.runtime, args.fit)
    kinds = {kind: _watch_all(factory, videos[kind], args.workers) for kind in args.kinds}
    table = ""
    if args.fit:
        judged, table = _fitted([video for of_kind in kinds.values() for video in of_kind])
        rest = iter(judged)
        kinds = {kind: list(islice(rest, len(of_kind))) for kind, of_kind in kinds.items()}
    yield from report(kinds)
    if table:
        yield from ("", "The table that fits:", "", "```", table, "```")
    if args.plot:
        _plot([video for of_kind in kinds.values() for video in of_kind], args.plot)
        yield from ("", f"![share of good frames over the score]({args.plot.name})")


def main(argv: Items[str] | None = None) -> int:
    """Print the figures, or those of a fit and its table; return 2 after a one-line message for wrong input."""
    parser = argparse.ArgumentParser(description="Measure whether a tracker knows when it is lost.")
    parser.add_argument("--data", type=Path, action="append", required=True, help="folder of the sets; repeatable")
    parser.add_argument("--model", required=True)
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="change a setting: a.b=value")
    parser.add_argument("--runtime", default="auto", choices=["auto", "torch", "onnx", "openvino"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=_KINDS, default=list(_KINDS))
    parser.add_argument("--fit", action="store_true", help="fit the table [score], judged on sequences left out")
    parser.add_argument("--plot", type=Path, help="draw the reliability diagram")
    parser.add_argument("--out", type=Path, help="write the report to this file")
    args = parser.parse_args(argv)
    return publish(_measure(args), args.out)


def _watch_all(factory: partial[SiameseTracker], sequences: list[Sequence], workers: int) -> list[Known]:
    found = dict(map_sequences(factory, watch, sequences, workers))  # two sets may have sequences of one name
    return [found[sequence] for sequence in sequences]


if __name__ == "__main__":
    sys.exit(main())
