"""The rules of appeals (`cases.toml`): how appeals are accepted, grouped and decided, in one reviewed file."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from callsieve.features.files.dates import DAY, HOUR
from callsieve.features.files.decode import Record, toml_as

Span = Annotated[float, Meta(ge=0.01, le=10_000)]  # hours or days
Weight = Annotated[float, Meta(ge=0, le=1000)]


class Limits(Record, frozen=True):
    """At most `per_number` appeals of one number within `days`."""

    per_number: Annotated[int, Meta(ge=1)]
    days: Span


class Together(Record, frozen=True):
    """Limits that make appeals a group.

    Attributes:
        links: what links two appeals.
        hours: longest time between two linked appeals.
        crowd: number of members from which several reviewers must agree.
        persons: number of reviewers who must agree in such a group.
    """

    links: Annotated[tuple[Literal["block", "trunk", "device"], ...], Meta(max_length=3)]
    hours: Span
    crowd: Annotated[int, Meta(ge=2)]
    persons: Annotated[int, Meta(ge=1, le=10)]


class Harm(Record, frozen=True):
    """How long a case counts for harm, and the weight of each action."""

    days: Span
    label: Weight
    screen: Weight
    block: Weight


class Redress(Record, frozen=True):
    """Where an appellant can turn after a decision, by language."""

    en: str
    zh: str


class CaseRules(Record, frozen=True):
    """The values of `cases.toml`, whose comments explain them. The properties are times in milliseconds."""

    version: str
    answer_hours: Span
    cleared_days: Span
    grounds: Annotated[tuple[str, ...], Meta(min_length=1, max_length=100)]
    limits: Limits
    together: Together
    harm: Harm
    redress: Redress

    @property
    def answer_time(self) -> int:
        """From an appeal to the moment by which a reviewer must have decided."""
        return round(HOUR * self.answer_hours)

    @property
    def clearance(self) -> int:
        """How long a caller passes after an appeal was overturned in its favour."""
        return round(DAY * self.cleared_days)

    @property
    def appeal_window(self) -> int:
        """The time in which the appeals of a number are limited."""
        return round(DAY * self.limits.days)

    @property
    def group_gap(self) -> int:
        """Longest time between two linked appeals of a group."""
        return round(HOUR * self.together.hours)


def read_case_rules(path: str | Path | None = None) -> CaseRules:
    """Reads a file of case rules; the shipped file if no path is given."""
    return toml_as(CaseRules, Path(path) if path else files(__package__).joinpath("cases.toml"), path or "cases.toml")
