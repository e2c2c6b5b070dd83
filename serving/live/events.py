"""Events as lines of text: keyed calls, and complaints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callsieve.features.records import KEYED_COLUMNS, KeyedCall

from .journal import ReadCounts, read_journal

CALLS, COMPLAINTS = "calls", "complaints"
"""Names of their journals."""

_MAY_BE_NONE = {"ring", "talk", "recorded", "trunk", "operator", "device", "place"}
_TOKENS = ("caller", "callee", "caller_block", "trunk", "operator", "device", "place")
_WORD = re.compile(r"[a-z][a-z_]{0,39}")
_MAX_NUMBER = 256  # characters of a number as written


@dataclass(frozen=True, slots=True)
class Complaint:
    """A complaint of a called person about a number, both numbers as written. `at` is Unix seconds.

    >>> Complaint(reporter="13900139000", number="4001234567", at=1775001700.0, category="fraud").category
    'fraud'
    """

    reporter: str
    number: str
    at: float
    category: str
    mode: str | None = None

    def __post_init__(self) -> None:
        for name in ("category", "mode"):
            if (word := getattr(self, name)) is not None and not _WORD.fullmatch(word):
                raise ValueError(f"complaint: {name} must be a word of a-z and _, at most 40 letters")
        if not 0 < len(self.number) <= _MAX_NUMBER or not 0 < len(self.reporter) <= _MAX_NUMBER:
            raise ValueError(f"complaint: reporter and number must have 1 to {_MAX_NUMBER} characters")


def call_to_line(call: KeyedCall) -> bytes:
    """Returns a keyed call as a line: the fields in their order, "-" for None."""
    return (
        f"{call.start} {call.caller} {call.callee} {'-' if call.ring is None else call.ring}"
        f" {'-' if call.talk is None else call.talk} {'-' if call.recorded is None else call.recorded}"
        f" {call.outcome} {call.released_by} {call.hour} {call.day} {call.caller_class} {call.callee_class}"
        f" {call.same_region} {call.shared_prefix} {call.step} {call.presented_differs} {call.attestation}"
        f" {call.route} {call.caller_block} {call.trunk or '-'} {call.operator or '-'} {call.device or '-'}"
        f" {call.place or '-'}"
    ).encode()


def positioned_line(line: bytes, position: str) -> bytes:
    """Returns a line with the position of its event in a stream; an empty line has only the position.

    >>> split_position(positioned_line(b"an event", "1700-0"))
    (b'an event', '1700-0')
    >>> split_position(b"an event")
    (b'an event', '')
    """
    return b"%b@%b" % (line, position.encode()) if position else line


def split_position(line: bytes) -> tuple[bytes, str]:
    """Returns a line without its position in a stream, and the position; "" without one."""
    before, at, position = line.rpartition(b"@")
    return (before, position.decode()) if at else (line, "")


def call_from_line(line: bytes) -> KeyedCall | None:
    """Returns the call in a line; None if the line is invalid."""
    parts = line.decode(errors="replace").split(" ")
    if len(parts) != len(KEYED_COLUMNS):
        return None
    try:
        return KeyedCall(*(_field(name, part) for name, part in zip(KEYED_COLUMNS, parts, strict=True)))
    except ValueError:
        return None


def _field(name: str, part: str) -> Any:
    if part == "-" and name in _MAY_BE_NONE:
        return None
    return part if name in _TOKENS else int(part)


def complaint_to_line(complaint: Complaint, reporter: str, number: str, known_at: int) -> bytes:
    """Returns a complaint as a line, with the tokens of both numbers; `known_at` in Unix milliseconds."""
    at = round(complaint.at * 1000)
    return f"{reporter} {number} {at} {known_at} {complaint.category} {complaint.mode or '-'}".encode()


def read_complaints(folder: Path) -> Iterator[dict[str, Any]]:
    """Yields the complaints in a folder of live state, as rows of the table that training reads.

    Reporter and number are tokens, `at` and `known_at` Unix milliseconds.
    """
    for line in read_journal(folder, COMPLAINTS, 0, ReadCounts()):
        reporter, number, at, known_at, category, mode = line.decode().split(" ")
        yield {
            "reporter": reporter,
            "number": number,
            "at": int(at),
            "known_at": int(known_at),
            "category": category,
            "mode": None if mode == "-" else mode,
        }
