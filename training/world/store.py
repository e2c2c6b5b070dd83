"""A world on disk: keyed tables as Parquet, so that no file holds a number.

`calls.parquet` has the columns of a keyed call and `call`; the truth is in files of its own.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...features.records import KEYED_COLUMNS
from .world import World

if TYPE_CHECKING:
    import pyarrow as pa

    from ...features.intake import Intake

TABLES = ("calls", "truth", "numbers", "reports", "findings")
FACTS = "world.json"


def keyed_world(world: World, intake: Intake) -> World:
    """The same world with keyed calls, and every number replaced by its token."""
    return replace(
        world,
        calls=intake.table(world.calls),
        numbers=_keyed(world.numbers, ("number",), intake),
        reports=_keyed(world.reports, ("reporter", "number"), intake),
        findings=_keyed(world.findings, ("number",), intake),
    )


def _keyed(table: pa.Table, columns: tuple[str, ...], intake: Intake) -> pa.Table:
    for name in columns:
        place = table.column_names.index(name)
        table = table.set_column(place, name, intake.keyed("number", table[name]))
    return table


def write_world(world: World, folder: Path) -> None:
    """Write a keyed world; each file appears whole or not at all.

    Raises `ValueError` if the world's calls are not keyed.
    """
    import pyarrow.parquet as pq

    if not set(KEYED_COLUMNS) <= set(world.calls.column_names):
        raise ValueError("a world is written with keyed calls only: make them with keyed_world")
    folder.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        unfinished = folder / f".{name}.parquet.{os.getpid()}"
        pq.write_table(getattr(world, name), unfinished, compression="zstd")
        unfinished.replace(folder / f"{name}.parquet")
    # Last, so that a folder with this file is complete.
    unfinished = folder / f".{FACTS}.{os.getpid()}"
    unfinished.write_text(json.dumps(world.facts, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(folder / FACTS)


def read_world(folder: Path) -> World:
    """A world that `write_world` wrote. Raises `ValueError` if the folder does not hold a whole one."""
    import pyarrow.parquet as pq

    missing = [name for name in (FACTS, *(f"{name}.parquet" for name in TABLES)) if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder}: not a whole world, without {', '.join(missing)}")
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    tables = {name: pq.read_table(folder / f"{name}.parquet") for name in TABLES}
    return World(**tables, facts=facts)
