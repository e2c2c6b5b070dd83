"""The list of discredited firms (失信名单): principals and agents, in `discredited.jsonl` of a folder of registers.

An entry takes effect after a time in which the firm can appeal. An appeal that is upheld ends the entry at once, also
before it takes effect. Rows are only added, so past verdicts stay reproducible.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.dates import DAY
from callsieve.features.files.masking import has_long_digits
from callsieve.serving.rules.registers import ROLES, Registers, as_lines

TABLE = "discredited"
APPEAL_DAYS = 10
_MAX_LENGTH = 64
NOTICE = {
    "en": "{party} is to be listed as discredited ({reason}) from {valid_from} on. An appeal before that day stops it.",
    "zh": "拟将{party}列入失信名单（原因：{reason}），自{valid_from}起生效；在此之前可以申诉，申诉成立的不予列入。",
}


class Entry(NamedTuple):
    """A row of the list; moments are Unix ms."""

    party: str
    role: str
    reason: str
    valid_from: int
    valid_to: int | None
    known_at: int


def list_firm(folder: Path, party: str, role: str, reason: str, now: int, days: int = APPEAL_DAYS) -> Entry:
    """Adds a firm to the list; returns the row. `now`: Unix ms; the entry takes effect `days` days later."""
    for name, text in (("PARTY", party), ("--why", reason)):
        if not 0 < len(text) <= _MAX_LENGTH or not text.isprintable() or has_long_digits(text):
            raise ValueError(f"{name}: expected 1-{_MAX_LENGTH} printable characters without a telephone number")
    if role not in ROLES:
        raise ValueError(f"ROLE: expected one of {', '.join(ROLES)}, got {role!r}")
    rows = _rows(folder)
    if _open_row(rows, party, role) is not None:
        raise ValueError(f"{party}: is listed as {role} already")
    row = Entry(party, role, reason, valid_from=now + days * DAY, valid_to=None, known_at=now)
    _write(folder, [*rows, row])
    return row


def unlist_firm(folder: Path, party: str, role: str, now: int) -> Entry:
    """Ends the entry of a firm whose appeal is upheld, at once; returns the added row."""
    rows = _rows(folder)
    row = _open_row(rows, party, role)
    if row is None:
        raise ValueError(f"{party}: is not listed as {role} in {folder / f'{TABLE}.jsonl'}")
    ended = row._replace(valid_to=max(now, row.valid_from), known_at=now)
    _write(folder, [*rows, ended])
    return ended


def _open_row(rows: list[Entry], party: str, role: str) -> Entry | None:
    last = [row for row in rows if (row.party, row.role) == (party, role)][-1:]
    return last[0] if last and last[0].valid_to is None else None


def _rows(folder: Path) -> list[Entry]:
    if not (folder / f"{TABLE}.jsonl").exists():
        return []
    columns = Registers.read(folder).columns[TABLE]
    return [Entry(*row) for row in zip(*(columns[name] for name in Entry._fields), strict=True)]


def _write(folder: Path, rows: list[Entry]) -> None:
    write_atomic(folder / f"{TABLE}.jsonl", as_lines(row._asdict() for row in rows))
