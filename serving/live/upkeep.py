"""Upkeep of a folder of live state, beside the calls: snapshots when they are due, and forgetting on disk."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from .events import CALLS, COMPLAINTS
from .forgetting import Request, blank_lines, pending_requests, remove_requests
from .journal import REPEAT, Journal, file_numbers, file_path
from .snapshots import delete_unreadable, snapshot_numbers, snapshot_path

_LOG = logging.getLogger("callsieve.serving")
REST = 10.0  # seconds until the next try after a failed snapshot, because calls wait while the process forks


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
        """Starts without pending work.

        Args:
            journal_bytes: size of the events in `journal` at which a snapshot replaces them.
            copy: starts a child process that writes a snapshot to a path; returns the process id.
            forget: makes the memory forget a token.
        """
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
            self._rotated_at = self._journal.written
            self._try_to_save()

    def save(self) -> None:
        """Begins a snapshot. Raises: OSError: if the process cannot fork."""
        number = self._journal.rotate()
        self._child = self._copy(snapshot_path(self._folder, number)), number

    def close(self) -> None:
        """Waits for a snapshot that is being written."""
        if self._child is not None and (status := self._exit_status(0)) is not None:
            self._finish(status)

    def _forget_on_disk(self, pending: list[Request]) -> None:
        """Forgets in memory, then replaces all events by a snapshot of it. If that fails, the requests stay."""
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
        """Returns the exit status of the child; None while it runs."""
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
