"""Vectors of more calls than memory can take: shard by shard, and resumable after a crash.

Every task runs a step of `stages.py` for one chunk or one shard, and ends with files that are written atomically, so
existing files are a finished task. A manifest identifies the input of the folder; another input is refused. Keys are
the 16 bytes of their tokens. The vectors of a call are made in the shard of its caller.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.arrays import Array
from callsieve.features.catalogue import NAMES, catalogue_hash, select_features
from callsieve.features.codegen.feature_program import KINDS, NUMBER, Kind
from callsieve.features.files.atomic import atomic_path, locked_folder
from callsieve.features.files.parquet_file import parquet_errors, write_groups
from callsieve.features.files.progress import Progress, silent
from callsieve.features.intake.keyed_table import BATCH_ROWS, check_columns, checked_columns
from callsieve.features.kernel.table_pass import RECORD
from callsieve.features.kernel.windows import START
from callsieve.features.records import GROUP_COLUMNS, KEYED_COLUMNS

from .shuffle import read_batches, read_part, shard_of, token_keys, token_texts, write_parts
from .stages import (
    IN,
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

EMPTY = np.empty(0)


class Buffers:
    """Lends arrays of float64. A task that ends leaves its arrays to the next one."""

    def __init__(self) -> None:
        self._free: defaultdict[str, list[Array]] = defaultdict(list)  # threads share it: append and pop are atomic

    @contextmanager
    def lend(self, use: str, rows: int, columns: int) -> Iterator[Array]:
        """Lends an array (rows, columns) of undefined values until the end of the block."""
        size = rows * columns
        try:
            buffer = self._free[use].pop()
        except IndexError:
            buffer = EMPTY
        if len(buffer) < size:
            buffer = np.empty(size + size // 2)  # the unused end takes no memory
        yield buffer[:size].reshape(rows, columns)
        self._free[use].append(buffer)

    def clear(self) -> None:
        """Frees all arrays that are not lent."""
        self._free.clear()


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
    """Writes the vectors of a shard of callers: caller by caller, in order of start."""
    with (
        shard_vectors(plan, shard) as calls,
        plan.buffers.lend("columns", len(plan.names), min(ROW_GROUP, len(calls.rows))) as columns,
    ):
        of_calls = pa.table({"row": calls.rows}) if row_columns is None else row_columns.take(pa.array(calls.rows))
        write_groups(row_groups(plan, calls, of_calls, columns), plan.files("part")[shard], compression="zstd")


def row_groups(plan: Plan, calls: ShardVectors, row_columns: pa.Table, values: Array) -> Iterator[pa.Table]:
    """Yields the vectors in order of callers, one row group at a time; at least one, possibly empty.

    `values`: room for the values of a row group, shape (features, rows); each group overwrites the last one.
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


MANIFEST = "_manifest.json"
GIB = 1 << 30
TAIL = 1 << 20
MOST_ROWS, MOST_SHARDS = 1 << 19, 1 << 16  # rows of a chunk, number of shards
# Small chunks reuse their memory. Above so many chunks they grow, because each is a file.
SMALL_CHUNK, SMALL_CHUNKS = 1 << 17, 1 << 6
Task = Callable[[], None]

# Relative cost of a call in each stage; 1 in the others.
COSTS = {"reading": 2, "writing": 6}
NEEDED = tuple(name for name in KEYED_COLUMNS if name not in ("operator", "place"))
# Bytes of memory: a call in a shard, each of its values, a call in a chunk, and the program itself.
CALL_BYTES, VALUE_BYTES, CHUNK_BYTES, BASE_BYTES = 600, 16, 1500, GIB // 2
# So many shards for each thread keep all threads busy to the end, unless shards would have fewer calls.
THREAD_SHARDS, FEWEST_CALLS = 4, 1 << 16


