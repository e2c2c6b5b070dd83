"""The table engine cut into four steps by key, so that no process needs the calls of all keys at once.

Kinds of history share no state. So calls are sent to shards by their keys, and the kernel of `table.py` replays each
kind of history shard by shard. Between the steps rows change shards:

1. `packed_calls` packs keyed calls. They go to the shard of their caller (OUT).
2. `sent_calls` sends the calls of a shard of callers to the shards of their callee (IN), block, trunk and device. All
   records of a call are in this shard, and get the groups of the call.
3. `role_values` replays the histories of a shard. The values of a call go to the shard where its vector is made.
4. `joined_vectors` joins the values of the calls of a shard.

Two carriers bring the rows from step to step: files on a disk (`shards.py`) and Spark (`spark.py`). The result depends
neither on the shard of a key nor on the number of shards.

Columns of a row: `record` (a cell with the integers of `table_pass.py`; ROW is the call's id), the keys of the call in
any form that compares equal for equal keys, and `home` (the shard of step 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from callsieve.features.arrays import Array
from callsieve.features.catalogue import select_features
from callsieve.features.catalogue.feature import Feature
from callsieve.features.codegen.feature_program import KINDS, NUMBER, Kind, first_column
from callsieve.features.intake.keyed_table import KEYED_TOKENS
from callsieve.features.kernel.table_pass import PARTIES, RECORD, ROW
from callsieve.features.kernel.windows import NONE
from callsieve.features.records import GROUP_COLUMNS, KEYED_COLUMNS

from .packing import Packed, read_records, start_order, token_list
from .repeats import settle_repeats
from .shuffle import copied_cells, dense_codes, from_cells, to_cells
from .table import group_calls, pass_tasks

OUT, IN = "out", "in"
NUMBER_COLUMNS = ("record", "caller", "callee", "home")
"""The columns of OUT and IN that `role_values` reads."""

Where = Callable[["pa.Table", str], Array]
"""Returns the shard of each row's key in a column; undefined for a null."""


class Parcel(NamedTuple):
    """Columns of rows of a stage, and the shard to which each row goes."""

    stage: str
    rows: dict[str, pa.Array]
    to: Array


def kinds_of(names: tuple[str, ...]) -> list[Kind]:
    """Returns the kinds of history that these features read."""
    roles = {feature.role for feature in select_features(names)}
    return [kind for kind in KINDS if not roles.isdisjoint(kind.roles)]


def inputs_of(kind: Kind) -> tuple[str, ...]:
    """Returns the stages whose rows `role_values` reads for a kind of history, one for each of its roles."""
    return (OUT, IN) if kind is NUMBER else (kind.name,)


def values_stage(role: str) -> str:
    """Returns the name of the stage with the values of a role."""
    return f"{role}_values"


def packed_calls(calls: pa.Table, ids: Array) -> pa.FixedSizeBinaryArray:
    """Returns the records of keyed calls as cells, without keys: keys get codes only when a shard is complete."""
    blank = pa.DictionaryArray.from_arrays(pa.array(np.zeros(calls.num_rows, dtype=np.int32)), pa.array([""]))
    keyless = {name: blank if name in KEYED_TOKENS else calls[name] for name in KEYED_COLUMNS}
    records = read_records(pa.table(keyless), threads=1)[0].reshape(-1, RECORD)
    records[:, ROW] = ids
    return to_cells(records)


def sent_calls(out: pa.Table, kinds: Sequence[Kind], shard: int, shards: int, where: Where) -> Iterator[Parcel]:
    """Sends the calls of a shard of callers to the shards of callees and groups, as these kinds of history need."""
    if NUMBER in kinds:
        yield Parcel(IN, {name: out[name].combine_chunks() for name in NUMBER_COLUMNS}, where(out, "callee"))
    records = copied_cells(out["record"])
    (caller, _), (callee, _) = dense_codes(out["caller"]), dense_codes(out["callee"])
    # Codes of callers are unique over all shards. Codes of callees only identify repeated records, which are all in
    # this shard.
    records[:, PARTIES] = (caller * np.int64(shards) + shard) << 32 | callee
    repeats = settle_repeats(records, start_order(records)[1])
    for kind in kinds:
        if kind is NUMBER:
            continue
        column = GROUP_COLUMNS[kind.name]
        codes, tokens = dense_codes(out[column])
        row_of, has = np.zeros(len(tokens), dtype=np.int64), np.flatnonzero(codes >= 0)
        row_of[codes[has]] = has  # a row with this key
        if repeats is not None:
            repeats.settle_owners(records, codes, partial(token_list, tokens))
        has = np.flatnonzero(codes >= 0)
        keys, home = out[column].take(row_of[codes[has]]), out["home"].take(has)
        rows = {"record": to_cells(records[has]), "key": keys.combine_chunks(), "home": home.combine_chunks()}
        yield Parcel(kind.name, rows, where(out, column)[row_of[codes[has]]])


