"""Own columns: facts about a number that a user knows, such as its tariff, joined to each call as of its start.

A table has one row for each moment at which something became known about a number: `number` (a token), `known_at`, and
numeric columns. A call gets the values of the caller's latest row with `known_at` before the call's start, and NaN
without one. In a model the column `tariff` is the feature `own_tariff`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.arrays import Array
from callsieve.features.catalogue import OWN, own_columns
from callsieve.features.files.atomic import check_distinct, check_present
from callsieve.features.files.parquet_file import read_parquet
from callsieve.features.intake.intake import Intake
from callsieve.features.keys.tokens import is_token
from callsieve.features.reading.call_files import write_table
from callsieve.features.reading.quarantine import BAD_TIME
from callsieve.serving.scorer.own_columns import OwnColumns

from .call_files import key_or_temporary
from .keyed_rows import TIMESTAMP, checked_frame, milliseconds, read_rows

OWN_FILE = "columns.parquet"
"""File of own columns in a folder to learn from."""
IDENTITY = pa.schema([pa.field("number", pa.string(), nullable=False), pa.field("known_at", TIMESTAMP, nullable=False)])
_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}", re.ASCII)


def read_own_columns(path: Path) -> pd.DataFrame:
    """Reads a Parquet file of own columns.

    Returns: number, known_at, and the other columns as float64.
    """
    return checked_columns(read_parquet(path), path.name)


def open_own_columns(path: Path) -> OwnColumns:
    """Reads a Parquet file of own columns for serving: `Scorer.load(columns=open_own_columns(path))`."""
    frame = read_own_columns(path)
    values = {str(name): frame[name].tolist() for name in frame.columns[2:]}
    return OwnColumns(frame["number"].tolist(), milliseconds(frame["known_at"]).tolist(), values)


def write_own_columns(path: Path, out: Path, *, key: Path | None, zone: str) -> dict[str, Any]:
    """Keys the numbers of a CSV or Parquet file of own columns, and writes it as `read_own_columns` reads it.

    `key`: key file; by default CALLSIEVE_KEY, else a new key.
    Returns: the number of rows and of numbers, and the names of the columns.
    """
    check_distinct(path, key, out)
    check_present(path, key)
    intake = Intake(key_or_temporary(key), zone=zone)
    rows = read_rows(path, _each_column)
    read_token = partial(intake.token, "number")
    number = rows.parsed("number", "number", read_token, "a telephone number", missing="missing_number")
    known_at = rows.moments("known_at", "known_at", zone, missing=BAD_TIME)
    names = [str(name) for name in rows.cells if name not in IDENTITY.names]
    columns = {name: rows.parsed(name, name, _number, "a number, true or false") for name in names}
    rows.set_apart({}, None, None, strict=True)
    table = pa.table({"number": pa.array(number, pa.string()), "known_at": milliseconds(known_at), **columns})
    checked = checked_columns(table, path.name)
    write_table(table.cast(pa.schema([*IDENTITY, *(pa.field(name, pa.float64()) for name in names)])), out)
    return {"rows": table.num_rows, "numbers": checked["number"].nunique(), "columns": names}


def _each_column(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    missing = [name for name in IDENTITY.names if name not in names]
    if missing:
        raise ValueError(f"expected the column {missing[0]}")
    return {name: (name,) for name in names}


def _number(text: str) -> float | None:
    word = text.lower()
    if word in ("true", "false"):
        return float(word == "true")
    try:
        return math.nan if word in ("na", "n/a", "null", "none") else float(text)
    except ValueError:
        return None


def checked_columns(table: pa.Table, where: str) -> pd.DataFrame:
    """Returns a table of own columns as pandas, after checking it; see `read_own_columns`."""
    frame = checked_frame(table, IDENTITY, where)
    if not all(map(is_token, frame["number"].unique().tolist())):
        raise ValueError(f"{where}: column number: expected keyed tokens; see `callsieve ingest columns`")
    names = [name for name in table.column_names if name not in IDENTITY.names]
    if not names:
        raise ValueError(f"{where}: expected a column besides number and known_at")
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{where}: expected names of lower-case letters, digits and _, got {name!r:.60}")
        kind = table[name].type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise ValueError(f"{where}: column {name}: expected numbers, got {kind}")
        numbers = table[name].cast(pa.float64(), safe=False) if not pa.types.is_boolean(kind) else table[name]
        values = numbers.to_pandas().astype("float64").to_numpy()
        if np.isinf(values).any():
            raise ValueError(f"{where}: column {name}: expected finite numbers or none")
        frame[name] = values
    return frame


def own_features(folders: Iterable[Path]) -> tuple[str, ...]:
    """Returns the names of the features in the own columns of folders to learn from."""
    names: dict[Path, list[str]] = {}
    for folder in folders:
        if not (folder / OWN_FILE).is_file():
            raise ValueError(f"{folder / OWN_FILE}: not found; expected own columns, see `callsieve ingest columns`")
        names[folder] = [name for name in pq.read_schema(folder / OWN_FILE).names if name not in IDENTITY.names]
    first, *others = names
    for folder in others:
        if names[folder] != names[first]:
            raise ValueError(f"{folder}: expected the own columns of {first}, {', '.join(names[first])}")
    return tuple(OWN + name for name in names[first])


def own_values(features: tuple[str, ...], caller: pa.ChunkedArray, start: Array, table: pd.DataFrame | None) -> Array:
    """Returns the own columns among the features for each call, as of its start.

    `caller`: token of each call's caller, shape (calls,). `start`: Unix ms, shape (calls,).
    Returns: float64 of shape (calls, own features); NaN where nothing was known.
    """
    names = [name.removeprefix(OWN) for name in own_columns(features)]
    missing = [name for name in names if table is None or name not in table]
    if table is None or missing:
        raise ValueError(f"own columns: expected a table with {', '.join(missing)}")
    numbers = pa.array(table["number"].unique(), pa.string())
    code = pd.Index(numbers.to_pylist()).get_indexer(pd.Index(table["number"]))
    known = milliseconds(table["known_at"]).to_numpy()
    order = np.lexsort((known, code))  # of two rows known at one moment, the later one in the table counts
    of_call = pc.index_in(caller.cast(pa.string()), value_set=numbers).fill_null(-1).to_numpy().astype(np.int64)
    # Numbers and moments as one integer each, so that one search finds the last row of a number before a moment.
    moments = np.unique(np.concatenate([known, start]))
    width = len(moments) + 1
    rows = code[order] * width + np.searchsorted(moments, known[order])
    place = np.searchsorted(rows, of_call * width + np.searchsorted(moments, start), side="left") - 1
    has_row = (place >= 0) & (of_call >= 0)
    has_row &= code[order][np.maximum(place, 0)] == of_call if len(order) else False
    values = np.full((len(start), len(names)), np.nan)
    values[has_row] = table[names].to_numpy(dtype=float)[order[place[has_row]]]
    return values
