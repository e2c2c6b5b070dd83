"""The care of a folder of live state, beside the calls: snapshots when they are due, and forgetting on disk."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from .events import CALLS, COMPLAINTS
from .forgetting import Request, blank_lines, pending_requests, remove_requests
from .journal import Journal, file_numbers, file_path
from .snapshots import delete_unreadable, snapshot_numbers, snapshot_path

REST = 10.0  # seconds until what failed is tried again: calls wait while the process is copied


class Upkeep:
    """What a journal's thread does for a folder when it looks round.

    Attributes:
        saved: snapshots that were written, and that failed.
    """

    def __init__(
        self,
        folder: Path,
        journal: Journal,
        reports: Journal,
        most: int,
        *,
        copied: Callable[[Path], int],
        forget: Callable[[str], object],
    ) -> None:
        """Args:
        most: bytes of events in `journal` until a snapshot takes their place.
        copied: has a process of its own write the memory down, and gives its id.
        forget: has the memory forget a token.
        """
        self._folder, self._journal, self._reports, self._most = folder, journal, reports, most
        self._copied, self._forget = copied, forget
        self.saved = [0, 0]
        self._child: tuple[int, int] | None = None
        self._forgotten: list[Request] = []  # in memory, and on disk when the next snapshot is there
        self._rested = 0.0  # `time.monotonic()` from which on requests are looked at
        # What earlier processes left counts as well.
        self._since = -sum(file_path(folder, CALLS, number).stat().st_size for number in file_numbers(folder, CALLS))

    def look(self) -> None:
        """Snapshots when they are due, or somebody is to be forgotten."""
        if self._child is not None:
            status = self._ended(os.WNOHANG)
            if status is not None:
                self._reap(status)
        elif time.monotonic() >= self._rested and (asked := pending_requests(self._folder)):
            self._forget_on_disk(asked)
        elif self._journal.written - self._since > self._most:
            self._since = self._journal.written
            self._try_to_save()

    def save(self) -> None:
        """Begin a snapshot. Raises: OSError: if there can be no process for it."""
        number = self._journal.turn()
        self._child = self._copied(snapshot_path(self._folder, number)), number

    def close(self) -> None:
        """Wait for a snapshot that is not whole yet."""
        if self._child is not None and (status := self._ended(0)) is not None:
            self._reap(status)

    def _forget_on_disk(self, asked: list[Request]) -> None:
        """Memory forgets, and a snapshot of it takes the place of all events. If that fails, the request stays."""
        for request in asked:
            self._forget(request.token)
        last = self._reports.turn()
        with contextlib.suppress(OSError):
            for number in file_numbers(self._folder, COMPLAINTS):
                for request in asked if number < last else ():
                    blank_lines(file_path(self._folder, COMPLAINTS, number), request.token)
            self._forgotten = asked
        self._try_to_save()

    def _try_to_save(self) -> None:
        try:
            self.save()
        except OSError:
            self._failed()

    def _failed(self) -> None:
        self.saved[1] += 1
        self._rested = time.monotonic() + REST

    def _ended(self, options: int) -> int | None:
        """How the process that writes a snapshot ended; None if it is still at it."""
        assert self._child is not None  # noqa: S101 - whoever calls has looked
        process, number = self._child
        try:
            found, status = os.waitpid(process, options)
        except ChildProcessError:
            # Where SIGCHLD is ignored, as it may be by whoever began this process, none is told how its children ended.
            return 0 if snapshot_path(self._folder, number).exists() else 1
        return status if found else None

    def _reap(self, status: int) -> None:
        assert self._child is not None  # noqa: S101 - whoever calls has looked
        number, self._child = self._child[1], None
        if status != 0:
            self._failed()
        else:
            self.saved[0] += 1
            with contextlib.suppress(OSError):
                self._journal.drop(number)
                for old in snapshot_numbers(self._folder):
                    if old < number:
                        snapshot_path(self._folder, old).unlink()
                if self._forgotten:
                    delete_unreadable(self._folder)
                remove_requests(self._forgotten)
        self._forgotten = []
