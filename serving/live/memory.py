"""The calls that a serving process knows, and what of them is on disk: a snapshot, and the events since then.

Live (over HTTP and AGI) and the scorer inside Kamailio have one. What a killed process had learnt, less the last
moments (`journal.py` says how many), the next one knows, vector by vector.
"""

from __future__ import annotations

import contextlib
import threading
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import cast

from callsieve.features.online.history import History
from callsieve.features.records import KeyedCall

from .calls_in_progress import is_over
from .events import CALLS, COMPLAINTS, call_from_line, call_to_line
from .journal import Journal, ReadCounts, recover
from .snapshots import lock_folder, save_in_child, snapshot_numbers, snapshot_path, unlock_folder
from .upkeep import Upkeep

JOURNAL_BYTES = 256 << 20  # of events, until a snapshot takes their place


class RecordingHistory(History):
    """A history that remembers the row it gave last."""

    last: array[float] | None = None

    def row(self, call: KeyedCall) -> array[float]:
        """As of `History`."""
        self.last = super().row(call)
        return self.last


class Memory:
    """A history in a folder of state, which belongs to one process at a time.

    Attributes:
        history: to be used under `lock`.
        found: what was read back from disk.
        refusal: why a snapshot was not read back, in one line; None if all is well. It is kept as *.refused, until
            somebody is to be forgotten.
        saved: snapshots that were written, and that failed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        left: Callable[[KeyedCall], object] = lambda _: None,
        calls: int = 2_000_000,
        numbers: int = 200_000,
        compiled: bool = True,
        journal_bytes: int = JOURNAL_BYTES,
    ) -> None:
        """Take up the state in a folder, or begin one there.

        Args:
            left: told of each event that an earlier process left.
            calls, numbers, compiled: as for `History`.
            journal_bytes: events on disk, until a snapshot takes their place.

        Raises:
            ValueError: if another process has the folder.
            OSError: if it cannot be read.
        """
        self.lock, self.found = threading.Lock(), ReadCounts()
        self.refusal: str | None = None
        self.saved = [0, 0]
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._own = lock_folder(folder)
        try:
            self._restore(left, calls, numbers, compiled=compiled)
        except BaseException:
            unlock_folder(self._own)
            raise
        self._most, self._upkeep = journal_bytes, cast("Upkeep | None", None)
        # A snapshot can outlive all files before it, and is read with those from its own number on.
        self.journal = Journal(folder, CALLS, least=max(snapshot_numbers(folder), default=1), after=self._look)
        self.reports = Journal(folder, COMPLAINTS)

    def look_after(self, forget: Callable[[str], object]) -> None:
        """Have snapshots taken when they are due, and whoever asks be forgotten, by a thread beside the calls.

        Args:
            forget: has this process know a token no more.
        """
        upkeep = Upkeep(self._folder, self.journal, self.reports, self._most, copied=self._copied, forget=forget)
        self.saved, self._upkeep = upkeep.saved, upkeep

    def keep(self, call: KeyedCall) -> None:
        """Know an event, here and on disk; the caller holds the lock."""
        self.history.observe(call)
        self.journal.add(call_to_line(call))

    def save(self) -> None:
        """Begin a snapshot: a process of its own writes down the memory as it is, while calls go on.

        Calls wait while the process is copied, some 60 ms for each GB of memory, and half of that where the system
        gives large pages when it is asked. What is learnt between the new file of events and the copy is in both, and
        counts once.
        """
        if self._upkeep is not None:
            self._upkeep.save()

    def close(self) -> None:
        """Write down everything; no event may come any more."""
        self.journal.close()
        self.reports.close()
        if self._upkeep is not None:
            self._upkeep.close()
        unlock_folder(self._own)

    def _restore(self, left: Callable[[KeyedCall], object], calls: int, numbers: int, *, compiled: bool) -> None:
        first = max(snapshot_numbers(self._folder), default=0)
        self.history = RecordingHistory(calls=calls, numbers=numbers, compiled=compiled)
        if first:
            where = snapshot_path(self._folder, first)
            try:
                self.history = cast(
                    RecordingHistory, RecordingHistory.load(where, calls=calls, numbers=numbers, compiled=compiled)
                )
            except (ValueError, OSError) as error:
                self.refusal = str(error)
                with contextlib.suppress(OSError):
                    where.rename(where.with_suffix(".refused"))
        for line in recover(self._folder, CALLS, first, self.found):
            call = call_from_line(line)
            if call is None:
                self.found.damaged += 1
            else:
                self._take_back(call)
                left(call)

    def _take_back(self, call: KeyedCall) -> None:
        """An event of an earlier process. An attempt is asked about again: so windows move on as they did then, and no
        call after the start waits for all of them."""
        if not is_over(call):
            self.history.row(call)
        self.history.observe(call)

    def _copied(self, where: Path) -> int:
        with self.lock:
            return save_in_child(self.history, where)

    def _look(self) -> None:
        """In the journal's thread."""
        if self._upkeep is not None:
            self._upkeep.look()
