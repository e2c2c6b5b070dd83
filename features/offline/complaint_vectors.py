"""Complaint features of a table of calls, equal to those of `features.complaints.Complaints` at ring time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.arrays import Array
from callsieve.features.complaints import COMPLAINT_COLUMNS, WINDOW_MS
from callsieve.features.kernel.windows import DAY_MS
from callsieve.features.records import GROUP_COLUMNS


def complaint_vectors(calls: pa.Table, complaints: pa.Table) -> Array:
    """Values of COMPLAINT_FEATURES for each call of a table, equal to those of `Complaints.vector` at ring time.

    Args:
        calls: keyed calls, columns `records.KEYED_COLUMNS`.
        complaints: columns COMPLAINT_COLUMNS: `known` int64, the others tokens, of which the last three may be null.
    Returns: float64 (calls, features); NaN where a value is unknown.
    Raises: ValueError: if a column is missing.
    """
    missing = [name for name in COMPLAINT_COLUMNS if name not in complaints.column_names]
    if missing:
        raise ValueError(f"complaints: expected columns {', '.join(COMPLAINT_COLUMNS)}, {missing[0]} missing")
    complaints = complaints.filter(counted_rows(complaints))
    known, at = complaints["known"].to_numpy(), calls["start"].to_numpy()
    number = shared_codes(complaints["number"], calls["caller"])
    own = np.array([count_before(known, number, at - back) for back in (0, 7 * DAY_MS, WINDOW_MS)])
    last = np.append(known[np.lexsort((known, number[0]))], 0)[own[0] - 1]
    columns = [own[0] - own[1], own[0] - own[2], np.where(own[0] > own[2], (at - last) / 1000, np.nan)]
    for group, column in GROUP_COLUMNS.items():
        key = shared_codes(complaints[group], calls[column])
        pair = pair_codes(key, number)
        others = [count_before(known, key, at - back) - count_before(known, pair, at - back) for back in (0, WINDOW_MS)]
        columns.append(np.where(calls[column].is_null().to_numpy(), np.nan, others[0] - others[1]))
    return np.column_stack(columns)


def counted_rows(complaints: pa.Table) -> Array:
    """Returns whether each complaint counts: bool (complaints,)."""
    pair = pair_codes(*(shared_codes(complaints[name], complaints[name]) for name in ("reporter", "number")))[0]
    known = complaints["known"].to_numpy()
    order = np.lexsort((known, pair))
    again = np.append(False, (np.diff(pair[order]) == 0) & (np.diff(known[order]) <= WINDOW_MS))[: len(order)]
    counts = np.empty(len(order), dtype=bool)
    counts[order] = ~again
    return counts


def shared_codes(of_complaints: pa.ChunkedArray, of_calls: pa.ChunkedArray) -> tuple[Array, Array]:
    """Encodes tokens of complaints and of calls as the same integers.

    Returns: codes of the complaints and of the calls; -1 for null, and for a token that no complaint has.
    """
    tokens = pc.unique(of_complaints.cast(pa.string())).drop_null()
    codes = (pc.index_in(column.cast(pa.string()), value_set=tokens) for column in (of_complaints, of_calls))
    first, second = (np.asarray(column.fill_null(-1).to_numpy(), dtype=np.int64) for column in codes)
    return first, second


def pair_codes(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
    """Encodes pairs of codes as integers, for complaints and for calls; -1 where either code is -1."""
    width = int(right[0].max(initial=0)) + 1
    both = [np.where((a < 0) | (b < 0), -1, a * width + b) for a, b in zip(left, right, strict=True)]
    pairs = np.unique(both[0][both[0] >= 0])
    positions = [np.searchsorted(pairs, values) for values in both]
    pairs = np.append(pairs, -2)  # equals no pair
    first, second = (
        np.where(pairs[position] == values, position, -1) for position, values in zip(positions, both, strict=True)
    )
    return first, second


def count_before(known: Array, keys: tuple[Array, Array], at: Array) -> Array:
    """Returns the rank of (key, at) among the complaints sorted by key and time: a difference of ranks counts those in
    a window.
    """
    times = np.unique(known)
    ranks = np.searchsorted(times, known), np.searchsorted(times, at)
    complaints, calls = (key * (len(times) + 1) + rank for key, rank in zip(keys, ranks, strict=True))
    return np.searchsorted(np.sort(complaints[keys[0] >= 0]), calls)
