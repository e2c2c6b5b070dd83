"""A keyed table as the kernel takes it: flat arrays of integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import replay, windows
from .feature import CALL_FACTS
from .records import (
    ATTESTATIONS,
    KEYED_COLUMNS,
    NUMBER_CLASSES,
    OUTCOMES,
    RELEASED_BY,
    ROUTES,
    STEPS,
    UNKNOWN,
)

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    Array = npt.NDArray[Any]

CATEGORIES = {
    "outcome": OUTCOMES,
    "released_by": RELEASED_BY,
    "caller_class": NUMBER_CLASSES,
    "callee_class": NUMBER_CLASSES,
    "attestation": ATTESTATIONS,
    "route": ROUTES,
    "step": STEPS,
}
GROUP_COLUMNS = {"block": "caller_block", "trunk": "trunk", "device": "device"}


@dataclass(frozen=True)
class Packed:
    """Calls as flat arrays.

    `records` holds `replay.RECORD` int64 a call, `facts` one int16 for each of CALL_FACTS, `order` the calls in order
    of start, `owners` for each kind of history the keys of each call (two in that of numbers), `keys` how many there
    are.
    """

    records: Array
    facts: Array
    order: Array
    owners: dict[str, Array]
    keys: dict[str, int]


def packed(calls: pa.Table) -> Packed:
    """Pack calls.

    Raises: ValueError: if a column is missing or holds an unknown word.
    """
    missing = [name for name in KEYED_COLUMNS if name not in calls.column_names]
    if missing:
        raise ValueError(f"calls: expected the columns of a keyed table, {', '.join(missing)} missing")
    start, ring, talk = (integers(calls[name]) for name in ("start", "ring", "talk"))
    recorded = integers(calls["recorded"], windows.NEVER)
    over = (ring >= 0) & (talk >= 0)
    end = np.where(over, start + ring + talk, start)
    late = np.where(over & (recorded > end), recorded, windows.NEVER)
    outcome, released_by, step = (codes(calls[n], CATEGORIES[n]) for n in ("outcome", "released_by", "step"))
    hour, day, same_region = (integers(calls[n]) for n in ("hour", "day", "same_region"))
    parties, numbers = party_codes(calls)
    records = np.empty((calls.num_rows, replay.RECORD), dtype=np.int64)
    records[:, windows.START] = start
    records[:, windows.END] = end
    records[:, windows.TALK] = np.where(over, talk, windows.NONE)
    records[:, windows.FACTS] = windows.pack(outcome, released_by, hour, day, step, same_region, ring)
    records[:, replay.LATE] = late
    records[:, replay.CALLER] = parties[:, 0]
    records[:, replay.CALLEE] = parties[:, 1]
    records[:, replay.ROW] = np.arange(calls.num_rows)
    owners, keys = {"number": parties.reshape(-1)}, {"number": numbers}
    for kind, column in GROUP_COLUMNS.items():
        owners[kind], keys[kind] = group_codes(calls[column])
    return Packed(records.reshape(-1), call_facts(calls, day).reshape(-1), in_order(start, late), owners, keys)


def in_order(start: Array, late: Array) -> Array:
    """Calls in order of start; where two tell of the same call, the record that was known earlier comes first."""
    if np.all(start[1:] > start[:-1]):
        return np.arange(len(start))
    return np.lexsort((np.where(late == windows.NEVER, start, late), start))


def codes(column: pa.ChunkedArray, words: tuple[str, ...]) -> Array:
    """Indices into `words`; UNKNOWN for null. Raises ValueError on any other word."""
    import pyarrow as pa
    import pyarrow.compute as pc

    encoded = column.combine_chunks()
    if not pa.types.is_dictionary(encoded.type):
        encoded = encoded.dictionary_encode()
    found = pc.index_in(encoded.dictionary, value_set=pa.array(words))
    if found.null_count:
        value = encoded.dictionary.filter(pc.is_null(found))[0].as_py()
        raise ValueError(f"unknown word {value!r}: expected one of {', '.join(words)}")
    lookup = np.append(np.asarray(found, dtype=np.int64), UNKNOWN)
    return np.asarray(lookup[np.asarray(encoded.indices.fill_null(len(found)))])


def integers(column: pa.ChunkedArray, missing: int = UNKNOWN) -> Array:
    """A column of integers, `missing` for null."""
    return np.asarray(column.fill_null(missing).to_numpy(), dtype=np.int64)


def party_codes(calls: pa.Table) -> tuple[Array, int]:
    """Caller and callee of each call as dense integers, int32 (n, 2), and how many numbers there are."""
    import pyarrow as pa

    both = [chunk for name in ("caller", "callee") for chunk in calls[name].chunks]
    text = [chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode() for chunk in both]
    column = pa.chunked_array(text, type=pa.dictionary(pa.int32(), pa.string())).unify_dictionaries().combine_chunks()
    indices = np.asarray(column.indices, dtype=np.int32)
    return np.ascontiguousarray(indices.reshape(2, -1).T), len(column.dictionary)


def group_codes(column: pa.ChunkedArray) -> tuple[Array, int]:
    """The key of each call as a dense integer, int32, NONE where there is none; and how many keys there are."""
    import pyarrow as pa

    encoded = column.unify_dictionaries().combine_chunks()
    if not pa.types.is_dictionary(encoded.type):
        encoded = encoded.cast(pa.string()).dictionary_encode()
    return np.array(encoded.indices.cast(pa.int32()).fill_null(windows.NONE), dtype=np.int32), len(encoded.dictionary)


def call_facts(calls: pa.Table, day: Array) -> Array:
    """Facts of each call in the order of CALL_FACTS, int16 of shape (n, len(CALL_FACTS))."""
    facts = np.empty((calls.num_rows, len(CALL_FACTS)), dtype=np.int16)
    for i, (name, levels) in enumerate(CALL_FACTS.items()):
        if name == "weekday":
            facts[:, i] = (day + 3) % 7  # 1970-01-01 was a Thursday
        else:
            facts[:, i] = codes(calls[name], levels) if levels else integers(calls[name])
    return facts