class KindCalls(NamedTuple):
    """The calls of a shard of one kind of history, as the kernel takes them.

    Attributes:
        packed: the calls of all sides, one side after the other. The row of a call is its place in its side.
        ids: the ids of the calls of each side.
        order: the calls of the first side in order of start.
    """

    packed: Packed
    ids: list[Array]
    order: Array


def kind_calls(kind: Kind, sides: Sequence[pa.Table]) -> KindCalls:
    """Returns the calls of a shard.

    `sides`: all rows of the shard, of each stage of `inputs_of`; for numbers the second one may be missing.
    """
    records, outgoing = copied_cells(*(side["record"] for side in sides)), sides[0].num_rows
    if kind is NUMBER:
        codes, keys = dense_codes(*(side[party] for party in ("caller", "callee") for side in sides))
        owners = codes.reshape(2, -1).T.copy()
        records[:, PARTIES] = owners[:, 0].astype(np.int64) << 32 | owners[:, 1]
        owners[:outgoing, 1] = owners[outgoing:, 0] = NONE
    else:
        owners, keys = dense_codes(sides[0]["key"])
    ids = np.split(records[:, ROW].copy(), [outgoing])
    order, tied = start_order(records[:outgoing])
    if kind is NUMBER:  # records of groups are settled
        settle_repeats(records[:outgoing], tied)
        settle_repeats(records[outgoing:], start_order(records[outgoing:])[1])
    # The callers' values of a call and the callees' values of another one share a row: they are in other columns.
    records[:, ROW] = np.concatenate([np.arange(len(rows)) for rows in ids])
    owned, of_keys = {kind.name: owners.reshape(-1)}, {kind.name: len(keys)}
    all_in_order = order if len(sides) == 1 else start_order(records)[0]
    return KindCalls(Packed(records.reshape(-1), all_in_order, owned, of_keys), ids, order)


def role_values(kind: Kind, sides: Sequence[pa.Table], names: tuple[str, ...]) -> Iterator[Parcel]:
    """Sends the values that the keys of a shard add to their calls to the homes of the calls."""
    features = tuple(feature for feature in select_features(names) if feature.role in kind.roles)
    calls = kind_calls(kind, sides)
    parts = [
        (role, side, rows)
        for role, side, rows in zip(kind.roles, sides, calls.ids, strict=False)
        if first_column(role, features) >= 0
    ]
    values = np.empty((max((len(rows) for _, _, rows in parts), default=0), len(features)))
    write_values(kind, calls.packed, features, values)
    for role, side, rows in parts:
        cells = to_cells(values[: len(rows), role_columns(role, features)])
        yield Parcel(values_stage(role), {"row": pa.array(rows), "values": cells}, side["home"].to_numpy())


def write_values(kind: Kind, calls: Packed, features: tuple[Feature, ...], values: Array) -> None:
    """Writes features of one kind into the first columns of the rows of their calls."""
    for task in pass_tasks(group_calls(kind, calls, features), calls, values, 1):
        task()


def role_columns(role: str, features: tuple[Feature, ...]) -> slice:
    """Returns the columns of the features of a role in a table of features in catalogue order."""
    first = max(first_column(role, features), 0)
    return slice(first, first + sum(feature.role == role for feature in features))


def joined_vectors(rows: Array, names: tuple[str, ...], values: Iterable[tuple[str, pa.Table]]) -> Array:
    """Returns the vectors of calls, float64 (calls, features) in catalogue order."""
    vectors = np.empty((len(rows), len(select_features(names))))
    absent = [role for kind in KINDS for role in kind.roles]
    for role, received in values:
        join_values(vectors, role, rows, names, received.to_batches())
        absent.remove(role)
    for role in absent:
        join_values(vectors, role, rows, names, ())
    return vectors


def join_values(
    vectors: Array, role: str, rows: Array, names: tuple[str, ...], values: Iterable[pa.RecordBatch]
) -> None:
    """Writes the values of a role into their columns of vectors."""
    columns, missing = vectors[:, role_columns(role, select_features(names))], np.ones(len(rows), dtype=bool)
    for batch in values:
        place = np.searchsorted(rows, batch["row"].to_numpy())
        columns[place] = from_cells(batch["values"], np.float64)
        missing[place] = False
    columns[missing] = np.nan
