"""Files of reports -> keyed reports; a bad row goes to quarantine with its reason, and nobody's number is kept.

A layout of `complaint_files.toml` says how a file is written. Oddities are kept apart by name: a row without a number,
a number that is none, a day in the future or long before the report, a word that the layout does not know, a row that
stands there twice. Where a file counts reports by day and number instead of telling them one by one, there is no
reporter, and such counts feed `list_reach`, not labels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.files.progress import silent
from callsieve.features.files.toml_file import read_toml
from callsieve.features.intake.intake import Intake
from callsieve.features.intake.text_columns import dictionary_decoded
from callsieve.features.keys.tokens import is_token
from callsieve.features.reading.delimited import read_lines
from callsieve.features.reading.layouts import Layout
from callsieve.features.reading.quarantine import (
    BAD_TIME,
    BAD_VALUE,
    DUPLICATE,
    TIME_OUT_OF_RANGE,
    BrokenLine,
    Faults,
    Quarantine,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from callsieve.features.files.progress import Progress
    from callsieve.features.keys.tokens import Key

    Array = npt.NDArray[Any]

MISSING_NUMBER = "missing_number"
BAD_NUMBER = "bad_number"
UNKNOWN_WORD = "unknown_word"
OLDEST_DAYS = 400  # a report of an older call is a slip of the pen more often than not
_NUMBER = re.compile(r"\+?[0-9][0-9 ()./-]*")
_DAY = pd.Timedelta(days=1)
_AHEAD = pd.Timedelta(days=1)  # clocks of callers and offices differ; a whole day they do not
_SHOWN = {"number": "caller", "at": "start", "known_at": "recorded"}  # as quarantine knows them


@dataclass(frozen=True, slots=True)
class ComplaintLayout:
    """How one kind of file writes reports; `complaint_files.toml` explains the fields."""

    about: str
    zone: str
    formats: list[str]
    columns: Mapping[str, list[str]]
    optional: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    channel: str = ""
    country: str = ""
    national: int = 0
    day_only: bool = False
    codes: bool = False
    category: Mapping[str, str] | None = None
    mode: Mapping[str, str] | None = None

    def find(self, names: list[str]) -> dict[str, tuple[str, ...]]:
        """Role -> columns of a file that has these. Raises ValueError: for a missing or unknown column."""
        known = {name for aliases in self.columns.values() for name in aliases} | set(self.dropped)
        for place, name in enumerate(names):
            if name not in known:
                raise ValueError(f"column {place + 1} is not known, expected {', '.join(sorted(known))}")
        found = {role: tuple(name for name in aliases if name in names) for role, aliases in self.columns.items()}
        for role, there in found.items():
            if not there and role not in self.optional:
                raise ValueError(f"no column for {role}, expected {' or '.join(self.columns[role])}")
        return {role: there for role, there in found.items() if there}


@cache
def layouts() -> dict[str, ComplaintLayout]:
    """The layouts of reports by name."""
    shipped = read_toml(files(__package__).joinpath("complaint_files.toml"))
    names = {field.name for field in fields(ComplaintLayout)}
    assert all(set(table) <= names for table in shipped.values())  # noqa: S101 - a file of our own
    return {name: ComplaintLayout(**table) for name, table in shipped.items()}


def layout_named(name: str) -> ComplaintLayout:
    """A layout by its name. Raises ValueError: if there is none."""
    if name not in layouts():
        raise ValueError(f"layout {name!r}: expected one of {', '.join(layouts())}")
    return layouts()[name]


@dataclass(frozen=True, slots=True)
class ReadComplaints:
    """Keyed reports of a file, in its order, and how many of its rows were quarantined, by reason.

    `table`: number (token), at, known_at; and reporter (token), category, mode, channel, or, of a file that counts,
    `count`. `day_only` says of how many only the day is known.
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
    tell: Progress = silent,
) -> ReadComplaints:
    """Read a file of reports, text (plain or gzip) or Parquet, and key it at once.

    Args:
        published: when the file came out. What is in it was not known to its readers before.
    Raises:
        ValueError: in one line, if the layout or the file is unknown or broken, or, if strict, at the first bad row.
    """
    layout = layout_named(layout_name)
    cells, rows, broken, found = _cells(path, layout, tell)
    tell("key", 0.5)
    shown = Layout(name=layout_name, columns={})
    with Quarantine(path.name, shown, quarantine, key, strict=strict) as apart:
        faults = Faults(len(rows))
        table, day_only = _decoded(cells, found, layout, key, faults, published)
        if "count" not in found:
            faults.mark(cells.duplicated().to_numpy(), DUPLICATE, "", "each report once")
        if faults.which.any() or broken:
            names = {name: _SHOWN.get(role, "text") for role, columns in found.items() for name in columns}
            bad = np.flatnonzero(faults.which)
            kept = pa.Table.from_pandas(cells[list(names)].iloc[bad].astype("str"), preserve_index=False)
            apart.add(rows[bad], faults.of(bad), kept, names, broken=broken)
    sound = faults.which == 0
    table = table[sound].reset_index(drop=True)
    subject = [name for name in ("reporter", "number", "at") if name in table]
    resubmitted = int(table.duplicated(subject).sum()) if "reporter" in table else 0
    return ReadComplaints(table, dict(sorted(apart.counts.items())), int(day_only[sound].sum()), resubmitted)


