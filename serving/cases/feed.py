"""Connects the case store with a running scorer: imports its verdicts, and publishes the callers that it must pass.

Both directions use files in the scorer's folder of live state, so the scorer needs no database and waits for none.
"""

from __future__ import annotations

import fcntl
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.ownership import OWNER_ONLY
from callsieve.features.keys.tokens import from_letters
from callsieve.serving.live.cleared_callers import FILE, generation_of, write_cleared
from callsieve.serving.live.verdict_log import Position, VerdictRecord, delete_before, read_after

from .store import CaseStore
from .tables import cases, log_positions

BATCH = 500  # verdicts in one transaction


def import_verdicts(store: CaseStore, folder: Path) -> int:
    """Imports the verdicts that the scorer in `folder` has logged since the last import. Returns their number.

    Closed log files that were read to their end are deleted: their verdicts are in the store.
    """
    source, count = _source(folder), 0
    while True:
        with store.writing() as connection:
            position = connection.execute(
                sa.select(log_positions.c.number, log_positions.c.offset).where(log_positions.c.source == source)
            ).one_or_none()
            records, reached = read_after(folder, Position(*position) if position else Position(), BATCH)
            _insert(connection, cases, [_row(record) for record in records])
            row = {"source": source, "number": reached.number, "offset": reached.offset}
            _insert(connection, log_positions, [row])
            connection.execute(log_positions.update().where(log_positions.c.source == source).values(row))
        delete_before(folder, reached)
        count += len(records)
        if len(records) < BATCH:
            return count


def publish_cleared(store: CaseStore, folder: Path, now: int) -> bool:
    """Writes the list of cleared callers for the scorer in `folder`. Returns whether the list changed.

    `now` is in Unix ms.
    """
    with _exclusive(folder):
        generation, until = store.cleared_callers(now)
        if generation_of(folder / FILE) == generation:
            return False
        write_cleared(folder / FILE, until, generation)
    return True


def _row(record: VerdictRecord) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(record, name) for name in VerdictRecord.__slots__}
    return row | {"raw": from_letters(record.raw), "vector": from_letters(record.vector)}


def _insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, object]]) -> None:
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    if rows:
        connection.execute(insert(table).on_conflict_do_nothing(), list(rows))


def _source(folder: Path) -> str:
    path = folder / "source"
    with _exclusive(folder):
        if not path.exists():
            write_atomic(path, secrets.token_hex(16).encode(), OWNER_ONLY)
        return path.read_text(encoding="ascii")


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    with (folder / "cleared.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
