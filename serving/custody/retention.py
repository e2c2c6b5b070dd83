"""Retention rules: how long rows of each table are kept, in one reviewed file for readers, deletion and erasure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from callsieve.features.files.dates import DAY
from callsieve.features.files.strict_json import as_fields, as_mapping, as_number, as_text
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
        """Returns the rule of a table.

        Raises:
            ValueError: if the table has no rule; such a table is not read and not kept.
        """
        if table not in self.tables:
            raise ValueError(f"retention {self.version}: expected a rule for the table {table!r}; add one to the file")
        return self.tables[table]


def read_retention(path: str | Path | None = None) -> Retention:
    """Reads a file of retention rules; the shipped file if no path is given.

    Raises:
        ValueError: in one line, which names the field and the violated rule.
    """
    name = str(path or "retention.toml")
    fields = read_toml(Path(path) if path else files(__package__).joinpath("retention.toml"), name)
    try:
        version = as_text(fields.pop("version", None), "version")
        tables = {table: _rule(rule, table) for table, rule in fields.items()}
        for table, rule in tables.items():
            if rule.follows and (rule.follows not in tables or tables[rule.follows].follows):
                raise ValueError(f"{table}: follows a table that has no rule of its own")
    except ValueError as error:
        raise ValueError(f"{name}: {' '.join(str(error).split())}") from None
    return Retention(version, tables)


def _rule(value: Any, table: str) -> RetentionRule:
    if "follows" in as_mapping(value, table):
        return RetentionRule("", 0, 0, as_text(as_fields(value, table, ("follows",))["follows"], f"{table}: follows"))
    fields = as_fields(value, table, ("moment", "floor", "ceiling"))
    floor = round(DAY * as_number(fields["floor"], f"{table}: floor", 0, 40_000))
    ceiling = round(DAY * as_number(fields["ceiling"], f"{table}: ceiling", 0.01, 40_000))
    if ceiling < floor:
        raise ValueError(f"{table}: ceiling must not be below floor")
    return RetentionRule(as_text(fields["moment"], f"{table}: moment"), floor, ceiling)