def write_shards(
    calls: Path,
    folder: Path,
    *,
    features: tuple[str, ...] = NAMES,
    memory: int | None = None,
    threads: int | None = None,
    row_columns: Callable[[], pa.Table] | None = None,
    identity: Mapping[str, object] = MappingProxyType({}),
    progress: Progress | None = None,
) -> dict[str, object]:
    """Writes the vectors of a Parquet file of keyed calls as `part-*.parquet`, bit-equal to `table.vectors`.

    The columns are `row`, `start`, `caller`, `callee`, copied columns and the features. The calls of a caller are
    together, in order of start.

    Args:
        memory: bytes to plan for; half of the machine's by default. The result does not depend on it.
        threads: number of cores; all by default.
        row_columns: returns the column `row` and the copied columns, with a row for each row of the input; by default
            `row` is the place from 0.
    Returns:
        calls, features, shards, catalogue.
    """
    threads = threads or os.cpu_count() or 1
    with locked_folder(folder):
        plan = open_plan(calls, folder, features, default_memory() if memory is None else memory, threads, identity)
        if not all(path.exists() for path in plan.files("part")):
            plan.work.mkdir(exist_ok=True)
            finish = partial(write_shard, plan, row_columns=None if row_columns is None else row_columns())
            run(plan, calls, threads, progress or silent, finish)
        shutil.rmtree(plan.work, ignore_errors=True)
    return {"calls": plan.rows, "features": len(features), "shards": plan.shards, "catalogue": catalogue_hash()}


def default_memory() -> int:
    """Returns half of the memory of the machine or container in bytes; 2 GiB if unknown."""
    limits = []
    try:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (AttributeError, OSError, ValueError):
        pass
    return min(limits, default=4 * GIB) // 2


