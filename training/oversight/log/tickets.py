"""Tickets: exports and re-identifications of personal data that others have agreed to.

A ticket states the act, its object (a hash), its purpose, the person and an expiry. It is valid if enough of the
people whom the gates name, other than the requester, have signed it with different keys. It is entered in the audit log
with the act and cannot be used again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Meta, Struct, structs, to_builtins

from callsieve.features.files.atomic import write_new
from callsieve.features.files.dates import DAY, now_ms, utc_text
from callsieve.features.files.decode import Record, check_texts, json_as
from callsieve.features.files.strict_json import encode
from callsieve.serving.bundle.signing import key_id

from .approvals import approve as sign_statement
from .approvals import check as check_approvals
from .audit_log import SignedLog, accesses, has_log, locked, log_id
from .gates import Gates
from .payload_types import Approval, Statement
from .registry import open_registry

KIND = "callsieve ticket"
ACCESSES = "accesses.jsonl"  # registry of accesses, in a folder of calls
EXPORT, REIDENTIFY = "export of call records", "re-identification"
PARTY_AUDIT = "audit of connecting parties"
NEEDED = {EXPORT: 1, REIDENTIFY: 2, PARTY_AUDIT: 1}
MOST_WITHOUT = 499  # call records a day that need no ticket; from 500 on an export may be a crime in China


class RegisteredAccess(Record, frozen=True):
    """An access to the calls of a folder: its log and entry, the UTC moment, the act, its rows, and its tickets.

    It names no person.
    """

    log: str
    entry: int
    at: str
    act: str
    count: int
    tickets: tuple[str, ...] = ()


class Act(Struct, frozen=True):
    """An act on personal data.

    Attributes:
        act: EXPORT, REIDENTIFY or PARTY_AUDIT.
        what: SHA-256 of the rows or tokens.
        count: number of rows or tokens.
        purpose: why it is done.
        person: who does it.
        log: `audit_log.log_id` of the only log that the act may enter; "" for any log. A re-identification has no
            folder of calls, whose registry of accesses would know a used ticket.
    """

    act: str
    what: str
    count: Annotated[int, Meta(ge=0)]
    purpose: str
    person: str
    log: str = ""


def tokens_hash(tokens: Sequence[str]) -> str:
    """Returns the hash that stands for these tokens in an act."""
    return hashlib.sha256("\n".join(sorted(tokens)).encode()).hexdigest()


def sign_ticket(act: Act, key: Ed25519PrivateKey, path: Path, days: float = 7.0) -> str:
    """Signs agreement to an act into a new file, valid for some days; returns the id of the key."""
    if act.act not in NEEDED:
        raise ValueError(f"act must be one of {', '.join(NEEDED)}, got {act.act!r}")
    until = utc_text(now_ms() + days * DAY)
    return sign_statement({**_statement(act), "until": until}, key, path)


@dataclass(frozen=True, slots=True)
class AccessControl:
    """The needs of an access to personal data: a log that has it, gates that name who may agree, and their tickets."""

    log: SignedLog
    gates: Gates
    tickets: Sequence[Path] = ()

    def enter(self, act: Act, source: str = "") -> int:
        """Enters an act in the log before it happens, if enough people agreed to it; returns the index of the entry."""
        self.log.folder.mkdir(parents=True, exist_ok=True)
        # Concurrent requests must not use one ticket twice, or each stay below the daily limit.
        path = Path(source, ACCESSES) if source else None
        with locked(self.log.folder, "entering"), open_registry(path, RegisteredAccess) as registry:
            with refusals_entered(self.log, act):
                agreed = self._agreed(act, registry.rows)
            entry = self.log.append("access", {**structs.asdict(act), "tickets": agreed, "source": source})
            signatures = tuple(ticket["signature"] for ticket in agreed)
            log = log_id(self.log.folder)
            registry.add(RegisteredAccess(log, entry, utc_text(), act.act, act.count, signatures))
        return entry

    def _agreed(self, act: Act, registered: Sequence[RegisteredAccess]) -> list[Approval]:
        """Checks the tickets of an act and returns them for the log."""
        log, tickets = self.log.folder, self.tickets
        own = log_id(log) if has_log(log) else ""
        others = [access for access in registered if access.log != own]
        is_free = act.act == EXPORT and act.count + _exported_lately(log, others) <= MOST_WITHOUT
        needed = 0 if is_free else NEEDED[act.act]
        if needed and len(tickets) < needed:
            raise ValueError(
                f"{act.act}: {act.count} rows: expected {needed} tickets by different persons that the gates name, "
                f"got {len(tickets)}; see callsieve privacy ticket"
            )
        if act.act == REIDENTIFY and (not own or act.log != own):
            raise ValueError(f"{log}: the tickets are for another audit log; request them for this one with --audit")
        if needed:
            self.gates.require_owned([key_id(self.log.key.public_key())])
        agreed = check_approvals(tickets, _statement(act), self.gates, needed, signers=()) if needed else []
        used = {
            ticket["signature"]
            for _, payload in (accesses(log) if has_log(log) else ())
            for ticket in payload.get("tickets", ())
        } | {signature for access in others for signature in access.tickets}
        for path, ticket in zip(tickets, agreed, strict=False):
            if ticket["by"] == act.person:
                raise ValueError(f"{path}: {act.person} does the act, and cannot agree to it as well")
            if ticket["signature"] in used:
                raise ValueError(f"{path}: this ticket was used already")
            if str(ticket["statement"].get("until", "")) < utc_text():
                raise ValueError(f"{path}: this ticket is expired")
        return agreed


@contextmanager
def refusals_entered(log: SignedLog, act: Act) -> Iterator[None]:
    """Records a refusal, with person and reason, if the block raises a ValueError."""
    try:
        yield
    except ValueError as error:
        log.append("access", {**structs.asdict(act), "tickets": [], "refused": str(error)})
        raise


def _exported_lately(log: Path, others: Sequence[RegisteredAccess]) -> int:
    """Returns the rows that all persons exported without a ticket in the last day: small exports add up."""
    since = utc_text(now_ms() - DAY)
    entries = accesses(log) if has_log(log) else ()
    acts = [payload for entry, payload in entries if entry.at >= since and "refused" not in payload]
    acts += [to_builtins(access) for access in others if access.at >= since]
    return sum(act["count"] for act in acts if act.get("act") == EXPORT and not act["tickets"])


def write_act(act: Act, path: Path) -> None:
    """Writes an act to a new file, for people who are asked to agree."""
    write_new(path, encode(_fields(act)))


def read_act(path: Path) -> Act:
    """Reads a file of `write_act`."""
    act = json_as(Act, path.read_bytes(), str(path))
    for name, value in _fields(act).items():
        check_texts(value, f"{path}: {name}")
    return act


def _statement(act: Act) -> Statement:
    return {"kind": KIND, **_fields(act)}


def _fields(act: Act) -> dict[str, str | int]:
    return {name: value for name, value in structs.asdict(act).items() if name != "log" or value}
