"""Personal data in a case store: deletion, expiry, rekeying. Needs the optional SQLAlchemy, so import it late."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from callsieve.features.keys.rotation import Rekeying
from callsieve.serving.cases import erasure
from callsieve.serving.cases.feed import import_verdicts
from callsieve.serving.cases.store import CaseStore
from callsieve.serving.cases.tables import appeals, cases, clearances, store
from callsieve.serving.custody.retention import Retention

from .rewriting import ERASED, NOTHING_EXPIRED, Deleted, Expired

TOKENS = {cases: ("caller", "block", "trunk", "device"), appeals: ("caller",), clearances: ("caller",)}


def plan_deletion(url: str, token: str, rules: Retention, now: int) -> Deleted:
    """Counts the cases of a person in the case store: those that a deletion erases, and those that stay."""
    with closing(CaseStore(url)) as case_store:
        erasable, retained = erasure.count_subject(case_store, token, now - rules.of("cases").floor)
    return {"rows": erasable + retained, "deleted": erasable, "kept": retained}


def delete(url: str, token: str, rules: Retention, now: int) -> tuple[Deleted, dict[str, int]]:
    """Deletes a person from the case store; returns the summary, and the last expiry of the clearances that remain."""
    with closing(CaseStore(url)) as case_store:
        counts = erasure.erase_subject(case_store, token, now - rules.of("cases").floor)
        until = [clearance.until for clearance in case_store.clearances() if clearance.caller == token]
    summary: Deleted = {
        "decisions": counts["decisions"], "appeals": counts["appeals"], "cases": counts["cases"],
        "kept": counts["kept"], "newest": counts["newest"],
        "rows": counts["cases"] + counts["kept"], "deleted": counts["cases"],
    }  # fmt: skip
    return summary, {"clearances": max(until)} if until else {}


def due(url: str, moment: int) -> dict[str, int]:
    """Counts the rows of a case store that expired before a moment (Unix ms)."""
    with closing(CaseStore(url)) as case_store:
        return erasure.count_due(case_store, moment)


def erase_expired(url: str, moment: int, waiting: int) -> Expired:
    """Erases the rows of a case store that expired before a moment (Unix ms)."""
    with closing(CaseStore(url)) as case_store:
        counts = erasure.erase_before(case_store, moment)
    return {
        "decisions": counts["decisions"], "appeals": counts["appeals"], "cases": counts["cases"],
        "clearances": counts["clearances"],
        "outcome": ERASED if counts["cases"] or counts["clearances"] else NOTHING_EXPIRED,
        "erased": counts["cases"], "waiting": waiting, "past_their_time": 0,
    }  # fmt: skip


def rekey(url: str, state: Path | None, keys: Rekeying) -> dict[str, int]:
    """Rekeys a case store in one transaction; returns the number of changed tokens by column.

    The generation of the store increases, so that scorers read the cleared callers again.
    """
    counts = {}
    with closing(CaseStore(url)) as case_store:
        if state is not None:
            import_verdicts(case_store, state)
        with case_store.erasing() as connection:
            for table, names in TOKENS.items():
                for name in names:
                    column, changed = table.c[name], 0
                    tokens = [row[0] for row in connection.execute(sa.select(column).distinct()) if row[0]]
                    for old, new in zip(tokens, keys.tokens(tokens), strict=True):
                        if old != new:
                            connection.execute(table.update().where(column == old).values({name: new}))
                            changed += 1
                    counts[f"{table.name}.{name}"] = changed
            connection.execute(store.update().values(generation=store.c.generation + 1))
    return counts
