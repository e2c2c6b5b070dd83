"""Events on disk, one line each: what a process that was killed had learnt, less the last second.

A line ends in the CRC-32 of what stands before it, so that what a crash or a full disk left of one is told from a whole
one. Lines are handed over in memory; a thread of the journal's own writes them several times a second and asks the disk
to keep them (fsync) at most once a second, so no call ever waits for a disk. What this promises: a killed process loses
the lines of the last `EVERY` seconds, a machine that loses power those of the last `EVERY` + `SYNC`, and `close` none.

While the disk takes nothing, `MAX_WAITING` lines wait; after that the newest are given up, counted in `lost`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import zlib
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from callsieve.features.files.ownership import OWNER_ONLY

EVERY, SYNC = 0.25, 1.0  # seconds between two writes, and at least between two fsyncs
MAX_WAITING, BATCH = 100_000, 1_000  # lines that wait for a disk, and lines of one write
MAX_LINE = 1 << 14  # bytes of a line: what is longer was never one of ours
_CRC = 10  # a space, eight digits, the line end


@dataclass(slots=True)
class ReadCounts:
    """What was read back: whole lines, damaged ones, bytes of torn ends, files that are unread."""

    lines: int = 0
    damaged: int = 0
    torn: int = 0
    unread: int = 0


class Journal:
    """Lines in numbered files `NAME-00000001.log` of a folder; each process begins a new file.

    `turn` begins another one, `drop` deletes those before a number: so a snapshot takes the place of old events. Safe
    to share between threads.

    Attributes:
        number: of the file that is written now.
        lost: lines that were given up because the disk took none.
        faults: times that the disk refused to write or to keep, or that work beside the calls failed.
        written: bytes, since the beginning.
        synced: `time.monotonic()` up to which every line that was handed over is kept by the disk.
    """

    def __init__(self, folder: Path, name: str, *, least: int = 1, after: Callable[[], object] = lambda: None) -> None:
        """Begin after the files that are there.

        Args:
            least: number of the file that is written, at least: readers that begin at it would miss earlier ones.
            after: called by the journal's thread after each write, for work that belongs beside the calls.
        """
        self.lost = self.faults = 0
        self.written = 0
        self.synced = time.monotonic()
        self._folder, self._name, self._after = folder, name, after
        self.number = max(least, 1 + max(file_numbers(folder, name), default=0))
        self._waiting: deque[bytes] = deque()
        self._file: int | None = None
        self._good = 0
        self._unsynced = False
        self._writing = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{name} journal", daemon=True)
        self._thread.start()

    def add(self, line: bytes) -> None:
        """Hand over a line (without its end); it is on disk within moments. Never raises, never waits for the disk."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(line)
        else:
            self.lost += 1

    @property
    def age(self) -> float:
        """Seconds since all lines that had been handed over were kept by the disk; 0 if all are."""
        return time.monotonic() - self.synced if self._unsynced or self._waiting else 0.0

    def turn(self) -> int:
        """Have later lines in a new file, and give its number."""
        with self._writing:
            self._write()
            self._close()
            # What the disk did not take goes to the new file. A snapshot may know it: a call told twice is told once.
            self.number += 1
            return self.number

    def drop(self, before: int) -> None:
        """Delete the files with smaller numbers."""
        for number in file_numbers(self._folder, self._name):
            if number < before:
                file_path(self._folder, self._name, number).unlink(missing_ok=True)

    def flush(self) -> None:
        """Write and fsync now."""
        with self._writing:
            self._write()
            self._sync()

    def close(self) -> None:
        """Write and keep everything; lines that the disk still refuses are lost, and counted."""
        self._done.set()
        self._thread.join()
        with self._writing:
            self._write()
            self._sync()
            self._close()
            self.lost += len(self._waiting)
            self._waiting.clear()

    def _run(self) -> None:
        while not self._done.wait(EVERY):
            with self._writing:
                self._write()
                if time.monotonic() >= self.synced + SYNC:
                    self._sync()
            try:
                self._after()
            except Exception:
                self.faults += 1  # whatever it was: without this thread no line would be written any more

    def _write(self) -> None:
        """Write what waits. A disk that refuses changes nothing but a count: it is asked again the next time."""
        while self._waiting:
            lines = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]
            taken = self._append([seal(line) for line in lines])
            if taken < len(lines):
                self.faults += 1
                self._waiting.extendleft(reversed(lines[taken:]))
                return

    def _append(self, lines: list[bytes]) -> int:
        """Write lines, and give how many the disk took: one that has no room for all of them takes the first ones."""
        data, done = b"".join(lines), 0
        with contextlib.suppress(OSError):
            file = self._open() if self._file is None else self._file
            self._unsynced = True
            while done < len(data):
                done += os.write(file, data[done:])
        ends = [0, *accumulate(map(len, lines))]
        taken = bisect_right(ends, done) - 1
        if self._file is not None and ends[taken] < done:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._good + ends[taken])
        self._good += ends[taken]
        self.written += ends[taken]
        return taken

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
            except OSError:
                self.faults += 1
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


def read_journal(folder: Path, name: str, first: int, found: ReadCounts) -> Iterator[bytes]:
    """The whole lines of all files from number `first` on, in order; a process may be writing to them."""
    for number in file_numbers(folder, name):
        if number >= first:
            try:
                with file_path(folder, name, number).open("rb") as file:
                    yield from read_lines(file, found)
            except OSError:
                found.unread += 1


def recover(folder: Path, name: str, first: int, found: ReadCounts) -> Iterator[bytes]:
    """Like `read_journal`, and torn ends are cut off where the disk allows it: only for the process that holds the
    folder, for another process's line that is just being written would be cut as well."""
    yield from read_journal(folder, name, first, found)
    for number in file_numbers(folder, name):
        if number >= first:
            _cut(file_path(folder, name, number))


def read_lines(file: BinaryIO, found: ReadCounts) -> Iterator[bytes]:
    """The whole lines of one file."""
    while piece := file.readline(MAX_LINE):
        if not piece.endswith(b"\n"):
            found.torn += len(piece)
            continue
        line = unseal(piece)
        if line is None:
            found.damaged += 1
        else:
            found.lines += 1
            yield line


def seal(line: bytes) -> bytes:
    """A line as it stands in a file: its CRC-32 and its end with it."""
    return b"%b %08x\n" % (line, zlib.crc32(line))


def unseal(piece: bytes) -> bytes | None:
    """The line of what stands in a file up to a line end; None if it is damaged."""
    line = piece[:-_CRC]
    return line if piece[-_CRC:] == b" %08x\n" % zlib.crc32(line) else None


def _cut(where: Path) -> None:
    """Cut off what stands after the last line end: the next reader need not count it again."""
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
    """Numbers of the files that are there, in order."""
    found = [where.name[len(name) + 1 : -4] for where in folder.glob(f"{name}-*.log")]
    return sorted(int(each) for each in found if each.isdecimal())


def file_path(folder: Path, name: str, number: int) -> Path:
    """Where a file of this number lies."""
    return folder / f"{name}-{number:08d}.log"
