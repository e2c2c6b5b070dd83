"""Access log of a service: counts of answers by key, path and status, so that many requests need few lines.

A line of the journal (`journal.py`) has one count over a few seconds. It contains no part of a request but the path.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from callsieve.serving.live.journal import Journal, ReadCounts, read_journal

ACCESSES, CASE_ACCESSES = "accesses", "case-accesses"
"""Names of the journals: of a scorer, and of a service of cases."""

EVERY = 2.0  # seconds that one line covers
DAY = 86_400.0  # seconds until a new file: files are erased whole when they expire


@dataclass(frozen=True, slots=True)
class Access:
    """A count of equal answers: `at` is Unix ms, `who` the name of the key, "" for an unknown one."""

    at: int
    who: str
    what: str
    code: int
    count: int


class AccessLog:
    """Counts the answers of a service in a folder. Safe to share between threads."""

    def __init__(self, folder: Path, name: str = ACCESSES, *, every: float = EVERY) -> None:
        self._every = every
        self._counts: Counter[tuple[str, str, int]] = Counter()
        self._lock = threading.Lock()
        self._written = self._rotated = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._journal = Journal(folder, name, after=self._after)
        self._journal.start()

    def note(self, who: str, what: str, code: int) -> None:
        """Counts an answer."""
        with self._lock:
            self._counts[(who, what, code)] += 1

    @property
    def lost(self) -> int:
        """Lines that the disk refused."""
        return self._journal.lost

    def close(self) -> None:
        """Writes everything to disk."""
        self._write()
        self._journal.close()

    def _after(self) -> None:
        now = time.monotonic()
        if now >= self._written + self._every:
            self._written = now
            self._write()
        if now >= self._rotated + DAY:
            self._rotated = now
            self._journal.rotate()

    def _write(self) -> None:
        with self._lock:
            counts, self._counts = self._counts, Counter()
        at = round(time.time() * 1000)
        for (who, what, code), count in counts.items():
            line = {"at": at, "who": who, "what": what, "code": code, "count": count}
            self._journal.add(json.dumps(line, separators=(",", ":")).encode())


def read_accesses(folder: Path) -> Iterator[Access]:
    """Yields the counts in a folder; damaged lines are skipped."""
    for name in (ACCESSES, CASE_ACCESSES):
        for line in read_journal(folder, name, 0, ReadCounts()):
            yield Access(**json.loads(line))
