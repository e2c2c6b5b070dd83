"""Reads files of numbers that the owner of a network trusts, and keys them as entries of lists and of a register.

By its calls alone a survey or a public announcement looks like nuisance; the owner of the network knows better. An
entry labels its number innocent for a training, and keeps the model from acting on its calls at ring time. It counts
from `trusted_from` on, or from `known_at` if that is later. A day alone is the first moment of the day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.decode import Record
from callsieve.features.files.progress import Progress, silent
from callsieve.features.intake.intake import Intake
from callsieve.features.keys.tokens import Key
from callsieve.features.reading.call_files import write_table
from callsieve.features.reading.quarantine import END_BEFORE_START, UNKNOWN_WORD
from callsieve.serving.batch.call_files import key_or_temporary
from callsieve.serving.batch.keyed_rows import TIMESTAMP, read_rows
from callsieve.serving.batch.register_files import rows_of
from callsieve.serving.custody.purposes import copy_declaration
from callsieve.serving.rules.registers import SPAN, Registers, as_lines

from .check_files import KeyedRows, check_ingest, mark_repeated, own_or_default, sound_rows
from .complaint_files import NumberLayout, moments_of, number_tokens
from .dataset import LISTS
from .dataset_tables import arrow

Kind = Literal["customer", "own_line", "survey", "announcement", "other"]
KINDS: Mapping[str, Kind] = {kind: kind for kind in get_args(Kind)}
"""Words of the column `kind`, unless the layout has a table `kind`."""
LIST = "trusted "  # before the kind: the name of a list in the label policy
REGISTER = "trusted"
LISTS_FILE = "lists.parquet"


class TrustedColumns(Record, frozen=True):
    """The names that the column of each role may have."""

    number: tuple[str, ...] = ("number",)
    kind: tuple[str, ...] = ("kind",)
    trusted_from: tuple[str, ...] = ("trusted_from",)
    trusted_to: tuple[str, ...] = ("trusted_to",)
    known_at: tuple[str, ...] = ("known_at",)


class TrustedLayout(NumberLayout, frozen=True, kw_only=True):
    """How one kind of file writes trusted numbers. Times are by ISO 8601 unless `formats` states how they are written.

    `kind` translates words of the file; `complaint_files.toml` explains the other fields.
    """

    columns: TrustedColumns = TrustedColumns()
    optional: tuple[str, ...] = ("trusted_to", "known_at")
    kind: dict[str, Kind] | None = None


def read_trusted_file(
    path: Path,
    layout_name: str,
    key: Key,
    *,
    quarantine: Path | None = None,
    strict: bool = False,
    progress: Progress = silent,
) -> KeyedRows:
    """Reads and keys a file of trusted numbers: text (plain or gzip) or Parquet.

    Returns: rows with the columns number (token), kind, valid_from, valid_to and known_at.
    """
    layout = own_or_default(layout_name, TrustedLayout, "trusted")
    rows = read_rows(path, layout.find, progress)
    progress("key", 0.5)
    column = {role: names[0] for role, names in rows.roles.items()}

    def optional_moments(role: str) -> pd.Series[pd.Timestamp]:
        if role not in column:
            return pd.Series(pd.NaT, index=rows.cells.index, dtype="datetime64[ms, UTC]")
        return rows.moments(column[role], role, layout.zone, formats=layout.formats)

    words = layout.kind or KINDS
    number = number_tokens(rows, column["number"], layout, key, Intake(key))
    kind = rows.parsed(column["kind"], "kind", words.get, " or ".join(words), bad=UNKNOWN_WORD, missing=UNKNOWN_WORD)
    begin = moments_of(rows, column["trusted_from"], "trusted_from", layout)
    end, known_at = optional_moments("trusted_to"), optional_moments("known_at").fillna(begin)
    rows.mark(end <= begin, END_BEFORE_START, "trusted_to", "an end after `trusted_from`")
    table = pd.DataFrame({"number": number, "kind": kind, "valid_from": begin, "valid_to": end, "known_at": known_at})
    mark_repeated(rows, table, ["number", "valid_from"], "one row for a number and a `trusted_from`")
    return sound_rows(rows, table, quarantine, key, strict=strict)


def add_to_lists(read: KeyedRows, path: Path) -> int:
    """Adds trusted numbers to a table of lists on disk; returns how many of the rows are new. Other lists stay."""
    table = read.table.assign(list=LIST + read.table["kind"].astype(str))
    new = pa.table([arrow(table[field.name], field.type) for field in LISTS], LISTS).to_pylist()
    old = pq.read_table(path, columns=LISTS.names).to_pylist() if path.exists() else []
    others = [row for row in old if not row["list"].startswith(LIST)]
    merged = _merged([row for row in old if row["list"].startswith(LIST)], new)
    if merged.added or not path.exists():
        write_table(pa.Table.from_pylist([*others, *merged.rows], LISTS), path)
    return merged.added


def add_to_register(read: KeyedRows, folder: Path) -> int:
    """Adds trusted numbers to the registers that a scorer reads; returns how many of the rows are new."""
    path = folder / f"{REGISTER}.jsonl"
    columns = {name: read.table[name].tolist() for name in ("number", "kind")}
    for name in SPAN:
        columns[name] = arrow(read.table[name], TIMESTAMP).cast(pa.int64()).to_pylist()
    new = rows_of(Registers({REGISTER: columns}), REGISTER)
    old = rows_of(Registers.read(folder), REGISTER) if path.exists() else []
    merged = _merged(old, new)
    if merged.added or not path.exists():
        write_atomic(path, as_lines(merged.rows))
    return merged.added


@dataclass(frozen=True, slots=True)
class _Merged:
    rows: list[Mapping[str, Any]]
    added: int


def _merged(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> _Merged:
    """Adds the missing rows of `new`. Each replaces the old row of its number and start, and so can end the trust.

    Beside its replacement, an old row without an end would count for ever once retention has removed the ended one.
    """
    known = {tuple(row[name] for name in sorted(row)) for row in old}
    added = [row for row in new if tuple(row[name] for name in sorted(row)) not in known]
    begun = {(row["number"], row["valid_from"]) for row in added}
    others = [row for row in old if (row["number"], row["valid_from"]) not in begun]
    return _Merged([*others, *added], len(added))


def trusted_places(out: Path | None, registers: Path | None) -> list[Path]:
    """Returns the files that `ingest_trusted` writes: a table of lists, a register, or both."""
    lists = None if out is None else out if out.suffix == ".parquet" else out / LISTS_FILE
    return [path for path in (lists, None if registers is None else registers / f"{REGISTER}.jsonl") if path]


def ingest_trusted(
    path: Path,
    layout: str,
    *,
    key: Path | None = None,
    out: Path | None = None,
    registers: Path | None = None,
    quarantine: Path | None = None,
    strict: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Reads a file of trusted numbers, and adds them to the lists of a folder, to its registers, or to both.

    Returns: counts of rows, of numbers by kind, and of rows that are new in each place; JSON-able, without a number.
    """
    lists = None if out is None else out if out.suffix == ".parquet" else out / LISTS_FILE
    check_ingest(path, key, quarantine, {"--out": lists, "--registers": registers})
    read = read_trusted_file(
        path, layout, key_or_temporary(key), quarantine=quarantine, strict=strict, progress=progress
    )
    table = read.table
    figures = {
        "rows": len(table) + sum(read.quarantined.values()),
        "quarantined": dict(read.quarantined),
        "numbers": table["number"].nunique(),
        **{f"{kind} rows": int(count) for kind, count in table["kind"].value_counts().sort_index().items()},
        "with an end": int(table["valid_to"].notna().sum()),
        "first trusted from": str(table["valid_from"].min()),
        "last trusted from": str(table["valid_from"].max()),
        "added to lists": 0 if lists is None else add_to_lists(read, lists),
    }
    if registers is not None and not registers.exists():
        registers.mkdir(parents=True)
        copy_declaration(path.parent, registers)
    return figures | {"added to register": 0 if registers is None else add_to_register(read, registers)}
