"""Offline: the vectors of every call of a table at once.

Each kind of history (numbers, blocks, trunks, devices) is one pass: its calls are grouped by key, and each key's
life is replayed by the compiled kernel, which writes that key's part of the vectors.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from callsieve.features.catalogue import FEATURES, NAMES, select_features
from callsieve.features.catalogue.feature import Feature
from callsieve.features.codegen import compiled_library
from callsieve.features.codegen.assemble import kernel
from callsieve.features.codegen.feature_program import KINDS, NUMBER, Kind
from callsieve.features.kernel import table_pass, windows

from .packing import Packed, in_lines, packed

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    import pyarrow as pa

    Array = npt.NDArray[Any]

PARTS_PER_THREAD = 8
NO_NOTES = np.empty(0, dtype=np.int32)


@dataclass(frozen=True)
class Grouped:
    """Views (2 * call + direction) of a kind of history, grouped by key, in order of start within each; and offsets."""

    engine: SimpleNamespace
    views: Array
    offsets: Array


def vectors(
    calls: pa.Table,
    *,
    rows: Array | None = None,
    features: tuple[str, ...] = NAMES,
    threads: int | None = None,
) -> Array:
    """Feature vectors of calls as of their start, from all calls of the table that were known before.

    Args:
        calls: keyed calls, columns `records.KEYED_COLUMNS`, in any order.
        rows: the calls whose vectors are asked for, each once; all by default. The fewer, the quicker.
        features: names from the catalogue; the fewer, the quicker.
        threads: how many cores; all by default. The result does not depend on it.
    Returns: float64 (rows, features), in the order of `rows`; NaN where a value is unknown.
    Raises: ValueError: if a column is missing or holds an unknown word, or a feature is not in the catalogue.
    """
    wanted = select_features(features)
    threads = threads or os.cpu_count() or 1
    found = packed(calls, threads, groups_of(wanted))
    count = len(found.order)
    if rows is not None:
        rows_of(found)[:] = windows.NONE
        rows_of(found)[rows] = np.arange(len(rows))
        count = len(rows)
    out = fill(found, grouped(NUMBER, found, wanted), wanted, count, threads)
    order = [feature.name for feature in wanted]
    return out if order == list(features) else out[:, [order.index(name) for name in features]]


def vectors_by_caller(
    calls: pa.Table, *, features: tuple[str, ...] = NAMES, threads: int | None = None
) -> tuple[Array, Array]:
    """The same vectors, each caller's calls together and in order of start: quicker, as nothing is scattered.

    Returns: the rows of `calls` in that order, int64 (calls,), and float64 (calls, features), features in the order of
    the catalogue.
    Raises: ValueError: as `vectors`.
    """
    wanted = select_features(features)
    threads = threads or os.cpu_count() or 1
    found = packed(calls, threads, groups_of(wanted))
    numbers = grouped(NUMBER, found, wanted)
    rows = numbers.views[numbers.views & 1 == 0] >> 1
    rows_of(found)[rows] = np.arange(len(rows))
    return rows, fill(found, numbers, wanted, len(rows), threads)


def groups_of(features: tuple[Feature, ...]) -> tuple[str, ...]:
    """The kinds of groups that these features read."""
    return tuple(kind.name for kind in KINDS[1:] if any(feature.role in kind.roles for feature in features))


def rows_of(calls: Packed) -> Array:
    """Where the vector of each call goes: at first where the call stood; NONE for nowhere."""
    return calls.records[table_pass.ROW :: table_pass.RECORD]


def fill(calls: Packed, numbers: Grouped, features: tuple[Feature, ...], count: int, threads: int) -> Array:
    """The `count` vectors of packed calls, features in the order of the catalogue, in the rows that records name."""
    import joblib

    out = np.empty((count, len(features)))
    first = np.arange(len(calls.order), dtype=np.int32)
    if any(feature.role not in NUMBER.roles for feature in features):
        numbers.engine.copy_first_owner(numbers.offsets, numbers.views, calls.records, first)
    tasks, spelling = [], []
    for kind in KINDS:
        if not any(feature.role in kind.roles for feature in features):
            continue
        groups = numbers
        if kind is not NUMBER:
            owners = calls.owners[kind.name]
            owners[:] = owners[first]  # a repeat has the block, trunk and device of the first record
            groups = grouped(kind, calls, features)
        notes, columns = NO_NOTES, columns_of(kind.roles[-1], features)
        if columns:
            notes = blank_notes(groups.engine.NOTES * count)
            spelling.append((groups.engine, notes, columns[0]))
        if kind is not NUMBER:
            rows = rows_of(calls)[owners < 0]
            notes[rows[rows >= 0] * groups.engine.NOTES] = windows.NONE
        tasks += passes(kind, groups, calls, features, out, threads, notes)
    # Threads suffice: the compiled kernel lets go of the interpreter's lock.
    with joblib.Parallel(threads, require="sharedmem") as parallel:
        parallel(joblib.delayed(task)() for task in tasks)
        bounds = range(0, count, -(-count // (PARTS_PER_THREAD * threads)) or 1)
        parallel(joblib.delayed(spell)(first, min(first + bounds.step, count), spelling, out) for first in bounds)
    return out


def blank_notes(size: int) -> Array:
    """Room for notes: each begins where a line of the cache does."""
    return in_lines(size // 2).view(np.int32)


def spell(begin: int, end: int, noted: list[tuple[SimpleNamespace, Array, int]], out: Array) -> None:
    """Write what was noted of the rows `begin` to `end`."""
    for engine, notes, column in noted:
        engine.emit_notes(begin, end, notes, out.reshape(-1), out.shape[1], column)


def grouped(kind: Kind, calls: Packed, features: tuple[Feature, ...]) -> Grouped:
    """The calls of a kind of history by key; of a number those that go out alone, if features ask for no others."""
    engine = table_kernel(kind, features)
    owners = calls.owners[kind.name]
    if kind is NUMBER and not any(feature.reads_incoming for feature in features):
        owners = np.ascontiguousarray(owners[::2])
    offsets = np.zeros(calls.keys[kind.name] + 1, dtype=np.int64)
    views = np.empty(np.count_nonzero(owners >= 0), dtype=np.int64)
    engine.group_views(calls.order, owners, len(owners) // max(len(calls.order), 1), offsets, views)
    return Grouped(engine, views, offsets)


def table_kernel(kind: Kind, features: tuple[Feature, ...]) -> SimpleNamespace:
    """The kernel of a kind of history: Numba's, with what was built as C in place of its own where that will do.

    C is of all features of a kind: it serves who wants these, or all that callers tell. It knows that no place is
    counted from the end of an array, as Numba must ask each time.
    """
    whole, mine = (tuple(each for each in some if each.role in kind.roles) for some in (FEATURES, features))
    of_callers = tuple(feature for feature in whole if feature.role == kind.roles[0])
    library = compiled_library.library() if mine in (whole, of_callers) else None
    if library is None:
        return kernel(kind, features, compiled=True)
    return SimpleNamespace(**vars(kernel(kind, FEATURES, compiled=True)) | library.table(kind.name))


def columns_of(role: str, features: tuple[Feature, ...]) -> list[int]:
    """Where the features of a role stand."""
    return [i for i, feature in enumerate(features) if feature.role == role]


def passes(
    kind: Kind,
    groups: Grouped,
    calls: Packed,
    features: tuple[Feature, ...],
    out: Array,
    threads: int,
    notes: Array = NO_NOTES,
) -> list[Callable[[], None]]:
    """Tasks that write one kind's part of the vectors: runs of keys, each with about as many calls."""
    first = [next(iter(columns_of(role, features)), windows.NONE) for role in kind.roles]
    place = (first[0], first[1] if len(first) > 1 else windows.NONE)
    bounds = np.searchsorted(groups.offsets, np.linspace(0, len(groups.views), PARTS_PER_THREAD * threads + 1))
    return [
        partial(run, begin, end, groups, calls, notes, out, place)
        for begin, end in pairwise(sorted({0, *bounds.tolist()}))
    ]


