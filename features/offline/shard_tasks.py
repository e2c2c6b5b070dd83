"""The tasks of `shards.py`: each runs a step of `stages.py` on files, for one chunk or one shard, and writes files.

Keys are the 16 bytes of their tokens. The vectors of a call are made in the shard of its caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from callsieve.features.arrays import Array
from callsieve.features.catalogue import select_features
from callsieve.features.codegen.feature_program import KINDS, NUMBER, Kind
from callsieve.features.files.parquet_file import write_groups
from callsieve.features.kernel.table_pass import RECORD
from callsieve.features.kernel.windows import START
from callsieve.features.records import GROUP_COLUMNS

from .buffers import Buffers
from .shuffle import read_batches, read_part, shard_of, token_keys, token_texts, write_parts
from .stages import (
    OUT,
    Parcel,
    inputs_of,
    join_values,
    kind_calls,
    kinds_of,
    packed_calls,
    role_values,
    sent_calls,
    values_stage,
    write_values,
)
from .table import grouped_views

CALLER = "caller"
ROW_GROUP = 1 << 16
TURNED_ROWS = 1 << 9  # rows that become columns at once: they fit the cache
UNCOMPRESSED_ROWS = 1 << 23  # their intermediate files take up to 5 GB


@dataclass(frozen=True)
class Plan:
    """How a table is cut: `chunk` rows are read at once, keys are distributed over `shards`."""

    folder: Path
    names: tuple[str, ...]  # features, in the order of the columns
    rows: int
    chunk: int
    shards: int
    buffers: Buffers = field(default_factory=Buffers, compare=False, repr=False)

    @property
    def work(self) -> Path:
        """The folder of intermediate files."""
        return self.folder / "_work"

    @property
    def compression(self) -> str | None:
        """The compression of intermediate files: only many rows have one, as it saves disk but takes time."""
        return "lz4" if self.rows > UNCOMPRESSED_ROWS else None

    def names_of(self, *roles: str) -> tuple[str, ...]:
        """Returns the features of these roles, in catalogue order."""
        return tuple(feature.name for feature in select_features(self.names) if feature.role in roles)

    def sent_roles(self, kind: Kind) -> list[str]:
        """Returns the roles of a kind of history whose values are sent: all with features but the caller's."""
        return [role for role in kind.roles if role != CALLER and self.names_of(role)]

    def files(self, stage: str) -> list[Path]:
        """Returns the files of a stage, one a task."""
        count = max(-(-self.rows // self.chunk), 1) if stage == OUT else self.shards
        if stage == "part":
            return [self.folder / f"part-{i:05}.parquet" for i in range(count)]
        return [self.work / f"{stage}-{i:05}.arrow" for i in range(count)]


def split_chunk(plan: Plan, number: int, calls: pa.Table) -> None:
    """Sends a chunk of keyed calls, tokens as dictionaries, to the shards of its callers."""
    first = number * plan.chunk
    rows = {"record": packed_calls(calls, np.arange(first, first + calls.num_rows))}
    groups = [GROUP_COLUMNS[kind.name] for kind in kinds_of(plan.names) if kind is not NUMBER]
    for name in ("caller", "callee", *groups):
        rows[name], rows[f"{name}_epoch"] = token_keys(calls[name].combine_chunks())
    home = shard_of(rows["caller"], plan.shards)
    _write_parcels(plan, number, [Parcel(OUT, rows | {"home": pa.array(home)}, home)])


def send_shard(plan: Plan, kinds: list[Kind], shard: int) -> None:
    """Sends the calls of a shard of callers to the shards of their callees and groups."""
    out = read_part(plan.files(OUT), shard)

    def where(calls: pa.Table, key: str) -> Array:
        return shard_of(calls[key], plan.shards)

    _write_parcels(plan, shard, sent_calls(out, kinds, shard, plan.shards, where))


def compute_shard(plan: Plan, kind: Kind, shard: int) -> None:
    """Sends the values that a shard of callees, blocks, trunks or devices adds to each call."""
    if names := plan.names_of(*plan.sent_roles(kind)):
        sides = [read_part(plan.files(stage), shard) for stage in inputs_of(kind)]
        _write_parcels(plan, shard, role_values(kind, sides, names))


def _write_parcels(plan: Plan, task: int, parcels: Iterable[Parcel]) -> None:
    for parcel in parcels:
        write_parts(parcel.rows, parcel.to, plan.shards, plan.files(parcel.stage)[task], compression=plan.compression)


@dataclass(frozen=True)
class ShardVectors:
    """The calls of a shard of callers with their vectors, in the order of the input.

    Attributes:
        rows: their rows of the input, int64 of shape (calls,).
        start: Unix ms, int64 of shape (calls,).
        parties: columns caller, callee and those of groups as 16 bytes, and the epoch of each.
        vectors: float64 of shape (calls, features), in catalogue order; lent by `Plan.buffers`.
        by_caller: the calls caller by caller, in order of start; int64 of shape (calls,).
    """

    rows: Array
    start: Array
    parties: pa.Table
    vectors: Array
    by_caller: Array


@contextmanager
def shard_vectors(plan: Plan, shard: int) -> Iterator[ShardVectors]:
    """Lends the vectors of a shard of callers. The values of the callers are computed here: they need no files."""
    own = plan.names_of(CALLER)
    sides = [read_part(plan.files(stage), shard) for stage in (inputs_of(NUMBER) if own else (OUT,))]
    parties = sides[0].drop_columns(["record", "home"]).combine_chunks()
    calls = kind_calls(NUMBER, sides)
    del sides
    rows = calls.ids[0]
    start = calls.packed.records.reshape(-1, RECORD)[: len(rows), START].copy()
    callers = np.ascontiguousarray(calls.packed.owners[NUMBER.name][: 2 * len(rows) : 2])
    by_caller = grouped_views(1, calls.order, callers, calls.packed.keys[NUMBER.name])[0] >> 1
    with plan.buffers.lend("vectors", len(rows), len(plan.names)) as vectors:
        if own:
            write_values(NUMBER, calls.packed, select_features(own), vectors)
        del calls
        for kind in KINDS:
            for role in plan.sent_roles(kind):
                values = read_batches(plan.files(values_stage(role)), shard)
                join_values(vectors, role, rows, plan.names, values)
        yield ShardVectors(rows, start, parties, vectors, by_caller)


def write_shard(plan: Plan, shard: int, row_columns: pa.Table | None = None) -> None:
    """Writes the vectors of a shard of callers: caller by caller, in order of start.

    Args:
        row_columns: as for `shards.write_shards`.
    """
    with (
        shard_vectors(plan, shard) as calls,
        plan.buffers.lend("columns", len(plan.names), min(ROW_GROUP, len(calls.rows))) as columns,
    ):
        of_calls = pa.table({"row": calls.rows}) if row_columns is None else row_columns.take(pa.array(calls.rows))
        write_groups(row_groups(plan, calls, of_calls, columns), plan.files("part")[shard], compression="zstd")


def row_groups(plan: Plan, calls: ShardVectors, row_columns: pa.Table, values: Array) -> Iterator[pa.Table]:
    """Yields the vectors in order of callers, one row group at a time; at least one, possibly empty.

    Args:
        row_columns: the column `row` and copied columns, with a row for each call.
        values: room for the values of a row group, shape (features, rows); each group overwrites the last one.
    """
    place = {feature.name: i for i, feature in enumerate(select_features(plan.names))}
    turned = np.empty((TURNED_ROWS, len(plan.names)))
    for begin in range(0, max(len(calls.rows), 1), ROW_GROUP):
        selected = calls.by_caller[begin : begin + ROW_GROUP]
        tokens = party_tokens(calls.parties.take(selected), ("caller", "callee"))
        for first in range(0, len(selected), TURNED_ROWS):
            some = selected[first : first + TURNED_ROWS]
            rows = np.take(calls.vectors, some, axis=0, out=turned[: len(some)], mode="clip")
            values[:, first : first + len(some)] = rows.T
        row, *copied = row_columns.take(pa.array(selected)).columns
        columns = {"row": row, "start": calls.start[selected]}
        columns |= {name: column.cast(pa.string()) for name, column in tokens.items()}
        columns |= dict(zip(row_columns.column_names[1:], copied, strict=True))
        yield pa.table(columns | {name: values[place[name], : len(selected)] for name in plan.names})


def party_tokens(parties: pa.Table, names: Iterable[str]) -> dict[str, pa.DictionaryArray]:
    """Returns columns of tokens from their bytes and epochs."""
    whole = parties.combine_chunks()
    return {name: token_texts(whole[name].combine_chunks(), whole[f"{name}_epoch"].combine_chunks()) for name in names}
