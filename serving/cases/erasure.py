"""Erases cases that are past their retention time, and cases of a person who asks for deletion."""

from __future__ import annotations

from typing import Any, TypedDict

import sqlalchemy as sa

from .store import CaseStore
from .tables import OPEN, appeals, cases, clearances, decisions
from .tables import store as store_table


class ErasedSubject(TypedDict):
    """Erased rows of each kind; `kept`: cases of the person that stay; `newest`: the start of their last call."""

    decisions: int
    appeals: int
    cases: int
    kept: int
    newest: int | None


def erase_before(store: CaseStore, moment: int) -> dict[str, int]:
    """Erases cases of calls before a moment (Unix ms), with their appeals. Returns the erased rows of each kind.

    A case with an open appeal stays until the appeal is decided. A clearance stays until it has ended.
    """
    with store.erasing() as connection:
        counts = _erase(connection, sa.and_(cases.c.at < moment, _decided()))
        erased = connection.execute(clearances.delete().where(_ended(moment))).rowcount
        if erased:  # the scorers' files of cleared callers still contain them; a new generation rewrites the files
            connection.execute(store_table.update().values(generation=store_table.c.generation + 1))
        return counts | {"clearances": erased}


def count_due(store: CaseStore, moment: int) -> dict[str, int]:
    """Counts what `erase_before` would erase as `cases` and `clearances`; `waiting` are cases with an open appeal."""
    with store.reading() as connection:

        def count(column: sa.Column[Any], *conditions: sa.ColumnElement[bool]) -> int:
            return int(connection.execute(sa.select(sa.func.count(column)).where(*conditions)).scalar_one())

        decided, early = count(cases.c.case, cases.c.at < moment, _decided()), count(cases.c.case, cases.c.at < moment)
        return {"cases": decided, "clearances": count(clearances.c.caller, _ended(moment)), "waiting": early - decided}


def erase_subject(store: CaseStore, token: str, keep_after: int) -> ErasedSubject:
    """Erases the cases of a person's calls.

    A clearance stays, because the decision still holds. It consists of a token and two moments.

    `keep_after`: Unix ms; cases of later calls must be kept, and so do cases with an open appeal.
    """
    with store.erasing() as connection:
        erasable = sa.and_(cases.c.caller == token, cases.c.at < keep_after, _decided())
        counts = _erase(connection, erasable)
        left = sa.select(sa.func.count(), sa.func.max(cases.c.at)).where(cases.c.caller == token)
        remaining, newest = connection.execute(left).one()
        return {
            "decisions": counts["decisions"],
            "appeals": counts["appeals"],
            "cases": counts["cases"],
            "kept": remaining,
            "newest": newest,
        }


def count_subject(store: CaseStore, token: str, keep_after: int) -> tuple[int, int]:
    """Returns how many cases of a person `erase_subject` would erase, and how many would stay."""
    mine = sa.select(sa.func.count()).where(cases.c.caller == token)
    with store.reading() as connection:
        total = int(connection.execute(mine).scalar_one())
        erasable = int(connection.execute(mine.where(cases.c.at < keep_after, _decided())).scalar_one())
    return erasable, total - erasable


def _decided() -> sa.ColumnElement[bool]:
    return cases.c.case.not_in(sa.select(appeals.c.case).where(appeals.c.state == OPEN))


def _ended(moment: int) -> sa.ColumnElement[bool]:
    ended_at = sa.func.coalesce(clearances.c.ended_at, clearances.c.until)
    return sa.and_(clearances.c.since < moment, ended_at < moment)


def _erase(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> dict[str, int]:
    erased_cases = sa.select(cases.c.case).where(condition)
    erased_appeals = sa.select(appeals.c.appeal).where(appeals.c.case.in_(erased_cases))
    return {
        "decisions": connection.execute(decisions.delete().where(decisions.c.appeal.in_(erased_appeals))).rowcount,
        "appeals": connection.execute(appeals.delete().where(appeals.c.case.in_(erased_cases))).rowcount,
        "cases": connection.execute(cases.delete().where(condition)).rowcount,
    }
