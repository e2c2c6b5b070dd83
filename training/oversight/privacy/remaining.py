"""Lists the rows that remain after a person's deletion, with reason and end, for the answer to the person."""

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
CLEARED = "a reviewer has cleared this caller"


def delete_from_evidence(state: Path, token: str, rules: Retention, now: int) -> dict[str, dict[str, Any]]:
    """Overwrites the records of a person's verdicts in a scorer's files, except those below their floor.

    The scorer may be writing to the newest of these files, so records are overwritten in place and at their own length.
    """
    remove_partial_files(state, UNLISTED)
    remove_partial_files(state / FORGET, "*")  # incomplete requests, on which no scorer acts
    floor, report = rules.of(VERDICTS).floor, {}
    for number in file_numbers(state, VERDICTS):
        path, moments = journal_path(state, VERDICTS, number), list[int]()

        def must_stay(line: bytes, moments: list[int] = moments) -> bool:
            record = record_from_line(unseal(line) or b"")
            if record is None or record.at < now - floor:
                return False
            moments.append(record.at)
            return True

        with contextlib.suppress(FileNotFoundError):  # the case store has read the file to its end and removed it
            deleted = blank_lines(path, token, must_stay)
            if deleted or moments:
                report[path.name] = {"rows": deleted + len(moments), "deleted": deleted, "kept": len(moments),
                                      "newest": max(moments, default=None)}  # fmt: skip
    return report


def remaining_rows(
    files: Mapping[str, Mapping[str, Any]], cleared: Mapping[str, int], rules: Retention, now: int
) -> list[dict[str, Any]]:
    """Returns each place where the person's token remains: rows, reason, and the UTC day on which its retention ends.

    The day is None if it is not known. A deletion after that day removes these rows, too.

    Args:
        files: summaries of the deletion by file; `newest` is the last call of the remaining evidence.
        cleared: expiry by place, from `clearances`.
    """
    forever = now + rules.of("exclusions").ceiling
    rows = [_remaining(EXCLUSIONS, 1, "so that later trainings exclude this number", forever)]
    for name, summary in files.items():
        if summary.get("kept") and "newest" in summary:
            end = summary["newest"] + rules.of(VERDICTS).floor
            rows.append(_remaining(name, summary["kept"], *((EVIDENCE, end) if end > now else (WAITING, None))))
        elif summary.get("kept"):
            rows.append(_remaining(name, summary["kept"], "required by the retention rules", None))
    return rows + [_remaining(name, 1, CLEARED, until) for name, until in cleared.items()]


def clearances(states: Sequence[Path], token: str) -> Iterator[tuple[str, int]]:
    """Yields each scorer's file of cleared callers that names a person, with the expiry in Unix ms."""
    for state in states:
        with contextlib.suppress(ValueError, OSError):
            until = read_cleared(state / UNLISTED).get(token)
            if until is not None:
                yield f"{state.name}/{UNLISTED}", until


def _remaining(where: str, rows: int, why: str, until: int | None) -> dict[str, Any]:
    day = None if until is None else datetime.fromtimestamp(until / 1000, UTC).date().isoformat()
    return {"where": where, "rows": rows, "why": why, "until": day}
