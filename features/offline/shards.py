"""Vectors of more calls than memory holds: shard by shard, and on from where a killed run stopped.

Every task (`stages.py`) ends with a file that appears whole or not at all, so what is there is done. A manifest says
what the folder was begun from; another input is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callsieve.features.catalogue import NAMES, catalogue_hash, select_features
from callsieve.features.codegen.feature_program import KINDS
from callsieve.features.files.atomic import atomic_path, locked_folder
from callsieve.features.files.progress import Progress, silent
from callsieve.features.intake.keyed_table import BATCH_ROWS, check_columns, checked_columns, parquet_errors
from callsieve.features.records import KEYED_COLUMNS

from .stages import Plan, gather, settle, split, tell, told_by

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MANIFEST = "_manifest.json"
GIB = 1 << 30
TAIL = 1 << 20
MOST_ROWS, MOST_SHARDS = 1 << 19, 1 << 16  # rows that are read at once
Task = Callable[[], None]

# How much work a call is in each stage; the others count 1.
COSTS = {"reading": 2, "writing": 6}
NEEDED = tuple(name for name in KEYED_COLUMNS if name not in ("operator", "place"))
# Bytes of memory: of a call in a shard, of each of its values, of a call in a chunk that is read, of the program.
CALL_BYTES, VALUE_BYTES, CHUNK_BYTES, BASE_BYTES = 600, 16, 1500, GIB // 2


def write_shards(
    calls: Path,
    folder: Path,
    *,
    features: tuple[str, ...] = NAMES,
    memory: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the vectors of a Parquet file of keyed calls as `part-*.parquet`, bit for bit those of `table.vectors`.

    Columns `row` (place in the input, from 0), `start`, `caller`, `callee` and the features; the calls of a caller
    stand together, in order of start.

    Args:
        folder: new or empty, or one in which the same was begun: what is there is not done again.
        memory: bytes to plan for; half of the machine's by default. No result depends on it.
        threads: how many cores; all by default.
    Returns: calls, features, shards, catalogue.
    Raises: ValueError: if the file is no table of keyed calls, the folder holds something else, or another process
        fills it now.
    """
    threads = threads or os.cpu_count() or 1
    with locked_folder(folder):
        plan = planned(calls, folder, features, half_of_memory() if memory is None else memory, threads)
        if not all(path.exists() for path in plan.files("part")):
            plan.work.mkdir(exist_ok=True)
            run(plan, calls, threads, progress or silent)
        shutil.rmtree(plan.work, ignore_errors=True)
    return {
        "calls": plan.rows,
        "features": len(features),
        "shards": plan.shards,
        "catalogue": catalogue_hash(),
    }


def half_of_memory() -> int:
    """Half of the memory of the machine or of the container, in bytes; 2 GiB if nobody says."""
    found = []
    try:
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (AttributeError, OSError, ValueError):
        pass
    return min(found, default=4 * GIB) // 2


