"""The history of a serving process, and its copy on disk: a snapshot, and the events since then.

`Live` has one. A killed process loses only the events of its last second (see `journal.py`); the next process restores
the rest, with bit-equal vectors.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from callsieve.features.online.history import DEFAULT_CALLS, DEFAULT_NUMBERS, History
from callsieve.features.online.layout import LayoutError
from callsieve.features.records import KeyedCall

from .calls_in_progress import is_over
from .events import CALLS, COMPLAINTS, call_from_line, call_to_line, positioned_line, split_position
from .forgetting import Request, blank_lines, pending_requests, remove_requests
from .journal import BATCH, REPEAT, Journal, ReadCounts, file_numbers, file_path, recover
from .snapshots import delete_unreadable, lock_folder, save_in_child, snapshot_numbers, snapshot_path, unlock_folder

_LOG = logging.getLogger("callsieve.serving")
REST = 10.0  # seconds until the next try after a failed snapshot, because calls wait while the process forks
REPLAYED = 1 << 20  # bytes of events that a clean stop leaves without a snapshot: 3,000 calls, replayed in 0.2 s
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

        Raises:
            LayoutError: if this version does not read a snapshot's layout. Nothing is changed then, for the version
                that does.
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
        """Starts to write events, to take snapshots when they are due, and to serve requests to forget."""
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

    def close(self, in_progress: Iterable[KeyedCall] = ()) -> int:
        """Writes everything to disk; returns how many events are lost. No event may come after this.

        A snapshot replaces the events since the last one if their replay would take more than a fraction of a second.

        Args:
            in_progress: calls whose attempts the next process needs beside the snapshot.
        """
        self.journal.stop()
        if self._upkeep is not None and self._upkeep.close():
            for done, call in enumerate(in_progress):
                self.journal.add(call_to_line(call))
                if done % BATCH == 0:
                    self.journal.flush()
        lost = self.journal.close() + self.complaints.close()
        unlock_folder(self._folder_lock)
        return lost

    def _restore(self, on_restored: Callable[[KeyedCall], object], limits: Limits) -> None:
        first, refused = 0, list[str]()
        self.history = History(calls=limits.calls, numbers=limits.numbers)
        for number in sorted(snapshot_numbers(self._folder), reverse=True):
            where = snapshot_path(self._folder, number)
            try:
                self.history = History.load(where, calls=limits.calls, numbers=limits.numbers)
            except LayoutError:
                raise
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
        if self._upkeep is not None:
            self._upkeep.look()


class Upkeep:
    """Work on a folder that the journal's thread does after each write.

    Attributes:
        saved: snapshots that were written, and that failed.
    """

    def __init__(
        self,
        folder: Path,
        journal: Journal,
        complaints: Journal,
        journal_bytes: int,
        *,
        copy: Callable[[Path], int],
        forget: Callable[[str], object],
    ) -> None:
        """Starts without pending work."""
        self._folder, self._journal, self._complaints, self._journal_bytes = folder, journal, complaints, journal_bytes
        self._copy, self._forget = copy, forget
        self.saved = [0, 0]
        self._child: tuple[int, int] | None = None  # process id, and number of its snapshot
        self._forgotten: list[Request] = []  # done in memory; done on disk when the next snapshot is written
        self._log_at = 0.0  # `time.monotonic()` from which a failed snapshot is logged again
        self._resume_at = 0.0  # `time.monotonic()` until which requests wait
        # The files of earlier processes count as well, if no snapshot has replaced them.
        last = max(snapshot_numbers(folder), default=0)
        numbers = [number for number in file_numbers(folder, CALLS) if number >= last]
        self._rotated_at = -sum(file_path(folder, CALLS, number).stat().st_size for number in numbers)

    def look(self) -> None:
        """Does what is due: ends a snapshot, serves requests to forget, or begins a snapshot."""
        if self._child is not None:
            status = self._exit_status(os.WNOHANG)
            if status is not None:
                self._finish(status)
        elif time.monotonic() >= self._resume_at and (pending := pending_requests(self._folder)):
            self._forget_on_disk(pending)
        elif self._journal.written - self._rotated_at > self._journal_bytes:
            self._try_to_save()

    def save(self) -> None:
        """Begins a snapshot. Raises: OSError: if the process cannot fork."""
        number = self._journal.rotate()
        self._rotated_at = self._journal.written
        self._child = self._copy(snapshot_path(self._folder, number)), number

    def close(self) -> bool:
        """Waits for a snapshot that is being written, and writes another one if more than REPLAYED bytes follow it.

        Returns: whether there was another one, written or failed.
        """
        self._wait()
        due = self._journal.written - self._rotated_at > REPLAYED
        if due:
            self._try_to_save()
            self._wait()
        return due

    def _wait(self) -> None:
        if self._child is not None and (status := self._exit_status(0)) is not None:
            self._finish(status)

    def _forget_on_disk(self, pending: list[Request]) -> None:
        for request in pending:
            self._forget(request.token)
        last = self._complaints.rotate()
        with contextlib.suppress(OSError):
            for number in file_numbers(self._folder, COMPLAINTS):
                for request in pending if number < last else ():
                    blank_lines(file_path(self._folder, COMPLAINTS, number), request.token)
            self._forgotten = pending
        self._try_to_save()

    def _try_to_save(self) -> None:
        try:
            self.save()
        except OSError:
            self._fail()

    def _fail(self) -> None:
        self.saved[1] += 1
        now = time.monotonic()
        self._resume_at = now + REST
        if now >= self._log_at:
            self._log_at = now + REPEAT
            line = "a snapshot failed, %d so far; the events stay in the journal, and the next try comes when it is due"
            _LOG.error(line, self.saved[1])

    def _exit_status(self, options: int) -> int | None:
        assert self._child is not None  # noqa: S101 - the callers check it
        process, number = self._child
        try:
            ended, status = os.waitpid(process, options)
        except ChildProcessError:
            # The parent of this process may have set SIGCHLD to be ignored; then no exit status is available.
            return 0 if snapshot_path(self._folder, number).exists() else 1
        return status if ended else None

    def _finish(self, status: int) -> None:
        assert self._child is not None  # noqa: S101 - the callers check it
        number, self._child = self._child[1], None
        if status != 0:
            self._fail()
        else:
            self.saved[0] += 1
            with contextlib.suppress(OSError):
                # The snapshot before this one stays with its later events, for a start at which this one is damaged.
                older = [old for old in snapshot_numbers(self._folder) if old < number]
                first = number if self._forgotten else max(older, default=number)
                for old in older:
                    if old < first:
                        snapshot_path(self._folder, old).unlink()
                self._journal.drop(first)
                if self._forgotten:
                    delete_unreadable(self._folder)
                remove_requests(self._forgotten)
        self._forgotten = []
