"""Offline engine: the vectors of all calls of a table at once.

Each kind of history (numbers, blocks, trunks, devices) is one pass. Its calls are grouped by key. The kernel replays
the history of each key and writes that key's part of the vectors.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from callsieve.features.arrays import Array
from callsieve.features.catalogue import BY_NAME, NAMES, select_features
from callsieve.features.catalogue.feature import Feature
from callsieve.features.codegen.compiled_library import shared_functions, table_engine
from callsieve.features.codegen.feature_program import KINDS, NUMBER, Kind, first_column
from callsieve.features.files.pipeline import workers
from callsieve.features.kernel import table_pass, windows

from .packing import Packed, cache_aligned, pack_calls

PARTS_PER_THREAD = 8
NO_NOTES = np.empty(0, dtype=np.int32)


@dataclass(frozen=True)
class Grouped:
    """Views (2 * call + direction) of a kind of history, grouped by key and in order of start; and their offsets."""

    engine: SimpleNamespace
    views: Array
    offsets: Array


def vectors(
    calls: pa.Table, *, rows: Array | None = None, features: tuple[str, ...] = NAMES, threads: int | None = None
) -> Array:
    """Returns the vectors of calls at their start, from all calls of the table that were known before.

    `rows`: the calls whose vectors are wanted, each once; all by default. Fewer rows take less time. `threads`: number
    of cores; all by default. The result does not depend on it.
    Returns: float64 (rows, features), in the order of `rows`; NaN where a value is unknown.
    """
    select_features(features)
    names = tuple(dict.fromkeys(features))
    wanted = tuple(BY_NAME[name] for name in names)
    threads = threads or os.cpu_count() or 1
    packed = pack_calls(calls, threads, group_kinds(wanted))
    count = len(packed.order)
    if rows is not None:
        row_indices(packed)[:] = windows.NONE
        row_indices(packed)[rows] = np.arange(len(rows))
        count = len(rows)
    out = fill_vectors(packed, group_calls(NUMBER, packed, wanted), wanted, count, threads)
    return out if names == features else out[:, [names.index(name) for name in features]]


def group_kinds(features: tuple[Feature, ...]) -> tuple[str, ...]:
    """Returns the kinds of groups that these features read."""
    return tuple(kind.name for kind in KINDS[1:] if any(feature.role in kind.roles for feature in features))


def row_indices(calls: Packed) -> Array:
    """Returns a view of the row of each vector: at first the row of the call; NONE for no vector."""
    return calls.records[table_pass.ROW :: table_pass.RECORD]


def fill_vectors(calls: Packed, numbers: Grouped, features: tuple[Feature, ...], count: int, threads: int) -> Array:
    """Returns the `count` vectors of packed calls, in the rows that the records name."""
    out, notes = np.empty((count, len(features))), NO_NOTES
    parts = list(pairwise(np.linspace(0, count, PARTS_PER_THREAD * threads + 1).astype(int).tolist()))
    with workers(threads) as run:  # threads suffice: the compiled kernel releases the GIL
        for kind in KINDS:
            if not any(feature.role in kind.roles for feature in features):
                continue
            groups = numbers if kind is NUMBER else group_calls(kind, calls, features)
            noted = first_column(kind.roles[-1], features) >= 0
            if noted and len(notes) != groups.engine.NOTES * count:  # the kinds take turns in the same memory
                notes = blank_notes(groups.engine.NOTES * count)
            if kind is not NUMBER:
                rows = row_indices(calls)[calls.owners[kind.name] < 0]
                notes[rows[rows >= 0] * groups.engine.NOTES] = windows.NONE
            run(pass_tasks(groups, calls, out, threads, notes if noted else NO_NOTES))
            if noted:
                run([partial(emit_notes, *part, groups.engine, notes, out) for part in parts])
    return out


def blank_notes(size: int) -> Array:
    """Returns an array for notes; each note begins at a cache line."""
    return cache_aligned(size // 2).view(np.int32)


def emit_notes(begin: int, end: int, engine: SimpleNamespace, notes: Array, out: Array) -> None:
    """Writes the values of the notes of the rows `begin` to `end`."""
    column = engine.first_columns[-1]
    engine.emit_notes(begin, end, out.shape[1], column, notes=notes, out=out.reshape(-1), **laid_out(engine))


def group_calls(kind: Kind, calls: Packed, features: tuple[Feature, ...]) -> Grouped:
    """Groups calls by key; numbers without features of incoming calls have outgoing views only."""
    engine = table_engine(kind, features)
    owners = calls.owners[kind.name]
    if kind is NUMBER and not any(feature.reads_incoming for feature in features):
        owners = np.ascontiguousarray(owners[::2])
    width = len(owners) // max(len(calls.order), 1)
    return Grouped(engine, *grouped_views(width, calls.order, owners, calls.keys[kind.name]))


def grouped_views(width: int, order: Array, owners: Array, keys: int) -> tuple[Array, Array]:
    """Returns the views and the offsets of calls with `width` owners each, as in `Grouped`."""
    offsets = np.zeros(keys + 1, dtype=np.int64)
    views = np.empty(np.count_nonzero(owners >= 0), dtype=np.int64)
    shared_functions()["group_views"](width, order=order, owners=owners, offsets=offsets, views=views)
    return views, offsets


def pass_tasks(
    groups: Grouped, calls: Packed, out: Array, threads: int, notes: Array = NO_NOTES
) -> list[Callable[[], None]]:
    """Returns tasks that write one kind's part of the vectors, each for a range of keys with about as many calls."""
    bounds = np.searchsorted(groups.offsets, np.linspace(0, len(groups.views), PARTS_PER_THREAD * threads + 1))
    return [
        partial(replay_keys, begin, end, groups, calls, notes, out)
        for begin, end in pairwise(sorted({0, *bounds.tolist()}))
    ]


def replay_keys(begin: int, end: int, groups: Grouped, calls: Packed, notes: Array, out: Array) -> None:
    """Replays the keys `begin` to `end`."""
    out_column, in_column = (*groups.engine.first_columns, windows.NONE)[:2]
    largest = int(np.diff(groups.offsets[begin : end + 1]).max(initial=1))
    groups.engine.replay(
        begin,
        end,
        out.shape[1],
        out_column,
        in_column,
        offsets=groups.offsets,
        views=groups.views,
        records=calls.records,
        notes=notes,
        out=out.reshape(-1),
        **laid_out(groups.engine),
        **scratch(groups.engine, largest),
    )


def laid_out(engine: SimpleNamespace) -> dict[str, Array]:
    """Returns the array with the constants of a choice of features, by name."""
    return {"layout": np.array(engine.layout, dtype=np.int64)}


def scratch(engine: SimpleNamespace, largest: int) -> dict[str, Array]:
    """Returns working memory of `replay` for a key with `largest` calls, by name."""
    longs = {"calls": windows.FIELDS, "rest": table_pass.REST, "others": 1, "directions": 1}
    ints = {"links": engine.STREAMS, "pairs": engine.PAIR, "flags": 1}
    return {
        **{name: np.empty(largest * size, dtype=np.int64) for name, size in longs.items()},
        **{name: np.empty(largest * size, dtype=np.int32) for name, size in ints.items()},
        "state": np.empty(engine.STATE, dtype=np.int32),
        "pair_of": np.empty(largest * engine.STREAMS // 2, dtype=np.int32),
        "slots": np.empty(1 << (2 * largest).bit_length(), dtype=np.int32),
        "times": np.empty(2 * largest + 1, dtype=np.int64),
        "nodes": np.empty(2 * largest + 1, dtype=np.int32),
    }
