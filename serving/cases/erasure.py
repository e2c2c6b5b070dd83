"""Erases cases that are past their retention time, and cases of a person who asks for deletion."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from .store import CaseStore
from .tables import OPEN, appeals, cases, clearances, decisions
from .tables import store as store_table


def erase_before(store: CaseStore, moment: int) -> dict[str, int]:
    """Erases cases of calls before a moment (Unix ms), with their appeals. Returns the erased rows of each kind.

    A case with an open appeal stays until the appeal is decided. A clearance stays until it has ended.
    """
    with store.erasing() as connection:
        with_open_appeal = sa.select(appeals.c.case).where(appeals.c.state == OPEN)
        counts = _erase(connection, sa.and_(cases.c.at < moment, cases.c.case.not_in(with_open_appeal)))
        ended = sa.and_(
            clearances.c.since < moment, sa.func.coalesce(clearances.c.ended_at, clearances.c.until) < moment
        )
        erased = connection.execute(clearances.delete().where(ended)).rowcount
        if erased:  # the scorers' files of cleared callers still contain them; a new generation rewrites the files
            connection.execute(store_table.update().values(generation=store_table.c.generation + 1))
        return counts | {"unlistings": erased}


def count_before(store: CaseStore, moment: int) -> int:
    """Returns the number of cases of calls before a moment (Unix ms)."""
    with store.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).where(cases.c.at < moment)).scalar_one())


def erase_subject(store: CaseStore, token: str, keep_after: int) -> dict[str, Any]:
    """Erases the cases of a person's calls.

    A clearance stays, because the decision still holds. It consists of a token and two moments.

    Args:
        store: the case store.
        token: the caller.
        keep_after: Unix ms; cases of later calls must be kept, and so do cases with an open appeal.

    Returns:
        Erased rows of each kind; `kept`, the number of cases that stay; `newest`, the start of their last call.
    """
    with store.erasing() as connection:
        with_open_appeal = sa.select(appeals.c.case).where(appeals.c.state == OPEN)
        erasable = sa.and_(cases.c.caller == token, cases.c.at < keep_after, cases.c.case.not_in(with_open_appeal))
        counts = _erase(connection, erasable)
        left = sa.select(sa.func.count(), sa.func.max(cases.c.at)).where(cases.c.caller == token)
        remaining, newest = connection.execute(left).one()
        return counts | {"kept": remaining, "newest": newest}


def _erase(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> dict[str, int]:
    erased_cases = sa.select(cases.c.case).where(condition)
    erased_appeals = sa.select(appeals.c.appeal).where(appeals.c.case.in_(erased_cases))
    return {
        "decisions": connection.execute(decisions.delete().where(decisions.c.appeal.in_(erased_appeals))).rowcount,
        "appeals": connection.execute(appeals.delete().where(appeals.c.case.in_(erased_cases))).rowcount,
        "cases": connection.execute(cases.delete().where(condition)).rowcount,
    }
