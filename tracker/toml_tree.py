"""Read a tree of frozen dataclasses from TOML and write it; what is unknown or of a wrong type is an error."""

import dataclasses
import json
import re
import sys
import types
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Tree = TypeVar("Tree")


def read(kind: type[Tree], text: str, overrides: Sequence[str] = ()) -> Tree:
    """Read a tree of frozen dataclasses from TOML, then apply overrides "a.b=value" (in TOML, or a bare word).

    Raises ValueError with the full dotted name of what is unknown, missing or of a wrong type.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"configuration is not TOML: {error}") from error
    for override in overrides:
        _apply(tree, override)
    config: Tree = _build(kind, tree, "")
    return config


def to_toml(config: "DataclassInstance") -> str:
    """Write a configuration as TOML text; `read` makes an equal one of it."""
    return "\n".join(_lines_of_table("", dataclasses.asdict(config))) + "\n"


def _lines_of_table(name: str, table: Mapping[str, Any]) -> list[str]:
    lines = [f"[{name}]"] if name else []
    lines += [
        f"{_toml_key(key)} = {_toml(value)}" for key, value in table.items() if not isinstance(value, dict | None)
    ]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += ["", *_lines_of_table(f"{name}.{_toml_key(key)}".removeprefix("."), value)]
    return lines


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _toml(value: str | float | tuple[str, ...]) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | str | tuple) else repr(value)


def _apply(tree: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise ValueError(f"override must read a.b=value, got {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:  # a word without quotes, or a number that TOML wants written 0.5 or 5.0
        value = float(text) if re.fullmatch(r"[+-]?(\.\d+|\d+\.)", text) else text
    *path, last = name.split(".")
    for part in path:
        branch = tree.setdefault(part, {})
        if not isinstance(branch, dict):
            raise ValueError(f"{name}: {part} is not a table")
        tree = branch
    tree[last] = value


def _build(kind: type, tree: Mapping[str, Any], prefix: str) -> Any:  # noqa: ANN401 - an instance of `kind`
    hints = get_type_hints(kind)
    for key in tree:
        if key not in hints:
            raise ValueError(f"unknown setting {prefix}{key}; known here: {', '.join(hints)}")
    values = {}
    for field in dataclasses.fields(kind):
        if field.name in tree:
            values[field.name] = _check(hints[field.name], tree[field.name], prefix + field.name)
        elif field.default is dataclasses.MISSING:
            raise ValueError(f"setting {prefix}{field.name} is missing")
    return kind(**values)


def _check(kind: Any, value: Any, name: str) -> Any:  # noqa: ANN401 - types are data here
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):  # only "X | None" is used; TOML has no null, so false stands for it
        if value is False:
            return None
        return _check(next(option for option in get_args(kind) if option is not type(None)), value, name)
    if origin is Literal:
        if value not in get_args(kind):
            raise ValueError(f"setting {name} must be one of {', '.join(get_args(kind))}, got {value!r}")
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise ValueError(f"setting {name} must be a table, got {value!r}")
        return _build(kind, value, name + ".")
    if origin in (dict, tuple):
        return _check_many(kind, value, name)
    if kind is float and type(value) is int and abs(value) <= sys.float_info.max:
        return float(value)
    if type(value) is not kind or value != value:  # NaN, with which no comparison tells anything
        raise ValueError(f"setting {name} must be {kind.__name__}, got {value!r}")
    return value


def _check_many(kind: Any, value: Any, name: str) -> Any:  # noqa: ANN401 - types are data here
    if get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise ValueError(f"setting {name} must be a table, got {value!r}")
        return {key: _check(get_args(kind)[1], item, f"{name}.{key}") for key, item in value.items()}
    if not isinstance(value, list):
        raise ValueError(f"setting {name} must be a list, got {value!r}")
    return tuple(_check(get_args(kind)[0], item, f"{name}[{i}]") for i, item in enumerate(value))
