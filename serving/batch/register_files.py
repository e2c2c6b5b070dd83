"""Reads files of registers and keys them; an invalid row goes to quarantine with its reason, without any number.

A file is named `NAME` or `register_NAME`, with the ending .csv, .parquet or .jsonl. Its columns are listed in
`serving.rules.registers.SCHEMA`; any other column is an error. `register_words.toml` has the Chinese names of files,
columns and words, such as 谢绝来电.csv for the preferences. In tables with blocks a row may cover a range, from
`number` to `number_to`: whole blocks of ten thousand numbers become block rows, the ends become number rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.files.atomic import check_distinct, write_atomic
from callsieve.features.files.dates import time_zone
from callsieve.features.files.masking import has_long_digits
from callsieve.features.files.progress import by_size, silent
from callsieve.features.files.toml_file import read_toml
from callsieve.features.intake.intake import Intake
from callsieve.features.keys.tokens import is_token
from callsieve.features.reading.layouts import Layout
from callsieve.features.reading.quarantine import BAD_TIME, BAD_VALUE, END_BEFORE_START, Faults, Quarantine
from callsieve.serving.rules.registers import OPTIONAL, SCHEMA, SPAN, Registers, columns_of, row_to_line

from .number_ranges import split_range

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress
    from callsieve.features.keys.tokens import Key

MISSING_VALUE = "missing_value"
BAD_NUMBER = "bad_number"
BAD_RANGE = "bad_range"
RANGE_END = "number_to"
_ENDINGS = (".jsonl", ".parquet", ".csv")
_SHOWN = {
    "number": "caller",
    "block": "caller",
    "trunk": "caller",
    "moment": "start",
}  # kinds of column -> quarantine's column names
_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_MAX_LENGTH = 64
_LICENCE = re.compile(r"^((?:[A-Z][0-9]?[.、]?)+-)([0-9]{4})([0-9]{4})$")
_ZONE = r"[T ][0-9:.]+ ?(?:Z|[+-][0-9]{2}:?[0-9]{2})$"


Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReadRegisters:
    """Keyed registers, and the number of accepted and, by reason, of quarantined rows of each table."""

    registers: Registers
    accepted: Mapping[str, int]
    quarantined: Mapping[str, Mapping[str, int]]


def read_registers(
    folder: Path,
    key: Key,
    *,
    quarantine: Path | None = None,
    strict: bool = False,
    zone: str = "Asia/Shanghai",
    progress: Progress = silent,
) -> ReadRegisters:
    """Reads and keys every register of a folder.

    Args:
        key: key of the calls; tokens in the files are kept as they are.
        quarantine: folder for invalid rows, one file `NAME.jsonl` a register.
        zone: time zone of moments that are written without one.
    Raises:
        ValueError: in one line, if a file is not a register, the folder has none, or, if strict, at the first bad row.
    """
    check_distinct(folder, quarantine)
    time_zone(zone)
    paths = {name: path for name in SCHEMA if (path := _file(folder, name)) is not None}
    if not paths:
        raise ValueError(f"{folder}: holds no register; expected files such as campaigns.csv")
    columns, accepted, quarantined = {}, {}, {}
    if quarantine is not None:
        quarantine.mkdir(parents=True, exist_ok=True)
    progress_of = by_size(progress, paths.values())
    for name, path in paths.items():
        quarantine_file = None if quarantine is None else quarantine / f"{name}.jsonl"
        columns[name], quarantined[name] = _read(path, name, key, quarantine_file, strict=strict, zone=zone)
        accepted[name] = len(columns[name]["known_at"])
        progress_of[path](name, 1.0)
    return ReadRegisters(Registers(columns), accepted, quarantined)


def write_registers(registers: Registers, folder: Path) -> None:
    """Writes keyed registers into files that `rules.registers` reads; each file is written atomically."""
    for name in registers.tables:
        write_atomic(folder / f"{name}.jsonl", as_lines(rows_of(registers, name)))


def rows_of(registers: Registers, name: str) -> list[Row]:
    """Returns the rows of a table as dictionaries."""
    columns = registers.columns[name]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def as_lines(rows: Iterable[Row]) -> bytes:
    """Encodes keyed rows as the bytes of a JSON Lines file."""
    return "".join(f"{row_to_line(row)}\n" for row in rows).encode()


def _file(folder: Path, name: str) -> Path | None:
    stems = [name, f"register_{name}", *(word for word, register in _words()["files"].items() if register == name)]
    candidates = [folder / f"{stem}{ending}" for stem in stems for ending in _ENDINGS]
    existing = [path for path in candidates if path.is_file()]
    if len(existing) > 1:
        raise ValueError(f"{folder}: expected one file of {name}, got {', '.join(path.name for path in existing)}")
    return existing[0] if existing else None


def _read(
    path: Path, table: str, key: Key, quarantine: Path | None, *, strict: bool, zone: str
) -> tuple[dict[str, list[Any]], dict[str, int]]:
    cells, intake = _cells(path, table), Intake(key)
    kinds = columns_of(table)
    faults, rows = Faults(len(cells)), np.arange(1, len(cells) + 1)
    columns = {name: _column(cells, name, kind, intake, faults, zone) for name, kind in kinds.items()}
    _check_order(columns, faults)
    ranges = _expanded_ranges(cells, columns, intake, faults)
    bad = np.flatnonzero(faults.which)
    names = {name: _SHOWN.get(kinds.get(name, "number"), "text") for name in cells.columns}
    bad_cells = pa.table(
        {name: pa.array([_text(value) for value in cells[name].iloc[bad]], pa.string()) for name in names}
    )
    with Quarantine(path.name, Layout(name=table, columns={}), quarantine, key, strict=strict) as rejected:
        rejected.add(rows[bad], faults.of(bad), bad_cells, names)
    return _sound_rows(columns, faults, ranges), dict(sorted(rejected.counts.items()))


def _cells(path: Path, table: str) -> pd.DataFrame:
    """Reads the cells of a file. Raises ValueError for an unknown or missing column, or a broken file."""
    try:
        if path.suffix == ".parquet":
            cells: pd.DataFrame = pq.read_table(path).to_pandas()
        elif path.suffix == ".jsonl":
            lines = path.read_text(encoding="utf-8").splitlines()
            records = [json.loads(line) for line in lines]
            cells = pd.DataFrame(records, columns=None if records else [*columns_of(table)], dtype=object)
        else:
            cells = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pa.ArrowException, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError):
        # The parser's message may quote the file. Index metadata of Parquet may raise nearly anything in pandas.
        raise ValueError(f"{path.name}: expected a whole {path.suffix[1:]} file with a row of names") from None
    cells = _in_own_words(cells, path)
    expected = columns_of(table)
    allowed = {*expected, RANGE_END} if "block" in expected else set(expected)
    for place, name in enumerate(cells.columns):
        if name not in allowed:
            raise ValueError(f"{path.name}: column {place + 1} is not known, expected {', '.join(sorted(allowed))}")
    missing = [name for name in expected if name not in cells.columns and name not in OPTIONAL]
    if "number" in missing and "block" in cells.columns:
        missing.remove("number")
    if missing:
        raise ValueError(f"{path.name}: no column {missing[0]}, expected {', '.join(expected)}")
    return cells


@cache
def _words() -> dict[str, Any]:
    """Returns the Chinese names of files, columns and words (`register_words.toml`)."""
    return read_toml(Path(__file__).with_name("register_words.toml"), "register_words.toml")


def _in_own_words(cells: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Returns the cells with the project's names of columns and words in place of Chinese ones."""
    words = _words()
    cells = cells.rename(columns=words["columns"])
    if cells.columns.duplicated().any():
        raise ValueError(f"{path.name}: two columns have the same meaning, expected each column once")
    for name, value in words["absent"].get(path.stem, {}).items():
        if name not in cells:
            cells[name] = value
    for name in cells.columns:
        if name in words["translated"]["columns"]:
            cells[name] = cells[name].map(lambda cell: words["words"].get(cell, cell))
    return cells


