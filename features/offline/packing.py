"""A keyed table as flat arrays of integers, the form that the kernel takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.arrays import Array
from callsieve.features.catalogue.feature import CALL_FACTS
from callsieve.features.codegen.compiled_library import shared_functions
from callsieve.features.files.pipeline import workers
from callsieve.features.intake.keyed_table import check_table
from callsieve.features.intake.text_columns import dictionary_encoded
from callsieve.features.kernel import table_pass, windows
from callsieve.features.records import GROUP_COLUMNS, KEYED_CATEGORIES, KEYED_COLUMNS, UNKNOWN

from .repeats import settle_repeats, tied_places


@dataclass(frozen=True)
class Packed:
    """Calls as flat arrays.

    Attributes:
        records: `table_pass.RECORD` int64 a call.
        order: calls in order of start.
        owners: for each kind of history, the key of each call; for numbers two keys, caller and callee.
        keys: for each kind of history, the number of keys.
    """

    records: Array
    order: Array
    owners: dict[str, Array]
    keys: dict[str, int]


def pack_calls(calls: pa.Table, threads: int = 1, kinds: Iterable[str] = tuple(GROUP_COLUMNS)) -> Packed:
    """Packs calls on `threads` cores, with the keys of numbers and of these kinds of groups."""
    records, arrays = read_records(calls, threads, kinds)
    parties, numbers = arrays.pop("parties")
    owners, keys = {"number": parties}, {"number": numbers}
    by_record = records.reshape(-1, table_pass.RECORD)
    order, tied = start_order(by_record, arrays.pop("start"), parties[::2].astype(np.int64))
    repeats = settle_repeats(by_record, tied)
    for kind, (codes, tokens) in arrays.items():
        owners[kind], keys[kind] = codes, len(tokens)
        if repeats is not None:
            repeats.settle_owners(by_record, codes, partial(token_list, tokens))
    return Packed(records, order, owners, keys)


def read_records(calls: pa.Table, threads: int, kinds: Iterable[str] = ()) -> tuple[Array, dict[str, Any]]:
    """Returns the records of calls; and by name `start`, the codes of `parties`, and those of these kinds of groups."""
    check_table(calls)
    missing = [name for name in KEYED_COLUMNS if name not in calls.column_names]
    if missing:
        raise ValueError(f"calls: expected the columns of a keyed table, {', '.join(missing)} missing")
    count, grouping = calls.num_rows, tuple(kinds)
    with workers(threads) as run:
        read = column_readers(calls) | {kind: partial(group_codes, calls[GROUP_COLUMNS[kind]]) for kind in grouping}
        arrays = dict(zip(read, run(read.values()), strict=True))
        events = np.concatenate([arrays[name] for name in ("outcome", "released_by", "hour", "step", "same_region")])
        call_facts = np.concatenate([arrays[name] for name in CALL_FACTS])
        columns = {name: arrays[name] for name in ("start", "ring", "talk", "recorded", "day")}
        columns |= {"parties": arrays["parties"][0], "events": events, "call_facts": call_facts}
        records = cache_aligned(count * table_pass.RECORD)
        fill = shared_functions()["fill_records"]
        bounds = pairwise(np.linspace(0, count, threads + 1).astype(int).tolist())
        run([partial(fill, first, last, **columns, records=records) for first, last in bounds])
    return records, {name: arrays[name] for name in ("parties", "start", *grouping)}


def column_readers(calls: pa.Table) -> dict[str, Callable[[], Any]]:
    """Returns a function for each column that the kernel needs; `parties` reads caller and callee together."""
    read: dict[str, Callable[[], Any]] = {"parties": partial(party_codes, calls)}
    read |= {name: partial(integers, calls[name]) for name in ("start", "ring", "talk", "day")}
    read["recorded"] = partial(integers, calls["recorded"], windows.NEVER)
    read["weekday"] = partial(weekdays, calls["day"])
    read |= {name: partial(category_codes, calls[name], words) for name, words in KEYED_CATEGORIES.items()}
    small = ("hour", "same_region", "shared_prefix", "presented_differs")
    return read | {name: partial(small_integers, calls[name]) for name in small}


def cache_aligned(size: int) -> Array:
    """Returns an int64 array that begins at a cache line.

    Records are read in random order: a record across two lines would cost two misses.
    """
    line = table_pass.RECORD
    buffer = np.empty(size + line - 1, dtype=np.int64)
    return buffer[-(buffer.ctypes.data // 8) % line :][:size]


def start_order(records: Array, start: Array | None = None, callers: Array | None = None) -> tuple[Array, Array]:
    """Returns calls in order of start, and those with start and caller of another one in this order.

    A record that makes the attempt known comes before one that makes it known later. Of records that make the attempt
    known at the same time, the one with the earlier end comes first, and one without an end before all. Calls of
    different callers with the same start are in any order: no value depends on it.

    `records`: int64 (calls, `table_pass.RECORD`). `start`, `callers`: contiguous copies of these fields; by default
    they are read from the records.
    """
    start = np.ascontiguousarray(records[:, windows.START]) if start is None else start
    callers = records[:, table_pass.PARTIES] >> 32 if callers is None else callers
    order = np.arange(len(start)) if np.all(start[1:] >= start[:-1]) else np.argsort(start, kind="stable")
    tied = tied_places(order, start, callers)
    rows = order[tied]
    late, is_over = records[rows, table_pass.LATE], records[rows, windows.TALK] >= 0
    known_at = np.where(late != windows.NEVER, late, start[rows])
    rows = rows[np.lexsort((records[rows, windows.END], is_over, known_at, start[rows]))]
    order[tied] = rows
    return order, rows


def weekdays(days: pa.ChunkedArray) -> Array:
    """Returns days of the week, 0 for Monday, of days since 1970-01-01, as int8."""
    monday = integers(days).astype(np.int32) + np.int32(3)  # 1970-01-01 was a Thursday
    return np.asarray(monday - 7 * (monday // 7), dtype=np.int8)  # NumPy's `%` takes ten times as long


def category_codes(column: pa.ChunkedArray, words: tuple[str, ...]) -> Array:
    """Returns indices into `words` as int8; UNKNOWN for null."""
    encoded = dictionary_encoded(column)
    matches = pc.index_in(encoded.dictionary, value_set=pa.array(words))
    if matches.null_count:
        value = encoded.dictionary.filter(pc.is_null(matches))[0].as_py()
        raise ValueError(f"unknown word {value!r}: expected one of {', '.join(words)}")
    if not encoded.indices.null_count and matches.to_pylist() == list(range(len(matches))):
        return np.asarray(encoded.indices).astype(np.int8, copy=False)  # a lookup takes six times as long
    lookup = np.append(np.asarray(matches, dtype=np.int8), np.int8(UNKNOWN))
    return np.asarray(lookup[np.asarray(encoded.indices.fill_null(len(matches)))])


def integers(column: pa.ChunkedArray, missing: int = UNKNOWN) -> Array:
    """Returns a column of integers as int64, `missing` for null.

    It reads Arrow's own buffers: a copy by Arrow would take fresh memory, which costs more than filling it.
    """
    if not pa.types.is_integer(column.type):
        raise ValueError(f"expected integers, got {column.type}")
    if column.num_chunks == 1 and not column.null_count and pa.types.is_int64(column.type):
        return np.asarray(column.chunk(0))
    result = np.empty(len(column), dtype=np.int64)
    first = 0
    for chunk in column.chunks:
        part = result[first : first + len(chunk)]
        part[:] = raw_values(chunk)
        if chunk.null_count:
            np.putmask(part, np.asarray(chunk.is_null()), missing)
        first += len(chunk)
    return result


def raw_values(chunk: pa.Array) -> Array:
    """Returns the integers of an array; elements at nulls are undefined."""
    _, values = chunk.buffers()
    return np.asarray(pa.Array.from_buffers(chunk.type, len(chunk), [None, values], offset=chunk.offset))


def small_integers(column: pa.ChunkedArray) -> Array:
    """Returns a column of integers below 128 as int8, UNKNOWN for null."""
    try:
        return np.asarray(column.cast(pa.int8()).fill_null(UNKNOWN).to_numpy())
    except pa.ArrowInvalid as error:
        raise ValueError(f"expected integers from -128 to 127: {error}") from None


def party_codes(calls: pa.Table) -> tuple[Array, int]:
    """Returns caller and callee of each call in turn as dense int32 codes, and the number of numbers."""
    both = [chunk for name in ("caller", "callee") for chunk in calls[name].chunks]
    text = [chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode() for chunk in both]
    column = pa.chunked_array(text, type=pa.dictionary(pa.int32(), pa.string())).combine_chunks()
    parties = np.asarray(column.indices).reshape(2, -1)
    return np.ascontiguousarray(parties.T).reshape(-1), len(column.dictionary)


def group_codes(column: pa.ChunkedArray) -> tuple[Array, pa.Array]:
    """Returns the key of each call as a dense int32 code, NONE for none, and the tokens by code."""
    encoded = dictionary_encoded(column)
    return np.array(encoded.indices.cast(pa.int32()).fill_null(windows.NONE), dtype=np.int32), encoded.dictionary


def token_list(tokens: pa.Array, codes: Array) -> list[Any]:
    """Returns the tokens of some codes."""
    texts: list[Any] = tokens.take(pa.array(codes)).to_pylist()
    return texts
