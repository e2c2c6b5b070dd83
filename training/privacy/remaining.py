"""What of a deleted person stays, why, and until when: whoever asked for the deletion is told all of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from callsieve.features.files.atomic import remove_partial_files
from callsieve.serving.custody.retention import Retention
from callsieve.serving.live.cleared_callers import FILE as UNLISTED
from callsieve.serving.live.cleared_callers import read_cleared
from callsieve.serving.live.forgetting import REQUESTS as FORGET
from callsieve.serving.live.forgetting import blank_lines
from callsieve.serving.live.journal import file_numbers, unseal
from callsieve.serving.live.journal import file_path as journal_path
from callsieve.serving.live.verdict_log import VERDICTS, record_from_line
from callsieve.training.data.exclusions import FILE as EXCLUSIONS

EVIDENCE = "evidence of verdicts, kept for appeals"
WAITING = "evidence of a verdict whose appeal is open"
CLEARED = "a person has cleared this caller, and that holds"


def delete_from_evidence(state: Path, token: str, rules: Retention, now: int) -> dict[str, dict[str, Any]]:
    """Overwrites the records of a person's verdicts in a scorer's files, except those below their floor.

    The scorer may be writing to the newest of these files: only what stands there is overwritten, at its own length.
    """
    remove_partial_files(state, UNLISTED)
    remove_partial_files(state / FORGET, "*")  # requests that were never whole, so nobody acts on them
    floor, report = rules.of(VERDICTS).floor, {}
    for number in file_numbers(state, VERDICTS):
        where, young = journal_path(state, VERDICTS, number), list[int]()

        def must_stay(line: bytes, young: list[int] = young) -> bool:
            found = record_from_line(unseal(line) or b"")
            if found is None or found.at < now - floor:
                return False
            young.append(found.at)
            return True

        with contextlib.suppress(FileNotFoundError):  # whoever keeps the store has read it to its end
            deleted = blank_lines(where, token, must_stay)
            if deleted or young:
                report[where.name] = {"rows": deleted + len(young), "deleted": deleted, "kept": len(young),
                                      "newest": max(young, default=None)}  # fmt: skip
    return report


def remaining_rows(
    files: Mapping[str, Mapping[str, Any]], cleared: Mapping[str, int], rules: Retention, now: int
) -> list[dict[str, Any]]:
    """Each place where the person's token still stands: rows, why, and the UTC day until which it must, if it is known.

    A deletion that is asked for after that day takes it, too.

    Args:
        files: what was deleted by file, as the report has it; `newest` is the last call of the evidence that is kept.
        cleared: as of `clearances`.
    """
    forever = now + rules.of("exclusions").ceiling
    told = [_told(EXCLUSIONS, 1, "so that nothing more is learnt from this number", forever)]
    for name, one in files.items():
        if one.get("kept") and "newest" in one:
            end = one["newest"] + rules.of(VERDICTS).floor
            told.append(_told(name, one["kept"], *((EVIDENCE, end) if end > now else (WAITING, None))))
        elif one.get("kept"):
            told.append(_told(name, one["kept"], "the rules of retention say so", None))
    return told + [_told(name, 1, CLEARED, until) for name, until in cleared.items()]


def clearances(states: Sequence[Path], token: str) -> Iterator[tuple[str, int]]:
    """Scorers' files of cleared callers that name a person, each with the moment until which."""
    for state in states:
        with contextlib.suppress(ValueError, OSError):
            until = read_cleared(state / UNLISTED).get(token)
            if until is not None:
                yield f"{state.name}/{UNLISTED}", until


def _told(where: str, rows: int, why: str, until: int | None) -> dict[str, Any]:
    day = None if until is None else datetime.fromtimestamp(until / 1000, UTC).date().isoformat()
    return {"where": where, "rows": rows, "why": why, "until": day}