def run(begin: int, end: int, groups: Grouped, calls: Packed, notes: Array, out: Array, place: tuple[int, int]) -> None:
    """Replay the keys `begin` to `end`."""
    largest = int(np.diff(groups.offsets[begin : end + 1]).max(initial=1))
    groups.engine.replay(
        begin,
        end,
        groups.offsets,
        groups.views,
        calls.records,
        scratch(groups.engine, largest),
        notes,
        out.reshape(-1),
        out.shape[1],
        *place,
    )


def scratch(engine: SimpleNamespace, largest: int) -> tuple[Array, ...]:
    """Working memory of `replay` for a key with `largest` calls."""
    table = 1 << (2 * largest).bit_length()
    return (
        np.empty(engine.STATE, dtype=np.int32),
        *(np.empty(largest * size, dtype=np.int64) for size in (windows.FIELDS, table_pass.REST, 1, 1)),
        np.empty(engine.STREAMS * largest, dtype=np.int32),
        np.empty(largest * engine.PAIR, dtype=np.int32),
        np.empty(largest * engine.STREAMS // 2, dtype=np.int32),
        np.empty(largest, dtype=np.int32),
        np.empty(table, dtype=np.int32),
        np.empty(2 * largest + 1, dtype=np.int64),
        np.empty(2 * largest + 1, dtype=np.int32),
    )
