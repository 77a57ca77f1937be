"""What a study found: the best settings beside the shipped ones, and what choosing so is worth on other videos."""

import json
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Items
from dataclasses import asdict, dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from tools.tuning.objective import AUC, OVERLAP, part, set_means
from tools.tuning.ranges import Settings, as_overrides, rounded
from tools.tuning.study import SHIPPED, Plan, scores_of, shipped_trial

_RESAMPLES = 10000
_DRAWS = 20  # of the folds: who falls together with whom is chance
_SHOWN = 5  # trials, beside the shipped one
_FEW_TRIALS = 4  # below which importance is not asked for

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Difference:
    """Hold a gain in the objective, and the interval in which 95 % of its values over resampled groups lie."""

    mean: float
    low: float
    high: float
    better: int  # groups
    worse: int


@dataclass(frozen=True, slots=True)
class Unseen:
    """Hold what the choice among some trials is worth on groups that it was not made on."""

    trials: int
    gain: Difference
    chosen: Mapping[int, float]  # share of the folds by the number of the trial


@dataclass(frozen=True, slots=True)
class Found:
    """Hold the outcome of a study."""

    complete: Items[FrozenTrial]  # the best first
    pruned: int
    shipped: FrozenTrial
    best: FrozenTrial
    gain: Difference  # on the videos that it was chosen on
    blind: Unseen | None  # of the trials that were drawn without a look at any score
    every: Unseen
    importance: Mapping[str, float]  # empty for few trials


def judge(study: optuna.Study, plan: Plan, folds: int) -> Found:
    """Return what a study found. Raises ValueError while the trial of the shipped settings is not complete."""
    complete = sorted(study.get_trials(states=(TrialState.COMPLETE,)), key=lambda t: (-(t.value or 0.0), t.number))
    shipped = shipped_trial(study, TrialState.COMPLETE)
    if shipped is None:
        raise ValueError(f"the study {plan.name!r} has not measured the shipped settings yet: give it a --trials more")
    sets = np.array([group.set_name for group in plan.groups])
    parts = {trial.number: _parts(trial, plan) for trial in complete}
    blind = [trial.number for trial in complete if trial.number < plan.blind or SHIPPED in trial.user_attrs]
    importance: dict[str, float] = {}
    if len(complete) >= _FEW_TRIALS and len({trial.value for trial in complete}) > 1:
        importance = optuna.importance.get_param_importances(study)
    return Found(
        complete,
        len(study.get_trials(False, (TrialState.PRUNED,))),
        shipped,
        complete[0],
        difference(parts[complete[0].number] - parts[shipped.number], sets, plan.seed),
        unseen({n: parts[n] for n in blind}, shipped.number, sets, folds, plan.seed) if len(blind) > 1 else None,
        unseen(parts, shipped.number, sets, folds, plan.seed),
        importance,
    )


def _parts(trial: FrozenTrial, plan: Plan) -> Floats:
    scores = scores_of(trial)
    return np.array([part(plan.shares, scores, group.name) for group in plan.groups])


def difference(gains: Floats, sets: NDArray[np.str_], seed: int) -> Difference:
    """Return the sum of the groups' gains (n,), resampled within each set: sequences are chance, the sets are not."""
    rng = np.random.default_rng(seed)
    sums = np.zeros(_RESAMPLES)
    for name in np.unique(sets):
        own = gains[sets == name]
        sums += own[rng.integers(len(own), size=(_RESAMPLES, len(own)))].sum(axis=1)
    low, high = np.percentile(sums, (2.5, 97.5))
    return Difference(float(gains.sum()), float(low), float(high), int((gains > 0).sum()), int((gains < 0).sum()))


def unseen(parts: Mapping[int, Floats], shipped: int, sets: NDArray[np.str_], folds: int, seed: int) -> Unseen:
    """Choose among trials on all folds but one, and take the gain over the shipped one on that one; all folds in turn.

    parts: of each group in the objective (n,), by the number of the trial. A fold has its share of each set where that
    has groups enough. The gains are means over several draws of the folds.
    """
    numbers = sorted(parts)
    table = np.array([parts[number] for number in numbers])  # (trials, n)
    base = table[numbers.index(shipped)]
    rng = np.random.default_rng(seed)
    gains, counts = np.zeros(len(base)), np.zeros(len(numbers))
    for _ in range(_DRAWS):
        fold_of = _draw_folds(sets, folds, rng)
        for fold in range(folds):
            held = fold_of == fold
            # the means over a set's other groups; where none is left the set says nothing
            totals = np.zeros(len(numbers))
            for name in np.unique(sets):
                own = sets == name
                if (own & ~held).any():
                    totals += table[:, own & ~held].sum(axis=1) * own.sum() / (own & ~held).sum()
            best = int(totals.argmax())
            counts[best] += 1
            gains[held] += (table[best] - base)[held] / _DRAWS
    shares = counts / counts.sum()
    chosen = {numbers[at]: float(shares[at]) for at in np.argsort(-shares, kind="stable") if shares[at]}
    return Unseen(len(numbers), difference(gains, sets, seed), chosen)


