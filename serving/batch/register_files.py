"""Reads files of registers and keys them; an invalid row goes to quarantine with its reason, without any number.

A file is named `NAME` or `register_NAME`, with the ending .csv, .parquet or .jsonl. Its columns are listed in
`serving.rules.registers.SCHEMA`; any other column is an error. `register_words.toml` has the Chinese names of files,
columns and words, such as 谢绝来电.csv for the preferences. In tables with blocks a row may cover a range, from
`number` to `number_to`: whole blocks of ten thousand numbers become block rows, the ends become number rows.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from callsieve.features.files.atomic import check_distinct, write_atomic
from callsieve.features.files.dates import time_zone
from callsieve.features.files.masking import has_long_digits
from callsieve.features.files.progress import Progress, by_size, silent
from callsieve.features.files.toml_file import read_toml
from callsieve.features.intake.intake import Intake
from callsieve.features.intake.numbers import parse, significant
from callsieve.features.keys.tokens import Key, is_token
from callsieve.features.reading.quarantine import BAD_VALUE, END_BEFORE_START
from callsieve.serving.rules.registers import OPTIONAL, SCHEMA, SPAN, Registers, as_lines, columns_of

from .keyed_rows import BAD_NUMBER, Rows, read_rows

MISSING_VALUE = "missing_value"
BAD_RANGE = "bad_range"
RANGE_END = "number_to"
_ENDINGS = (".jsonl", ".parquet", ".csv")
# Kinds of columns, and the roles under which the quarantine shows their cells.
_SHOWN = {"number": "caller", "block": "caller", "trunk": "caller", "moment": "start"}
_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_MAX_LENGTH = 64
MAX_NUMBERS = 1_000_000  # in one range
_BLOCK = 10_000
_BLOCK_CLASSES = frozenset(("mobile", "resale", "satellite", "fixed", "iot"))
_ANY_DAY = datetime.date(2100, 1, 1)  # canonical form and block of a number do not depend on the day
# The licence of a telecommunications business, such as B2-20090059 or 京B2-20090059, and the certificate of a number.
_LICENCE = re.compile(r"([\u4e00-\u9fff]?[AB][12]?(?:[.、][AB][12]?)*-)([12][0-9]{3}) ?([0-9]{4,5})")
_CERTIFICATE = re.compile(r"号[\[【〔]([12][0-9]{3})[\]】〕]([0-9]{5})-([A-Z][0-9]{2,3})")

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
    """Reads and keys every register of a folder."""
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
    rows, intake, kinds = _rows(path, table), Intake(key), columns_of(table)
    columns = {name: _column(rows, name, kind, intake, zone) for name, kind in kinds.items()}
    spans = zip(columns["valid_from"], columns["valid_to"], strict=True)
    ends_early = (None not in (begin, end) and end < begin for begin, end in spans)
    rows.mark(ends_early, END_BEFORE_START, "valid_to", "an end that is not before `valid_from`")
    ranges = _expanded_ranges(rows, columns, intake)
    shown = {name: _SHOWN.get(kinds.get(name, "number"), "text") for name in rows.cells.columns}
    sound, invalid = rows.set_apart(shown, quarantine, key, strict=strict)
    return _sound_rows(columns, sound.tolist(), ranges), dict(sorted(invalid.counts.items()))


def _rows(path: Path, table: str) -> Rows:
    """Reads the rows of a file, with the project's names of columns and words in place of Chinese ones."""
    words, expected = _words(), columns_of(table)
    allowed = {*expected, RANGE_END} if "block" in expected else set(expected)
    absent = words["absent"].get(path.stem, {})

    def match(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        own = [words["columns"].get(name, name) for name in names]
        if len(set(own)) < len(own):
            raise ValueError("two columns have the same meaning, expected each column once")
        for place, name in enumerate(own):
            if name not in allowed:
                raise ValueError(f"column {place + 1} is not known, expected {', '.join(sorted(allowed))}")
        optional = {*OPTIONAL, *absent, *(("number",) if "block" in own else ())}
        missing = [name for name in expected if name not in own and name not in optional]
        if missing:
            raise ValueError(f"no column {missing[0]}, expected {', '.join(expected)}")
        return {name: (column,) for name, column in zip(own, names, strict=True)}

    rows = read_rows(path, match)
    cells = rows.cells.rename(columns=words["columns"])
    cells = cells.assign(**{name: value for name, value in absent.items() if name not in cells})
    for name in cells.columns:
        if name in words["translated"]["columns"]:
            cells[name] = cells[name].map(lambda cell: words["words"].get(cell, cell))
    rows.cells = cells
    return rows


@cache
def _words() -> dict[str, Any]:
    return read_toml(Path(__file__).with_name("register_words.toml"), "register_words.toml")


def _column(rows: Rows, name: str, kind: str, intake: Intake, zone: str) -> list[Any]:
    if name not in rows.cells:
        return [None] * len(rows.cells)
    # `_expanded_ranges` checks that a row has a number or a block: either may be missing.
    optional = name in OPTIONAL or (name == "number" and "block" in rows.cells)
    missing = "" if optional else MISSING_VALUE
    if kind == "moment":
        moments = rows.moments(name, name, zone, missing=missing)
        return moments.astype("int64").astype(object).where(moments.notna(), None).tolist()
    parse, expected = _PARSERS[kind]
    bad = BAD_NUMBER if kind in ("number", "block") else BAD_VALUE
    return rows.parsed(name, name, lambda text: parse(text, intake), expected, bad=bad, missing=missing)


def _expanded_ranges(
    rows: Rows, columns: Mapping[str, list[Any]], intake: Intake
) -> dict[int, list[tuple[str | None, str | None]]]:
    """Returns, for each row that covers a range, the (number, block) pairs of the rows that replace it."""
    if "block" not in columns:
        return {}
    expanded: dict[int, list[tuple[str | None, str | None]]] = {}
    none = [None] * len(rows.cells)
    ends = rows.texts(RANGE_END) if RANGE_END in rows.cells else none
    firsts = rows.texts("number") if "number" in rows.cells else none
    faulty = [
        (number is None) == (block is None) for number, block in zip(columns["number"], columns["block"], strict=True)
    ]
    for row, last in enumerate(ends):
        if last is not None:
            numbers, blocks = split_range(firsts[row], last) or ((), ())
            faulty[row] = not (numbers or blocks)
            expanded[row] = [(intake.token("number", number), None) for number in numbers]
            expanded[row] += [(None, intake.token("block", block)) for block in blocks]
    rows.mark(faulty, BAD_RANGE, "number", "either a number, or a block, or a range of numbers of one length")
    return expanded


def split_range(first: str | None, last: str) -> tuple[list[str], list[str]] | None:
    """Returns the single numbers of a range, and one number of each block that lies wholly inside it.

    Returns None unless both ends have the same country and length, are in order, and span at most MAX_NUMBERS.

    >>> split_range("13800138000", "13800138002")
    (['+8613800138000', '+8613800138001', '+8613800138002'], [])
    >>> split_range("13800139999", "13800150000")
    (['+8613800139999', '+8613800150000'], ['+8613800140000'])
    """
    first_number, last_number = parse(first, _ANY_DAY), parse(last, _ANY_DAY)
    (country, first_digits), (last_country, last_digits) = significant(first_number), significant(last_number)
    prefix = first_number.canonical.removesuffix(first_digits)
    if not first_digits or country != last_country or len(first_digits) != len(last_digits):
        return None
    if prefix != last_number.canonical.removesuffix(last_digits):
        return None
    low, high, width = int(first_digits), int(last_digits), len(first_digits)
    if not low <= high < low + MAX_NUMBERS:
        return None

    def canonical(number: int) -> str:
        return f"{prefix}{number:0{width}d}"

    has_blocks = {first_number.kind, last_number.kind} <= _BLOCK_CLASSES
    blocks = range(-(-low // _BLOCK), (high + 1) // _BLOCK) if has_blocks else range(0)
    if not blocks:
        return [canonical(number) for number in range(low, high + 1)], []
    ends = (*range(low, blocks.start * _BLOCK), *range(blocks.stop * _BLOCK, high + 1))
    return [canonical(number) for number in ends], [canonical(block * _BLOCK) for block in blocks]


def _sound_rows(columns: dict[str, list[Any]], sound: list[int], expanded: Mapping[int, Any]) -> dict[str, list[Any]]:
    repeated = [row for row in sound for _ in expanded.get(row, [()])]
    result = {name: [values[row] for row in repeated] for name, values in columns.items()}
    if expanded:
        pairs = [pair for row in sound for pair in expanded.get(row, [(columns["number"][row], columns["block"][row])])]
        result |= {"number": [number for number, _ in pairs], "block": [block for _, block in pairs]}
    return result


def _number(text: str, intake: Intake) -> str | None:
    return intake.token("number", text) if is_token(text) or _looks_like_number(text) else None


def _block(text: str, intake: Intake) -> str | None:
    return text if is_token(text) else intake.token("block", text) if _looks_like_number(text) else None


def _looks_like_number(text: str) -> bool:
    digits = sum(c.isdigit() for c in text)
    return 3 <= digits <= 20 and all(c.isdigit() or c in "+-() ./" for c in text)


def _plain(text: str, _: Intake) -> str | None:
    return text if len(text) <= _MAX_LENGTH and text.isprintable() and not has_long_digits(text) else None


def _licence(text: str, intake: Intake) -> str | None:
    """Reads a licence; splits the eight digits after its letters, which would else look like a telephone number.

    >>> _licence("B2-20090059", None), _licence("号[2017]00012-A01", None), _licence("=cmd|calc", None)
    ('B2-2009 0059', '号[2017]00012-A01', None)
    """
    licence = _LICENCE.fullmatch(text)
    text = "{}{} {}".format(*licence.groups()) if licence else text
    return _plain(text, intake) if licence or _CERTIFICATE.fullmatch(text) else None


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
    "operator": (lambda text, intake: intake.token("operator", text), "the operator of a call record, or a token"),
    "text": (_plain, f"at most {_MAX_LENGTH} printable characters that hold no telephone number"),
    "licence": (_licence, "a licence such as B2-20090059, or a certificate such as 号[2017]00012-A01"),
    "flag": (lambda text, _: _FLAGS.get(text.lower()), "true or false"),
    "hour": (_whole_number(24), "a whole hour from 0 to 24"),
    "count": (_whole_number(10**6), "a whole number"),
}
assert set(_PARSERS) | {"moment"} == {kind for table in SCHEMA.values() for kind in table.values()} | set(SPAN.values())  # noqa: S101
