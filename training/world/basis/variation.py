"""Varied worlds: parameters are drawn anew, widely where no source fixes them; records of some worlds lack calls."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Any, Literal

import numpy as np

from callsieve.features.files.decode import Record, toml_as

from .draws import stream
from .scenario import Drawn, DrawnValue, Scenario

Evidence = Literal["source", "partial", "none"]
Callers = Literal["all", "honest", "nuisance"]
UNVARIED = (1.0, 1.0)


class Range(Record, frozen=True, kw_only=True):
    """How far the draws of some parameters may lie from the scenario's values; `variation.toml` explains the fields."""

    title: str
    names: tuple[str, ...]
    callers: Callers = "all"
    evidence: Evidence
    reason: str
    factor: tuple[float, float] = UNVARIED
    worldwide: tuple[float, float] = UNVARIED
    absent: float = 0.0
    shift: float = 0.0

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest factor that a parameter can get, unless all are absent."""
        return self.factor[0] * self.worldwide[0], self.factor[1] * self.worldwide[1]


class Lack(Record, frozen=True):
    """A kind of call that the records of some worlds lack, and the chance of it."""

    records: str
    chance: float
    reason: str


class Variation(Record, frozen=True):
    """The table of `--vary`: ranges, of which the first that matches applies, and kinds of calls that records lack."""

    range: tuple[Range, ...]
    lack: tuple[Lack, ...]


@cache
def shipped_variation() -> Variation:
    """Returns the table `variation.toml`."""
    return toml_as(Variation, resources.files(__package__).joinpath("variation.toml"), "variation.toml")


def vary(scenario: Scenario, seed: int) -> Scenario:
    """Returns the scenario with its parameters drawn anew from their ranges.

    A draw depends on the seed, and on the dotted name of the parameter or the title of its range. So a new parameter
    changes no other.

    >>> from callsieve.training.world import load_scenario
    >>> scenario = load_scenario()
    >>> rates = [vary(scenario, seed).table("work.courier")["rate"]["median"] for seed in (1, 1, 2)]
    >>> rates[0] == rates[1] != rates[2]
    True
    """
    variation = shipped_variation()
    worldwide = {row.title: _worldwide(row, seed) for row in variation.range if row.worldwide != UNVARIED}
    drawn: dict[str, DrawnValue] = {}

    def varied(table: Mapping[str, Any], prefix: str, callers: Callers) -> dict[str, Any]:
        return {key: value_of(f"{prefix}{key}", value, callers) for key, value in table.items()}

    def value_of(name: str, value: Any, callers: Callers) -> Any:
        if isinstance(value, Mapping):
            own: Callers = "nuisance" if value.get("nuisance") else callers
            return varied(value, f"{name}.", own)
        row = range_of(name, callers)
        if row is None:
            return value
        new = _draw(row, name, value, worldwide.get(row.title, 1.0), seed)
        if new != value:
            drawn[name] = new
        return new

    values = varied(scenario.values, "", "honest")
    lacks = [row.records for row in variation.lack if stream(seed, f"vary {row.records}").random() < row.chance]
    return Scenario(values, Drawn(worldwide, drawn, tuple(lacks)))


@cache
def range_of(name: str, callers: Callers) -> Range | None:
    """Returns the range of a parameter of honest or nuisance callers by its dotted name; None if it is not drawn."""
    rows = (row for row in shipped_variation().range if row.callers in ("all", callers))
    return next((row for row in rows if any(fnmatchcase(name, pattern) for pattern in row.names)), None)


def _worldwide(row: Range, seed: int) -> float:
    rng = stream(seed, f"vary {row.title}")
    return 0.0 if rng.random() < row.absent else _log_uniform(rng, row.worldwide)


def _log_uniform(rng: np.random.Generator, ends: tuple[float, float]) -> float:
    low, high = ends
    drawn: float = low * (high / low) ** rng.random()
    return drawn


def _draw(row: Range, name: str, value: Any, worldwide: float, seed: int) -> Any:
    rng = stream(seed, f"vary.{name}")
    if isinstance(value, list):
        hours = rng.uniform(-row.shift, row.shift)
        return [min(max(item + hours, 0.0), 24.0) for item in value]
    factor = worldwide * _log_uniform(rng, row.factor)
    if factor == 1.0:
        return value
    if name.endswith("_share"):
        return value * factor / (1 - value + value * factor)
    return max(round(value * factor), min(value, 1)) if isinstance(value, int) else value * factor
