"""Reads and writes worlds as keyed Parquet tables, so that no file holds a number.

`calls.parquet` has the columns of a keyed call and `call`; the truth is in separate files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.progress import Progress, silent
from callsieve.features.intake.intake import Intake
from callsieve.features.keys.tokens import Use
from callsieve.features.records import KEYED_COLUMNS
from callsieve.serving.custody.purposes import CALLS, calls_hash
from callsieve.training.world.basis.scenario import Drawn
from callsieve.training.world.tables.registers import REGISTERS

from .world import PlannedWorld, World

TABLES = ("calls", "truth", "numbers", "complaints", "findings")
FACTS = "world.json"
DRAWN = "drawn"  # key of FACTS: what a varied world drew
CALLS_HASH = "calls"  # key of FACTS: hash of the calls, by which readers know that they are simulated
REGISTER = "register_"  # prefix of a register's file name
# Columns that must be keyed, and the use of their tokens.
USES: dict[str, Use] = {"number": "number", "reporter": "number", "callee": "number", "trunk": "trunk"}
Write = Callable[[str, pa.Table], None]


def keyed_world(world: World, intake: Intake) -> World:
    """Returns the world with keyed calls, and with a token in place of every number.

    >>> from callsieve.features import Intake, Key
    >>> from callsieve.training.world import load_scenario, simulate
    >>> world = keyed_world(simulate(load_scenario(), 1, "tiny"), Intake(Key("e1", bytes(32))))
    >>> world.calls["caller"][0].as_py()[:3], "caller_block" in world.calls.column_names
    ('e1.', True)
    """
    return replace(world, calls=intake.table(world.calls), **_keyed_tables(world, intake))


def _keyed_tables(world: World | PlannedWorld, intake: Intake) -> dict[str, Any]:
    return {
        "numbers": _keyed(world.numbers, intake),
        "complaints": _keyed(world.complaints, intake),
        "findings": _keyed(world.findings, intake),
        "registers": {name: _keyed(table, intake) for name, table in world.registers.items()},
    }


def _keyed(table: pa.Table, intake: Intake) -> pa.Table:
    for i, name in enumerate(table.column_names):
        if name in USES:
            table = table.set_column(i, name, intake.keyed(USES[name], table[name]))
    return table


def write_world(world: World, folder: Path) -> None:
    """Writes a keyed world; each file appears whole or not at all.

    >>> from pathlib import Path
    >>> write_world(read_world(Path("world")), Path("copy"))
    >>> sorted(file.name for file in Path("copy").iterdir())[:2]
    ['calls.parquet', 'complaints.parquet']
    """
    if not set(KEYED_COLUMNS) <= set(world.calls.column_names):
        raise ValueError("expected a world with keyed calls; make it with keyed_world")
    with _files(folder) as write:
        write("calls", world.calls)
        write("truth", world.truth)
        _write_tables(
            write, {name: getattr(world, name) for name in ("numbers", "complaints", "findings", "registers")}
        )
    _write_facts(world, folder)


def write_planned_world(planned: PlannedWorld, intake: Intake, folder: Path, progress: Progress = silent) -> int:
    """Keys and writes a world part by part, so that memory is bounded; returns the count of call records."""
    rows = 0
    with _files(folder) as write:
        for calls, truth in planned.parts():
            write("calls", intake.table(calls))
            write("truth", truth)
            rows += calls.num_rows
            progress("writing", rows / max(len(planned.plan), rows))
        _write_tables(write, _keyed_tables(planned, intake))
    _write_facts(planned, folder)
    return rows


def _write_tables(write: Write, tables: dict[str, Any]) -> None:
    for name in ("numbers", "complaints", "findings"):
        write(name, tables[name])
    for name, table in tables["registers"].items():
        write(f"{REGISTER}{name}", table)


@contextmanager
def _files(folder: Path) -> Iterator[Write]:
    """Yields a function that writes tables, in one or more parts; the files get their names when all are complete."""
    folder.mkdir(parents=True, exist_ok=True)
    writers: dict[str, pq.ParquetWriter] = {}

    def partial_path(name: str) -> Path:
        return folder / f".{name}.parquet.{os.getpid()}"

    def write(name: str, table: pa.Table) -> None:
        if name not in writers:
            writers[name] = pq.ParquetWriter(partial_path(name), table.schema, compression="zstd", **_columns(table))
        writers[name].write_table(
            table, row_group_size=max(table.num_rows, 1)
        )  # each row group repeats the dictionaries

    try:
        try:
            yield write
        finally:
            for writer in writers.values():
                writer.close()
        for name in writers:
            partial_path(name).replace(folder / f"{name}.parquet")
    finally:
        for name in writers:
            partial_path(name).unlink(missing_ok=True)


def _columns(table: pa.Table) -> dict[str, list[str]]:
    """Returns options of the Parquet writer that halve the time of writing.

    Text columns are dictionaries without statistics: their minimum and maximum are useless. For other columns, Parquet
    would start dictionaries and give them up.
    """
    words = {field.name for field in table.schema if pa.types.is_dictionary(field.type)}
    return {
        "use_dictionary": [name for name in table.column_names if name in words],
        "write_statistics": [name for name in table.column_names if name not in words],
    }


def _write_facts(world: World | PlannedWorld, folder: Path) -> None:
    facts = (
        world.facts | {CALLS_HASH: calls_hash(folder / CALLS)} | ({DRAWN: asdict(world.drawn)} if world.drawn else {})
    )
    write_atomic(folder / FACTS, f"{json.dumps(facts, indent=1)}\n".encode())


def read_facts(folder: Path) -> tuple[dict[str, str], Drawn | None]:
    """Returns the facts of a world, and what it drew if it was varied."""
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    drawn = facts.pop(DRAWN, None)
    facts.pop(CALLS_HASH, None)
    return facts, drawn and Drawn(**drawn | {"lacks": tuple(drawn["lacks"])})


def read_world(folder: Path) -> World:
    """Reads a world from a folder.

    >>> from pathlib import Path
    >>> world = read_world(Path("world"))  # of `callsieve simulate --size tiny --out world`
    >>> world.facts["size"], world.calls.num_rows == world.truth.num_rows
    ('tiny', True)
    """
    files = {name: folder / f"{name}.parquet" for name in TABLES}
    registers = {name: folder / f"{REGISTER}{name}.parquet" for name in REGISTERS}
    missing = [path.name for path in (folder / FACTS, *files.values(), *registers.values()) if not path.is_file()]
    if missing:
        raise ValueError(f"{folder}: not a complete world, missing {', '.join(missing)}")
    facts, drawn = read_facts(folder)
    tables: dict[str, Any] = {name: pq.read_table(path) for name, path in files.items()}
    tables["registers"] = {name: pq.read_table(path) for name, path in registers.items()}
    return World(**tables, facts=facts, drawn=drawn)
