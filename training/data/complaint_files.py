"""Reads files of complaints and keys them; an invalid row goes to quarantine with its reason, without any number.

A layout of `complaint_files.toml` describes how a file is written. Each fault has a name of its own: a missing or
invalid number, a day in the future or long before the complaint, an unknown word, a duplicate row. A file may count
complaints by day and number; such a file has no reporters, so it gives no labels.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
from msgspec import structs

from callsieve.features.arrays import Array
from callsieve.features.files.atomic import check_present
from callsieve.features.files.dates import time_zone
from callsieve.features.files.decode import Record, as_kind, toml_as
from callsieve.features.files.progress import Progress, silent
from callsieve.features.files.toml_file import read_toml
from callsieve.features.intake.intake import Intake
from callsieve.features.keys.tokens import Key, is_token
from callsieve.features.reading.layouts import DEFAULT_ZONE
from callsieve.features.reading.quarantine import (
    BAD_TIME,
    BAD_VALUE,
    DUPLICATE,
    TIME_OUT_OF_RANGE,
    UNKNOWN_WORD,
    check_valid,
)
from callsieve.serving.batch.keyed_rows import BAD_NUMBER, Rows, read_rows

MISSING_NUMBER = "missing_number"
OWN_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M")
OFFICE_COLUMNS = ("work_order", "area", "carrier")
"""Roles of the columns that an office needs with its answer."""
OLDEST_DAYS = 400  # a complaint about an older call is more often a typing error than not
_NUMBER = re.compile(r"\+?[0-9][0-9 ()./-]*(?<!\.0)")  # pandas writes a column of numbers with gaps as 139.0
_GAP = r"[\s.()+-]*"
_MOBILE = rf"(?:(?:00)?86{_GAP})?1{_GAP}[3-9](?:{_GAP}[0-9]){{9}}"
_FIXED = r"0[1-9][0-9]{1,2}[\s)-]*[2-8][0-9]{2,3}[\s-]?[0-9]{4}|400[\s-]?[0-9]{3}[\s-]?[0-9]{4}"
_PHONE = re.compile(rf"(?<![0-9])(?:{_MOBILE}|{_FIXED})(?![0-9])")
_LONGEST = 64
_DAY = pd.Timedelta(days=1)
_Layout = TypeVar("_Layout", bound="NumberLayout")
_AHEAD = pd.Timedelta(days=1)  # clocks of reporters and offices differ, but not by a whole day


class Columns(Record, frozen=True):
    """The names that the column of each role may have; several columns of `reporter` are joined."""

    number: tuple[str, ...]
    at: tuple[str, ...]
    reporter: tuple[str, ...] = ()
    known_at: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    mode: tuple[str, ...] = ()
    channel: tuple[str, ...] = ()
    count: tuple[str, ...] = ()
    work_order: tuple[str, ...] = ()
    area: tuple[str, ...] = ()
    carrier: tuple[str, ...] = ()


class NumberLayout(Record, frozen=True, kw_only=True):
    """How one kind of file writes rows about numbers; `complaint_files.toml` explains the fields."""

    columns: Record
    zone: str = DEFAULT_ZONE
    formats: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    country: str = ""
    national: int = 0
    codes: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        time_zone(self.zone)

    def find(self, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Maps roles to the columns of a file with these names. Raises ValueError for a missing or unknown column."""
        aliases = {role: names for role, names in structs.asdict(self.columns).items() if names}
        allowed = {name for names in aliases.values() for name in names} | set(self.dropped)
        for place, name in enumerate(names):
            if name not in allowed:
                raise ValueError(f"column {place + 1} is not known, expected {', '.join(sorted(allowed))}")
        by_role = {role: tuple(name for name in of_role if name in names) for role, of_role in aliases.items()}
        for role, columns in by_role.items():
            if not columns and role not in self.optional:
                raise ValueError(f"no column for {role}, expected {' or '.join(aliases[role])}")
        return {role: columns for role, columns in by_role.items() if columns}


class ComplaintLayout(NumberLayout, frozen=True, kw_only=True):
    """How one kind of file writes complaints; `complaint_files.toml` explains the fields."""

    columns: Columns
    about: str = ""
    formats: tuple[str, ...] = OWN_FORMATS
    channel: str = ""
    day_only: bool = False
    category: dict[str, str] | None = None
    mode: dict[str, str] | None = None


@cache
def layouts() -> dict[str, ComplaintLayout]:
    """Returns the shipped layouts of complaints by name."""
    return toml_as(dict[str, ComplaintLayout], files(__package__).joinpath("complaint_files.toml"))


