"""Scenarios with other assumed values: each parameter without a source is drawn anew from a stated range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Any

from callsieve.features.files.toml_file import read_toml

from .draws import stream
from .scenario import Scenario


@dataclass(frozen=True, slots=True)
class Range:
    """How far the draws of some parameters may lie from the scenario's values; `variation.toml` explains the fields."""

    names: tuple[str, ...]
    reason: str
    factor: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0


@cache
def shipped_ranges() -> tuple[tuple[str, ...], tuple[Range, ...]]:
    """Returns the patterns of the parameters that stay, and the ranges of the others."""
    table = read_toml(resources.files(__package__).joinpath("variation.toml"))
    ranges = tuple(Range(**row | {"names": tuple(row["names"])}) for row in table["range"])
    return tuple(table["keep"]), ranges


def vary(scenario: Scenario, seed: int) -> Scenario:
    """Returns the scenario with its assumed parameters drawn anew.

    The draw of a parameter depends on the seed and on its dotted name alone, so a new parameter changes no other.

    >>> from callsieve.training.world import load_scenario
    >>> scenario = load_scenario()
    >>> rates = [vary(scenario, seed).table("work.courier")["rate"]["median"] for seed in (1, 1, 2)]
    >>> rates[0] == rates[1] != rates[2]
    True
    """
    return Scenario(_varied(scenario.values, "", seed))


def range_of(name: str) -> Range | None:
    """Returns the range of a parameter by its dotted name; None if it is not drawn."""
    keep, ranges = shipped_ranges()
    if any(fnmatchcase(name, pattern) for pattern in keep):
        return None
    return next((row for row in ranges if any(fnmatchcase(name, pattern) for pattern in row.names)), None)


def _varied(table: Mapping[str, Any], prefix: str, seed: int) -> dict[str, Any]:
    return {
        key: _varied(value, f"{prefix}{key}.", seed)
        if isinstance(value, Mapping)
        else _draw(f"{prefix}{key}", value, seed)
        for key, value in table.items()
    }


def _draw(name: str, value: Any, seed: int) -> Any:
    chosen = range_of(name)
    if chosen is None:
        return value
    rng = stream(seed, f"vary.{name}")
    if isinstance(value, list):
        hours = rng.uniform(-chosen.shift, chosen.shift)
        return [min(max(item + hours, 0.0), 24.0) for item in value]
    low, high = chosen.factor
    factor = low * (high / low) ** rng.random()
    if name.endswith("_share"):
        return value * factor / (1 - value + value * factor)
    return max(round(value * factor), min(value, 1)) if isinstance(value, int) else value * factor
