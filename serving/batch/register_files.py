"""Files of registers -> keyed registers; a bad row goes to quarantine with its reason, and nobody's number is kept.

A file is `NAME` or `register_NAME` with .csv, .parquet or .jsonl behind it; its columns are those of
`serving.registers.SCHEMA`, an unknown one is refused. Where a table has blocks, `number_to` makes a row one of a range:
whole blocks of ten thousand numbers stay blocks, what is left at the ends is told number by number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.files.folders import check_apart, write_whole
from callsieve.features.files.masking import long_digits
from callsieve.features.files.progress import by_size, silent
from callsieve.features.files.zones import time_zone
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
_SHOWN = {"number": "caller", "block": "caller", "trunk": "caller", "moment": "start"}  # as quarantine knows them
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_LONGEST = 64
_ZONE = r"[T ][0-9:.]+ ?(?:Z|[+-][0-9]{2}:?[0-9]{2})$"


Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReadRegisters:
    """Keyed registers, and how many rows of each table were taken and put apart, by reason."""

    registers: Registers
    taken: Mapping[str, int]
    quarantined: Mapping[str, Mapping[str, int]]


def read_registers(
    folder: Path, key: Key, *, quarantine: Path | None = None, strict: bool = False, zone: str = "Asia/Shanghai",
    tell: Progress = silent,
) -> ReadRegisters:  # fmt: skip
    """Read and key every register of a folder.

    Args:
        key: that of the calls; what is a token already stays one.
        quarantine: folder for the rows that are put apart, `NAME.jsonl` each.
        zone: of moments that are written without one.
    Raises:
        ValueError: in one line, if a file is no register, the folder holds none, or, if strict, at the first bad row.
    """
    check_apart(folder, quarantine)
    time_zone(zone)
    found = {name: path for name in SCHEMA if (path := _file(folder, name)) is not None}
    if not found:
        raise ValueError(f"{folder}: holds no register, expected files such as campaigns.csv")
    columns, taken, apart = {}, {}, {}
    if quarantine is not None:
        quarantine.mkdir(parents=True, exist_ok=True)
    inside = by_size(tell, found.values())
    for name, path in found.items():
        kept = None if quarantine is None else quarantine / f"{name}.jsonl"
        columns[name], apart[name] = _read(path, name, key, kept, strict=strict, zone=zone)
        taken[name] = len(columns[name]["known_at"])
        inside[path](name, 1.0)
    return ReadRegisters(Registers(columns), taken, apart)


def write_registers(registers: Registers, folder: Path) -> None:
    """Write keyed registers as `serving.registers` reads them, each file whole or not at all."""
    for name in registers.tables:
        write_whole(folder / f"{name}.jsonl", as_lines(rows_of(registers, name)))


def rows_of(registers: Registers, name: str) -> list[Row]:
    """The rows of a table."""
    columns = registers.columns[name]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def as_lines(rows: Iterable[Row]) -> bytes:
    """Keyed rows as the bytes of a file."""
    return "".join(f"{row_to_line(row)}\n" for row in rows).encode()


def _file(folder: Path, name: str) -> Path | None:
    there = [folder / f"{stem}{name}{ending}" for stem in ("", "register_") for ending in _ENDINGS]
    there = [path for path in there if path.is_file()]
    if len(there) > 1:
        raise ValueError(f"{folder}: expected one file of {name}, got {', '.join(path.name for path in there)}")
    return there[0] if there else None


def _read(
    path: Path, table: str, key: Key, quarantine: Path | None, *, strict: bool, zone: str
) -> tuple[dict[str, list[Any]], dict[str, int]]:
    cells, intake = _cells(path, table), Intake(key)
    kinds = columns_of(table)
    faults, rows = Faults(len(cells)), np.arange(1, len(cells) + 1)
    columns = {name: _column(cells, name, kind, intake, faults, zone) for name, kind in kinds.items()}
    _check_order(columns, faults)
    spread = _spread(cells, columns, intake, faults)
    bad = np.flatnonzero(faults.which)
    names = {name: _SHOWN.get(kinds.get(name, "number"), "text") for name in cells.columns}
    kept = pa.table({name: pa.array([_text(value) for value in cells[name].iloc[bad]], pa.string()) for name in names})
    with Quarantine(path.name, Layout(name=table, columns={}), quarantine, key, strict=strict) as apart:
        apart.add(rows[bad], faults.of(bad), kept, names)
    return _taken(columns, faults, spread), dict(sorted(apart.counts.items()))


def _cells(path: Path, table: str) -> pd.DataFrame:
    """The cells of a file as they stand. Raises ValueError: for an unknown or missing column, or a broken file."""
    try:
        if path.suffix == ".parquet":
            cells: pd.DataFrame = pq.read_table(path).to_pandas()
        elif path.suffix == ".jsonl":
            lines = path.read_text(encoding="utf-8").splitlines()
            told = [json.loads(line) for line in lines]
            cells = pd.DataFrame(told, columns=None if told else [*columns_of(table)], dtype=object)
        else:
            cells = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pa.ArrowException, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError):
        # What the parser says may quote the file; of what Parquet says of an index pandas believes everything.
        raise ValueError(f"{path.name}: expected a whole {path.suffix[1:]} file with a row of names") from None
    known = columns_of(table)
    allowed = {*known, RANGE_END} if "block" in known else set(known)
    for place, name in enumerate(cells.columns):
        if name not in allowed:
            raise ValueError(f"{path.name}: column {place + 1} is not known, expected {', '.join(sorted(allowed))}")
    missing = [name for name in known if name not in cells.columns and name not in OPTIONAL]
    if "number" in missing and "block" in cells.columns:
        missing.remove("number")
    if missing:
        raise ValueError(f"{path.name}: no column {missing[0]}, expected {', '.join(known)}")
    return cells


def _text(value: object) -> str | None:
    if value is None or value == "" or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, pd.Timestamp):
        # Of a year that Python does not know pandas writes nothing.
        return value.isoformat() if 1 <= value.year <= 9999 else str(value.to_numpy())
    return str(value).strip() or None


def _column(cells: pd.DataFrame, name: str, kind: str, intake: Intake, faults: Faults, zone: str) -> list[Any]:
    """A column's values; faults marked on the way."""
    if name not in cells.columns:
        return [None] * len(cells)
    if kind == "moment":
        return _moments(cells[name], name, faults, zone)
    texts = [_text(value) for value in cells[name]]
    read, expected = _READERS[kind]
    values = [None if text is None else read(text, intake) for text in texts]
    wrong = np.array(
        [value is None and text is not None for value, text in zip(values, texts, strict=True)], dtype=bool
    )
    faults.mark(wrong, BAD_NUMBER if kind in ("number", "block") else BAD_VALUE, name, expected)
    # Whether a row has a number or a block is looked at later: one of them may be missing.
    if name not in OPTIONAL and not (name == "number" and {"block"} & set(cells.columns)):
        faults.mark(np.array([text is None for text in texts], dtype=bool), MISSING_VALUE, name, expected)
    return values


