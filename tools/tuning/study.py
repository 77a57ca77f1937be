"""A study of settings: trials that processes share through a file, which may stop and go on."""

import json
import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Items
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import optuna
from optuna.trial import TrialState
from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError

from tools.tuning.objective import Shares, objective, part
from tools.tuning.ranges import Range, Settings
from tools.tuning.videos import Group, Scores
from tracker.threads import end_with_parent

Follow = Callable[[Group], dict[str, tuple[float, float]]]  # success AUC and mean overlap by kind
Evaluate = Callable[[Settings], Follow]  # makes what follows groups with these settings

_WAIT_SECONDS = 60  # for another process that writes to the file
_HEARTBEAT_SECONDS = 60
_CERTAIN = 0.1  # p-value of being worse than the best below which a trial ends
_FEWEST = 14  # groups before a trial may end; of fewer with ties SciPy tries all permutations, which takes seconds
_IDENTITY, SHIPPED, SCORES = "identity", "shipped", "scores"  # attributes of study and trials


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold what every process of a study needs to know."""

    file: Path
    name: str
    groups: Items[Group]
    shares: Shares
    ranges: Items[Range]
    shipped: Settings  # the model's own values
    seed: int
    blind: int  # trials that are drawn without regard to others, the shipped one among them, and end only when done
    deadline: float  # time.time() after which no trial begins


def open_study(plan: Plan, identity: Mapping[str, str]) -> optuna.Study:
    """Return the study, new or as it was left, with a trial of the shipped settings in it.

    identity: what scores depend on, by what it is called. Raises ValueError where the study is of something else.
    """
    plan.file.parent.mkdir(parents=True, exist_ok=True)
    try:
        study = _load(plan)
    except DBAPIError as error:
        raise ValueError(f"cannot use the studies in {plan.file}: {error.orig}; give another --folder") from error
    known = study.user_attrs.get(_IDENTITY)
    if known is None:
        study.set_user_attr(_IDENTITY, dict(identity))
    for key in sorted({*identity, *(known or identity)}):
        old, new = (known or identity).get(key), identity.get(key)
        if old != new:
            raise ValueError(
                f"the study {plan.name!r} in {plan.file} has another {key}: {old}, not {new}; "
                "give what it began with, or another --study"
            )
    if shipped_trial(study, TrialState.COMPLETE, TrialState.WAITING, TrialState.RUNNING) is None:
        study.enqueue_trial(plan.shipped, user_attrs={SHIPPED: True})
    return study


def shipped_trial(study: optuna.Study, *states: TrialState) -> optuna.trial.FrozenTrial | None:
    """Return the trial of the shipped settings that is in one of the states."""
    return next((t for t in study.get_trials(False, states) if t.user_attrs.get(SHIPPED)), None)


def scores_of(trial: optuna.trial.FrozenTrial) -> Scores:
    """Return what was measured in a trial."""
    groups = json.loads(trial.user_attrs[SCORES])
    return {name: {kind: (auc, ao) for kind, (auc, ao) in kinds.items()} for name, kinds in groups.items()}


def run_trials(plan: Plan, make_evaluate: Callable[[], Evaluate], count: int, workers: int) -> None:
    """Make so many trials more, each in one of several processes.

    With one worker the draws are those of the seed, and a study that was stopped goes on as if it had not been. With
    several, `make_evaluate` must be picklable. Raises ChildProcessError if a process dies.
    """
    first = len(_load(plan).get_trials(False, (TrialState.COMPLETE, TrialState.PRUNED)))
    workers = min(workers, count)
    if workers <= 1:
        worker = _Worker(plan, make_evaluate)
        for at in range(count):
            worker.run(first + at)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(plan, make_evaluate))
    try:
        for future in as_completed([pool.submit(_run, first + at) for at in range(count)]):
            future.result()
    except BrokenProcessPool as error:
        raise ChildProcessError("a worker process died, perhaps for want of memory; use fewer workers") from error
    finally:
        pool.shutdown(cancel_futures=True)


class _Worker:
    """Make trials, one after the other, with what was loaded for the first."""

    def __init__(self, plan: Plan, make_evaluate: Callable[[], Evaluate]) -> None:
        self._plan = plan
        self._make = make_evaluate
        self._evaluate: Evaluate | None = None
        self._study = _load(plan)

    def run(self, draw: int) -> None:
        """Make a trial, unless it is too late; `draw` and the seed are where its random numbers come from."""
        if time.time() > self._plan.deadline:
            return
        self._evaluate = self._evaluate or self._make()
        seed = int(np.random.SeedSequence([self._plan.seed, draw]).generate_state(1)[0])
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=self._plan.blind + 1)
        with _settled():
            self._study.optimize(self._try, n_trials=1, callbacks=[_say])

    def _try(self, trial: optuna.Trial) -> float:
        plan = self._plan
        assert self._evaluate is not None
        follow = self._evaluate({one.name: one.suggest(trial) for one in plan.ranges})
        scores: Scores = {}
        for step, group in enumerate(plan.groups):
            try:
                scores[group.name] = follow(group)
            except ValueError as error:
                raise ValueError(f"trial {trial.number}, {group.name}: {error}") from error
            # times the number of groups, so that what the pruner takes the mean of is the objective
            trial.report(part(plan.shares, scores, group.name) * len(plan.groups), step)
            if trial.number >= plan.blind and SHIPPED not in trial.user_attrs and trial.should_prune():
                break
        trial.set_user_attr(SCORES, json.dumps(scores))
        if len(scores) < len(plan.groups):
            raise optuna.TrialPruned
        return objective(plan.shares, scores)


def _say(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    seconds = trial.duration.total_seconds() if trial.duration is not None else 0.0
    result = f"{trial.value:.4f}" if trial.state == TrialState.COMPLETE else trial.state.name.lower()
    settings = " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in trial.params.items()
    )
    print(
        f"trial {trial.number}: {result}, {len(trial.intermediate_values)} groups in {seconds:.0f} s, {settings}",
        file=sys.stderr,
        flush=True,
    )


@contextmanager
def _settled() -> Iterator[None]:
    """Let Optuna call its heartbeat and its test of Wilcoxon experimental without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _load(plan: Plan) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _settled():
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{plan.file}",
            engine_kwargs={"connect_args": {"timeout": _WAIT_SECONDS}},
            heartbeat_interval=_HEARTBEAT_SECONDS,  # so that the trial of a process that was killed counts as failed
            grace_period=5 * _HEARTBEAT_SECONDS,
        )
        event.listen(storage.engine, "connect", _prepare)
        event.listen(storage.engine, "begin", _lock_first)
        storage.engine.dispose()  # the connections that were opened before
        pruner = optuna.pruners.WilcoxonPruner(p_threshold=_CERTAIN, n_startup_steps=_FEWEST)
        study = optuna.create_study(
            storage=storage, study_name=plan.name, direction="maximize", pruner=pruner, load_if_exists=True
        )
        optuna.storages.fail_stale_trials(study)
    return study


def _prepare(connection: Any, _: object) -> None:  # noqa: ANN401 - SQLAlchemy's, of whatever database
    # a process that is killed still leaves a sound file, only a power failure may not; a busy disk keeps one waiting
    connection.execute("PRAGMA synchronous=OFF")
    connection.isolation_level = None  # transactions begin as `_lock_first` says, not where the first change is


def _lock_first(connection: Connection) -> None:
    # SQLite locks at the first change: too late for who reads that a trial waits and then takes it, as another may too.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


_worker: _Worker | None = None  # of a spawned process: set once, when it starts


def _start(plan: Plan, make_evaluate: Callable[[], Evaluate]) -> None:
    global _worker
    end_with_parent()
    cv2.setNumThreads(1)
    _worker = _Worker(plan, make_evaluate)


def _run(draw: int) -> None:
    assert _worker is not None
    # Ctrl-C: Optuna has noted that the trial failed, and the parent, which got it too, reports
    with suppress(KeyboardInterrupt):
        _worker.run(draw)