def open_plan(
    calls: Path,
    folder: Path,
    names: tuple[str, ...],
    memory: int,
    threads: int,
    also: Mapping[str, object] = MappingProxyType({}),
) -> Plan:
    """Returns the plan in the manifest of the folder, or a new plan, and writes its manifest."""
    select_features(names)
    if memory < 2 * BASE_BYTES:
        raise ValueError(f"memory: expected {2 * BASE_BYTES:,} bytes or more, got {memory:,}")
    rows = count_rows(calls)
    identity = fingerprint(calls) | {"features": list(names), "catalogue": catalogue_hash()} | dict(also)
    manifest = read_manifest(folder / MANIFEST, identity)
    if manifest is not None:
        return Plan(folder, names, rows, manifest["chunk"], manifest["shards"])
    thread_memory = (memory - BASE_BYTES) // threads
    chunk = min(max(thread_memory // CHUNK_BYTES, 1 << 12), max(SMALL_CHUNK, rows // SMALL_CHUNKS), MOST_ROWS)
    least = min(THREAD_SHARDS * threads, rows // FEWEST_CALLS) or 1
    by_memory = -(-rows * (CALL_BYTES + VALUE_BYTES * len(names)) // thread_memory)
    shards = min(max(by_memory, least), MOST_SHARDS)
    write_manifest(folder / MANIFEST, identity | {"rows": rows, "chunk": chunk, "shards": shards})
    return Plan(folder, names, rows, chunk, shards)


def read_manifest(path: Path, identity: Mapping[str, object]) -> dict[str, Any] | None:
    """Returns the manifest of an unfinished run; None if the folder is new or empty."""
    folder = path.parent
    if not path.exists():
        if folder.exists() and (not folder.is_dir() or any(file.name[0] not in "._" for file in folder.iterdir())):
            raise ValueError(f"{folder}: expected a new or empty folder, or the folder of an unfinished run")
        return None
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for name, value in identity.items():
        if manifest.get(name) != value:
            raise ValueError(f"{folder}: its run differs in {name}; expected the same input, or a new folder")
    return manifest


def write_manifest(path: Path, facts: dict[str, object]) -> None:
    """Writes a manifest, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part:
        part.write_text(json.dumps(facts) + "\n", encoding="utf-8")


def fingerprint(path: Path) -> dict[str, object]:
    """Returns the size of a file and the SHA-256 of its end: a Parquet file has statistics and page sizes there."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - TAIL, 0))
        return {"size": size, "end": hashlib.sha256(file.read()).hexdigest()}


def run(
    plan: Plan, calls: Path, threads: int, progress: Progress, finish: Callable[[int], None], last: str = "part"
) -> None:
    """Runs the open tasks of each stage. The input files of a finished stage may already be deleted."""
    kind_tasks = [(kind, open_tasks(plan, *map(values_stage, plan.sent_roles(kind)))) for kind in kinds_of(plan.names)]
    chunks, last_tasks = open_tasks(plan, OUT), open_tasks(plan, last)
    kinds = [kind for kind, open_shards in kind_tasks if open_shards or (kind is NUMBER and last_tasks)]
    sending = open_tasks(plan, *(IN if kind is NUMBER else kind.name for kind in kinds))
    stages: list[tuple[str, int, Iterable[Task]]] = [
        ("reading", len(chunks), split_tasks(plan, calls, chunks)),
        ("sorting", len(sending), [partial(send_shard, plan, kinds, shard) for shard in sending]),
        *(
            (kind.name, len(open_shards), [partial(compute_shard, plan, kind, shard) for shard in open_shards])
            for kind, open_shards in kind_tasks
        ),
        ("writing", len(last_tasks), [partial(finish, shard) for shard in last_tasks]),
    ]
    size = {"reading": min(plan.chunk, plan.rows)}
    cost = {name: COSTS.get(name, 1) * size.get(name, -(-plan.rows // plan.shards)) for name, *_ in stages}
    total, done = sum(cost[name] * count for name, count, _ in stages), 0
    for name, _, tasks in stages:
        since = time.monotonic()
        for i, _ in enumerate(run_tasks(tasks, threads), 1):
            done += cost[name]
            rate = i * cost[name] / COSTS.get(name, 1) / (time.monotonic() - since)
            progress(f"{name}, {rate:,.0f} calls/s", done / max(total, 1))
        plan.buffers.clear()
        for path in plan.files(name):  # input of the finished stage
            path.unlink(missing_ok=True)


def run_tasks(tasks: Iterable[Task], threads: int) -> Iterator[None]:
    """Runs tasks, at most `threads` at once: the kernel, NumPy and Arrow release the GIL."""
    import joblib  # a service that fills its memory has no joblib

    parallel = joblib.Parallel(threads, backend="threading", pre_dispatch=threads, return_as="generator_unordered")
    yield from parallel(joblib.delayed(task)() for task in tasks)


def open_tasks(plan: Plan, *stages: str) -> list[int]:
    """Returns the tasks that have not written their files of all of these stages."""
    files = zip(*map(plan.files, stages), strict=True)
    return [number for number, paths in enumerate(files) if not all(path.exists() for path in paths)]


def count_rows(path: Path) -> int:
    """Returns the rows of a Parquet file of keyed calls."""
    with parquet_errors(path):
        metadata = pq.read_metadata(path)
        check_columns(metadata.schema.to_arrow_schema().names, path.name)
    return int(metadata.num_rows)


def split_tasks(plan: Plan, path: Path, wanted: list[int]) -> Iterator[Task]:
    """Yields tasks that split the chunks of the input; row groups before the first wanted chunk are skipped."""
    if not wanted:
        return
    # Arrow would keep prefetched data until the file is closed: in the end, the whole file.
    with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
        if plan.rows == 0:
            yield partial(
                split_chunk, plan, 0, whole_chunk([file.schema_arrow.empty_table().select(NEEDED)], path.name)
            )
            return
        at = group = 0
        while at + file.metadata.row_group(group).num_rows <= wanted[0] * plan.chunk:
            at += file.metadata.row_group(group).num_rows
            group += 1
        pieces: list[pa.Table] = []
        groups = range(group, file.num_row_groups)
        for batch in needed_batches(file, groups, path):
            rest = pa.Table.from_batches([batch])
            while rest.num_rows:
                pieces.append(rest.slice(0, plan.chunk - at % plan.chunk))
                at += pieces[-1].num_rows
                rest = rest.slice(pieces[-1].num_rows)
                if at % plan.chunk == 0 or at == plan.rows:
                    number = (at - 1) // plan.chunk
                    if number in wanted:
                        yield partial(split_chunk, plan, number, whole_chunk(pieces, path.name))
                    pieces = []


def needed_batches(file: pq.ParquetFile, groups: range, path: Path) -> Iterator[pa.RecordBatch]:
    """Yields batches of the needed columns."""
    with parquet_errors(path):
        yield from file.iter_batches(BATCH_ROWS, row_groups=groups, columns=list(NEEDED))


def whole_chunk(pieces: list[pa.Table], file: str) -> pa.Table:
    """Returns a chunk as one checked table, as `keyed_table.read_keyed` does."""
    return checked_columns(pa.concat_tables(pieces).combine_chunks(), file)
