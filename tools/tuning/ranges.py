"""The ranges of settings: how they are written, what is searched where nothing is said, and what the config refuses."""

import json
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from dataclasses import asdict, dataclass
from typing import Any

import optuna

from tracker.config import Config

Value = bool | int | float | str
Settings = dict[str, Value]  # by dotted name

# Searched where no --range is given, so far as the model has the table: wide around the settings that ship.
TABLE = {
    "rpn.window_influence": "0:0.6",
    "rpn.penalty_k": "0:0.5",
    "rpn.size_smoothing": "0.3:1",
    "rpn.filter_share": "0.4:1",
    "rpn.hold": "0:0.35",
    "rpn.calibration": "0:1",
    "scale_search.window_influence": "0:0.5",
    "scale_search.scale_step": "1.01:1.1",
    "scale_search.scale_penalty": "0.9:1",
    "scale_search.size_smoothing": "0.3:1",
    "scale_search.filter_share": "0:1",
    "online.gate": "0.1:0.7",
    "online.rate": "0.005:0.08:log",
    "online.ridge": "0.0005:0.05:log",
    "online.label_sigma": "0.1:0.4",
}
_DIGITS = 6  # significant, of a value drawn: a setting is read by people


@dataclass(frozen=True, slots=True)
class Range:
    """Hold what a setting may be: numbers from `low` to `high`, or one of `choices`."""

    name: str
    text: str  # as it was written
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    whole: bool = False  # numbers without a fraction
    choices: tuple[Value, ...] = ()

    def suggest(self, trial: optuna.Trial) -> Value:
        """Return the value that a trial takes."""
        if self.choices:
            value: Value = trial.suggest_categorical(self.name, self.choices)
            return value
        if self.whole:
            return trial.suggest_int(self.name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return rounded(trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log))

    def ends(self) -> tuple[Value, ...]:
        """Return the values at which a configuration that takes the range must not fail."""
        if self.choices:
            return self.choices
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)

    def holds(self, value: Value) -> bool:
        """Return whether a trial could take the value."""
        if self.choices:
            return value in self.choices
        if isinstance(value, bool | str) or not self.low <= value <= self.high:
            return False
        return self.step is None or _is_whole((value - self.low) / self.step)


def rounded(value: Value) -> Value:
    """Return a drawn value as it is tried."""
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def as_overrides(settings: Settings) -> tuple[str, ...]:
    """Return settings as words of --set."""
    return tuple(f"{name}={json.dumps(value)}" for name, value in settings.items())


def read_ranges(texts: Items[str], config: Config) -> tuple[Range, ...]:
    """Return the ranges written as NAME=RANGE, or NAME for that of the table; without any, the table's for the model.

    Raises ValueError naming what the model has no setting for, or what is no range with the model's own value in it.
    """
    known = dict(_settings_of(asdict(config)))
    ranges = [_read(text, known) for text in texts or [name for name in TABLE if name in known]]
    names = [one.name for one in ranges]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} has two ranges")
    return tuple(ranges)


def shipped_settings(ranges: Items[Range], config: Config) -> Settings:
    """Return the model's own values of what is searched."""
    known = dict(_settings_of(asdict(config)))
    return {one.name: known[one.name] for one in ranges}


def check_ranges(ranges: Items[Range], make: Callable[[tuple[str, ...]], object]) -> None:
    """Make a tracker at the ends of each range. Raises ValueError naming the setting that is refused."""
    for one in ranges:
        for value in one.ends():
            try:
                make(as_overrides({one.name: value}))
            except ValueError as error:
                raise ValueError(f"the range {one.name}={one.text} is refused at {value}: {error}") from error


def _settings_of(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Value]]:
    """Yield the settings of tracking by their dotted names."""
    for key, value in tree.items():
        if isinstance(value, dict) and prefix + key not in ("train", "model"):
            yield from _settings_of(value, f"{prefix}{key}.")
        elif prefix and isinstance(value, bool | int | float | str):
            yield prefix + key, value


def _read(text: str, known: dict[str, Value]) -> Range:
    name, equals, words = text.partition("=")
    if name not in known:
        raise ValueError(f"the model has no setting {name!r} to search; it has {', '.join(known)}")
    if not equals and name not in TABLE:
        raise ValueError(f"{name} has no range of its own: write {name}=LOW:HIGH or {name}=A,B,C")
    words = words if equals else TABLE[name]
    shipped = known[name]
    found = _numbers(name, words, whole=type(shipped) is int) if ":" in words else _choices(name, words, shipped)
    if not found.holds(shipped):
        raise ValueError(f"the range {name}={words} lacks the model's own value, {shipped}: trials compare with it")
    return found


def _numbers(name: str, words: str, whole: bool) -> Range:
    """Read LOW:HIGH, LOW:HIGH:STEP or LOW:HIGH:log."""
    ends = words.split(":")
    log = ends[2:] == ["log"]
    try:
        numbers = [float(end) for end in (ends[:2] if log else ends)]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3):
        raise ValueError(f"{name}={words} is no range: write LOW:HIGH, LOW:HIGH:STEP, LOW:HIGH:log or A,B,C")
    low, high, step = numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else None
    if not -float("inf") < low < high < float("inf"):
        raise ValueError(f"{name}={words} is no range: the first number must be below the second")
    if log and low <= 0:
        raise ValueError(f"{name}={words} is no range: one of logarithms starts above 0")
    if step is not None and not (step > 0 and _is_whole((high - low) / step)):
        raise ValueError(f"{name}={words} is no range: the step must lead from one end to the other")
    if whole and not all(number.is_integer() for number in numbers):
        raise ValueError(f"{name}={words} is no range: the setting has no fractions")
    return Range(name, words, low, high, step, log, whole)


def _choices(name: str, words: str, shipped: Value) -> Range:
    """Read A,B,C, each of the kind of the model's own value."""
    try:
        values = [word if isinstance(shipped, str) else json.loads(word) for word in words.split(",")]
    except json.JSONDecodeError as error:
        raise ValueError(f"{name}={words} is no range: write LOW:HIGH, LOW:HIGH:STEP, LOW:HIGH:log or A,B,C") from error
    if isinstance(shipped, float):
        values = [float(value) if type(value) is int else value for value in values]
    wrong = [value for value in values if type(value) is not type(shipped)]
    if wrong:
        raise ValueError(f"{name}={words} is no range: {wrong[0]!r} is no {type(shipped).__name__}")
    return Range(name, words, choices=tuple(values))


def _is_whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-6
