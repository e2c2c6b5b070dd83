"""Reads files of numbers that a user has checked, and keys them as findings: nuisance or innocent, and since when.

An invalid row goes to quarantine with its reason, without any number. A check counts as known from its moment on. A
time of 00:00:00 states the day alone, so such a check counts as known when the next day begins.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import pandas as pd

from callsieve.features.files.atomic import check_distinct, check_present
from callsieve.features.files.decode import Record, as_kind
from callsieve.features.files.progress import Progress, silent
from callsieve.features.intake.intake import Intake
from callsieve.features.keys.tokens import KEY_VARIABLE, Key
from callsieve.features.reading.quarantine import BAD_VALUE, DUPLICATE, UNKNOWN_WORD, check_valid
from callsieve.serving.batch.call_files import key_or_temporary
from callsieve.serving.batch.keyed_rows import Rows, read_rows
from callsieve.serving.custody.purposes import current_declaration

from .complaint_files import NumberLayout, end_of_day, moments_of, number_tokens, own_layout
from .dataset import FINDINGS
from .exclusions import add_rows

_Layout = TypeVar("_Layout", bound=NumberLayout)
VERDICTS: Mapping[str, str] = {"nuisance": "nuisance", "innocent": "innocent"}
"""Words of the column `verdict`, unless the layout has a table `verdict`."""


class CheckColumns(Record, frozen=True):
    """The names that the column of each role may have."""

    number: tuple[str, ...] = ("number",)
    verdict: tuple[str, ...] = ("verdict",)
    checked_at: tuple[str, ...] = ("checked_at",)


class CheckLayout(NumberLayout, frozen=True, kw_only=True):
    """How one kind of file writes checks. Times are by ISO 8601 unless `formats` states how they are written.

    `verdict` translates words of the file; `complaint_files.toml` explains the other fields.
    """

    columns: CheckColumns = CheckColumns()
    verdict: dict[str, Literal["nuisance", "innocent"]] | None = None


def own_or_default(name: str, kind: type[_Layout], table: str) -> _Layout:
    """Returns the defaults of a kind of layout for the name `callsieve`, or the layout of a TOML file.

    The file is a layout of that kind, or a layout of calls with or without the table. There, the zone of the calls'
    clock is the default.
    """
    if name == "callsieve":
        return as_kind({}, kind, table)
    if not name.endswith(".toml"):
        raise ValueError(f"layout {name!r}: expected callsieve, or a .toml file")
    return own_layout(Path(name), kind, table, implied=True)


@dataclass(frozen=True, slots=True)
class KeyedRows:
    """Keyed rows of a file, in its order, and the number of quarantined rows by reason."""

    table: pd.DataFrame
    quarantined: Mapping[str, int]


def read_check_file(
    path: Path,
    layout_name: str,
    key: Key,
    *,
    quarantine: Path | None = None,
    strict: bool = False,
    progress: Progress = silent,
) -> KeyedRows:
    """Reads and keys a file of checks: text (plain or gzip) or Parquet.

    Returns: rows with the columns of FINDINGS.
    """
    layout = own_or_default(layout_name, CheckLayout, "checks")
    rows = read_rows(path, layout.find, progress)
    progress("key", 0.5)
    column = {role: names[0] for role, names in rows.roles.items()}
    words = layout.verdict or VERDICTS
    number = number_tokens(rows, column["number"], layout, key, Intake(key))
    verdict = rows.parsed(
        column["verdict"], "verdict", words.get, " or ".join(words), bad=UNKNOWN_WORD, missing=UNKNOWN_WORD
    )
    checked_at = moments_of(rows, column["checked_at"], "checked_at", layout)
    local = checked_at.dt.tz_convert(layout.zone)
    known_at = checked_at.where(local != local.dt.normalize(), end_of_day(checked_at, layout.zone))
    table = pd.DataFrame({"number": number, "nuisance": [word == "nuisance" for word in verdict], "known_at": known_at})
    mark_repeated(rows, table, ["number", "known_at"], "one verdict on a number at one time")
    return sound_rows(rows, table, quarantine, key, strict=strict)


def mark_repeated(rows: Rows, table: pd.DataFrame, subject: list[str], expected: str) -> None:
    """Marks rows of one subject that contradict each other, and rows that occur before."""
    sound = table[rows.faults.which == 0]
    distinct = sound.drop_duplicates()
    contradicted = pd.MultiIndex.from_frame(distinct[subject][distinct.duplicated(subject, keep=False)])
    is_contradicted = pd.Series(pd.MultiIndex.from_frame(sound[subject]).isin(contradicted), index=sound.index)
    rows.mark(is_contradicted.reindex(table.index, fill_value=False), BAD_VALUE, "", expected)
    rows.mark(sound.duplicated().reindex(table.index, fill_value=False), DUPLICATE, "", "each row once")


def sound_rows(rows: Rows, table: pd.DataFrame, quarantine: Path | None, key: Key, *, strict: bool) -> KeyedRows:
    """Returns the rows without a fault, and writes the others to quarantine."""
    shown = {names[0]: role for role, names in rows.roles.items()}
    valid, invalid = rows.set_apart(shown, quarantine, key, strict=strict)
    table = table.iloc[valid].reset_index(drop=True)
    check_valid(len(table), invalid)
    return KeyedRows(table, dict(sorted(invalid.counts.items())))


def add_checks(read: KeyedRows, path: Path) -> int:
    """Adds the findings that a table on disk does not have yet; returns how many. Other findings stay."""
    rows = [dict(zip(FINDINGS.names, row, strict=True)) for row in read.table.itertuples(index=False)]
    return add_rows(path, FINDINGS, rows)


def check_ingest(path: Path, key: Path | None, quarantine: Path | None, outputs: Mapping[str, Path | None]) -> None:
    """Checks the paths and the declaration of a file to ingest, before it is read."""
    check_distinct(path, key, quarantine, *outputs.values())
    check_present(path, key)
    for option, output in outputs.items():
        if output is not None and key is None and KEY_VARIABLE not in os.environ:
            raise ValueError(f"{option}: expected --key FILE or {KEY_VARIABLE}, the key of the calls in the folder")
    current_declaration(path, "ingestion")


def ingest_checks(
    path: Path,
    layout: str,
    *,
    key: Path | None = None,
    out: Path | None = None,
    quarantine: Path | None = None,
    strict: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Reads a file of checks, and adds them to a table of findings.

    Returns: counts of rows, of added rows, and of numbers by their last verdict; JSON-able, without a number.
    """
    check_ingest(path, key, quarantine, {"--out": out})
    read = read_check_file(path, layout, key_or_temporary(key), quarantine=quarantine, strict=strict, progress=progress)
    table = read.table
    last = table.sort_values("known_at", kind="stable").drop_duplicates("number", keep="last")["nuisance"]
    return {
        "rows": len(table) + sum(read.quarantined.values()),
        "quarantined": dict(read.quarantined),
        "nuisance numbers": int(last.sum()),
        "innocent numbers": int((~last).sum()),
        "first known at": str(table["known_at"].min()) if len(table) else None,
        "last known at": str(table["known_at"].max()) if len(table) else None,
        "added": 0 if out is None else add_checks(read, out),
    }