def _cells(
    path: Path, layout: ComplaintLayout, tell: Progress
) -> tuple[pd.DataFrame, Array, list[BrokenLine], dict[str, tuple[str, ...]]]:
    """Cells of the wanted columns, the numbers of their rows, broken lines, and what the columns stand for."""
    found: dict[str, tuple[str, ...]] = {}

    def find(names: Any) -> Mapping[str, tuple[str, ...]]:
        try:
            found.update(layout.find(list(names)))
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from None
        return found

    if not path.is_file():
        raise ValueError(f"{path}: not found; expected a file of reports")
    with path.open("rb") as file:
        packed = file.read(4) == b"PAR1"
    if packed:
        try:
            find(pq.read_schema(path).names)
            wanted = sorted({name for names in found.values() for name in names})
            cells = _without_dictionaries(pq.read_table(path, columns=wanted)).to_pandas()
        except (pa.ArrowException, OSError):
            raise ValueError(f"{path.name}: broken Parquet file, expected a footer and whole pages") from None
        return cells, np.arange(1, len(cells) + 1), [], found
    batches = []
    for batch in read_lines(path, Layout(name="reports", columns={}), find):
        batches.append(batch)
        tell("read", 0.5 * batch.done / path.stat().st_size)
    text = _without_dictionaries(pa.concat_tables([batch.cells for batch in batches]).unify_dictionaries())
    broken = [line for batch in batches for line in batch.broken]
    return text.to_pandas(), np.concatenate([batch.rows for batch in batches]), broken, found


def _without_dictionaries(table: pa.Table) -> pa.Table:
    """A column of pandas that is of categories takes no other word."""
    return pa.table([dictionary_decoded(column) for column in table.columns], names=table.column_names)


def _decoded(
    cells: pd.DataFrame,
    found: Mapping[str, tuple[str, ...]],
    layout: ComplaintLayout,
    key: Key,
    faults: Faults,
    published: pd.Timestamp | None,
) -> tuple[pd.DataFrame, Array]:
    """Keyed columns, faults marked on the way; and of which rows only the day is known."""
    intake = Intake(key)
    table = pd.DataFrame({"number": _numbers(cells[found["number"][0]], layout, key, intake, faults)})
    at = _moments(cells[found["at"][0]], "at", layout, faults)
    day_only = np.zeros(len(cells), dtype=bool)
    if layout.day_only:
        local = at.dt.tz_convert(layout.zone)
        day_only = (local == local.dt.normalize()).to_numpy()
    # A day alone is over, and known, when the next one begins.
    whole = (at.dt.tz_convert(layout.zone).dt.normalize() + pd.DateOffset(days=1)).dt.tz_convert("UTC")
    known = _moments(cells[found["known_at"][0]], "known_at", layout, faults) if "known_at" in found else whole
    faults.mark((at > known + _AHEAD).to_numpy(), TIME_OUT_OF_RANGE, "at", "no call after its report")
    early = (known - at > OLDEST_DAYS * _DAY).to_numpy()
    faults.mark(early, TIME_OUT_OF_RANGE, "at", f"a call of the {OLDEST_DAYS} days before its report")
    table["at"] = at.where(at <= known, known)
    table["known_at"] = known if published is None else known.where(known >= published, published)
    if "count" in found:
        count = pd.to_numeric(cells[found["count"][0]], errors="coerce")
        faults.mark((~(count >= 1)).to_numpy(), BAD_VALUE, "count", "1 or more")
        return table.assign(count=count.fillna(0).astype(np.int64), channel=layout.channel), day_only
    table["reporter"] = _reporters(cells, found["reporter"], intake)
    for role, words in (("category", layout.category), ("mode", layout.mode), ("channel", None)):
        if role in found:
            table[role] = _words(cells[found[role][0]], role, words, faults)
        else:
            table[role] = layout.channel if role == "channel" and layout.channel else None
    faults.mark(table["category"].isna().to_numpy(), UNKNOWN_WORD, "category", "what the call was about")
    return table, day_only