def _moments(column: pd.Series[Any], name: str, faults: Faults, zone: str) -> list[Any]:
    if pd.api.types.is_datetime64_any_dtype(column):
        told = column.dt.tz_localize(zone) if column.dt.tz is None else column
    else:
        texts = pd.Series([_text(value) for value in column], index=column.index, dtype=object)
        zoned = texts.str.contains(_ZONE, na=False)
        plain = pd.to_datetime(texts.mask(zoned), format="ISO8601", errors="coerce")
        told = pd.to_datetime(texts.where(zoned), format="ISO8601", errors="coerce", utc=True)
        told = told.fillna(plain.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC"))
        faults.mark((texts.notna() & told.isna()).to_numpy(), BAD_TIME, name, "a day or a moment by ISO 8601")
    missing = told.isna().to_numpy()
    if name not in OPTIONAL:
        faults.mark(missing, MISSING_VALUE, name, "a day or a moment by ISO 8601")
    whole = told.dt.tz_convert("UTC").dt.as_unit("ms").astype("int64").to_numpy()
    return [None if none else moment for none, moment in zip(missing, whole.tolist(), strict=True)]


def _check_order(columns: Mapping[str, list[Any]], faults: Faults) -> None:
    ends = zip(columns["valid_from"], columns["valid_to"], strict=True)
    before = np.array([None not in (begin, end) and end < begin for begin, end in ends], dtype=bool)
    faults.mark(before, END_BEFORE_START, "valid_to", "an end that is not before `valid_from`")


def _spread(
    cells: pd.DataFrame, columns: Mapping[str, list[Any]], intake: Intake, faults: Faults
) -> dict[int, list[tuple[str | None, str | None]]]:
    """Of rows that stand for a range: the (number, block) of each row that they become."""
    if "block" not in columns:
        return {}
    spread: dict[int, list[tuple[str | None, str | None]]] = {}
    ends = [_text(value) for value in cells[RANGE_END]] if RANGE_END in cells.columns else [None] * len(cells)
    odd = np.zeros(len(cells), dtype=bool)
    firsts = cells["number"] if "number" in cells.columns else pd.Series([None] * len(cells), dtype=object)
    for row, last in enumerate(ends):
        if last is None:
            odd[row] = (columns["number"][row] is None) == (columns["block"][row] is None)
            continue
        numbers, blocks = split_range(_text(firsts.iloc[row]), last) or ((), ())
        odd[row] = not (numbers or blocks)
        spread[row] = [(intake.token("number", number), None) for number in numbers]
        spread[row] += [(None, intake.token("block", block)) for block in blocks]
    faults.mark(odd, BAD_RANGE, "number", "either a number, or a block, or a range of numbers of one length")
    return spread


def _taken(columns: dict[str, list[Any]], faults: Faults, spread: Mapping[int, Any]) -> dict[str, list[Any]]:
    """The sound rows, ranges spread out."""
    sound = np.flatnonzero(faults.which == 0).tolist()
    if not spread:
        return {name: [values[row] for row in sound] for name, values in columns.items()}
    kept: dict[str, list[Any]] = {name: [] for name in columns}
    for row in sound:
        for number, block in spread.get(row, [(columns["number"][row], columns["block"][row])]):
            for name, values in columns.items():
                kept[name].append(number if name == "number" else block if name == "block" else values[row])
    return kept


def _number(text: str, intake: Intake) -> str | None:
    return intake.token("number", text) if is_token(text) or _reads(text) else None


def _block(text: str, intake: Intake) -> str | None:
    """Of a block only its token, or one of its numbers, can be told."""
    return text if is_token(text) else intake.token("block", text) if _reads(text) else None


def _reads(text: str) -> bool:
    digits = sum(c.isdigit() for c in text)
    return 3 <= digits <= 20 and all(c.isdigit() or c in "+-() ./" for c in text)


def _plain(text: str, _: Intake) -> str | None:
    """A name or a word, without what may be somebody's number."""
    return text if len(text) <= _LONGEST and text.isprintable() and not long_digits(text) else None


def _whole(most: int) -> Callable[[str, Intake], int | None]:
    def read(text: str, _: Intake) -> int | None:
        digits = text.removesuffix(".0")
        return (
            int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 8 and int(digits) <= most else None
        )

    return read


_READERS: dict[str, tuple[Callable[[str, Intake], Any], str]] = {
    "number": (_number, "a telephone number or a token"),
    "block": (_block, "a number of the block or a token"),
    "trunk": (lambda text, intake: intake.token("trunk", text), "the name of a trunk or a token"),
    "text": (_plain, f"at most {_LONGEST} printable characters that hold no telephone number"),
    "flag": (lambda text, _: _TRUTH.get(text.lower()), "true or false"),
    "hour": (_whole(24), "a whole hour from 0 to 24"),
    "count": (_whole(10**6), "a whole number"),
}
assert set(_READERS) | {"moment"} == {kind for table in SCHEMA.values() for kind in table.values()} | set(SPAN.values())  # noqa: S101
