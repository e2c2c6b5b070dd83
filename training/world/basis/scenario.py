"""Scenarios: all parameters of a world, from shipped defaults and a file that overrides some of them."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache, cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from callsieve.features.files.toml_file import read_toml

T = TypeVar("T")
SHIPPED = ("default.toml", "benign.toml", "nuisance.toml", "attacks.toml", "complaints.toml")
NAMED = ("crackdown", "look_alikes", "rare", "resale_vanishes", "spring_festival")  # shipped scenarios, by name
ALIKE = ("work", "outfits")  # tables whose members can start from another member (`like`)
WEIGHTS = ("pool", "content")
Table = dict[str, Any]
DrawnValue = float | list[float]


@dataclass(frozen=True)
class Spread:
    """A log-normal distribution: median, and standard deviation of the logarithm."""

    median: float
    sigma: float


@dataclass(frozen=True)
class Talk:
    """Talk time in seconds: a log-normal with one sigma below its median and one above."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Manner:
    """Distribution of call outcomes; `default.toml` explains each value."""

    answer_share: float
    reject_share: float
    unwanted_share: float
    failed_share: float
    callee_release_share: float
    ring: Spread
    patience: Spread
    talk: Talk


@dataclass(frozen=True)
class Drawn:
    """The draws of a varied world.

    Attributes:
        worldwide: factor that all parameters of a range share, by the range's title; 0: they are absent.
        values: parameters that differ from the scenario that was varied, by dotted name.
        lacks: kinds of calls that the records lack.
    """

    worldwide: dict[str, float]
    values: dict[str, DrawnValue]
    lacks: tuple[str, ...]


@dataclass(frozen=True)
class Scenario:
    """All parameters, as nested tables that are checked against the defaults; `drawn` is None unless they were varied.

    >>> scenario = load_scenario()
    >>> scenario.table("sizes.tiny")["subscribers"], len(scenario.fingerprint)
    (180, 64)
    """

    values: Mapping[str, Any]
    drawn: Drawn | None = None

    def table(self, dotted: str) -> Table:
        """Returns the table with a dotted name."""
        table: Any = self.values
        for key in dotted.split("."):
            table = table[key]
        return dict(table)

    def read(self, kind: type[T], dotted: str) -> T:
        """Returns the table with a dotted name as an instance of a dataclass with the same fields."""
        return _as(kind, self.table(dotted))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 in canonical JSON of all values, and of what the records lack."""
        lacks = self.drawn.lacks if self.drawn else ()
        text = json.dumps([self.values, lacks] if lacks else self.values, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def load_scenario(path: Path | None = None) -> Scenario:
    """Returns the shipped defaults, with the values of a TOML file or of a shipped scenario (NAMED) in their place.

    >>> load_scenario().table("sizes.tiny")["days"]
    28
    """
    values = _shipped()
    if path is None:
        return Scenario(values)
    return Scenario(_merged(values, read_toml(_file(path), path), "", path))


def _file(path: Path) -> Path | Traversable:
    shipped = str(path) in NAMED and not path.exists()
    return resources.files(__package__).joinpath(f"{path}.toml") if shipped else path


def _shipped() -> Table:
    values: Table = {}
    for name in SHIPPED:
        _merge_into(values, read_toml(resources.files(__package__).joinpath(name)))
    for kind in ALIKE:
        for name, table in values[kind].items():
            values[kind][name] = _with_parent(values[kind], name, table)
    return values


def _merge_into(values: Table, more: Table) -> None:
    for key, value in more.items():
        if key in values:
            _merge_into(values[key], value)
        else:
            values[key] = value


def _with_parent(tables: Table, name: str, table: Table) -> Table:
    if "like" not in table:
        return table
    parent = table.pop("like")
    return _overridden(_with_parent(tables, parent, tables[parent]), table, name)


def _overridden(base: Table, changes: Table, name: str) -> Table:
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and key not in WEIGHTS
        merged[key] = _overridden(base[key], value, f"{name}.{key}") if nested else value
    return merged


def _merged(base: Table, changes: Table, prefix: str, path: Path) -> Table:
    merged = dict(base)
    for key, value in changes.items():
        name = f"{prefix}{key}"
        if key not in base:
            raise ValueError(f"{path}: unknown key {name}; known keys: {', '.join(sorted(base)) or 'none'}")
        _check_type(base[key], value, name, path)
        if isinstance(value, dict):
            merged[key] = _merged(base[key], value, f"{name}.", path)
        else:
            _check_range(key, value, name, path)
            merged[key] = value
    return merged


def _check_type(default: Any, value: Any, name: str, path: Path) -> None:
    accepted = (float, int) if isinstance(default, float) else (type(default),)
    if type(value) not in accepted:
        raise ValueError(f"{path}: {name} must be {_type_name(default)}, got {value!r}")
    if isinstance(default, list) and default:
        if len(default) != len(value):
            raise ValueError(f"{path}: {name} must hold {len(default)} values, got {len(value)}")
        for item in value:
            _check_type(default[0], item, name, path)
    elif isinstance(default, list) and not all(type(item) is dt.date for item in value):
        raise ValueError(f"{path}: {name} must be a list of dates, got {value!r}")


def _check_range(key: str, value: Any, name: str, path: Path) -> None:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, bool) or not isinstance(item, int | float):
            continue
        signed = key in {"shift_h", "utc_offset_h"}
        if not math.isfinite(item) or (item < 0 and not signed):
            raise ValueError(f"{path}: {name} must be 0 or more, got {item!r}")
        if key.endswith("share") and item > 1:
            raise ValueError(f"{path}: {name} must be between 0 and 1, got {item!r}")
        if key in {"subscribers", "days"} and item < 1:
            raise ValueError(f"{path}: {name} must be 1 or more, got {item!r}")


def _type_name(default: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", dict: "a table"}
    return names.get(type(default), "a list" if isinstance(default, list) else "a date")


def _as(kind: type[T], table: Table) -> T:
    plain: type = kind
    hints = _hints(plain)
    values = {name: _as(hints[name], value) if is_dataclass(hints[name]) else value for name, value in table.items()}
    return kind(**values)


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Returns the types of a dataclass's fields; cached, because computing them takes as long as a small outfit's
    calls.
    """
    return get_type_hints(kind)