def layout_named(name: str) -> ComplaintLayout:
    """Returns a shipped layout by its name, or the layout of a TOML file.

    The file is a layout of complaints, or a layout of calls with a table `complaints`. There, the zone of the calls'
    clock is the default, and `complaints = "12321"` names a shipped layout.
    """
    if name in layouts():
        return layouts()[name]
    if not name.endswith(".toml"):
        raise ValueError(f"layout {name!r}: expected one of {', '.join(layouts())}, or a .toml file")
    named = read_toml(Path(name), f"layout {Path(name).name}").get("complaints") if Path(name).exists() else None
    if isinstance(named, str) and named in layouts():
        return layouts()[named]
    layout = own_layout(Path(name), ComplaintLayout, "complaints")
    if not layout.columns.reporter:
        raise ValueError(f"layout {Path(name).name}: complaints: columns: expected the key reporter")
    return structs.replace(layout, channel=layout.channel or "complaint")


def own_layout(path: Path, kind: type[_Layout], name: str, *, implied: bool = False) -> _Layout:
    """Returns the layout of a TOML file: the whole file, or the table `name` of a layout of calls."""
    check_present(path)
    where = f"layout {path.name}"
    table = read_toml(path, where)
    clock, own = table.get("clock", {}), table.get(name, table)
    if implied and own is table and "number" not in table.get("columns", ()):
        own = {}
    if own is not table and isinstance(own, dict) and isinstance(clock, dict):
        own = {"zone": clock.get("zone", DEFAULT_ZONE)} | own
    return as_kind(own, kind, f"{where}: {name}")


@dataclass(frozen=True, slots=True)
class ReadComplaints:
    """Keyed complaints of a file, in its order, and the number of quarantined rows by reason.

    table: number (token), at, known_at, reporter (token), category, mode, channel, and those of OFFICE_COLUMNS that
    the file has. A file that counts has `count` and channel in place of reporter, category, mode and channel.
    day_only: number of rows of which only the day is known.
    """

    table: pd.DataFrame
    quarantined: Mapping[str, int]
    day_only: int
    resubmitted: int


def read_complaint_file(
    path: Path,
    layout_name: str,
    key: Key,
    *,
    published: pd.Timestamp | None = None,
    quarantine: Path | None = None,
    strict: bool = False,
    progress: Progress = silent,
) -> ReadComplaints:
    """Reads and keys a file of complaints: text (plain or gzip) or Parquet."""
    layout = layout_named(layout_name)
    rows = read_rows(path, layout.find, progress)
    progress("key", 0.5)
    table, day_only = _decoded(rows, layout, key, published)
    if "count" not in rows.roles:
        of_office = [name for role in OFFICE_COLUMNS for name in rows.roles.get(role, ())]
        rows.mark(rows.cells.drop(columns=of_office).duplicated(), DUPLICATE, "", "each complaint once")
    # A cell of an office may hold a telephone number, so the quarantine does not show it.
    shown = {name: role for role, columns in rows.roles.items() if role not in OFFICE_COLUMNS for name in columns}
    sound, invalid = rows.set_apart(shown, quarantine, key, strict=strict)
    table = table.iloc[sound].reset_index(drop=True)
    check_valid(len(table), invalid)
    subject = [name for name in ("reporter", "number", "at") if name in table]
    resubmitted = int(table.duplicated(subject).sum()) if "reporter" in table else 0
    return ReadComplaints(table, dict(sorted(invalid.counts.items())), int(day_only[sound].sum()), resubmitted)


