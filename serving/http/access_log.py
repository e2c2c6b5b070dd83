"""Who asked a service for what, and who was refused: counts on disk, so that a flood of requests is none of lines.

One line of a journal (`journal.py`) says how often a holder of a key was given one answer at one path within a few
seconds. Nothing of a request but its path is in it.
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
"""Names of the files that hold the lines: of a scorer, and of the service of cases that may stand beside it."""

EVERY = 2.0  # seconds that one line is of
DAY = 86_400.0  # seconds until a new file, so that files can be erased when their time is over


@dataclass(frozen=True, slots=True)
class Access:
    """How often somebody was given one answer: `at` is Unix ms, `who` "" for a key that nobody holds."""

    at: int
    who: str
    what: str
    code: int
    count: int


class AccessLog:
    """Counts of a service's answers in a folder. Safe to share between threads."""

    def __init__(self, folder: Path, name: str = ACCESSES, *, every: float = EVERY) -> None:
        self._every = every
        self._counts: Counter[tuple[str, str, int]] = Counter()
        self._lock = threading.Lock()
        self._written = self._turned = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._journal = Journal(folder, name, after=self._after)

    def note(self, who: str, what: str, code: int) -> None:
        """Count an answer."""
        with self._lock:
            self._counts[(who, what, code)] += 1

    def close(self) -> None:
        """Write down everything."""
        self._write()
        self._journal.close()

    def _after(self) -> None:
        """In the journal's thread."""
        now = time.monotonic()
        if now >= self._written + self._every:
            self._written = now
            self._write()
        if now >= self._turned + DAY:
            self._turned = now
            self._journal.rotate()

    def _write(self) -> None:
        with self._lock:
            counts, self._counts = self._counts, Counter()
        at = round(time.time() * 1000)
        for (who, what, code), count in counts.items():
            line = {"at": at, "who": who, "what": what, "code": code, "count": count}
            self._journal.add(json.dumps(line, separators=(",", ":")).encode())


def read_accesses(folder: Path) -> Iterator[Access]:
    """What was written in a folder; damaged lines are passed over."""
    for name in (ACCESSES, CASE_ACCESSES):
        for line in read_journal(folder, name, 0, ReadCounts()):
            yield Access(**json.loads(line))
