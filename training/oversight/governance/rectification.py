"""Orders of rectification (整改) to a party, with deadline and re-checks: entries of the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Literal, TypedDict
from zoneinfo import ZoneInfo

from callsieve.features.reading.layouts import DEFAULT_ZONE
from callsieve.training.oversight.log.audit_log import has_log, payloads
from callsieve.training.oversight.log.folder_log import RECTIFICATION, PersonalLog, check_note

from .working_days import WorkingDays

ORDER, RECHECK = "order", "recheck"
OPEN, REMEDIED = "open", "remedied"
Outcome = Literal["remedied", "not-remedied"]


class Rectification(TypedDict):
    """An order with its state, "open" or "remedied"; `rechecks` has the day, the outcome and the note of each."""

    party: str
    reason: str
    ordered: str
    due: str
    person: str
    state: str
    overdue: bool
    rechecks: list[tuple[str, str, str]]


def order(log: PersonalLog, party: str, reason: str, days: int, calendar: WorkingDays) -> Rectification:
    """Enters an order to a party with a deadline in working days from today."""
    check_note(party, "PARTY")
    check_note(reason, "--why")
    if _open_orders(log.log.folder, party):
        raise ValueError(f"{party}: has an open order; enter its re-check with callsieve govern rectification recheck")
    due = calendar.due(_today(), days).isoformat()
    log.append(RECTIFICATION, {"act": ORDER, "party": party, "reason": reason, "due": due})
    return _open_orders(log.log.folder, party)[0]


def recheck(log: PersonalLog, party: str, outcome: Outcome, note: str) -> Rectification:
    """Enters the result of a re-check; "remedied" closes the party's order, and any other outcome leaves it open."""
    check_note(note, "--note")
    if not _open_orders(log.log.folder, party):
        raise ValueError(f"{party}: has no open order; see callsieve govern rectification list")
    log.append(RECTIFICATION, {"act": RECHECK, "party": party, "outcome": outcome, "note": note})
    return _of(rectifications(log.log.folder), party)[-1]


def rectifications(log: Path, today: date | None = None) -> list[Rectification]:
    """Returns all orders of an audit log, in their order.

    `today`: the day on which an open order counts as overdue; by default today in China.
    """
    today = today or _today()
    orders: list[Rectification] = []
    for entry, act in payloads(log, RECTIFICATION) if has_log(log) else ():
        day = datetime.fromisoformat(entry.at).astimezone(ZoneInfo(DEFAULT_ZONE)).date().isoformat()
        if act["act"] == ORDER:
            overdue = today.isoformat() > act["due"]
            orders.append(
                Rectification(
                    party=act["party"],
                    reason=act["reason"],
                    ordered=day,
                    due=act["due"],
                    person=act["person"],
                    state=OPEN,
                    overdue=overdue,
                    rechecks=[],
                )
            )
        for row in _of(orders, act["party"])[-1:] if act["act"] == RECHECK else ():
            row["rechecks"].append((day, act["outcome"], act["note"]))
            if act["outcome"] == REMEDIED:
                row["state"], row["overdue"] = REMEDIED, False
    return orders


def _open_orders(log: Path, party: str) -> list[Rectification]:
    return [row for row in _of(rectifications(log), party) if row["state"] == OPEN]


def _of(orders: Sequence[Rectification], party: str) -> list[Rectification]:
    return [row for row in orders if row["party"] == party]


def _today() -> date:
    return datetime.now(ZoneInfo(DEFAULT_ZONE)).date()