def _decoded(
    rows: Rows, layout: ComplaintLayout, key: Key, published: pd.Timestamp | None
) -> tuple[pd.DataFrame, Array]:
    """Keys and parses the columns and marks faults; also returns of which rows only the day is known."""
    roles, intake = rows.roles, Intake(key)
    table = pd.DataFrame({"number": number_tokens(rows, roles["number"][0], layout, key, intake)}, dtype=object)
    at = moments_of(rows, roles["at"][0], "at", layout)
    day_only = np.zeros(len(table), dtype=bool)
    if layout.day_only:
        local = at.dt.tz_convert(layout.zone)
        day_only = (local == local.dt.normalize()).to_numpy()
    # An event of which only the day is known counts as known when the next day begins.
    next_day = end_of_day(at, layout.zone)
    arrival = moments_of(rows, roles["known_at"][0], "known_at", layout) if "known_at" in roles else next_day
    rows.mark(at > arrival + _AHEAD, TIME_OUT_OF_RANGE, "at", "no call after its complaint")
    days = f"a call of the {OLDEST_DAYS} days before its complaint"
    rows.mark(arrival - at > OLDEST_DAYS * _DAY, TIME_OUT_OF_RANGE, "at", days)
    table["at"] = at.where(at <= arrival, arrival)
    table["known_at"] = arrival if published is None else arrival.where(arrival >= published, published)
    if "count" in roles:
        count = pd.to_numeric(rows.cells[roles["count"][0]], errors="coerce")
        rows.mark(~(count >= 1), BAD_VALUE, "count", "1 or more")
        return table.assign(count=count.fillna(0).astype(np.int64), channel=layout.channel), day_only
    table["reporter"] = _reporters(rows.cells, roles["reporter"], intake)
    for role, words in (("category", layout.category), ("mode", layout.mode), ("channel", None)):
        if role in roles:
            table[role] = _words(rows, roles[role][0], role, words)
        else:
            table[role] = {"channel": layout.channel or None, "category": "other"}.get(role)
    rows.mark(table["category"].isna(), UNKNOWN_WORD, "category", "what the call was about")
    for role in OFFICE_COLUMNS:
        if role in roles:
            expected = f"at most {_LONGEST} printable characters without a telephone number"
            table[role] = rows.parsed(roles[role][0], role, _office_text, expected)
    return table, day_only


def _office_text(text: str) -> str | None:
    """Returns a text as an office writes it; None if it is too long or may hold a telephone number.

    A work order is a long run of digits, so only runs with the form of a Chinese telephone number are refused.

    >>> [_office_text(text) for text in ("202603100000017", "2026-03-10-000017", "四川省", "CMCC")]
    ['202603100000017', '2026-03-10-000017', '四川省', 'CMCC']
    >>> [_office_text(text) for text in ("12 138-0013 8000", "０２８-88880000", "(010)65550000")]
    [None, None, None]
    """
    is_phone = _PHONE.search(unicodedata.normalize("NFKC", text)) is not None
    return text if len(text) <= _LONGEST and text.isprintable() and not is_phone else None


def end_of_day(moments: pd.Series[pd.Timestamp], zone: str) -> pd.Series[pd.Timestamp]:
    """Returns when the next day of a time zone begins, in UTC."""
    return (moments.dt.tz_convert(zone).dt.normalize() + pd.DateOffset(days=1)).dt.tz_convert("UTC")


def number_tokens(rows: Rows, column: str, layout: NumberLayout, key: Key, intake: Intake) -> list[str | None]:
    """Returns the tokens of a column of numbers; None for an empty or invalid cell, which is marked."""

    def token(text: str) -> str | None:
        if layout.codes:  # the token that an intake gives to a code; a code has no block
            return key.token("number", text)
        written = _written(text, layout)
        return None if written is None else intake.token("number", written)

    expected = "a telephone number" if not layout.country else f"a number of {layout.national} digits"
    return rows.parsed(column, "number", token, expected, bad=BAD_NUMBER, missing=MISSING_NUMBER)


def _written(text: str, layout: NumberLayout) -> str | None:
    digits = re.sub(r"\D", "", text)
    if not _NUMBER.fullmatch(text) or not 3 <= len(digits) <= 15:
        return text if is_token(text) else None
    if not layout.country:
        return text
    code = layout.country.lstrip("+")
    national = digits.removeprefix(code) if len(digits) == layout.national + len(code) else digits
    return layout.country + national if len(national) == layout.national and national[0] not in "01" else None


def _reporters(cells: pd.DataFrame, columns: tuple[str, ...], intake: Intake) -> pd.Series[str]:
    identity = cells[columns[0]].fillna("")
    for name in columns[1:]:
        identity = identity + "\x1f" + cells[name].fillna("")
    tokens = intake.keyed("number" if len(columns) == 1 else "place", pa.array(identity, pa.string()))
    return pd.Series(tokens.to_pandas(), index=cells.index)


def moments_of(rows: Rows, column: str, role: str, layout: NumberLayout) -> pd.Series[pd.Timestamp]:
    """Returns moments in UTC; that of an invalid row is 1970."""
    moments = rows.moments(column, role, layout.zone, formats=layout.formats, missing=BAD_TIME)
    return moments.fillna(pd.Timestamp(0, tz="UTC"))


def _words(rows: Rows, column: str, role: str, words: Mapping[str, str] | None) -> pd.Series[str]:

    def translated(text: str) -> str | None:
        word = " ".join(text.split())
        return word if words is None else words.get(word)

    translations = rows.parsed(column, role, translated, "a word of the layout", bad=UNKNOWN_WORD)
    return pd.Series(translations, index=rows.cells.index, dtype=object)
