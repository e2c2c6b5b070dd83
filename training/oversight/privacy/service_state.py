"""Personal data in a scorer's live state: evidence of verdicts, expiry of journals, cleared callers, rekeying.

The scorer itself deletes a person from its histories (`callsieve.serving.live.forgetting`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from callsieve.features.files.atomic import remove_partial_files, sha256, write_atomic
from callsieve.features.files.ownership import OWNER_ONLY
from callsieve.features.online.snapshot import replace_tokens
from callsieve.serving.http.access_log import ACCESSES, CASE_ACCESSES
from callsieve.serving.live.cleared_callers import FILE as CLEARED
from callsieve.serving.live.cleared_callers import read_cleared
from callsieve.serving.live.events import CALLS, COMPLAINTS
from callsieve.serving.live.forgetting import REQUESTS as FORGET
from callsieve.serving.live.forgetting import blank_lines, pending_requests, remove_requests, request_forgetting
from callsieve.serving.live.journal import ReadCounts, file_numbers, file_path, read_lines, seal, unseal
from callsieve.serving.live.snapshots import snapshot_numbers, snapshot_path
from callsieve.serving.live.verdict_log import VERDICTS, record_from_line
from callsieve.serving.scorer.flags import FILE

from .rewriting import ERASED, Deleted, Erasure, Expired

if TYPE_CHECKING:
    from callsieve.features.keys.rotation import Rekeying
    from callsieve.serving.custody.retention import Retention

JOURNALS = {VERDICTS: "journals", COMPLAINTS: "journals", ACCESSES: "accesses", CASE_ACCESSES: "accesses"}
"""Retention rule of each kind of file in a scorer's state."""


def plan_expiry(state: Path, rules: Retention, now: int) -> Iterator[Erasure[Expired]]:
    """Plans the deletion of expired files of a scorer's state, except the newest of each kind, which may be in use."""
    for kind, table in JOURNALS.items():
        for number in file_numbers(state, kind)[:-1]:
            path = file_path(state, kind, number)
            if path.stat().st_mtime * 1000 < now - rules.of(table).ceiling:
                summary: Expired = {"outcome": ERASED, "bytes": path.stat().st_size}
                summary |= {"sha256_before": sha256(path), "sha256_after": ""}
                yield Erasure(path.name, path, summary, deletes=True)


def count_evidence(state: Path, token: str, rules: Retention, now: int) -> dict[str, Deleted]:
    """Counts the records of a person's verdicts in each file of a scorer, and those below their retention floor."""
    floor, pattern, report = rules.of(VERDICTS).floor, token.encode(), dict[str, Deleted]()
    for number in file_numbers(state, VERDICTS):
        path = file_path(state, VERDICTS, number)
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            lines = [line for line in file if pattern in line]
            retained = sum(_moment_below_floor(line, now - floor) is not None for line in lines)
            if lines:
                report[path.name] = {"rows": len(lines), "deleted": len(lines) - retained, "kept": retained}
    return report


def delete_evidence(state: Path, token: str, rules: Retention, now: int) -> dict[str, Deleted]:
    """Overwrites the records of a person's verdicts in a scorer's files, except those below their floor.

    The scorer may be writing to the newest of these files, so records are overwritten in place and at their own length.
    """
    remove_partial_files(state, CLEARED)
    remove_partial_files(state / FORGET, "*")  # incomplete requests, on which no scorer acts
    floor, report = rules.of(VERDICTS).floor, dict[str, Deleted]()
    for number in file_numbers(state, VERDICTS):
        path, moments = file_path(state, VERDICTS, number), list[int]()

        def must_stay(line: bytes, moments: list[int] = moments) -> bool:
            moment = _moment_below_floor(line, now - floor)
            moments.extend(() if moment is None else (moment,))
            return moment is not None

        with contextlib.suppress(FileNotFoundError):  # the case store has read the file to its end and removed it
            deleted = blank_lines(path, token, must_stay)
            if deleted or moments:
                report[path.name] = {"rows": deleted + len(moments), "deleted": deleted, "kept": len(moments),
                                      "newest": max(moments, default=None)}  # fmt: skip
    return report


def _moment_below_floor(line: bytes, floor: int) -> int | None:
    record = record_from_line(unseal(line) or b"")
    return None if record is None or record.at < floor else record.at


def clearances(states: Sequence[Path], token: str) -> Iterator[tuple[str, int]]:
    """Yields each scorer's file of cleared callers that names a person, with the expiry in Unix ms."""
    for state in states:
        with contextlib.suppress(ValueError, OSError):
            until = read_cleared(state / CLEARED).get(token)
            if until is not None:
                yield f"{state.name}/{CLEARED}", until


def rekey(state: Path, keys: Rekeying) -> dict[str, int]:
    """Rekeys the files of a scorer's live state; returns the number of lines by file."""
    for number in snapshot_numbers(state):
        replace_tokens(snapshot_path(state, number), keys.tokens)
    (state / FILE).unlink(missing_ok=True)  # hashes of tokens of the former key, which no token is found by any more
    for request in pending_requests(state):
        request_forgetting(state, keys.token(request.token))
        if keys.token(request.token) != request.token:
            remove_requests([request])
    files = [
        file_path(state, kind, number) for kind in (CALLS, COMPLAINTS, VERDICTS) for number in file_numbers(state, kind)
    ]
    return {path.name: _rewrite_lines(path, keys) for path in files}


def _rewrite_lines(path: Path, keys: Rekeying) -> int:
    with path.open("rb") as file:
        lines = [keys.line(line) for line in read_lines(file, ReadCounts())]
    write_atomic(path, b"".join(map(seal, lines)), OWNER_ONLY)
    return len(lines)
