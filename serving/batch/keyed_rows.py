"""Rows about numbers, such as complaints, registers and own columns: as files write them, and as keyed tables.

`read_rows` reads the cells of a file. A reader then parses column by column, and each invalid row gets the fault of its
first invalid cell. `Rows.set_apart` counts these rows and writes them to quarantine, without any number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.arrays import Int64s
from callsieve.features.files.parquet_file import is_parquet, parquet_errors
from callsieve.features.files.progress import Progress, silent
from callsieve.features.intake.text_columns import dictionary_decoded
from callsieve.features.keys.tokens import Key
from callsieve.features.reading.delimited import MatchColumns, read_lines
from callsieve.features.reading.quarantine import BAD_TIME, BAD_VALUE, BrokenLine, Faults, Quarantine

TIMESTAMP = pa.timestamp("ms", tz="UTC")
BAD_NUMBER = "bad_number"
_ZONE = r"[T ][0-9:.]+ ?(?:Z|[+-][0-9]{2}:?[0-9]{2})$"
_Value = TypeVar("_Value")
Roles = Mapping[str, tuple[str, ...]]


class Rows:
    """The cells of a file, and the first fault of each row.

    Attributes:
        cells: cells by column, as text or as the file's own type.
        numbers: number of each row: the line of a text file, the row of a Parquet file, from 1.
        roles: names of the columns of each role.
        faults: the first fault of each row.
    """

    def __init__(
        self, file: str, cells: pd.DataFrame, numbers: Int64s, roles: Roles, broken: Sequence[BrokenLine] = ()
    ) -> None:
        """Takes the rows of a file of this name, and the lines that could not be split into cells."""
        self.cells, self.numbers, self.roles, self.faults = cells, numbers, roles, Faults(len(cells))
        self._file, self._broken = file, broken

    def mark(self, bad: Iterable[bool], reason: str, role: str, expected: str) -> None:
        """Gives this fault to rows where `bad` is true, unless they have an earlier one."""
        self.faults.mark(np.fromiter(bad, dtype=bool, count=len(self.cells)), reason, role, expected)

    def texts(self, column: str) -> list[str | None]:
        """Returns a column as text without spaces around; None for an empty cell."""
        return [_text(value) for value in self.cells[column]]

    def parsed(
        self,
        column: str,
        role: str,
        read: Callable[[str], _Value | None],
        expected: str,
        *,
        bad: str = BAD_VALUE,
        missing: str = "",
    ) -> list[_Value | None]:
        """Returns the values of a column; marks cells without one.

        `read`: returns the value of a text; None for an invalid one. Each distinct text is read once.
        """
        texts = self.texts(column)
        value_of = {text: read(text) for text in dict.fromkeys(texts) if text is not None}
        self.mark((text is not None and value_of[text] is None for text in texts), bad, role, expected)
        if missing:
            self.mark((text is None for text in texts), missing, role, expected)
        return [None if text is None else value_of[text] for text in texts]

    def moments(
        self, column: str, role: str, zone: str, *, formats: Sequence[str] = (), missing: str = ""
    ) -> pd.Series[pd.Timestamp]:
        """Returns the moments of a column in UTC, in milliseconds; NaT for an empty or invalid cell, which is marked.

        `formats`: how the file writes moments, the first that fits applies; by default ISO 8601.
        """
        parsed, expected = self.cells[column], "a day or a moment by ISO 8601"
        empty = parsed.isna().to_numpy()
        if not pd.api.types.is_datetime64_any_dtype(parsed):
            texts = pd.Series(self.texts(column), index=parsed.index, dtype=object)
            empty = texts.isna().to_numpy()
            parsed = _formatted(texts, formats) if formats else _iso(texts, zone)
        if formats:
            expected = f"a time written as {formats[0]}"
        if getattr(parsed.dtype, "tz", None) is None:
            # In autumn's repeated hour the earlier moment is taken; in spring's missing hour, the next valid one.
            parsed = parsed.dt.tz_localize(zone, ambiguous=np.ones(len(parsed), bool), nonexistent="shift_forward")
        self.mark(parsed.isna().to_numpy() & ~empty, BAD_TIME, role, expected)
        if missing:
            self.mark(empty, missing, role, expected)
        moments: pd.Series[pd.Timestamp] = parsed.dt.tz_convert("UTC").dt.as_unit("ms")
        return moments

    def set_apart(
        self, roles: Mapping[str, str], path: Path | None, key: Key | None, *, strict: bool
    ) -> tuple[Int64s, Quarantine]:
        """Counts the invalid rows, and writes them to quarantine.

        Returns: the places of the valid rows, and the invalid ones.
        """
        bad = np.flatnonzero(self.faults.which)
        cells = {name: pa.array([_text(value) for value in self.cells[name].iloc[bad]], pa.string()) for name in roles}
        with Quarantine(self._file, None, path, key, strict=strict) as invalid:
            invalid.add(self.numbers[bad], self.faults.of(bad), pa.table(cells), roles, broken=self._broken)
        return np.flatnonzero(self.faults.which == 0), invalid


def read_rows(path: Path, match: MatchColumns, progress: Progress = silent) -> Rows:
    """Reads the cells of a file: text (plain or gzip), JSON lines, or Parquet."""
    roles: dict[str, tuple[str, ...]] = {}
    wanted: list[str] = []  # columns in the order of the file

    def matched(names: Sequence[str]) -> Roles:
        try:
            roles.update(match(names))
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from None
        used = {name for columns in roles.values() for name in columns}
        wanted.extend(dict.fromkeys(name for name in names if name in used))
        return roles

    if not path.is_file():
        raise ValueError(f"{path}: not found")
    if path.suffix == ".jsonl":
        return _json_rows(path, matched, roles)
    if path.suffix == ".parquet" or is_parquet(path):
        with parquet_errors(path, path.stem):
            # pandas writes the index of a filtered frame as a column.
            matched([name for name in pq.read_schema(path).names if not name.startswith("__index_level_")])
            cells = pq.read_table(path, columns=wanted)
        return Rows(path.name, _frame(cells), np.arange(1, cells.num_rows + 1), roles)
    batches = []
    for batch in read_lines(path, matched):
        batches.append(batch)
        progress("read", 0.5 * batch.done / path.stat().st_size)
    cells = pa.concat_tables([batch.cells for batch in batches]).select(wanted)
    broken = [line for batch in batches for line in batch.broken]
    return Rows(path.name, _frame(cells), np.concatenate([batch.rows for batch in batches]), roles, broken)


def _json_rows(path: Path, match: MatchColumns, roles: Roles) -> Rows:
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        cells = pd.DataFrame(records, dtype=object)
    except (AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError):
        # The parser's message may quote the file.
        raise ValueError(f"{path.name}: expected a whole jsonl file, one object a line") from None
    if records:
        match([str(name) for name in cells.columns])
    return Rows(path.name, cells, np.arange(1, len(cells) + 1), roles)


def _frame(cells: pa.Table) -> pd.DataFrame:
    columns = [dictionary_decoded(column) for column in cells.columns]
    frame: pd.DataFrame = pa.table(columns, names=cells.column_names).to_pandas(ignore_metadata=True)
    return frame


def _text(value: object) -> str | None:
    if value is None or value == "" or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, pd.Timestamp):
        # pandas cannot format a year outside Python's range.
        return value.isoformat() if 1 <= value.year <= 9999 else str(value.to_numpy())
    return str(value).strip() or None


def _iso(texts: pd.Series[str], zone: str) -> pd.Series[pd.Timestamp]:
    zoned = texts.str.contains(_ZONE, na=False)
    plain = pd.to_datetime(texts.mask(zoned), format="ISO8601", errors="coerce")
    moments = pd.to_datetime(texts.where(zoned), format="ISO8601", errors="coerce", utc=True)
    return moments.fillna(plain.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC"))


def _formatted(texts: pd.Series[str], formats: Sequence[str]) -> pd.Series[pd.Timestamp]:
    offset = "%z" in formats[0]
    parsed = pd.Series(pd.NaT, index=texts.index, dtype="datetime64[us, UTC]" if offset else "datetime64[us]")
    for form in formats:
        of_form = pd.to_datetime(texts, format=form, errors="coerce", utc=offset)
        parsed = parsed.fillna(of_form.astype(parsed.dtype))
    return parsed


def milliseconds(moments: pd.Series[pd.Timestamp]) -> pd.Series[int]:
    """Returns moments as Unix milliseconds."""
    return moments.dt.tz_convert("UTC").dt.as_unit("ms").astype("int64")


def checked_frame(table: pa.Table, schema: pa.Schema, where: str) -> pd.DataFrame:
    """Checks an Arrow table against a schema and returns it as pandas, with text as plain objects.

    Columns outside the schema are dropped. A nullable column may be missing.
    """
    columns = {}
    for field in schema:
        if field.name not in table.column_names:
            if not field.nullable:
                raise ValueError(f"{where}: column {field.name}: expected {field.type}, it is missing")
            continue
        try:
            columns[field.name] = table[field.name].cast(field.type, safe=not pa.types.is_timestamp(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            got = table[field.name].type
            raise ValueError(f"{where}: column {field.name}: expected {field.type}, got {got}") from None
        if columns[field.name].null_count and not field.nullable:
            raise ValueError(f"{where}: column {field.name}: expected no missing value")
    frame: pd.DataFrame = pa.table(columns).to_pandas()
    if "at" in frame and (frame["known_at"] < frame["at"]).any():
        raise ValueError(f"{where}: column known_at: expected no moment before `at`")
    return frame
