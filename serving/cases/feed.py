"""Between the store of cases and a running scorer: what it wrote down comes in, and whom it must pass goes out.

Both through files in the scorer's folder of live state, so the scorer needs no database and waits for none.
"""

from __future__ import annotations

import fcntl
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.ownership import OWNER_ONLY
from callsieve.features.keys.tokens import from_letters
from callsieve.serving.live.cleared_callers import FILE, generation_of, write_cleared
from callsieve.serving.live.verdict_log import Position, VerdictRecord, delete_before, read_after

from .store import CaseStore
from .tables import cases, log_positions

AT_ONCE = 500  # verdicts of one transaction


def import_verdicts(store: CaseStore, folder: Path) -> int:
    """Read what the scorer that lives in `folder` wrote down since the last time; how many verdicts there were.

    Files that were read to their end and are not written any more are deleted: their verdicts are in the store.
    """
    source, count = _source(folder), 0
    while True:
        with store.writing() as connection:
            known = connection.execute(
                sa.select(log_positions.c.number, log_positions.c.offset).where(log_positions.c.source == source)
            ).one_or_none()
            found, reached = read_after(folder, Position(*known) if known else Position(), AT_ONCE)
            _insert(connection, cases, [_row(one) for one in found])
            place = {"source": source, "number": reached.number, "offset": reached.offset}
            _insert(connection, log_positions, [place])
            connection.execute(log_positions.update().where(log_positions.c.source == source).values(place))
        delete_before(folder, reached)
        count += len(found)
        if len(found) < AT_ONCE:
            return count


def publish_cleared(store: CaseStore, folder: Path, now: int) -> bool:
    """Have the scorer that lives in `folder` know who is unlisted; whether it had to be told."""
    with _alone(folder):
        generation, until = store.unlisted(now)
        if generation_of(folder / FILE) == generation:
            return False
        write_cleared(folder / FILE, until, generation)
    return True


def _row(found: VerdictRecord) -> dict[str, Any]:
    row = {name: getattr(found, name) for name in VerdictRecord.__slots__}
    return row | {"raw": from_letters(found.raw), "vector": from_letters(found.vector)}


def _insert(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Enter rows, but those that are there: a call that is judged twice is one case."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    if rows:
        connection.execute(insert(table).on_conflict_do_nothing(), rows)


def _source(folder: Path) -> str:
    """A name for a scorer's folder that outlives processes and moves: a file in it."""
    path = folder / "source"
    with _alone(folder):
        if not path.exists():
            write_atomic(path, secrets.token_hex(16).encode(), OWNER_ONLY)
        return path.read_text(encoding="ascii")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One at a time: what was read from the store earlier must not replace what was read later."""
    with (folder / "unlisted.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
