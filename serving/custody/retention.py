"""How long each kind of row is kept: one reviewed file that readers, deletion and erasure all go by."""

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
    """How long rows of a table are kept: milliseconds since `moment`, or as long as the table that they follow.

    A row whose moment is not known (a register's entry that has no end yet) is kept.
    """

    moment: str
    floor: int
    ceiling: int
    follows: str = ""


@dataclass(frozen=True, slots=True)
class Retention:
    """The tables of `retention.toml` by name."""

    version: str
    tables: Mapping[str, RetentionRule]

    def of(self, table: str) -> RetentionRule:
        """The rule of a table.

        Raises:
            ValueError: if there is none: what nobody ruled on is not kept.
        """
        if table not in self.tables:
            raise ValueError(f"retention {self.version}: expected a rule for the table {table!r}, there is none")
        return self.tables[table]


def read_retention(path: str | Path | None = None) -> Retention:
    """Read a file of rules; the one that comes with the package if no path is given.

    Raises:
        ValueError: in one line that says which field breaks which rule.
    """
    name = str(path or "retention.toml")
    told = read_toml(Path(path) if path else files(__package__).joinpath("retention.toml"), name)
    try:
        version = as_text(told.pop("version", None), "version")
        tables = {table: _kept(rule, table) for table, rule in told.items()}
        for table, kept in tables.items():
            if kept.follows and (kept.follows not in tables or tables[kept.follows].follows):
                raise ValueError(f"{table}: follows a table that has no rule of its own")
    except ValueError as error:
        raise ValueError(f"{name}: {' '.join(str(error).split())}") from None
    return Retention(version, tables)


def _kept(rule: Any, table: str) -> RetentionRule:
    if "follows" in as_mapping(rule, table):
        return RetentionRule("", 0, 0, as_text(as_fields(rule, table, ("follows",))["follows"], f"{table}: follows"))
    told = as_fields(rule, table, ("moment", "floor", "ceiling"))
    floor = round(DAY * as_number(told["floor"], f"{table}: floor", 0, 40_000))
    ceiling = round(DAY * as_number(told["ceiling"], f"{table}: ceiling", 0.01, 40_000))
    if ceiling < floor:
        raise ValueError(f"{table}: ceiling must not be below floor")
    return RetentionRule(as_text(told["moment"], f"{table}: moment"), floor, ceiling)
