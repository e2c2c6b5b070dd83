"""Retention rules: how long rows of each table are kept, in one reviewed file for readers, deletion and erasure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from callsieve.features.files.dates import DAY
from callsieve.features.files.decode import Record, as_kind, check_texts
from callsieve.features.files.toml_file import read_toml


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """How long rows of a table are kept. A row whose moment is null is kept.

    Attributes:
        moment: the column that holds the moment of a row.
        floor: milliseconds after the moment in which a row is kept even if a person asks for its deletion.
        ceiling: milliseconds after the moment from which no reader returns the row.
        follows: the table whose rows decide instead; "" for a rule of its own.
    """

    moment: str
    floor: int
    ceiling: int
    follows: str = ""


@dataclass(frozen=True, slots=True)
class Retention:
    """The rules of `retention.toml`, by table."""

    version: str
    tables: Mapping[str, RetentionRule]

    def of(self, table: str) -> RetentionRule:
        """Returns the rule of a table."""
        if table not in self.tables:
            raise ValueError(f"retention {self.version}: expected a rule for the table {table!r}; add one to the file")
        return self.tables[table]


class _OwnRule(Record, frozen=True):
    """A table of the file with a rule of its own, in days."""

    moment: str
    floor: Annotated[float, Meta(ge=0, le=40_000)]
    ceiling: Annotated[float, Meta(ge=0.01, le=40_000)]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ceiling < self.floor:
            raise ValueError("ceiling must not be below floor")


class _FollowingRule(Record, frozen=True):
    """A table of the file whose rows another table decides."""

    follows: str


def read_retention(path: str | Path | None = None) -> Retention:
    """Reads a file of retention rules; the shipped file if no path is given."""
    name = str(path or "retention.toml")
    fields = read_toml(Path(path) if path else files(__package__).joinpath("retention.toml"), name)
    check_texts(fields, name)
    version = as_kind(fields.pop("version", None), str, f"{name}: version")
    tables = {table: _rule(rule, f"{name}: {table}") for table, rule in fields.items()}
    for table, rule in tables.items():
        if rule.follows and (rule.follows not in tables or tables[rule.follows].follows):
            raise ValueError(f"{name}: {table}: follows a table that has no rule of its own")
    return Retention(version, tables)


def _rule(value: Any, where: str) -> RetentionRule:
    if isinstance(value, dict) and "follows" in value:
        return RetentionRule("", 0, 0, as_kind(value, _FollowingRule, where).follows)
    rule = as_kind(value, _OwnRule, where)
    return RetentionRule(rule.moment, round(DAY * rule.floor), round(DAY * rule.ceiling))