def _text(value: object) -> str | None:
    if value is None or value == "" or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, pd.Timestamp):
        # pandas cannot format a year outside Python's range.
        return value.isoformat() if 1 <= value.year <= 9999 else str(value.to_numpy())
    return str(value).strip() or None


def _column(cells: pd.DataFrame, name: str, kind: str, intake: Intake, faults: Faults, zone: str) -> list[Any]:
    """Parses a column; marks faults on the way."""
    if name not in cells.columns:
        return [None] * len(cells)
    if kind == "moment":
        return _moments(cells[name], name, faults, zone)
    texts = [_text(value) for value in cells[name]]
    parse, expected = _PARSERS[kind]
    values = [None if text is None else parse(text, intake) for text in texts]
    wrong = np.array(
        [value is None and text is not None for value, text in zip(values, texts, strict=True)], dtype=bool
    )
    faults.mark(wrong, BAD_NUMBER if kind in ("number", "block") else BAD_VALUE, name, expected)
    # `_expanded_ranges` checks that a row has a number or a block: either may be missing.
    if name not in OPTIONAL and not (name == "number" and {"block"} & set(cells.columns)):
        faults.mark(np.array([text is None for text in texts], dtype=bool), MISSING_VALUE, name, expected)
    return values


def _moments(column: pd.Series[Any], name: str, faults: Faults, zone: str) -> list[Any]:
    if pd.api.types.is_datetime64_any_dtype(column):
        moments = column.dt.tz_localize(zone) if column.dt.tz is None else column
    else:
        texts = pd.Series([_text(value) for value in column], index=column.index, dtype=object)
        zoned = texts.str.contains(_ZONE, na=False)
        plain = pd.to_datetime(texts.mask(zoned), format="ISO8601", errors="coerce")
        moments = pd.to_datetime(texts.where(zoned), format="ISO8601", errors="coerce", utc=True)
        moments = moments.fillna(plain.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC"))
        faults.mark((texts.notna() & moments.isna()).to_numpy(), BAD_TIME, name, "a day or a moment by ISO 8601")
    missing = moments.isna().to_numpy()
    if name not in OPTIONAL:
        faults.mark(missing, MISSING_VALUE, name, "a day or a moment by ISO 8601")
    whole = moments.dt.tz_convert("UTC").dt.as_unit("ms").astype("int64").to_numpy()
    return [None if none else moment for none, moment in zip(missing, whole.tolist(), strict=True)]


def _check_order(columns: Mapping[str, list[Any]], faults: Faults) -> None:
    ends = zip(columns["valid_from"], columns["valid_to"], strict=True)
    before = np.array([None not in (begin, end) and end < begin for begin, end in ends], dtype=bool)
    faults.mark(before, END_BEFORE_START, "valid_to", "an end that is not before `valid_from`")


def _expanded_ranges(
    cells: pd.DataFrame, columns: Mapping[str, list[Any]], intake: Intake, faults: Faults
) -> dict[int, list[tuple[str | None, str | None]]]:
    """Returns, for each row that covers a range, the (number, block) pairs of the rows that replace it."""
    if "block" not in columns:
        return {}
    expanded: dict[int, list[tuple[str | None, str | None]]] = {}
    ends = [_text(value) for value in cells[RANGE_END]] if RANGE_END in cells.columns else [None] * len(cells)
    faulty = np.zeros(len(cells), dtype=bool)
    firsts = cells["number"] if "number" in cells.columns else pd.Series([None] * len(cells), dtype=object)
    for row, last in enumerate(ends):
        if last is None:
            faulty[row] = (columns["number"][row] is None) == (columns["block"][row] is None)
            continue
        numbers, blocks = split_range(_text(firsts.iloc[row]), last) or ((), ())
        faulty[row] = not (numbers or blocks)
        expanded[row] = [(intake.token("number", number), None) for number in numbers]
        expanded[row] += [(None, intake.token("block", block)) for block in blocks]
    faults.mark(faulty, BAD_RANGE, "number", "either a number, or a block, or a range of numbers of one length")
    return expanded


def _sound_rows(columns: dict[str, list[Any]], faults: Faults, expanded: Mapping[int, Any]) -> dict[str, list[Any]]:
    """Returns the columns of the valid rows, with ranges expanded."""
    sound = np.flatnonzero(faults.which == 0).tolist()
    if not expanded:
        return {name: [values[row] for row in sound] for name, values in columns.items()}
    result: dict[str, list[Any]] = {name: [] for name in columns}
    for row in sound:
        for number, block in expanded.get(row, [(columns["number"][row], columns["block"][row])]):
            for name, values in columns.items():
                result[name].append(number if name == "number" else block if name == "block" else values[row])
    return result


def _number(text: str, intake: Intake) -> str | None:
    return intake.token("number", text) if is_token(text) or _looks_like_number(text) else None


def _block(text: str, intake: Intake) -> str | None:
    """Reads a block, written as its token or as one of its numbers."""
    return text if is_token(text) else intake.token("block", text) if _looks_like_number(text) else None


def _looks_like_number(text: str) -> bool:
    digits = sum(c.isdigit() for c in text)
    return 3 <= digits <= 20 and all(c.isdigit() or c in "+-() ./" for c in text)


def _plain(text: str, _: Intake) -> str | None:
    """Reads a name or a word; rejects text that may hold a telephone number."""
    return text if len(text) <= _MAX_LENGTH and text.isprintable() and not has_long_digits(text) else None


def _licence(text: str, intake: Intake) -> str | None:
    """Reads a licence; splits the eight digits after its letters, which would else look like a telephone number.

    >>> _licence("B2-20090059", None), _licence("2-13800138000", None)
    ('B2-2009 0059', None)
    """
    return _plain(_LICENCE.sub(r"\1\2 \3", text), intake)


def _whole_number(maximum: int) -> Callable[[str, Intake], int | None]:
    def read(text: str, _: Intake) -> int | None:
        digits = text.removesuffix(".0")
        return (
            int(digits)
            if digits.isascii() and digits.isdigit() and len(digits) < 8 and int(digits) <= maximum
            else None
        )

    return read


_PARSERS: dict[str, tuple[Callable[[str, Intake], Any], str]] = {
    "number": (_number, "a telephone number or a token"),
    "block": (_block, "a number of the block or a token"),
    "trunk": (lambda text, intake: intake.token("trunk", text), "the name of a trunk or a token"),
    "text": (_plain, f"at most {_MAX_LENGTH} printable characters that hold no telephone number"),
    "licence": (_licence, f"at most {_MAX_LENGTH} printable characters, such as B2-20090059"),
    "flag": (lambda text, _: _FLAGS.get(text.lower()), "true or false"),
    "hour": (_whole_number(24), "a whole hour from 0 to 24"),
    "count": (_whole_number(10**6), "a whole number"),
}
assert set(_PARSERS) | {"moment"} == {kind for table in SCHEMA.values() for kind in table.values()} | set(SPAN.values())  # noqa: S101
