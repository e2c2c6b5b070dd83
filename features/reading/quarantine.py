"""The quarantine file: invalid rows of a call file with the reason, the expected value and keyed cells.

The file is JSON lines, one object per row: `row` (line of a text file, row of a Parquet file, from 1), `reason`,
`expected`, `column` and `cells`. A line that could not be split into cells has, in place of `column` and `cells`, the
keyed `token` of the whole line with its `length` and byte `offset`. A duplicate call also has `first`, the row of the
call that stays.

A cell is in clear only if it is valid for its column and cannot be a telephone number: a time in digits and separators,
a short count, a listed value. Any other cell is its keyed token, plus its shape (9 for a digit, a for a letter) if its
column does not hold numbers or names. The owner of the source locates the row by its number.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from callsieve.features.arrays import Bools, Int64s
from callsieve.features.files.atomic import atomic_path
from callsieve.features.keys.tokens import Key

from .layouts import CATEGORIES, SECONDS, TIMES, Layout

BAD_ENCODING = "bad_encoding"
BAD_NUMBER_OF_COLUMNS = "bad_number_of_columns"
BAD_TIME = "bad_time"
BAD_VALUE = "bad_value"
CONFLICTING_DUPLICATE = "conflicting_duplicate"
DUPLICATE = "duplicate"
END_BEFORE_START = "end_before_start"
MISSING_CALLEE = "missing_callee"
NEGATIVE_DURATION = "negative_duration"
TIME_OUT_OF_RANGE = "time_out_of_range"
TRUNCATED_FILE = "truncated_file"
UNKNOWN_WORD = "unknown_word"
_REPEATS = (DUPLICATE, CONFLICTING_DUPLICATE)

_WRITTEN_TIME = re.compile(
    r"[12]\d{3}-[01]\d-[0-3]\d([ T][0-2]\d:[0-5]\d(:[0-5]\d(\.\d{1,3})?)?(Z|[+-][01]\d:[0-5]\d)?)?", re.ASCII
)
_MOMENTS = (*TIMES, "at", "known_at", "checked_at")  # roles of calls, complaints and checks
_LISTED = (*CATEGORIES, "category", "mode", "verdict")
_SHORT_COUNT = re.compile(r"-?\d{1,6}(\.\d{1,3})?", re.ASCII)


class BrokenLine(NamedTuple):
    """A line that could not be split into cells: its number, the fault, its bytes and their offset in the file."""

    row: int
    reason: str
    expected: str
    raw: bytes
    offset: int


class Fault(NamedTuple):
    """The fault of a row: reason, role of the column, and the expected value."""

    reason: str
    role: str
    expected: str


class Faults:
    """The first fault of each row of a table: `which` is an index into `kinds`, 0 for a valid row."""

    def __init__(self, rows: int) -> None:
        self.which: npt.NDArray[np.int16] = np.zeros(rows, np.int16)
        self.kinds = [Fault("", "", "")]

    def mark(self, bad: Bools, reason: str, role: str, expected: str) -> None:
        """Gives this fault to rows where `bad` is true, unless they have an earlier one."""
        bad = bad & (self.which == 0)
        if bad.any():
            self.which[bad] = len(self.kinds)
            self.kinds.append(Fault(reason, role, expected))

    def of(self, rows: Int64s) -> Faults:
        """Returns the faults of some rows, by position."""
        selected = Faults(len(rows))
        selected.which, selected.kinds = self.which[rows], self.kinds
        return selected


class Quarantine:
    """Counts the invalid rows of one source, and writes them to a file, if any, once reading succeeds.

    Attributes:
        source: name of the file.
        layout: layout of a file of call records; None for a file of another kind.
        counts: number of invalid rows by reason.
        kinds: number of invalid rows by fault and name of the column, "" for a fault of the whole row.
        words: number of invalid rows by role and word, for roles with listed words.
        roles: roles that have a column in the file.
        refused: numbers of the invalid rows in the file, in arrays, by reason.
        examples: the first invalid cell of each fault and column, or the shape of a cell that can be a number.
    """

    def __init__(self, source: str, layout: Layout | None, path: Path | None, key: Key | None, *, strict: bool) -> None:
        if path is not None and key is None:
            raise ValueError(f"quarantine file {path.name}: expected a key, because the file stores numbers as tokens")
        self.counts: Counter[str] = Counter()
        self.kinds: Counter[tuple[Fault, str]] = Counter()
        self.words: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.roles: set[str] = set()
        self.refused: defaultdict[str, list[Int64s]] = defaultdict(list)
        self.examples: dict[tuple[Fault, str], str] = {}
        self.source, self.layout, self._path, self._key, self._strict = source, layout, path, key, strict
        self._file: IO[str] | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if self._path is not None:
            part = self._open.enter_context(atomic_path(self._path))
            self._file = self._open.enter_context(part.open("w", encoding="utf-8"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def add(
        self,
        rows: Int64s,
        faults: Faults,
        cells: pa.Table,
        roles: Mapping[str, str],
        *,
        broken: Sequence[BrokenLine] = (),
        first: Int64s | None = None,
    ) -> None:
        """Adds the faulty rows of a table, and the broken lines of the same part of the file."""
        at = np.flatnonzero(faults.which)
        faulty = [(int(rows[i]), faults.kinds[faults.which[i]]) for i in at]
        if self._strict and (faulty or broken):
            names = {role: name for name, role in roles.items()}
            candidates = [(row, names.get(own.role, own.role), own.reason, own.expected) for row, own in faulty]
            candidates += [(line.row, "", line.reason, line.expected) for line in broken]
            row, column, reason, expected = min(candidates)
            where = f", column {column}" if column else ""
            raise ValueError(f"{self.source}, row {row}{where}: {reason}, expected {expected}")
        self.counts.update(fault.reason for _, fault in faulty)
        self.counts.update(line.reason for line in broken)
        for place in np.unique(faults.which[at]).tolist():
            self.refused[faults.kinds[place].reason].append(rows[faults.which == place])
        for line in broken:
            self.refused[line.reason].append(np.array([line.row]))
        names = {role: name for name, role in roles.items()}
        if first is None:  # else the columns are those of calls, not of the file
            self.roles.update(names)
        self.kinds.update((fault, names.get(fault.role, fault.role)) for _, fault in faulty)
        self.kinds.update((Fault(line.reason, "", line.expected), "") for line in broken)
        self._count_words(faults, cells, names)
        self._add_examples(faults, cells, names)
        if self._file is None or not (faulty or broken):
            return
        entries = [self._line_entry(line) for line in broken]
        values_of = cells.select(list(roles)).take(at).to_pylist()
        for i, (row, fault), values in zip(at, faulty, values_of, strict=True):
            shown = {name: self._shown(value, roles[name]) for name, value in values.items()}
            entry: dict[str, Any] = {"row": row, "reason": fault.reason, "expected": fault.expected}
            if fault.role:
                entry["column"] = names.get(fault.role, fault.role)
            if first is not None:
                entry["first"] = int(first[i])
            entries.append(entry | {"cells": shown})
        for entry in sorted(entries, key=lambda entry: int(entry["row"])):
            self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def _count_words(self, faults: Faults, cells: pa.Table, names: Mapping[str, str]) -> None:
        for place, fault in enumerate(faults.kinds):
            if fault.reason in (BAD_VALUE, UNKNOWN_WORD) and fault.role in _LISTED:
                name = names.get(fault.role)
                if name is not None:
                    column = cells[name].filter(faults.which == place).cast("string").drop_null()
                    for pair in column.value_counts().to_pylist():
                        self.words[fault.role][pair["values"]] += pair["counts"]

    def _add_examples(self, faults: Faults, cells: pa.Table, names: Mapping[str, str]) -> None:
        for place in np.unique(faults.which[faults.which > 0]).tolist():
            fault = faults.kinds[place]
            if fault.role in (*_MOMENTS, *SECONDS) and fault.role in names:
                cell = cells[names[fault.role]][int(np.argmax(faults.which == place))].as_py()
                text = "" if cell is None else str(cell)
                example = text if self._is_clear(text, fault.role) else _shape(text)
                self.examples.setdefault((fault, names[fault.role]), example)

    def _line_entry(self, line: BrokenLine) -> dict[str, Any]:
        return {
            "row": line.row,
            "reason": line.reason,
            "expected": line.expected,
            "token": self._token(line.raw.decode("utf-8", "backslashreplace")),
            "length": len(line.raw),
            "offset": line.offset,
        }

    def _shown(self, value: object, role: str) -> object:
        if value is None or value == "":
            return None
        if isinstance(value, datetime):
            return value.isoformat()
        text = str(value)
        if self._is_clear(text, role):
            return text
        if role in _MOMENTS or role in SECONDS or role in CATEGORIES:
            return {"token": self._token(text), "shape": _shape(text)}
        return {"token": self._token(text)}

    def _is_clear(self, text: str, role: str) -> bool:
        return bool(
            (role in _MOMENTS and _WRITTEN_TIME.fullmatch(text))
            or (role in (*_MOMENTS, *SECONDS) and _SHORT_COUNT.fullmatch(text))
            or (role in CATEGORIES and text in (self.layout.values if self.layout else {}).get(role, CATEGORIES[role]))
        )

    def _token(self, text: str) -> str:
        assert self._key is not None  # noqa: S101 - the file is open only with a key
        return self._key.token("number", text)


def _shape(text: str) -> str:
    return "".join("9" if c.isnumeric() else "a" if c.isalpha() else c for c in text[:40])


MOST_INVALID = 0.1
"""Largest share of a file of calls that may be invalid; repeats of a call do not count, because the call stays."""
REASONS, WORDS = 3, 3  # that a message names
LONGEST_WORD, MOST_DIGITS = 20, 2  # of a word that a message shows: no telephone number is so short

HINTS = {
    BAD_TIME: "name how the file writes times under `formats`, as %d/%m/%Y %H:%M:%S; in a layout of calls, in [clock]",
    TIME_OUT_OF_RANGE: "check the clock of the layout: unit, epoch, earliest",
    END_BEFORE_START: "check which columns are `start` and `end` under [columns]",
    MISSING_CALLEE: "name the column of the called number under [columns] as `callee`",
    BAD_NUMBER_OF_COLUMNS: "check that commas separate the cells, and that a cell with a comma is quoted",
}


def check_valid(valid: int, invalid: Quarantine, most: float = 1.0) -> None:
    """Checks that not every row of a file is invalid, nor a larger share of them than `most`."""
    kinds = Counter({kind: n for kind, n in invalid.kinds.items() if kind[0].reason not in _REPEATS})
    refused, rows = sum(kinds.values()), valid + sum(invalid.counts.values())
    if not refused or (valid and refused <= most * rows):
        return
    share = f"{refused:,} of {rows:,}" if valid else f"all {rows:,}"
    reasons = "; ".join(_in_words(invalid, *kind, count) for kind, count in kinds.most_common(REASONS))
    override = "; --allow-quarantine goes on without these rows" if valid else ""
    raise ValueError(f"{invalid.source}: {share} rows were quarantined: {reasons}{override}")


def _in_words(invalid: Quarantine, fault: Fault, column: str, count: int) -> str:
    where = f"column {column!r}, " if column else ""
    example, hint = invalid.examples.get((fault, column), ""), _hint(invalid, fault)
    got = f", got {example!r}" if example else ""
    return f"{count:,} {fault.reason} ({where}expected {fault.expected}{got}" + (f": {hint})" if hint else ")")


def _hint(invalid: Quarantine, fault: Fault) -> str:
    layout = invalid.layout
    if layout is not None and fault.role == "talk" and not {"ring", "total"} & {*invalid.roles, *layout.constants}:
        return f"no `ring` column is mapped; add `ring = 0` under [constants] of layout {layout.name!r}"
    if fault.reason == UNKNOWN_WORD or fault.role in CATEGORIES:
        table = fault.role if fault.reason == UNKNOWN_WORD else f"values.{fault.role}"
        shown = [word for word, count in invalid.words[fault.role].most_common() if _showable(word, count, invalid)]
        return f"add the words of the file under [{table}]" + (f", such as {', '.join(shown[:WORDS])}" if shown else "")
    return HINTS.get(fault.reason, "")


def _showable(word: str, count: int, invalid: Quarantine) -> bool:
    digits = sum(letter.isnumeric() for letter in word)
    return len(word) <= LONGEST_WORD and digits <= MOST_DIGITS and 100 * count >= sum(invalid.counts.values())
