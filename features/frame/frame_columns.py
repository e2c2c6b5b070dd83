"""Maps the columns of a DataFrame to facts of a call, and reads them as the columns of `records.Call`."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import phonenumbers
import pyarrow as pa

from callsieve.features.files.dates import time_zone
from callsieve.features.intake.text_columns import dictionary_column
from callsieve.features.reading.checked_cells import LONG, check_types, decode
from callsieve.features.reading.layouts import CATEGORIES, DEFAULT_ZONE, NUMBERS, ROLES, TEXTS, Layout, read_layout
from callsieve.features.reading.quarantine import BAD_TIME
from callsieve.features.records import CALL_COLUMNS

MOST = 0.5  # share of rows from which a column is unlikely


class ArrowTable(Protocol):
    """A table of polars, pyarrow or another library that hands its columns on in Arrow's format."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Returns the rows as a stream of Arrow."""


Frame = pd.DataFrame | ArrowTable


def as_data_frame(table: Frame, name: str) -> pd.DataFrame:
    """Returns a table as a pandas DataFrame."""
    if isinstance(table, pd.DataFrame):
        frame = table
    else:
        try:
            frame = pa.RecordBatchReader.from_stream(table).read_all().to_pandas()
        except (TypeError, pa.ArrowException):  # a column alone is a stream, too
            kind = type(table).__name__
            raise TypeError(f"{name}: expected a DataFrame or an Arrow table of calls, got {kind}") from None
    if frame.columns.map(str).has_duplicates:
        raise ValueError("DataFrame: expected each column name once")
    return frame


def warn_of_unlikely_calls(calls: pa.Table, keyed: pa.Table) -> None:
    """Warns of calls that were probably misread; each warning says what to change."""
    if not calls.num_rows:
        return
    withheld = _share(keyed, "caller_class", "withheld")
    if withheld > MOST:
        _warn(
            f"{withheld:.0%} of the calls have no caller, so they count as calls of withheld numbers: check the "
            "caller's column, and the merge that made it"
        )
    irregular = sum(_share(keyed, name, "irregular") for name in ("caller_class", "callee_class")) / 2
    if irregular > MOST:
        _warn(
            f"{irregular:.0%} of the callers and callees are not telephone numbers: if they are codes or tokens, pass "
            'numbers="codes"; if they are numbers without a country code, pass their country'
        )
    for name, longest in LONG.items():
        seconds = calls[name].to_numpy()
        lasting = seconds[seconds > 0]
        if len(lasting) and np.median(lasting) > longest:
            _warn(
                f"half of the calls with a {name} time have one of more than {np.median(lasting):,.0f} s: {name} is in "
                "seconds, so divide milliseconds by 1000"
            )


def _share(keyed: pa.Table, name: str, number_class: str) -> float:
    codes = keyed[name].combine_chunks()
    words = codes.dictionary.to_pylist()
    if number_class not in words:
        return 0.0
    return float(np.mean(codes.indices.to_numpy() == words.index(number_class)))


def _warn(message: str) -> None:
    warnings.warn(f"DataFrame: {message}", UserWarning, stacklevel=4)


Columns = Mapping[str, "Hashable"] | str | Path | Layout | None
"""Own column names by role; or a layout, its name or its TOML file; or None for the project's own column names."""

PLAN_COUNTRY = "CN"
LATEST = 4_102_444_800.0  # 2100-01-01: milliseconds that are read as seconds lie far beyond it


def layout_of(columns: Columns, frame: pd.DataFrame, zone: str | None, numbers: str | None) -> Layout:
    """Returns the layout of a DataFrame; columns that it does not map are ignored.

    `zone`: time zone of times without an offset and of local hours; None for that of the layout. `numbers`: "written"
    or "codes"; None for those of the layout.
    """
    if isinstance(columns, (str, Path)):
        layout = read_layout(columns)
    elif isinstance(columns, Layout):
        layout = columns
    elif columns is None or isinstance(columns, Mapping):
        own = {name: name for name in CALL_COLUMNS if name in frame} if columns is None else dict(columns)
        layout = _mapped(own, frame, own_names=columns is not None)
    else:
        raise TypeError(f"columns must be a dict of role: column, or a layout, got {type(columns).__name__}")
    if zone is not None:
        time_zone(zone)
        layout = replace(layout, clock_zone=zone, hours_zone=zone)
    if numbers is not None:
        layout = replace(layout, numbers=numbers)
    known = layout.dropped.union(*layout.columns.values())
    return replace(layout, dropped=layout.dropped | {name for name in frame.columns if name not in known})