def _numbers(
    column: pd.Series[Any], layout: ComplaintLayout, key: Key, intake: Intake, faults: Faults
) -> pd.Series[Any]:
    """Tokens of numbers; each text is read and keyed once."""
    if layout.codes:
        codes, texts = pd.factorize(column)
        faults.mark(codes < 0, MISSING_NUMBER, "number", "a number")
        # What an intake gives for a code, without the block that a code has none of.
        tokens = key.tokens("number", map(str, texts))
        return pd.Series(pd.Categorical.from_codes(codes, pd.Index(tokens, dtype=object)), index=column.index)
    dictionary_decoded = column.fillna("").astype("str").str.strip()
    faults.mark((dictionary_decoded == "").to_numpy(), MISSING_NUMBER, "number", "the number that called")
    codes, texts = pd.factorize(dictionary_decoded)
    written = [_written(text, layout) for text in texts]
    bad = np.array([text is None for text in written], dtype=bool)
    expected = "a telephone number" if not layout.country else f"a number of {layout.national} digits"
    faults.mark(bad[codes], BAD_NUMBER, "number", expected)
    tokens = intake.keyed("number", pa.array(written, pa.string())).to_pandas().astype(object)
    return pd.Series(tokens.to_numpy()[codes], index=column.index, dtype=object)


def _written(text: str, layout: ComplaintLayout) -> str | None:
    """The number as a call record would write it; None if it is none."""
    digits = re.sub(r"\D", "", text)
    if not _NUMBER.fullmatch(text) or not 3 <= len(digits) <= 15:
        return text if is_token(text) else None
    if not layout.country:
        return text
    code = layout.country.lstrip("+")
    national = digits.removeprefix(code) if len(digits) == layout.national + len(code) else digits
    return layout.country + national if len(national) == layout.national and national[0] not in "01" else None


def _reporters(cells: pd.DataFrame, columns: tuple[str, ...], intake: Intake) -> pd.Series[Any]:
    """Tokens of who reports: of a number, or of all that a file tells of the person."""
    told = cells[columns[0]].fillna("")
    for name in columns[1:]:
        told = told + "\x1f" + cells[name].fillna("")
    tokens = intake.keyed("number" if len(columns) == 1 else "place", pa.array(told, pa.string()))
    return pd.Series(tokens.to_pandas(), index=cells.index)


def _moments(column: pd.Series[Any], role: str, layout: ComplaintLayout, faults: Faults) -> pd.Series[Any]:
    """Moments in UTC, in milliseconds; a text is read by the first format that fits all of it."""
    found = column
    if not pd.api.types.is_datetime64_any_dtype(column):
        texts, offset = column.astype("str").str.strip(), "%z" in layout.formats[0]
        found = pd.Series(pd.NaT, index=column.index, dtype="datetime64[us, UTC]" if offset else "datetime64[us]")
        for form in layout.formats:
            found = found.fillna(pd.to_datetime(texts, format=form, errors="coerce", utc=offset).astype(found.dtype))
    if getattr(found.dtype, "tz", None) is None:
        # In the hour that a clock goes through twice, the earlier one is taken; in the one it leaves out, the next.
        found = found.dt.tz_localize(layout.zone, ambiguous=np.ones(len(found), bool), nonexistent="shift_forward")
    faults.mark(found.isna().to_numpy(), BAD_TIME, role, f"a time written as {layout.formats[0]}")
    moments: pd.Series[Any] = found.dt.tz_convert("UTC").dt.as_unit("ms").fillna(pd.Timestamp(0, tz="UTC"))
    return moments


def _words(column: pd.Series[Any], role: str, words: Mapping[str, str] | None, faults: Faults) -> pd.Series[Any]:
    """Words of the policy; spaces in the file's words do not matter, an empty cell is no word."""
    dictionary_decoded = column.fillna("").astype("str").str.split().str.join(" ")
    empty = dictionary_decoded == ""
    if words is None:
        return dictionary_decoded.astype(object).where(~empty, None)
    told = dictionary_decoded.map(dict(words))
    faults.mark((told.isna() & ~empty).to_numpy(), UNKNOWN_WORD, role, "a word of the layout")
    return told.astype(object).where(told.notna(), None)