def _draw_folds(sets: NDArray[np.str_], folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the fold of each group; a set's groups are dealt out one by one."""
    fold_of = np.empty(len(sets), dtype=np.int64)
    for name in np.unique(sets):
        own = np.flatnonzero(sets == name)
        fold_of[rng.permutation(own)] = (np.arange(len(own)) + rng.integers(folds)) % folds
    return fold_of


def changes(trial: FrozenTrial, shipped: Settings) -> Settings:
    """Return the settings of a trial that are not the shipped ones."""
    tried = {name: rounded(trial.params[name]) for name in shipped}
    return {name: value for name, value in tried.items() if value != shipped[name]}


def as_words(settings: Settings) -> str:
    """Return settings as options of a command."""
    return " ".join(f"--set {word}" for word in as_overrides(settings))


def lines(found: Found, plan: Plan) -> Iterator[str]:
    """Yield the report in Markdown."""
    yield f"{len(found.complete)} complete trials and {found.pruned} that ended early as worse than the best."
    yield ""
    yield from _trial_table(found, plan)
    yield ""
    yield from _setting_table(found, plan)
    yield ""
    yield "| gain over the shipped settings | objective | 95 % interval | sequences better | worse |"
    yield "|---|---:|---:|---:|---:|"
    yield f"| the best trial, on the sequences that it was chosen on | {_words(found.gain)} |"
    for unseen_by, what in ((found.blind, "trials drawn blindly"), (found.every, "complete trials")):
        if unseen_by is not None:
            yield f"| chosen on other sequences, of {unseen_by.trials} {what} | {_words(unseen_by.gain)} |"
    yield ""
    yield "Chosen, share of the folds: " + ", ".join(
        f"trial {n} {share:.2f}" for n, share in found.every.chosen.items()
    )
    yield ""
    yield _verdict(found)


def _verdict(found: Found) -> str:
    """Say whether the gain is more than chance, by the rows that the choice has not seen."""
    honest = found.every.gain
    if honest.low > 0:
        return "Tuning in this way pays on sequences that it has not seen."
    if honest.high < 0:
        return "Tuning in this way harms on sequences that it has not seen: keep the shipped settings."
    return (
        "On sequences that it has not seen, tuning in this way cannot be told from no gain: keep the shipped settings."
    )


def _trial_table(found: Found, plan: Plan) -> Iterator[str]:
    heads = [(kind, name) for kind, sets in _means(found.shipped, plan, AUC).items() for name in sets]
    yield "| trial | objective | " + " | ".join(f"{kind} {name}" for kind, name in heads) + " | changes |"
    yield "|---|---:|" + "---:|" * len(heads) + "---|"
    best = [trial for trial in found.complete if trial.number != found.shipped.number][:_SHOWN]
    for trial in [found.shipped, *best]:
        aucs, overlaps = _means(trial, plan, AUC), _means(trial, plan, OVERLAP)
        cells = [f"{aucs[kind][name]:.3f} / {overlaps[kind][name]:.3f}" for kind, name in heads]
        name = "shipped" if trial.number == found.shipped.number else str(trial.number)
        changed = ", ".join(as_overrides(changes(trial, plan.shipped)))
        yield f"| {name} | {trial.value:.4f} | " + " | ".join(cells) + f" | {changed} |"
    yield ""
    yield "Success AUC / mean overlap; the objective is of success AUC."


def _setting_table(found: Found, plan: Plan) -> Iterator[str]:
    yield "| setting | range | shipped | best | importance |"
    yield "|---|---|---:|---:|---:|"
    best = plan.shipped | changes(found.best, plan.shipped)
    for one in sorted(plan.ranges, key=lambda one: -found.importance.get(one.name, 0.0)):
        share = f"{found.importance[one.name]:.2f}" if one.name in found.importance else ""
        yield f"| `{one.name}` | {one.text} | {plan.shipped[one.name]} | {best[one.name]} | {share} |"


def _means(trial: FrozenTrial, plan: Plan, measure: int) -> dict[str, dict[str, float]]:
    return set_means(plan.groups, scores_of(trial), measure)


def _words(gain: Difference) -> str:
    return f"{gain.mean:+.4f} | {gain.low:+.4f} to {gain.high:+.4f} | {gain.better} | {gain.worse}"


def as_json(found: Found, plan: Plan, identity: Mapping[str, str]) -> str:
    """Return all figures as JSON."""
    trials = [
        {
            "number": trial.number,
            "objective": trial.value,
            "settings": plan.shipped | changes(trial, plan.shipped),
            "success_auc": _means(trial, plan, AUC),
            "overlap": _means(trial, plan, OVERLAP),
            "sequences": scores_of(trial),
        }
        for trial in found.complete
    ]
    everything = {
        "identity": dict(identity),
        "shipped": found.shipped.number,
        "best": found.best.number,
        "overrides": as_overrides(changes(found.best, plan.shipped)),
        "pruned": found.pruned,
        "gain": asdict(found.gain),
        "unseen_blind": None if found.blind is None else asdict(found.blind),
        "unseen": asdict(found.every),
        "importance": dict(found.importance),
        "trials": trials,
    }
    return json.dumps(everything, indent=1, allow_nan=False)