def _mapped(own: Mapping[str, Any], frame: pd.DataFrame, *, own_names: bool) -> Layout:
    """Returns the layout of columns by role."""
    for role in own:
        if role not in ROLES:
            hint = "; the mapping is role: column" if role in frame else ""
            raise ValueError(f"columns: expected roles among {', '.join(sorted(ROLES))}, got {role!r}{hint}")
    sides = ("subscriber", "peer", "direction") if "subscriber" in own else ("caller", "callee")
    missing = [role for role in ("start", *sides) if role not in own]
    if missing:
        what = f"columns: no column for {', '.join(missing)}"
        raise ValueError(what if own_names else f"{what}; map own names, as in columns={{'start': 'CALL_TIME', ...}}")
    if own[sides[0]] == own[sides[1]]:
        raise ValueError(
            f"columns: {sides[0]} and {sides[1]} are both mapped to {own[sides[0]]!r}, expected two columns"
        )
    for role, name in own.items():
        if name not in frame:
            raise ValueError(f"columns: {role!r} is mapped to {name!r}, which is not a column of the DataFrame")
    # Records without a ring time have a ring time of 0, as in the layout `plain`: an empty one means "not over yet".
    constants = {"ring": 0.0} if "talk" in own and not {"ring", "total"} & own.keys() else {}
    return Layout(
        name="columns",
        columns={role: (name,) for role, name in own.items()},
        optional=frozenset({"ring", "talk"}),
        constants=constants,
        clock_zone=DEFAULT_ZONE,
        hours_zone=DEFAULT_ZONE,
    )


def read_frame(frame: pd.DataFrame, layout: Layout, country: str) -> pa.Table:
    """Returns the calls of a DataFrame in its order, with the columns `records.CALL_COLUMNS`."""
    matched = layout.match(list(frame.columns), "DataFrame")
    cells: dict[str, pa.Array] = {}
    for role, names in matched.items():
        for name in names:
            read = _numbers if role in NUMBERS else _texts if role in (*TEXTS, *CATEGORIES) else _values
            cells[name] = read(frame[name], name)
    texts = {role: tuple(str(name) for name in names) for role, names in matched.items()}
    columns = pa.table(list(cells.values()), names=[str(name) for name in cells])
    check_types(columns.schema, texts, "DataFrame")
    calls, faults = decode(columns, texts, layout, LATEST)
    invalid = np.flatnonzero(faults.which)
    if len(invalid):
        fault = faults.kinds[faults.which[invalid[0]]]
        of_column = f", column {matched[fault.role][0]!r}" if fault.role in matched else ""
        hint = "; pandas.to_datetime reads other formats" if fault.reason == BAD_TIME else ""
        raise ValueError(
            f"DataFrame: {len(invalid):,} of {len(frame):,} rows are not valid calls; the first is row {invalid[0]} "
            f"(from 0){of_column}: {fault.reason.replace('_', ' ')}, expected {fault.expected}{hint}"
        )
    return calls if country == PLAN_COUNTRY or layout.numbers == "codes" else _international(calls, country)


def check_country(country: str) -> None:
    """Raises ValueError unless this is the ISO code of a country with a number plan."""
    if country not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError(f"country must be an ISO code such as 'CN' or 'GB', got {country!r}")


def _values(column: pd.Series[Any], name: Any) -> pa.Array:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        instants = pa.array(column.dt.tz_convert(None).to_numpy(), from_pandas=True)
        return instants.cast(pa.timestamp(instants.type.unit, "UTC"))
    if pd.api.types.is_timedelta64_dtype(column.dtype) or str(column.dtype).startswith("duration"):
        column = column.dt.total_seconds()
    try:
        return pa.array(column.to_numpy(), from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError):
        fault = "mixes kinds of values" if column.dtype == object else f"holds {column.dtype}"
        raise ValueError(f"DataFrame: column {name!r} {fault}, expected times or numbers") from None


def _texts(column: pd.Series[Any], name: Any) -> pa.DictionaryArray:
    return _encoded(column, name, lambda value: str(value) if isinstance(value, str) else _whole(value, name))


def _numbers(column: pd.Series[Any], name: Any) -> pa.DictionaryArray:
    return _encoded(column, name, lambda value: value.strip() if isinstance(value, str) else _whole(value, name))


def _whole(value: Any, name: Any) -> str:
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, float) and value.is_integer())):
        raise ValueError(f"DataFrame: column {name!r} holds {type(value).__name__}, expected text or whole numbers")
    return str(int(value))


def _encoded(column: pd.Series[Any], name: Any, text: Any) -> pa.DictionaryArray:
    try:
        codes, values = pd.factorize(column)
    except TypeError:
        raise ValueError(f"DataFrame: column {name!r} holds lists or dicts, expected text or whole numbers") from None
    words = pa.array([text(value) for value in values.tolist()], pa.string())
    return dictionary_column(codes, words)


def _international(calls: pa.Table, country: str) -> pa.Table:
    for name in ("caller", "callee", "network_caller"):
        column = calls[name].combine_chunks()
        words = pa.array([_e164(word, country) for word in column.dictionary.to_pylist()], pa.string())
        place = calls.column_names.index(name)
        calls = calls.set_column(place, name, pa.DictionaryArray.from_arrays(column.indices, words))
    return calls


def _e164(written: str, country: str) -> str:
    try:
        number = phonenumbers.parse(written, country)
    except phonenumbers.NumberParseException:
        return written
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
