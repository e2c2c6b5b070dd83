"""A world on disk: keyed tables as Parquet, so that no file holds a number.

`calls.parquet` has the columns of a keyed call and `call`; the truth is in files of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from callsieve.features.files.atomic import write_atomic
from callsieve.features.records import KEYED_COLUMNS
from callsieve.training.world.tables.registers import REGISTERS

from .world import PlannedWorld, World

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress
    from callsieve.features.intake.intake import Intake
    from callsieve.features.keys.tokens import Use

TABLES = ("calls", "truth", "numbers", "complaints", "findings")
FACTS = "world.json"
REGISTER = "register_"  # how the file of a register begins
# Columns that hold what must be keyed, and what it is.
USES: dict[str, Use] = {"number": "number", "reporter": "number", "callee": "number", "trunk": "trunk"}
Write = Callable[[str, pa.Table], None]


def keyed_world(world: World, intake: Intake) -> World:
    """The same world with keyed calls, and every number replaced by its token.

    Numbers as written become the tokens of the intake's key, and what the intake finds out of them stays beside them:

    >>> from callsieve.features import Intake, Key
    >>> from callsieve.training.world import load_scenario, simulate
    >>> world = keyed_world(simulate(load_scenario(), 1, "tiny"), Intake(Key("e1", bytes(32))))
    >>> world.calls["caller"][0].as_py()[:3], "caller_block" in world.calls.column_names
    ('e1.', True)
    """
    return replace(world, calls=intake.table(world.calls), **_beside(world, intake))


def _beside(world: World | PlannedWorld, intake: Intake) -> dict[str, Any]:
    return {
        "numbers": _keyed(world.numbers, intake),
        "complaints": _keyed(world.complaints, intake),
        "findings": _keyed(world.findings, intake),
        "registers": {name: _keyed(table, intake) for name, table in world.registers.items()},
    }


def _keyed(table: pa.Table, intake: Intake) -> pa.Table:
    for place, name in enumerate(table.column_names):
        if name in USES:
            table = table.set_column(place, name, intake.keyed(USES[name], table[name]))
    return table


def write_world(world: World, folder: Path) -> None:
    """Write a keyed world; each file appears whole or not at all.

    Raises `ValueError` if the world's calls are not keyed.

    >>> from pathlib import Path
    >>> write_world(read_world(Path("world")), Path("copy"))
    >>> sorted(file.name for file in Path("copy").iterdir())[:2]
    ['calls.parquet', 'findings.parquet']
    """
    if not set(KEYED_COLUMNS) <= set(world.calls.column_names):
        raise ValueError("a world is written with keyed calls only: make them with keyed_world")
    with _files(folder) as write:
        write("calls", world.calls)
        write("truth", world.truth)
        _write_beside(
            write, {name: getattr(world, name) for name in ("numbers", "complaints", "findings", "registers")}
        )
    _write_facts(world.facts, folder)


def write_planned_world(settled: PlannedWorld, intake: Intake, folder: Path, progress: Progress | None = None) -> int:
    """Key and write a world part by part, so that its calls are never in memory at once; returns how many rows."""
    rows = 0
    with _files(folder) as write:
        for calls, truth in settled.parts():
            write("calls", intake.table(calls))
            write("truth", truth)
            rows += calls.num_rows
            if progress:
                progress("writing", rows / max(len(settled.plan), rows))
        _write_beside(write, _beside(settled, intake))
    _write_facts(settled.facts, folder)
    return rows


def _write_beside(write: Write, beside: dict[str, Any]) -> None:
    for name in ("numbers", "complaints", "findings"):
        write(name, beside[name])
    for name, table in beside["registers"].items():
        write(f"{REGISTER}{name}", table)


@contextmanager
def _files(folder: Path) -> Iterator[Write]:
    """Writes tables, several parts of one or one at once; the files get their names when all are whole."""
    folder.mkdir(parents=True, exist_ok=True)
    writers: dict[str, pq.ParquetWriter] = {}

    def unfinished(name: str) -> Path:
        return folder / f".{name}.parquet.{os.getpid()}"

    def write(name: str, table: pa.Table) -> None:
        if name not in writers:
            writers[name] = pq.ParquetWriter(unfinished(name), table.schema, compression="zstd", **_columns(table))
        writers[name].write_table(table, row_group_size=max(table.num_rows, 1))  # each group repeats the words

    try:
        try:
            yield write
        finally:
            for writer in writers.values():
                writer.close()
        for name in writers:
            unfinished(name).replace(folder / f"{name}.parquet")
    finally:
        for name in writers:
            unfinished(name).unlink(missing_ok=True)


def _columns(table: pa.Table) -> dict[str, list[str]]:
    """A column of words is a dictionary in the file, too; its least and greatest word would tell nobody anything.

    Of other columns Parquet would make dictionaries that are given up half-way. Both took half the time of writing.
    """
    words = {field.name for field in table.schema if pa.types.is_dictionary(field.type)}
    return {
        "use_dictionary": [name for name in table.column_names if name in words],
        "write_statistics": [name for name in table.column_names if name not in words],
    }


def _write_facts(facts: dict[str, str], folder: Path) -> None:
    """Last, so that a folder with this file is complete."""
    write_atomic(folder / FACTS, f"{json.dumps(facts, indent=1)}\n".encode())


def read_world(folder: Path) -> World:
    """A world that was written to a folder. Raises `ValueError` if the folder does not hold a whole one.

    >>> from pathlib import Path
    >>> world = read_world(Path("world"))  # of `callsieve simulate --size tiny --out world`
    >>> world.facts["size"], world.calls.num_rows == world.truth.num_rows
    ('tiny', True)
    """
    files = {name: folder / f"{name}.parquet" for name in TABLES}
    kept = {name: folder / f"{REGISTER}{name}.parquet" for name in REGISTERS}
    missing = [path.name for path in (folder / FACTS, *files.values(), *kept.values()) if not path.is_file()]
    if missing:
        raise ValueError(f"{folder}: not a whole world, without {', '.join(missing)}")
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    tables = {name: pq.read_table(path) for name, path in files.items()}
    return World(**tables, registers={name: pq.read_table(path) for name, path in kept.items()}, facts=facts)
