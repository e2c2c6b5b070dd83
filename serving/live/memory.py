"""The history of a serving process, and its copy on disk: a snapshot, and the events since then.

`Live` has one. A killed process loses only the events of its last second (see `journal.py`); the next process restores
the rest, with bit-equal vectors.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from callsieve.features.online.history import DEFAULT_CALLS, DEFAULT_NUMBERS, History
from callsieve.features.records import KeyedCall

from .calls_in_progress import is_over
from .events import CALLS, COMPLAINTS, call_from_line, call_to_line, positioned_line, split_position
from .journal import Journal, ReadCounts, recover
from .snapshots import lock_folder, save_in_child, snapshot_numbers, snapshot_path, unlock_folder
from .upkeep import Upkeep

JOURNAL_BYTES = 256 << 20  # of events, until a snapshot replaces them


class Limits(NamedTuple):
    """The most calls and numbers that a history holds."""

    calls: int = DEFAULT_CALLS
    numbers: int = DEFAULT_NUMBERS


LIMITS = Limits()


class Memory:
    """A history in a folder of live state, which belongs to one process at a time.

    Attributes:
        history: use it only while holding `lock`.
        restored: lines that were read back from disk.
        newest: start of the newest call (Unix ms); None without a call.
        position: in a stream, of the event that is recorded now, or of the last one on disk; "" without a stream.
        refusal: why a snapshot was not read back, and from what the history was restored, in one line; None without a
            fault. The file is renamed to *.refused, and deleted when a number is to be forgotten.
        saved: snapshots that were written, and that failed.
        journal, complaints: the journals of calls and of complaints.
    """

    def __init__(
        self,
        folder: Path,
        *,
        on_restored: Callable[[KeyedCall], object] = lambda _: None,
        limits: Limits = LIMITS,
        journal_bytes: int = JOURNAL_BYTES,
    ) -> None:
        """Restores the state in a folder, or creates one there. Nothing is written before `start`.

        Args:
            on_restored: called for each event that an earlier process left.
            limits: capacity of the history.
            journal_bytes: size of the events on disk at which a snapshot replaces them.

        Raises:
            ValueError: if another process uses the folder.
            OSError: if the folder cannot be read or written.
        """
        self.lock, self.restored = threading.Lock(), ReadCounts()
        self.refusal: str | None = None
        self.newest: int | None = None
        self.position = ""
        self.saved = [0, 0]
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder_lock = lock_folder(folder)
        try:
            self._restore(on_restored, limits)
        except BaseException:
            unlock_folder(self._folder_lock)
            raise
        self._journal_bytes = journal_bytes
        self._upkeep: Upkeep | None = None
        # A snapshot can outlive all files before it. It is read together with the files from its own number on.
        self.journal = Journal(folder, CALLS, least=max(snapshot_numbers(folder), default=1), after=self._look)
        self.complaints = Journal(folder, COMPLAINTS)

    def start(self, forget: Callable[[str], object], *, by_commit: bool = False) -> None:
        """Starts to write events, to take snapshots when they are due, and to serve requests to forget.

        Args:
            forget: makes this process forget a token.
            by_commit: whether `commit` alone does all this, and not a thread.
        """
        upkeep = Upkeep(
            self._folder, self.journal, self.complaints, self._journal_bytes, copy=self._copy, forget=forget
        )
        self.saved, self._upkeep = upkeep.saved, upkeep
        if not by_commit:
            self.journal.start()
        self.complaints.start()

    def commit(self) -> bool:
        """Writes the events, takes a snapshot if it is due; returns whether all events are on disk."""
        self.journal.flush()
        self._look()
        return self.journal.age == 0

    def record(self, call: KeyedCall) -> None:
        """Records an event in memory and on disk; the caller holds the lock."""
        self.history.observe(call)
        self._note_start(call)
        self.journal.add(positioned_line(call_to_line(call), self.position))

    def save(self) -> None:
        """Begins a snapshot: a child process writes the memory as it is now, while calls go on.

        Calls wait while the process forks, about 60 ms for each GB of memory, or half of that with transparent huge
        pages. Events between the new journal file and the fork are in both, and are counted once.
        """
        if self._upkeep is not None:
            self._upkeep.save()

    def close(self) -> int:
        """Writes everything to disk; returns how many events are lost. No event may come after this."""
        lost = self.journal.close() + self.complaints.close()
        if self._upkeep is not None:
            self._upkeep.close()
        unlock_folder(self._folder_lock)
        return lost

    def _restore(self, on_restored: Callable[[KeyedCall], object], limits: Limits) -> None:
        first, refused = 0, list[str]()
        self.history = History(calls=limits.calls, numbers=limits.numbers)
        for number in sorted(snapshot_numbers(self._folder), reverse=True):
            where = snapshot_path(self._folder, number)
            try:
                self.history = History.load(where, calls=limits.calls, numbers=limits.numbers)
            except (ValueError, OSError) as error:
                refused.append(str(error))
                with contextlib.suppress(OSError):
                    where.rename(where.with_suffix(".refused"))
            else:
                first = number
                break
        if refused:
            restored = "the snapshot before it and all events since then are restored, so no event is lost"
            if not first:
                restored = "there is no other snapshot, so only the events that are still in the journal are restored"
            self.refusal = "; ".join([*refused, restored])
        self.newest = self.history.newest
        for positioned in recover(self._folder, CALLS, first, self.restored):
            line, position = split_position(positioned)
            self.position = position or self.position
            if not line:
                continue
            call = call_from_line(line)
            if call is None:
                self.restored.damaged += 1
            else:
                self._replay(call)
                on_restored(call)
        if self.history.newest is not None:  # here, so that the first call does not wait for it
            self.history.advance(self.history.newest)

    def _replay(self, call: KeyedCall) -> None:
        """Observes an event of an earlier process.

        An attempt moves the windows forward, as it did then. Otherwise the first call after the start would have to
        wait for all these moves.
        """
        self.history.observe(call)
        self._note_start(call)
        if not is_over(call):
            self.history.advance(call.start)

    def _note_start(self, call: KeyedCall) -> None:
        self.newest = call.start if self.newest is None else max(self.newest, call.start)

    def _copy(self, where: Path) -> int:
        if self.position:
            # The files before this one, which have the position, are deleted with the snapshot.
            self.journal.add(positioned_line(b"", self.position))
            self.journal.flush()
        with self.lock:
            return save_in_child(self.history, where)

    def _look(self) -> None:
        """Runs in the journal's thread."""
        if self._upkeep is not None:
            self._upkeep.look()
