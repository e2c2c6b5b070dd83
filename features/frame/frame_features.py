"""The feature vectors of calls in a DataFrame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from callsieve.features.catalogue import NAMES, select_features
from callsieve.features.intake.intake import Intake
from callsieve.features.keys.tokens import Key
from callsieve.features.offline.table import vectors

from .frame_columns import Columns, Frame, as_data_frame, check_country, layout_of, read_frame, warn_of_unlikely_calls

# Tokens stay in this process and only have to differ, so the key may be public. It is fixed because calls that start in
# the same millisecond are ordered by token.
_KEY = Key("frame", bytes(32))


def call_features(
    calls: Frame,
    columns: Columns = None,
    *,
    zone: str | None = None,
    country: str = "CN",
    numbers: Literal["written", "codes"] | None = None,
    features: Sequence[str] | None = None,
    history: Frame | None = None,
    threads: int | None = None,
) -> pd.DataFrame:
    """Returns the features of each call at its start, from all calls of the table that were known before.

    No call sees itself or a later one, so features of a whole table may be split into training and test sets.

    >>> import pandas as pd
    >>> calls = pd.DataFrame({
    ...     "a": [13800138000, 13800138000], "b": ["010 8888 8888", "021 6666 6666"],
    ...     "when": ["2026-03-01 09:00", "2026-03-01 09:05"], "seconds": [20, 0],
    ... })
    >>> own = {"caller": "a", "callee": "b", "start": "when", "talk": "seconds"}
    >>> call_features(calls, own)["out_calls_count_1h"].tolist()
    [0.0, 1.0]

    Args:
        calls: one row a call, in any order; a table of pandas, polars, pyarrow or another Arrow library.
        columns: own column names by role, as above: `start`, `caller`, `callee`, and any of `ring`, `talk`, `total`,
            `outcome`, `recorded` and the other roles of a layout. Or a `Layout`, its name ("plain", "asterisk") or its
            TOML file. By default the columns have the names of `callsieve.features.Call`. Other columns are ignored.
            Numbers are text or whole numbers; whole numbers have lost leading zeros, so an area code then needs its
            country code. Times are datetimes, text, or Unix seconds; `ring` and `talk` are seconds. Calls with `talk`
            but without `ring` or `total` have a ring time of 0.
        zone: time zone of times without an offset, and of local hours; by default that of the layout, or
            "Asia/Shanghai".
        country: ISO code of the country of numbers without a country code. The number plan is that of China: with
            another country, all of its numbers have the class "foreign".
        numbers: "codes" if numbers are opaque codes, without digits to read; by default as in the layout, or "written".
        features: names from the catalogue, in the order of the columns; by default all.
        history: calls of the days before, with the same columns; they are known to `calls`, but get no features.
        threads: number of cores; all by default.
    Returns:
        float64 in pandas, one column a feature, order of `calls` and its index, if it has one; NaN where a value is
        unknown.
    Raises:
        TypeError, ValueError: in one line, if an argument, a column or a row is invalid.
    Warns:
        UserWarning: if the calls are valid, but unlikely: most callers are missing, most numbers are not telephone
            numbers, or half of the answered calls last for hours.
    """
    check_country(country)
    names = feature_names(features)
    if numbers not in (None, "written", "codes"):
        raise ValueError(f"numbers must be 'written', 'codes' or None, got {numbers!r}")
    if threads is not None and threads < 0:
        raise ValueError(f"threads must be 0 or more, got {threads}")
    own = as_data_frame(calls, "calls")
    frames = [own] if history is None else [own, as_data_frame(history, "history")]
    layouts = [layout_of(columns, frame, zone, numbers) for frame in frames]
    tables = [read_frame(frame, layout, country) for frame, layout in zip(frames, layouts, strict=True)]
    layout = layouts[0]
    table = pa.concat_tables(tables).combine_chunks()
    kind: Literal["written", "codes"] = "codes" if layout.numbers == "codes" else "written"
    intake = Intake(_KEY, zone=layout.hours_zone, numbers=kind, remember=max(1, table.num_rows))
    keyed = intake.table(table)
    warn_of_unlikely_calls(table, keyed)
    X = vectors(keyed, rows=np.arange(len(own)), features=names, threads=threads)
    return pd.DataFrame(X, index=own.index, columns=list(names))


def feature_names(features: Sequence[str] | None) -> tuple[str, ...]:
    """Returns the names of the features to compute: all of the catalogue for None."""
    if isinstance(features, str):
        raise TypeError(f"features: expected a list of names, got a text: write [{features!r}]")
    names = NAMES if features is None else tuple(features)
    select_features(names)
    return names
