"""A keyed table as the kernel takes it: flat arrays of integers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from callsieve.features.catalogue.feature import CALL_FACTS
from callsieve.features.codegen.assemble import kernel
from callsieve.features.codegen.feature_program import NUMBER
from callsieve.features.intake.keyed_table import check_table
from callsieve.features.kernel import table_pass, windows
from callsieve.features.records import GROUP_COLUMNS, KEYED_CATEGORIES, KEYED_COLUMNS, UNKNOWN

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Packed:
    """Calls as flat arrays.

    `records` holds `replay.RECORD` int64 a call, `order` the calls in order of start, `owners` for each kind of history
    the keys of each call (two in that of numbers), `keys` how many there are.
    """

    records: Array
    order: Array
    owners: dict[str, Array]
    keys: dict[str, int]


def packed(calls: pa.Table, threads: int = 1, kinds: Iterable[str] = tuple(GROUP_COLUMNS)) -> Packed:
    """Pack calls, on so many cores, with the keys of numbers and of these kinds of groups.

    Raises: ValueError: if a column is missing or holds an unknown word. TypeError: if it is no Arrow table.
    """
    import joblib

    check_table(calls)
    missing = [name for name in KEYED_COLUMNS if name not in calls.column_names]
    if missing:
        raise ValueError(f"calls: expected the columns of a keyed table, {', '.join(missing)} missing")
    count, grouping = calls.num_rows, tuple(kinds)
    with joblib.Parallel(threads, require="sharedmem") as parallel:
        read = columns(calls) | {kind: partial(group_codes, calls[GROUP_COLUMNS[kind]]) for kind in grouping}
        found = dict(zip(read, parallel(joblib.delayed(each)() for each in read.values()), strict=True))
        events = np.stack([found[name] for name in ("outcome", "released_by", "hour", "step", "same_region")])
        told = np.stack([found[name] for name in CALL_FACTS])
        times = [found[name] for name in ("start", "ring", "talk", "recorded", "day")]
        parties, numbers = found["parties"]
        records = in_lines(count * table_pass.RECORD)
        fill = kernel(NUMBER, (), compiled=True).fill_records
        bounds = pairwise(np.linspace(0, count, threads + 1).astype(int).tolist())
        parallel(joblib.delayed(fill)(first, last, *times, parties, events, told, records) for first, last in bounds)
    owners, keys = {"number": parties}, {"number": numbers}
    for kind in grouping:
        owners[kind], keys[kind] = found[kind]
    late = records[table_pass.LATE :: table_pass.RECORD] if np.any(found["recorded"] != windows.NEVER) else None
    return Packed(records, in_order(found["start"], late), owners, keys)


def columns(calls: pa.Table) -> dict[str, Callable[[], Any]]:
    """What reads each column of a keyed table that the kernel needs; `parties` those of caller and callee."""
    read: dict[str, Callable[[], Any]] = {"parties": partial(party_codes, calls)}
    read |= {name: partial(integers, calls[name]) for name in ("start", "ring", "talk", "day")}
    read["recorded"] = partial(integers, calls["recorded"], windows.NEVER)
    read["weekday"] = partial(weekdays, calls["day"])
    read |= {name: partial(codes, calls[name], words) for name, words in KEYED_CATEGORIES.items()}
    small = ("hour", "same_region", "shared_prefix", "presented_differs")
    return read | {name: partial(small_integers, calls[name]) for name in small}


def in_lines(size: int) -> Array:
    """An array of int64 that begins where a line of the processor's cache does.

    Records are fetched in no order: one that lay in two lines would be waited for twice.
    """
    line = table_pass.RECORD
    room = np.empty(size + line - 1, dtype=np.int64)
    return room[-(room.ctypes.data // 8) % line :][:size]


def in_order(start: Array, late: Array | None) -> Array:
    """Calls in order of start; where two tell of the same call, the record that was known earlier comes first.

    `late` says when records became known that did not at once, NEVER of the others; None if all did.
    """
    known = start if late is None else np.where(late == windows.NEVER, start, late)
    in_time = start[1:] >= start[:-1]
    if late is not None:
        in_time &= (start[1:] > start[:-1]) | (known[1:] >= known[:-1])
    if np.all(in_time):
        return np.arange(len(start))
    return np.lexsort((known, start))


def weekdays(days: pa.ChunkedArray) -> Array:
    """Day of the week of days since 1970-01-01, 0 for Monday, as int8."""
    monday = integers(days).astype(np.int32) + np.int32(3)  # 1970-01-01 was a Thursday
    return np.asarray(monday - 7 * (monday // 7), dtype=np.int8)  # NumPy's `%` takes ten times as long


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
    lookup = np.append(np.asarray(found, dtype=np.int8), np.int8(UNKNOWN))
    return np.asarray(lookup[np.asarray(encoded.indices.fill_null(len(found)))])


def integers(column: pa.ChunkedArray, missing: int = UNKNOWN) -> Array:
    """A column of integers, `missing` for null.

    Arrow's own buffers are read: a copy of its making would be memory that was never used before, which takes longer to
    get than to fill. Raises ValueError for a column that is not of integers.
    """
    import pyarrow as pa

    if not pa.types.is_integer(column.type):
        raise ValueError(f"expected integers, got {column.type}")
    if column.num_chunks == 1 and not column.null_count and pa.types.is_int64(column.type):
        return np.asarray(column.chunk(0))
    found = np.empty(len(column), dtype=np.int64)
    first = 0
    for chunk in column.chunks:
        part = found[first : first + len(chunk)]
        part[:] = values_of(chunk)
        if chunk.null_count:
            np.putmask(part, np.asarray(chunk.is_null()), missing)
        first += len(chunk)
    return found


def values_of(chunk: pa.Array) -> Array:
    """What integers lie in an array, whatever they are where it is null."""
    import pyarrow as pa

    _, values = chunk.buffers()
    return np.asarray(pa.Array.from_buffers(chunk.type, len(chunk), [None, values], offset=chunk.offset))


def small_integers(column: pa.ChunkedArray) -> Array:
    """A column of integers below 128 as int8, UNKNOWN for null. Raises ValueError for one that is not."""
    import pyarrow as pa

    try:
        return np.asarray(column.cast(pa.int8()).fill_null(UNKNOWN).to_numpy())
    except pa.ArrowInvalid as error:
        raise ValueError(f"expected integers from -128 to 127: {error}") from None


def party_codes(calls: pa.Table) -> tuple[Array, int]:
    """Caller and callee of each call in turn as dense integers, int32, and how many numbers there are."""
    import pyarrow as pa

    both = [chunk for name in ("caller", "callee") for chunk in calls[name].chunks]
    text = [chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode() for chunk in both]
    column = pa.chunked_array(text, type=pa.dictionary(pa.int32(), pa.string())).unify_dictionaries()
    parties, callers = np.empty((calls.num_rows, 2), dtype=np.int32), calls["caller"].num_chunks
    for party, chunks in enumerate((column.chunks[:callers], column.chunks[callers:])):
        first = 0
        for chunk in chunks:
            parties[first : first + len(chunk), party] = np.asarray(chunk.indices)
            first += len(chunk)
    return parties.reshape(-1), len(column.chunk(0).dictionary) if column.num_chunks else 0


def group_codes(column: pa.ChunkedArray) -> tuple[Array, int]:
    """The key of each call as a dense integer, int32, NONE where there is none; and how many keys there are."""
    import pyarrow as pa

    encoded = column.unify_dictionaries().combine_chunks()
    if not pa.types.is_dictionary(encoded.type):
        encoded = encoded.cast(pa.string()).dictionary_encode()
    return np.array(encoded.indices.cast(pa.int32()).fill_null(windows.NONE), dtype=np.int32), len(encoded.dictionary)