def planned(calls: Path, folder: Path, names: tuple[str, ...], memory: int, threads: int) -> Plan:
    """The plan that was begun in the folder, or a new one, noted there."""
    select_features(names)
    if memory < 2 * BASE_BYTES:
        raise ValueError(f"memory: expected {2 * BASE_BYTES:,} bytes or more, got {memory:,}")
    rows = count_rows(calls)
    asked = fingerprint(calls) | {"features": list(names), "catalogue": catalogue_hash()}
    noted = read_manifest(folder / MANIFEST, asked)
    if noted is not None:
        return Plan(folder, names, rows, noted["chunk"], noted["shards"])
    each = (memory - BASE_BYTES) // threads
    chunk = min(max(each // CHUNK_BYTES, 1 << 12), MOST_ROWS)
    shards = min(-(-rows * (CALL_BYTES + VALUE_BYTES * len(names)) // each) or 1, MOST_SHARDS)
    write_manifest(folder / MANIFEST, asked | {"rows": rows, "chunk": chunk, "shards": shards})
    return Plan(folder, names, rows, chunk, shards)


def read_manifest(path: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """What was noted of this work when it was begun; None if the folder is new or empty.

    Raises: ValueError: if it was begun from something else, or the folder holds other files.
    """
    folder = path.parent
    if not path.exists():
        if folder.exists() and (not folder.is_dir() or any(file.name[0] not in "._" for file in folder.iterdir())):
            raise ValueError(f"{folder}: expected a new or empty folder, or one in which this was begun")
        return None
    noted: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for name, value in asked.items():
        if noted.get(name) != value:
            raise ValueError(f"{folder}: begun with another {name}; expected the same input, or a new folder")
    return noted


def write_manifest(path: Path, facts: dict[str, Any]) -> None:
    """Note what a work is begun from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part:
        part.write_text(json.dumps(facts) + "\n", encoding="utf-8")


def fingerprint(path: Path) -> dict[str, Any]:
    """Size of a file and SHA-256 of its end: in a Parquet file statistics and the sizes of all pages stand there."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - TAIL, 0))
        return {"size": size, "end": hashlib.sha256(file.read()).hexdigest()}


def run(plan: Plan, calls: Path, threads: int, progress: Progress) -> None:
    """Do what is missing of each stage. Where the next stage is done already, this one may have lost its files."""
    telling = {role: left(plan, told_by(role)) for role in plan.roles}
    kinds = [kind for kind in KINDS if telling.get(kind.name)]
    chunks = sorted({*left(plan, "out"), *left(plan, "in")})
    settling = sorted({shard for kind in kinds for shard in left(plan, kind.name)})
    writing = left(plan, "part")
    stages: list[tuple[str, int, Iterable[Task]]] = [
        ("reading", len(chunks), splitting(plan, calls, chunks)),
        ("sorting", len(settling), [partial(settle, plan, kinds, shard) for shard in settling]),
        *((role, len(asked), [partial(tell, plan, role, shard) for shard in asked]) for role, asked in telling.items()),
        ("writing", len(writing), [partial(gather, plan, shard) for shard in writing]),
    ]
    size = {"reading": min(plan.chunk, plan.rows)}
    cost = {name: COSTS.get(name, 1) * size.get(name, -(-plan.rows // plan.shards)) for name, *_ in stages}
    total, done = sum(cost[name] * count for name, count, _ in stages), 0
    for name, _, tasks in stages:
        since = time.monotonic()
        for i, _ in enumerate(each(tasks, threads), 1):
            done += cost[name]
            rate = i * cost[name] / COSTS.get(name, 1) / (time.monotonic() - since)
            progress(f"{name}, {rate:,.0f} calls/s", done / max(total, 1))
        for path in plan.files(name):  # what a role has read to tell what it knows
            path.unlink(missing_ok=True)


def each(tasks: Iterable[Task], threads: int) -> Iterator[None]:
    """Run tasks, as many at once as there are threads: the kernel, NumPy and Arrow let go of the interpreter's lock."""
    import joblib

    parallel = joblib.Parallel(threads, backend="threading", pre_dispatch=threads, return_as="generator_unordered")
    yield from parallel(joblib.delayed(task)() for task in tasks)


def left(plan: Plan, stage: str) -> list[int]:
    """The tasks of a stage that are not done."""
    return [number for number, path in enumerate(plan.files(stage)) if not path.exists()]


def count_rows(path: Path) -> int:
    """Rows of a Parquet file of keyed calls. Raises ValueError if it is none."""
    import pyarrow.parquet as pq

    with parquet_errors(path):
        metadata = pq.read_metadata(path)
        check_columns(metadata.schema.to_arrow_schema().names, path.name)
    return int(metadata.num_rows)


def splitting(plan: Plan, path: Path, wanted: list[int]) -> Iterator[Task]:
    """Tasks that split the chunks of the input; row groups before the first one wanted are not read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not wanted:
        return
    # What is read ahead, Arrow keeps until the file is closed: all of it, in the end.
    with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
        if plan.rows == 0:
            yield partial(split, plan, 0, whole_chunk([file.schema_arrow.empty_table().select(NEEDED)], path.name))
            return
        at = group = 0
        while at + file.metadata.row_group(group).num_rows <= wanted[0] * plan.chunk:
            at += file.metadata.row_group(group).num_rows
            group += 1
        held: list[pa.Table] = []
        groups = range(group, file.num_row_groups)
        for batch in batches(file, groups, path):
            rest = pa.Table.from_batches([batch])
            while rest.num_rows:
                held.append(rest.slice(0, plan.chunk - at % plan.chunk))
                at += held[-1].num_rows
                rest = rest.slice(held[-1].num_rows)
                if at % plan.chunk == 0 or at == plan.rows:
                    number = (at - 1) // plan.chunk
                    if number in wanted:
                        yield partial(split, plan, number, whole_chunk(held, path.name))
                    held = []


def batches(file: pq.ParquetFile, groups: range, path: Path) -> Iterator[pa.RecordBatch]:
    """Batches of the columns that are needed."""
    with parquet_errors(path):
        yield from file.iter_batches(BATCH_ROWS, row_groups=groups, columns=list(NEEDED))


def whole_chunk(held: list[pa.Table], file: str) -> pa.Table:
    """A chunk as `keyed.read_keyed` gives a table."""
    import pyarrow as pa

    return checked_columns(pa.concat_tables(held).unify_dictionaries().combine_chunks(), file)
