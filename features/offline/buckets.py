"""The work of the table engine cut into buckets by key, for engines that spread it over many processes.

Kinds of history share no state. So calls are sent to buckets by the hash of a kind's key. The kernel
replays each bucket, and the parts of a vector are joined by the call's id. Parcels change buckets between four steps:

`pack_parcels`      packs calls as they come -> by caller
`route_calls`       gives repeated records block, trunk and device of the first record -> by key of each kind
`compute_parts`     computes the parts of the vectors of a key's calls -> by call
`assemble_vectors`  joins the parts of each call

Parcels are pieces of Arrow tables as bytes: few large values cost a carrier less than many rows. The result depends
neither on the hash nor on the number of buckets of a process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from callsieve.features.arrays import Array
from callsieve.features.catalogue import select_features
from callsieve.features.catalogue.choices import computed_features
from callsieve.features.catalogue.feature import ROLES, Feature
from callsieve.features.codegen.feature_program import KINDS, NUMBER, Kind
from callsieve.features.codegen.table_engine import shared_functions
from callsieve.features.kernel import windows
from callsieve.features.kernel.table_pass import LATE, PACKED_FACTS, PARTIES, RECORD, ROW
from callsieve.features.records import GROUP_COLUMNS, KEYED_COLUMNS

from .packing import Packed, group_codes, pack_calls, party_codes, start_order
from .table import group_calls, pass_tasks, role_columns, select_columns

if TYPE_CHECKING:
    import pyarrow as pa


KEYS = ("caller", "callee", *GROUP_COLUMNS.values())
BUCKETS = tuple(f"{key}_bucket" for key in KEYS)
"""Columns that `pack_parcels` expects besides those of a keyed table: the bucket of each key."""

MOST_BUCKETS = 1 << 16
PIECE = 1 << 16  # most calls of a parcel: some megabytes
EVENTS = {"start": windows.START, "end": windows.END, "talk": windows.TALK, "facts": windows.FACTS, "late": LATE}
INTEGERS = EVENTS | {"call_facts": PACKED_FACTS}
"""Columns of a parcel and their index in a record; groups need only the events."""

OUT, IN = 1, 2  # whether a bucket has the caller's, the callee's side of a call


class Parcel(NamedTuple):
    """A part of a table of some kind for a bucket."""

    bucket: int
    kind: str
    body: bytes


Parcels = Iterator[Parcel]
ParcelBodies = Mapping[str, Sequence["pa.Buffer"]]
"""Bodies of parcels, by kind."""


def pack_parcels(calls: pa.Table) -> Parcels:
    """Packs keyed calls with ids (`call`) and BUCKETS for the buckets of their callers.

    Raises:
        ValueError: if a column is missing or contains an unknown word.
    """
    import pyarrow as pa

    # Keys stay text until a bucket is complete: codes are valid only where they were assigned.
    blank = pa.DictionaryArray.from_arrays(pa.array(np.zeros(calls.num_rows, dtype=np.int32)), pa.array([""]))
    keyless = {name: blank if name in KEYS else calls[name] for name in KEYED_COLUMNS if name in calls.column_names}
    records = pack_calls(pa.table(keyless), kinds=()).records.reshape(-1, RECORD)
    columns = {name: records[:, place] for name, place in INTEGERS.items()}
    table = pa.table({**columns, **{name: calls[name] for name in ("call", *KEYS, *BUCKETS)}})
    yield from cut_parcels("packed", table.take, np.arange(len(records)), integers(table, "caller_bucket"))


def route_calls(bodies: ParcelBodies, names: tuple[str, ...], buckets: int) -> Parcels:
    """Sends all records of the callers of a bucket to the buckets of numbers, blocks, trunks and devices."""
    import pyarrow as pa

    table = table_from_parcels("packed", bodies)
    if not table.num_rows:
        return
    caller, callers = group_codes(table["caller"])
    callee, _ = group_codes(table["callee"])
    order = call_order(table)
    alone = np.stack((caller, np.full_like(caller, windows.NONE)), axis=1).reshape(-1)
    calls = Packed(records_of(table, caller, callee), order, {"number": alone}, {"number": callers})
    groups = group_calls(NUMBER, calls, select_features(names))
    yield from route_to_numbers(table, order)
    # Codes of callers are made unique over all buckets. Codes of callees only identify repeated records, which are
    # all in this bucket.
    member = caller * np.int64(buckets) + integers(table, "caller_bucket")[0]
    for role in sorted({feature.role for feature in select_features(names)} & GROUP_COLUMNS.keys()):
        source = owning_rows(table[GROUP_COLUMNS[role]])
        shared_functions()["copy_first_owner"](groups.offsets, groups.views, calls.records, source)
        late = pa.array(calls.records.reshape(-1, RECORD)[:, LATE])
        events = table.set_column(table.column_names.index("late"), "late", late)
        yield from route_to_group(role, events, order, source, member, callee)


def owning_rows(keys: pa.ChunkedArray) -> Array:
    """Returns the row of each call, NONE for a call without a key."""
    return np.where(np.asarray(keys.is_valid()), np.arange(len(keys)), windows.NONE).astype(np.int32)


def route_to_numbers(table: pa.Table, order: Array) -> Parcels:
    """Sends each call to the buckets of its caller and its callee, once if they are the same."""
    import pyarrow as pa

    at_caller, at_callee = integers(table, "caller_bucket"), integers(table, "callee_bucket")
    same = (at_caller == at_callee)[order]
    for sides, rows, where in (
        (OUT | IN, order[same], at_caller),
        (OUT, order[~same], at_caller),
        (IN, order[~same], at_callee),
    ):
        sided = table.append_column("sides", pa.array(np.full(len(order), sides, dtype=np.int8)))
        yield from cut_parcels("number", sided.take, rows, where[rows])


def route_to_group(kind: str, table: pa.Table, order: Array, source: Array, member: Array, callee: Array) -> Parcels:
    """Sends each call with a block, trunk or device to the bucket of its key, which is the one of the row `source`."""
    import pyarrow as pa

    key = table[GROUP_COLUMNS[kind]].take(pa.array(source, mask=source < 0))
    columns = {name: table[name] for name in ("call", *EVENTS)}
    calls = pa.table({**columns, "caller": member, "callee": callee.astype(np.int64), "key": key})
    rows = order[source[order] >= 0]
    yield from cut_parcels(kind, calls.take, rows, integers(table, f"{GROUP_COLUMNS[kind]}_bucket")[source[rows]])


def compute_parts(bodies: ParcelBodies, names: tuple[str, ...], buckets: int) -> Parcels:
    """Computes the parts of the vectors of all calls of the keys of a bucket, for the buckets of the calls."""
    for kind in KINDS:
        table = table_from_parcels(kind.name, bodies)
        if not table.num_rows:
            continue
        features = tuple(feature for feature in select_features(names) if feature.role in kind.roles)
        out = replay_kind(kind, table, features)
        call = integers(table, "call")
        where = call % buckets
        sides = integers(table, "sides") if kind is NUMBER else np.full(len(call), OUT)
        for role, side in zip(kind.roles, (OUT, IN), strict=False):
            columns = role_columns(role, features)
            if columns:
                part = partial(part_of, call, out[:, columns[0] : columns[-1] + 1])
                rows = np.flatnonzero(sides & side)
                yield from cut_parcels(role, part, rows, where[rows], len(columns))
        if kind is NUMBER:
            rows = np.flatnonzero(sides & OUT)
            yield from cut_parcels("call", table.take, rows, where[rows])


def part_of(call: Array, values: Array, rows: Array) -> pa.Table:
    """Returns parts of the vectors of some calls."""
    import pyarrow as pa

    some = pa.array(values[rows].reshape(-1))
    return pa.table({"call": call[rows], "values": pa.FixedSizeListArray.from_arrays(some, values.shape[1])})


def assemble_vectors(bodies: ParcelBodies, names: tuple[str, ...]) -> tuple[pa.Table, Array]:
    """Returns call, start, caller and callee of the calls of a bucket, and their vectors.

    Returns:
        A table, and float64 (calls, features) in catalogue order.
    Raises:
        ValueError: if two calls have the same id.
    """
    features = select_features(names)
    identity = table_from_parcels("call", bodies)
    call = integers(identity, "call")
    order = np.argsort(call)
    ascending = call[order]
    if np.any(ascending[1:] == ascending[:-1]):
        raise ValueError("calls: expected another id (column call) in each row, got the same in two")
    out = np.full((len(call), len(features)), np.nan)
    for role in ROLES:
        columns = role_columns(role, features)
        for part in table_from_parcels(role, bodies, len(columns)).to_batches() if columns else ():
            rows = order[np.searchsorted(ascending, integers(part, "call"))]
            values = np.asarray(part["values"].flatten())
            out[rows, columns[0] : columns[-1] + 1] = values.reshape(-1, len(columns))
    return identity, out


def replay_kind(kind: Kind, table: pa.Table, features: tuple[Feature, ...]) -> Array:
    """Returns the values that the keys of a kind add to their calls: float64 (calls, features), in table order."""
    if kind is NUMBER:
        codes, keys = party_codes(table)
        parties = codes.reshape(-1, 2)
        caller, callee = parties.T
        belongs = integers(table, "sides")[:, None] & np.array([OUT, IN])
        owners = np.where(belongs > 0, parties, np.int32(windows.NONE)).reshape(-1)
    else:
        owners, keys = group_codes(table["key"])
        caller = np.asarray(table["caller"].combine_chunks().dictionary_encode().indices)
        callee = integers(table, "callee")
    calls = Packed(records_of(table, caller, callee), call_order(table), {kind.name: owners}, {kind.name: keys})
    computed = computed_features(features)
    out = np.empty((table.num_rows, len(computed)))
    if features:
        for task in pass_tasks(kind, group_calls(kind, calls, computed), calls, computed, out, 1):
            task()
    return select_columns(out, computed, tuple(feature.name for feature in features))


def records_of(table: pa.Table, caller: Array, callee: Array) -> Array:
    """Returns records as `table_pass.py` takes them; caller and callee are codes of at most 31 bits."""
    records = np.zeros((table.num_rows, RECORD), dtype=np.int64)
    for name, place in INTEGERS.items():
        if name in table.column_names:
            records[:, place] = integers(table, name)
    records[:, PARTIES] = caller.astype(np.int64) << 32 | callee
    records[:, ROW] = np.arange(len(records))
    return records.reshape(-1)


def call_order(table: pa.Table) -> Array:
    """Returns calls in order of start; of two records of one call, the earlier known first, then the lower id."""
    by_id = np.argsort(integers(table, "call"), kind="stable")
    records = np.empty((table.num_rows, RECORD), dtype=np.int64)
    for name, place in EVENTS.items():
        records[:, place] = integers(table, name)[by_id]
    return np.asarray(by_id[start_order(records)])


def cut_parcels(kind: str, of_rows: Callable[[Array], pa.Table], rows: Array, where: Array, width: int = 0) -> Parcels:
    """Cuts some rows of a table by the bucket of each, otherwise in their order."""
    order = np.argsort(where.astype(np.uint16), kind="stable")  # NumPy sorts 16 bits by counting
    where = where[order].astype(np.int64)
    table = of_rows(rows[order]).select(schema(kind, width).names).cast(schema(kind, width))
    begins = np.flatnonzero(np.diff(where, prepend=-1))
    for begin, end in pairwise([*begins.tolist(), len(where)]):
        for piece in range(begin, end, PIECE):
            for batch in table.slice(piece, min(PIECE, end - piece)).to_batches():
                yield Parcel(int(where[begin]), kind, batch.serialize().to_pybytes())


def table_from_parcels(kind: str, bodies: ParcelBodies, width: int = 0) -> pa.Table:
    """Returns the table of one kind from its parcels."""
    import pyarrow as pa

    expected = schema(kind, width)
    return pa.Table.from_batches([pa.ipc.read_record_batch(body, expected) for body in bodies.get(kind, ())], expected)


@cache
def schema(kind: str, width: int = 0) -> pa.Schema:
    """Returns the schema of a parcel; `width` is the number of features of a part."""
    import pyarrow as pa

    call = {"call": pa.int64()}
    events, whole = (dict.fromkeys(columns, pa.int64()) for columns in (EVENTS, INTEGERS))
    parties = {"caller": pa.string(), "callee": pa.string()}
    if kind == "packed":
        return pa.schema(call | whole | dict.fromkeys(KEYS, pa.string()) | dict.fromkeys(BUCKETS, pa.int32()))
    if kind == "number":
        return pa.schema(call | whole | parties | {"sides": pa.int8()})
    if kind == "call":
        return pa.schema(call | {"start": pa.int64()} | parties)
    if width:
        return pa.schema(call | {"values": pa.list_(pa.float64(), width)})
    return pa.schema(call | events | {"caller": pa.int64(), "callee": pa.int64(), "key": pa.string()})


def integers(table: pa.Table | pa.RecordBatch, name: str) -> Array:
    """Returns a column without nulls as an array."""
    return np.asarray(table[name].to_numpy())
