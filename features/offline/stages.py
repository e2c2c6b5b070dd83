"""What is done with each shard: the tasks that `shards.py` runs.

1. `split`: a chunk of the table goes to the shards of its callers ("out") and of its callees ("in").
2. `settle`: a shard of callers sends its calls on to the shards of their block, trunk and device. A repeated record has
   those of the first one, and both are here.
3. `tell`: a shard of callees, blocks, trunks or devices sends what it tells of each call back to the caller's shard.
4. `gather`: a shard of callers adds what the callers tell and is written as a part of the result.

Kinds of history share no state, so each is replayed on its own by the kernel of `table.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from callsieve.features.catalogue import select_features
from callsieve.features.catalogue.feature import ROLES, Feature
from callsieve.features.codegen.feature_program import KINDS, NUMBER, Kind
from callsieve.features.files.atomic import atomic_path
from callsieve.features.intake.keyed_table import KEYED_TOKENS
from callsieve.features.kernel.table_pass import LATE, PARTIES, RECORD, ROW
from callsieve.features.kernel.windows import NONE, START
from callsieve.features.records import GROUP_COLUMNS, KEYED_COLUMNS

from .packing import Packed, in_order, packed
from .shuffle import binary, dense, read_part, shard_of, token_keys, token_texts, unbinary, write_parts
from .table import Grouped, grouped, passes

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    Array = npt.NDArray[Any]

EPOCHS = ("caller_epoch", "callee_epoch")
ROW_GROUP = 1 << 16


@dataclass(frozen=True)
class Plan:
    """How a table is cut: `chunk` rows are read at once, keys fall into `shards`."""

    folder: Path
    names: tuple[str, ...]  # of the features, in the order of the columns
    rows: int
    chunk: int
    shards: int

    @property
    def work(self) -> Path:
        """Where the stages keep their files."""
        return self.folder / "_work"

    @property
    def roles(self) -> list[str]:
        """Whose shards have something to tell the caller's."""
        return [role for role in ROLES if role != "caller" and self.of(role)]

    def of(self, *roles: str) -> tuple[Feature, ...]:
        """The features that these roles tell."""
        return tuple(feature for feature in select_features(self.names) if feature.role in roles)

    def files(self, stage: str) -> list[Path]:
        """The files of a stage, one a task."""
        count = max(-(-self.rows // self.chunk), 1) if stage in ("out", "in") else self.shards
        if stage == "part":
            return [self.folder / f"part-{i:05}.parquet" for i in range(count)]
        return [self.work / f"{stage}-{i:05}.arrow" for i in range(count)]


def split(plan: Plan, number: int, calls: pa.Table) -> None:
    """Send a chunk of keyed calls, tokens as dictionaries, to the shards of its callers and of its callees."""
    records = plain(calls)
    records[:, ROW] = np.arange(number * plan.chunk, number * plan.chunk + len(records))
    keys, epochs = {}, {}
    for name in ("caller", "callee", *(GROUP_COLUMNS[role] for role in plan.roles if role in GROUP_COLUMNS)):
        keys[name], epochs[f"{name}_epoch"] = token_keys(calls[name].combine_chunks())
    parties = {"record": binary(records), "caller": keys.pop("caller"), "callee": keys.pop("callee")}
    of_caller = parties | keys | {name: epochs[name] for name in EPOCHS}
    for stage, party, columns in (("out", "caller", of_caller), ("in", "callee", parties)):
        write_parts(columns, shard_of(parties[party], plan.shards), plan.shards, plan.files(stage)[number])


def plain(calls: pa.Table) -> Array:
    """Records of calls without what depends on codes of keys: keys stay as they are until a shard is together."""
    import pyarrow as pa

    blank = pa.DictionaryArray.from_arrays(pa.array(np.zeros(calls.num_rows, dtype=np.int32)), pa.array([""]))
    keyless = {name: blank if name in KEYED_TOKENS else calls[name] for name in KEYED_COLUMNS}
    return packed(pa.table(keyless), kinds=()).records.reshape(-1, RECORD)


def settle(plan: Plan, kinds: list[Kind], shard: int) -> None:
    """Send the calls of a shard of callers on to the shards of what they share with others."""
    out = read_part(plan.files("out"), shard)
    records = unbinary(out["record"], np.int64).copy()
    (caller, callers), (callee, _) = dense(out["caller"]), dense(out["callee"])
    # Codes of callers differ from those of all other shards. Those of callees only tell which records repeat a call,
    # and all of these are here.
    records[:, PARTIES] = (caller * np.int64(plan.shards) + shard) << 32 | callee
    alone = np.column_stack([caller, np.full_like(caller, NONE)])
    calls = pack(records, alone, NUMBER, len(callers))
    groups = grouped(NUMBER, calls, plan.of("caller"))
    for kind in kinds:
        codes, keys = dense(out[GROUP_COLUMNS[kind.name]])
        groups.engine.copy_first_owner(groups.offsets, groups.views, calls.records, codes)
        has = np.flatnonzero(codes >= 0)
        rows = {"record": binary(records[has]), "key": keys.take(codes[has])}
        write_parts(rows, shard_of(rows["key"], plan.shards), plan.shards, plan.files(kind.name)[shard])


def tell(plan: Plan, role: str, shard: int) -> None:
    """Send what a shard of callees, blocks, trunks or devices tells of each call to the caller's shard."""
    kind = next(kind for kind in KINDS if role in kind.roles)
    if kind is NUMBER:
        calls, rows, parties = numbers_of(plan, shard, "in")
        to = shard_of(parties["caller"], plan.shards)
    else:
        calls, rows = members_of(plan, kind, shard)
        caller = calls.records.reshape(-1, RECORD)[:, PARTIES] >> 32
        to = (caller % plan.shards).astype(np.uint16)
    values, _ = replayed(kind, calls, plan.of(role), len(rows))
    write_parts({"row": rows, "values": binary(values)}, to, plan.shards, plan.files(told_by(role))[shard])


def told_by(role: str) -> str:
    """The stage of what a role tells."""
    return f"{role}_values"


def numbers_of(plan: Plan, shard: int, side: str) -> tuple[Packed, Array, pa.Table]:
    """The calls of a shard of numbers, those that go out first.

    Calls of one side are numbered, to be told of: returned are also their rows of the input, and who took part in them.
    """
    out, come_in = sides = [read_part(plan.files(stage), shard) for stage in ("out", "in")]
    records = np.concatenate([unbinary(table["record"], np.int64) for table in sides])
    codes, keys = dense(*(table[party] for party in ("caller", "callee") for table in sides))
    parties = codes.reshape(2, -1).T
    records[:, PARTIES] = parties[:, 0].astype(np.int64) << 32 | parties[:, 1]
    owners = parties.copy()
    owners[: out.num_rows, 1] = NONE
    owners[out.num_rows :, 0] = NONE
    mine, told = (slice(out.num_rows), out) if side == "out" else (slice(out.num_rows, None), come_in)
    rows = numbered(records[mine])
    return pack(records, owners, NUMBER, len(keys)), rows, told.drop_columns("record")


def members_of(plan: Plan, kind: Kind, shard: int) -> tuple[Packed, Array]:
    """The calls of a shard of blocks, trunks or devices, numbered, and their rows of the input."""
    table = read_part(plan.files(kind.name), shard)
    records = unbinary(table["record"], np.int64).copy()
    codes, keys = dense(table["key"])
    rows = numbered(records)
    return pack(records, codes, kind, len(keys)), rows


def numbered(records: Array) -> Array:
    """Number records from 0 on; returns the rows of the input that they were."""
    rows = records[:, ROW].copy()
    records[:, ROW] = np.arange(len(records))
    return rows


def pack(records: Array, owners: Array, kind: Kind, keys: int) -> Packed:
    """Calls of one kind of history as the kernel takes them."""
    order = in_order(records[:, START], records[:, LATE])
    return Packed(records.reshape(-1), order, {kind.name: owners.reshape(-1)}, {kind.name: keys})


def replayed(kind: Kind, calls: Packed, features: tuple[Feature, ...], rows: int) -> tuple[Array, Grouped]:
    """What the keys tell of the numbered rows, features of one role."""
    values = np.empty((rows, len(features)))
    groups = grouped(kind, calls, features)
    for task in passes(kind, groups, calls, features, values, 1):
        task()
    return values, groups


def gather(plan: Plan, shard: int) -> None:
    """Write the vectors of a shard of callers: caller by caller, in order of start."""
    calls, rows, parties = numbers_of(plan, shard, "out")
    values = {}
    values["caller"], groups = replayed(NUMBER, calls, plan.of("caller"), len(rows))
    order = groups.views[groups.views & 1 == 0] >> 1
    start = calls.records.reshape(-1, RECORD)[: len(rows), START].copy()
    parties = parties.select(["caller", "callee", *EPOCHS]).combine_chunks()
    del calls, groups
    for role in plan.roles:
        # A call without a trunk or device: nothing is known of one.
        values[role] = np.full((len(rows), len(plan.of(role))), np.nan)
        told = read_part(plan.files(told_by(role)), shard)
        values[role][np.searchsorted(rows, told["row"].to_numpy())] = unbinary(told["values"], np.float64)
    write_vectors(slices(plan, order, rows, start, parties, values), plan.files("part")[shard])


def slices(
    plan: Plan, order: Array, rows: Array, start: Array, parties: pa.Table, values: dict[str, Array]
) -> Iterator[pa.Table]:
    """The vectors in this order, a row group at a time; at least one, be it empty."""
    import pyarrow as pa

    for begin in range(0, max(len(order), 1), ROW_GROUP):
        some = order[begin : begin + ROW_GROUP]
        told = parties.take(some).combine_chunks()
        columns = {"row": rows[some], "start": start[some]}
        for name in ("caller", "callee"):
            key, epoch = (told[column].combine_chunks() for column in (name, f"{name}_epoch"))
            columns[name] = token_texts(key, epoch)
        for role in ("caller", *plan.roles):
            taken = np.ascontiguousarray(values[role][some].T)
            columns |= {feature.name: taken[i] for i, feature in enumerate(plan.of(role))}
        names = ["row", "start", "caller", "callee", *plan.names]
        yield pa.table({name: columns[name] for name in names})


def write_vectors(tables: Iterator[pa.Table], path: Path) -> None:
    """Write tables as the row groups of one Parquet file."""
    import pyarrow.parquet as pq

    first = next(tables)
    with (
        atomic_path(path) as part,
        pq.ParquetWriter(part, first.schema, compression="zstd", write_page_checksum=True) as file,
    ):
        file.write_table(first)
        for table in tables:
            file.write_table(table)
