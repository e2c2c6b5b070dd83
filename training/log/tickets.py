"""Tickets: what one person alone must not do with people's data, because others have agreed to this very act.

A ticket says which act, on what (a hash), for which purpose, by whom and until when. It counts if enough people whom
the gates name, and not who asks, have signed it with different keys; it is entered in the audit log with the act, and
is of no use again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.features.files.atomic import write_new
from callsieve.features.files.strict_json import as_integer, as_mapping, as_text, decode, encode

from .approvals import approve as sign_statement
from .approvals import check as check_approvals
from .audit_log import append, has_log, locked, payloads
from .gates import Gates

KIND = "callsieve ticket"
EXPORT, REIDENTIFY = "export of call records", "re-identification"
NEEDED = {EXPORT: 1, REIDENTIFY: 2}
MOST_WITHOUT = 499  # call records in a day that may be exported without one (from 500 on it may be a crime in China)
_MOMENT = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Act:
    """What somebody wants to do: `what` is a SHA-256 of the rows or tokens, `count` how many those are."""

    act: str
    what: str
    count: int
    purpose: str
    person: str


def tokens_hash(tokens: Sequence[str]) -> str:
    """What a re-identification is of."""
    return hashlib.sha256("\n".join(sorted(tokens)).encode()).hexdigest()


def sign_ticket(act: Act, key: Ed25519PrivateKey, path: Path, days: float = 7.0) -> str:
    """Agree to an act until some days from now: sign it into a new file; gives the id of the key.

    Raises:
        FileExistsError: if there is such a file.
        ValueError: for an act that needs no ticket.
    """
    if act.act not in NEEDED:
        raise ValueError(f"act must be one of {', '.join(NEEDED)}, got {act.act!r}")
    until = (datetime.now(tz=UTC) + timedelta(days=days)).strftime(_MOMENT)
    return sign_statement(_statement(act) | {"until": until}, key, path)


def enter_act(
    log: Path, act: Act, tickets: Sequence[Path], gates: Gates, key: Ed25519PrivateKey, source: str = ""
) -> int:
    """Enter an act in the log, if enough people agreed to it; the entry's index. Only then may it be done.

    Args:
        source: the folder that the rows are of, where they are of one.
    Raises:
        ValueError: in one line, if there are too few tickets, or one is for another act, used, or past its time; the
            log has the refusal.
    """
    log.mkdir(parents=True, exist_ok=True)
    # One at a time: of several that ask at once, each would find the ticket unused, or too few rows exported so far.
    with locked(log, "entering"):
        with refusals_entered(log, act, key):
            found = _agreed(log, act, tickets, gates)
        return append(log, "access", _payload(act) | {"tickets": found, "source": source}, key)


@contextmanager
def refusals_entered(log: Path, act: Act, key: Ed25519PrivateKey) -> Iterator[None]:
    """Have the log say who was refused what, and why, if the work within raises a `ValueError`."""
    try:
        yield
    except ValueError as error:
        append(log, "access", _payload(act) | {"tickets": [], "refused": str(error)}, key)
        raise


def _agreed(log: Path, act: Act, tickets: Sequence[Path], gates: Gates) -> list[dict[str, Any]]:
    """The tickets as the log has them."""
    needed = 0 if act.act == EXPORT and act.count + _lately(log) <= MOST_WITHOUT else NEEDED[act.act]
    if needed and len(tickets) < needed:
        raise ValueError(
            f"{act.act}: {act.count} rows: expected {needed} tickets by different keys that the gates name, "
            f"got {len(tickets)}; see callsieve privacy ticket"
        )
    found = check_approvals(tickets, _statement(act), gates.approvers, needed, signer="") if needed else []
    now = datetime.now(tz=UTC).strftime(_MOMENT)
    used = {
        one["signature"]
        for _, payload in (payloads(log, "access") if has_log(log) else ())
        for one in payload.get("tickets", ())
    }
    for path, one in zip(tickets, found, strict=False):
        if one["by"] == act.person:
            raise ValueError(f"{path}: {act.person} asks, and cannot agree as well")
        if one["signature"] in used:
            raise ValueError(f"{path}: this ticket was used already")
        if str(one["statement"].get("until", "")) < now:
            raise ValueError(f"{path}: this ticket is past its time")
    return found


def _lately(log: Path) -> int:
    """Rows that were exported without a ticket in the last day, whoever did it: many small exports are a large one."""
    if not has_log(log):
        return 0
    since = (datetime.now(tz=UTC) - timedelta(days=1)).strftime(_MOMENT)
    told = [payload for entry, payload in payloads(log, "access") if entry.at >= since and "refused" not in payload]
    return sum(one["count"] for one in told if one.get("act") == EXPORT and not one["tickets"])


def write_act(act: Act, path: Path) -> None:
    """Write an act down for those who are asked to agree. Raises FileExistsError: if there is such a file."""
    write_new(path, encode(_payload(act)))


def read_act(path: Path) -> Act:
    """The act of a file that `write_act` wrote.

    Raises:
        ValueError: in one line, if it is none.
    """
    try:
        told = as_mapping(decode(path.read_bytes()), "act")
        return Act(
            act=as_text(told.get("act"), "act"), what=as_text(told.get("what"), "what"),
            count=as_integer(told.get("count"), "count"), purpose=as_text(told.get("purpose"), "purpose"),
            person=as_text(told.get("person"), "person"),
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _payload(act: Act) -> dict[str, Any]:
    return {name: getattr(act, name) for name in Act.__slots__}


def _statement(act: Act) -> dict[str, Any]:
    return {"kind": KIND} | _payload(act)
