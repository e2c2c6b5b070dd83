"""Cases that are past their time, or of a person who asked for deletion, erased from the store."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from .store import CaseStore
from .tables import OPEN, appeals, cases, clearances, decisions
from .tables import store as store_table


def erase_before(store: CaseStore, moment: int) -> dict[str, int]:
    """Erase cases of calls before a moment (Unix ms) with their appeals; how many rows of each kind went.

    A case whose appeal is open stays until that is decided, an unlisting until it is over.
    """
    with store.erasing() as connection:
        busy = sa.select(appeals.c.case).where(appeals.c.state == OPEN)
        counts = _erase(connection, sa.and_(cases.c.at < moment, cases.c.case.not_in(busy)))
        over = sa.and_(
            clearances.c.since < moment, sa.func.coalesce(clearances.c.ended_at, clearances.c.until) < moment
        )
        gone = connection.execute(clearances.delete().where(over)).rowcount
        if gone:  # scorers' files of cleared callers hold them, too, until they are written anew
            connection.execute(store_table.update().values(generation=store_table.c.generation + 1))
        return counts | {"clearances": gone}


def count_before(store: CaseStore, moment: int) -> int:
    """Cases of calls before a moment."""
    with store.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).where(cases.c.at < moment)).scalar_one())


def erase_subject(store: CaseStore, token: str, young: int) -> dict[str, Any]:
    """Erase the cases of a person's calls; how many rows of each kind went, how many cases are kept, and the last call
    of those.

    What was decided for a caller goes on to hold: its unlisting stays, which is a token and two moments.

    Args:
        young: cases of calls after this moment (Unix ms) must be kept, and so do those that wait for a person.
    """
    with store.erasing() as connection:
        busy = sa.select(appeals.c.case).where(appeals.c.state == OPEN)
        mine = sa.and_(cases.c.caller == token, cases.c.at < young, cases.c.case.not_in(busy))
        counts = _erase(connection, mine)
        left = sa.select(sa.func.count(), sa.func.max(cases.c.at)).where(cases.c.caller == token)
        kept, newest = connection.execute(left).one()
        return counts | {"kept": kept, "newest": newest}


def _erase(connection: sa.Connection, which: sa.ColumnElement[bool]) -> dict[str, int]:
    gone = sa.select(cases.c.case).where(which)
    theirs = sa.select(appeals.c.appeal).where(appeals.c.case.in_(gone))
    return {
        "decisions": connection.execute(decisions.delete().where(decisions.c.appeal.in_(theirs))).rowcount,
        "appeals": connection.execute(appeals.delete().where(appeals.c.case.in_(gone))).rowcount,
        "cases": connection.execute(cases.delete().where(which)).rowcount,
    }
