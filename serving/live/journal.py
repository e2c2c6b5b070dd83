"""Append-only files of events, one line each, that survive a crash except for the last second.

A line ends in the CRC-32 of its text, which detects lines that a crash or a full disk truncated. Callers pass lines in
memory. A thread of the journal writes them several times a second and calls fsync at most once a second,
so no call waits for a disk. A killed process loses the lines of the last `EVERY` seconds, a machine that loses power
those of the last `EVERY` + `SYNC`, and `close` loses none.

While the disk refuses writes, at most `MAX_WAITING` lines wait. Later lines are discarded and counted in `lost`. The
error is logged at most once a minute, and so is the number of lines that `close` had to discard.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
import zlib
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, Self

from callsieve.features.files.ownership import OWNER_ONLY

EVERY, SYNC = 0.25, 1.0  # seconds between two writes, and the least between two fsyncs
MAX_WAITING, BATCH = 100_000, 1_000  # lines that wait for the disk, and lines of one write
MAX_LINE = 1 << 14  # bytes of a line; a longer one is damaged
REPEAT = 60.0  # seconds between two log lines about a disk that refuses writes
_CRC = 10  # bytes: a space, eight digits, the line end
_LOG = logging.getLogger("callsieve.serving")


@dataclass(slots=True)
class ReadCounts:
    """Result of reading: whole lines, damaged lines, bytes of torn ends, unreadable files."""

    lines: int = 0
    damaged: int = 0
    torn: int = 0
    unread: int = 0


class Journal:
    """Lines in numbered files `NAME-00000001.log` of a folder; each process begins a new file.

    `rotate` begins the next file, and `drop` deletes the files before a number: a snapshot replaces old events this
    way. Safe to share between threads.

    Attributes:
        number: of the current file.
        lost: lines that were discarded because the disk refused writes.
        faults: failed writes and fsyncs, and failed calls of `after`.
        refusals: failed writes and fsyncs by the name of their error, such as ENOSPC.
        written: bytes since the start of the process.
        synced: `time.monotonic()` up to which every line is on disk.
    """

    def __init__(self, folder: Path, name: str, *, least: int = 1, after: Callable[[], object] = lambda: None) -> None:
        """Begins a file after the existing ones. Lines wait until `start`."""
        self.lost = self.faults = 0
        self.refusals: Counter[str] = Counter()
        self.written = 0
        self.synced = time.monotonic()
        self._folder, self._name, self._after = folder, name, after
        self.number = max(least, 1 + max(file_numbers(folder, name), default=0))
        self._waiting: deque[bytes] = deque()
        self._file: int | None = None
        self._good = 0
        self._unsynced = False
        self._log_at = 0.0  # `time.monotonic()` from which a refusal is logged again
        self._writing = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{name} journal", daemon=True)

    def start(self) -> Self:
        """Starts the thread that writes; call it when everything that `after` uses is ready. Returns the journal."""
        self._thread.start()
        return self

    def add(self, line: bytes) -> None:
        """Queues a line (without its line end) for the disk. Never raises, never waits."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(line)
        else:
            self.lost += 1

    @property
    def age(self) -> float:
        """Seconds since all lines were on disk; 0 if all are."""
        return time.monotonic() - self.synced if self._unsynced or self._waiting else 0.0

    def rotate(self) -> int:
        """Begins the next file; returns its number."""
        with self._writing:
            self._write()
            self._close()
            # Lines that the disk refused go to the new file. A snapshot may contain them: a repeated event counts once.
            self.number += 1
            return self.number

    def drop(self, before: int) -> None:
        """Deletes the files with smaller numbers."""
        for number in file_numbers(self._folder, self._name):
            if number < before:
                file_path(self._folder, self._name, number).unlink(missing_ok=True)

    def flush(self) -> None:
        """Writes and fsyncs now."""
        with self._writing:
            self._write()
            self._sync()

    def stop(self) -> None:
        """Ends the thread and writes the waiting lines."""
        self._done.set()
        if self._thread.ident is not None:  # started
            self._thread.join()
        with self._writing:
            self._write()

    def close(self) -> int:
        """Writes and fsyncs everything. Lines that the disk still refuses are lost.

        Returns: the lines that were lost since the start of the process; they are logged.
        """
        self.stop()
        with self._writing:
            self._sync()
            self._close()
            self.lost += len(self._waiting)
            self._waiting.clear()
        if self.lost:
            reasons = ", ".join(sorted(self.refusals)) or "more lines than the disk took"
            _LOG.error("journal %s: %d lines are lost (%s)", self._name, self.lost, reasons)
        return self.lost

    def _run(self) -> None:
        while not self._done.wait(EVERY):
            with self._writing:
                self._write()
                if time.monotonic() >= self.synced + SYNC:
                    self._sync()
            try:
                self._after()
            except Exception:
                self.faults += 1  # the thread must survive any error: without it, no line would reach the disk

    def _refused(self, error: OSError) -> None:
        self.faults += 1
        self.refusals[errno.errorcode.get(error.errno or 0, "unknown")] += 1
        if (now := time.monotonic()) >= self._log_at:
            self._log_at = now + REPEAT
            line = "journal %s: the disk refuses writes: %s; %d lines wait, %d are lost"
            _LOG.error(line, self._name, error.strerror or "unknown error", len(self._waiting), self.lost)

    def _write(self) -> None:
        while self._waiting:
            lines = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]
            taken, error = self._append([seal(line) for line in lines])
            if error is not None:
                self._waiting.extendleft(reversed(lines[taken:]))
                self._refused(error)
                return

    def _append(self, lines: list[bytes]) -> tuple[int, OSError | None]:
        """Writes lines; returns how many are whole on disk, and the error if the disk did not take all of them."""
        data, done = b"".join(lines), 0
        refusal = None
        try:
            file = self._open() if self._file is None else self._file
            self._unsynced = True
            while done < len(data):
                done += os.write(file, data[done:])
        except OSError as error:
            refusal = error
        ends = [0, *accumulate(map(len, lines))]
        taken = bisect_right(ends, done) - 1
        if self._file is not None and ends[taken] < done:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._good + ends[taken])
        self._good += ends[taken]
        self.written += ends[taken]
        return taken, refusal

    def _open(self) -> int:
        where = file_path(self._folder, self._name, self.number)
        file = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, OWNER_ONLY)
        self._file, self._good = file, os.fstat(file).st_size
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return file

    def _sync(self) -> None:
        began = time.monotonic()
        if self._file is not None and self._unsynced:
            try:
                os.fsync(self._file)
            except OSError as error:
                self._refused(error)
                return
            self._unsynced = False
        if not self._waiting:
            self.synced = began

    def _close(self) -> None:
        if self._file is None:
            return
        self._sync()
        with contextlib.suppress(OSError):
            os.close(self._file)
        self._file = None


