"""The tasks of `shards.py`, one stage after the other.

1. `split_chunk` sends a chunk of the table to the shards of its callers ("out") and of its callees ("in").
2. `send_to_groups` sends the calls of a shard of callers to the shards of their block, trunk and device. A repeated
   record takes those of the first record, and both are in this shard.
3. `compute_role` sends the values of callees, blocks, trunks or devices back to the caller's shard.
4. `write_shard` adds the caller's values and writes a part of the result.

Kinds of history share no state, so the kernel of `table.py` replays each on its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from callsieve.features.arrays import Array
from callsieve.features.catalogue import select_features
from callsieve.features.catalogue.choices import computed_features
from callsieve.features.catalogue.feature import ROLES, Feature
from callsieve.features.codegen.feature_program import KINDS, NUMBER, Kind
from callsieve.features.codegen.table_engine import shared_functions
from callsieve.features.files.atomic import atomic_path
from callsieve.features.intake.keyed_table import KEYED_TOKENS
from callsieve.features.kernel.table_pass import PARTIES, RECORD, ROW
from callsieve.features.kernel.windows import NONE, START
from callsieve.features.records import GROUP_COLUMNS, KEYED_COLUMNS

from .packing import Packed, pack_calls, start_order
from .shuffle import dense_codes, from_cells, read_part, shard_of, to_cells, token_keys, token_texts, write_parts
from .table import Grouped, group_calls, pass_tasks, select_columns

if TYPE_CHECKING:
    import pyarrow as pa


ROW_GROUP = 1 << 16


@dataclass(frozen=True)
class Plan:
    """How a table is cut: `chunk` rows are read at once, keys are distributed over `shards`."""

    folder: Path
    names: tuple[str, ...]  # features, in the order of the columns
    rows: int
    chunk: int
    shards: int

    @property
    def work(self) -> Path:
        """The folder of intermediate files."""
        return self.folder / "_work"

    @property
    def roles(self) -> list[str]:
        """Roles other than the caller that have features."""
        return [role for role in ROLES if role != "caller" and self.features_of(role)]

    def features_of(self, *roles: str) -> tuple[Feature, ...]:
        """Returns the features of these roles."""
        return tuple(feature for feature in select_features(self.names) if feature.role in roles)

    def files(self, stage: str) -> list[Path]:
        """Returns the files of a stage, one a task."""
        count = max(-(-self.rows // self.chunk), 1) if stage in ("out", "in") else self.shards
        if stage == "part":
            return [self.folder / f"part-{i:05}.parquet" for i in range(count)]
        return [self.work / f"{stage}-{i:05}.arrow" for i in range(count)]


def split_chunk(plan: Plan, number: int, calls: pa.Table) -> None:
    """Sends a chunk of keyed calls, tokens as dictionaries, to the shards of its callers and of its callees."""
    records = keyless_records(calls)
    records[:, ROW] = np.arange(number * plan.chunk, number * plan.chunk + len(records))
    keys, epochs = {}, {}
    for name in ("caller", "callee", *(GROUP_COLUMNS[role] for role in plan.roles if role in GROUP_COLUMNS)):
        keys[name], epochs[f"{name}_epoch"] = token_keys(calls[name].combine_chunks())
    parties = {"record": to_cells(records), "caller": keys.pop("caller"), "callee": keys.pop("callee")}
    of_caller = parties | keys | epochs
    for stage, party, columns in (("out", "caller", of_caller), ("in", "callee", parties)):
        write_parts(columns, shard_of(parties[party], plan.shards), plan.shards, plan.files(stage)[number])


def keyless_records(calls: pa.Table) -> Array:
    """Returns records without keys: keys get codes only when a shard is complete."""
    import pyarrow as pa

    blank = pa.DictionaryArray.from_arrays(pa.array(np.zeros(calls.num_rows, dtype=np.int32)), pa.array([""]))
    keyless = {name: blank if name in KEYED_TOKENS else calls[name] for name in KEYED_COLUMNS}
    return pack_calls(pa.table(keyless), kinds=()).records.reshape(-1, RECORD)


def send_to_groups(plan: Plan, kinds: list[Kind], shard: int) -> None:
    """Sends the calls of a shard of callers to the shards of their groups."""
    out = read_part(plan.files("out"), shard)
    records = from_cells(out["record"], np.int64).copy()
    (caller, callers), (callee, _) = dense_codes(out["caller"]), dense_codes(out["callee"])
    # Codes of callers are unique over all shards. Codes of callees only identify repeated records, which are all in
    # this shard.
    records[:, PARTIES] = (caller * np.int64(plan.shards) + shard) << 32 | callee
    alone = np.column_stack([caller, np.full_like(caller, NONE)])
    calls = pack(records, alone, NUMBER, len(callers))
    groups = group_calls(NUMBER, calls, plan.features_of("caller"))
    for kind in kinds:
        codes, keys = dense_codes(out[GROUP_COLUMNS[kind.name]])
        shared_functions()["copy_first_owner"](groups.offsets, groups.views, calls.records, codes)
        has = np.flatnonzero(codes >= 0)
        rows = {"record": to_cells(records[has]), "key": keys.take(codes[has])}
        write_parts(rows, shard_of(rows["key"], plan.shards), plan.shards, plan.files(kind.name)[shard])


def compute_role(plan: Plan, role: str, shard: int) -> None:
    """Sends the values that a shard of callees, blocks, trunks or devices adds to each call."""
    kind = next(kind for kind in KINDS if role in kind.roles)
    if kind is NUMBER:
        calls, rows, parties = number_calls(plan, shard, "in")
        to = shard_of(parties["caller"], plan.shards)
    else:
        calls, rows = group_members(plan, kind, shard)
        caller = calls.records.reshape(-1, RECORD)[:, PARTIES] >> 32
        to = (caller % plan.shards).astype(np.uint16)
    values, _ = replay_kind(kind, calls, plan.features_of(role), len(rows))
    write_parts({"row": rows, "values": to_cells(values)}, to, plan.shards, plan.files(values_stage(role))[shard])


def values_stage(role: str) -> str:
    """Returns the name of the stage with the values of a role."""
    return f"{role}_values"


def number_calls(plan: Plan, shard: int, side: str) -> tuple[Packed, Array, pa.Table]:
    """Returns the calls of a shard of numbers, outgoing ones first.

    The calls of `side` are numbered and get vectors; returned are also their rows of the input and their parties.
    """
    outgoing, incoming = sides = [read_part(plan.files(stage), shard) for stage in ("out", "in")]
    records = np.concatenate([from_cells(table["record"], np.int64) for table in sides])
    codes, keys = dense_codes(*(table[party] for party in ("caller", "callee") for table in sides))
    parties = codes.reshape(2, -1).T
    records[:, PARTIES] = parties[:, 0].astype(np.int64) << 32 | parties[:, 1]
    owners = parties.copy()
    owners[: outgoing.num_rows, 1] = NONE
    owners[outgoing.num_rows :, 0] = NONE
    selected, side_table = (
        (slice(outgoing.num_rows), outgoing) if side == "out" else (slice(outgoing.num_rows, None), incoming)
    )
    rows = renumber(records[selected])
    return pack(records, owners, NUMBER, len(keys)), rows, side_table.drop_columns("record")


def group_members(plan: Plan, kind: Kind, shard: int) -> tuple[Packed, Array]:
    """Returns the calls of a shard of blocks, trunks or devices, numbered, and their rows of the input."""
    table = read_part(plan.files(kind.name), shard)
    records = from_cells(table["record"], np.int64).copy()
    codes, keys = dense_codes(table["key"])
    rows = renumber(records)
    return pack(records, codes, kind, len(keys)), rows


def renumber(records: Array) -> Array:
    """Numbers records from 0 on; returns their rows of the input."""
    rows = records[:, ROW].copy()
    records[:, ROW] = np.arange(len(records))
    return rows


def pack(records: Array, owners: Array, kind: Kind, keys: int) -> Packed:
    """Returns the calls of one kind of history in the form that the kernel takes."""
    order = start_order(records)
    return Packed(records.reshape(-1), order, {kind.name: owners.reshape(-1)}, {kind.name: keys})


def replay_kind(kind: Kind, calls: Packed, features: tuple[Feature, ...], rows: int) -> tuple[Array, Grouped]:
    """Returns the values of the numbered rows, for features of one role."""
    computed = computed_features(features)
    values = np.empty((rows, len(computed)))
    groups = group_calls(kind, calls, computed)
    for task in pass_tasks(kind, groups, calls, computed, values, 1):
        task()
    return select_columns(values, computed, tuple(feature.name for feature in features)), groups


@dataclass(frozen=True)
class ShardVectors:
    """The calls of a shard of callers with their vectors, in the order of the input.

    Attributes:
        rows: their rows of the input, int64 of shape (calls,).
        start: Unix ms, int64 of shape (calls,).
        parties: columns caller, callee and those of groups as 16 bytes, and the epoch of each.
        values: for each role with features, float64 of shape (calls, features of the role).
        by_caller: the calls caller by caller, in order of start; int64 of shape (calls,).
    """

    rows: Array
    start: Array
    parties: pa.Table
    values: dict[str, Array]
    by_caller: Array


def shard_vectors(plan: Plan, shard: int) -> ShardVectors:
    """Returns the vectors of a shard of callers."""
    calls, rows, parties = number_calls(plan, shard, "out")
    values = {}
    values["caller"], groups = replay_kind(NUMBER, calls, plan.features_of("caller"), len(rows))
    by_caller = groups.views[groups.views & 1 == 0] >> 1
    start = calls.records.reshape(-1, RECORD)[: len(rows), START].copy()
    del calls, groups
    for role in plan.roles:
        # A call without a trunk or device has NaN for its features.
        values[role] = np.full((len(rows), len(plan.features_of(role))), np.nan)
        received = read_part(plan.files(values_stage(role)), shard)
        values[role][np.searchsorted(rows, received["row"].to_numpy())] = from_cells(received["values"], np.float64)
    return ShardVectors(rows, start, parties.combine_chunks(), values, by_caller)


def write_shard(plan: Plan, shard: int) -> None:
    """Writes the vectors of a shard of callers: caller by caller, in order of start."""
    write_vectors(row_groups(plan, shard_vectors(plan, shard)), plan.files("part")[shard])


def row_groups(plan: Plan, calls: ShardVectors) -> Iterator[pa.Table]:
    """Yields the vectors in order of callers, one row group at a time; at least one, possibly empty."""
    import pyarrow as pa

    for begin in range(0, max(len(calls.rows), 1), ROW_GROUP):
        selected = calls.by_caller[begin : begin + ROW_GROUP]
        columns = {"row": calls.rows[selected], "start": calls.start[selected]}
        tokens = party_tokens(calls.parties.take(selected), ("caller", "callee"))
        columns |= {name: column.cast(pa.string()) for name, column in tokens.items()}
        for role in ("caller", *plan.roles):
            taken = np.ascontiguousarray(calls.values[role][selected].T)
            columns |= {feature.name: taken[i] for i, feature in enumerate(plan.features_of(role))}
        names = ["row", "start", "caller", "callee", *plan.names]
        yield pa.table({name: columns[name] for name in names})


def party_tokens(parties: pa.Table, names: Iterable[str]) -> dict[str, pa.DictionaryArray]:
    """Returns columns of tokens from their bytes and epochs."""
    whole = parties.combine_chunks()
    return {name: token_texts(whole[name].combine_chunks(), whole[f"{name}_epoch"].combine_chunks()) for name in names}


def write_vectors(tables: Iterator[pa.Table], path: Path) -> None:
    """Writes tables as the row groups of one Parquet file."""
    import pyarrow.parquet as pq

    first = next(tables)
    with (
        atomic_path(path) as part,
        pq.ParquetWriter(part, first.schema, compression="zstd", write_page_checksum=True) as file,
    ):
        file.write_table(first)
        for table in tables:
            file.write_table(table)