def read_journal(folder: Path, name: str, first: int, counts: ReadCounts) -> Iterator[bytes]:
    """Yields the whole lines of all files from number `first` on, in order. Another process may be writing to them."""
    for number in file_numbers(folder, name):
        if number >= first:
            try:
                with file_path(folder, name, number).open("rb") as file:
                    yield from read_lines(file, counts)
            except OSError:
                counts.unread += 1


def recover(folder: Path, name: str, first: int, counts: ReadCounts) -> Iterator[bytes]:
    """Yields the whole lines like `read_journal`, then cuts torn ends off the files.

    The caller must hold the lock of the folder: the line that another process is writing would be cut, too.
    """
    yield from read_journal(folder, name, first, counts)
    for number in file_numbers(folder, name):
        if number >= first:
            _cut(file_path(folder, name, number))


def read_lines(file: BinaryIO, counts: ReadCounts) -> Iterator[bytes]:
    """Yields the whole lines of one file."""
    while piece := file.readline(MAX_LINE):
        if not piece.endswith(b"\n"):
            counts.torn += len(piece)
            continue
        line = unseal(piece)
        if line is None:
            counts.damaged += 1
        else:
            counts.lines += 1
            yield line


def seal(line: bytes) -> bytes:
    """Returns a line with its CRC-32 and line end, as it is written to a file."""
    return b"%b %08x\n" % (line, zlib.crc32(line))


def unseal(piece: bytes) -> bytes | None:
    """Returns the text of a sealed line; None if it is damaged."""
    line = piece[:-_CRC]
    return line if piece[-_CRC:] == b" %08x\n" % zlib.crc32(line) else None


def _cut(where: Path) -> None:
    with contextlib.suppress(OSError), where.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        while size > 0:
            begin = max(size - MAX_LINE, 0)
            file.seek(begin)
            end = file.read(size - begin).rfind(b"\n")
            if end >= 0:
                size = begin + end + 1
                break
            size = begin
        if size < file.seek(0, os.SEEK_END):
            file.truncate(size)


def file_numbers(folder: Path, name: str) -> list[int]:
    """Returns the numbers of the files of a journal, in order."""
    numbers = [where.name[len(name) + 1 : -4] for where in folder.glob(f"{name}-*.log")]
    return sorted(int(number) for number in numbers if number.isdecimal())


def file_path(folder: Path, name: str, number: int) -> Path:
    """Returns the path of the file with this number."""
    return folder / f"{name}-{number:08d}.log"
