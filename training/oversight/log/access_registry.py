"""The registry of accesses beside the calls, `accesses.jsonl`: limits and used tickets hold for all audit logs.

Like the registry of looks, the file is not signed: who may write to the folder can remove it. Each audit log then still
has its own accesses. A line names no person.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from msgspec import to_builtins

from callsieve.features.files.decode import Record, json_as

from .entry import encode

FILE = "accesses.jsonl"
_NO_WRITING = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT)


class RegisteredAccess(Record, frozen=True):
    """An access to the calls of a folder: its log and entry, the UTC moment, the act, its rows, and its tickets."""

    log: str
    entry: int
    at: str
    act: str
    count: int
    tickets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AccessRegistry:
    """The accesses in the registry of a folder, and the locked file to which `add` writes; None without a file."""

    rows: list[RegisteredAccess] = field(default_factory=list)
    file: BinaryIO | None = None

    def add(self, access: RegisteredAccess) -> None:
        """Adds an access; returns when it is on the disk."""
        if self.file is not None:
            self.file.write(encode(to_builtins(access)) + b"\n")
            self.file.flush()
            os.fsync(self.file.fileno())


@contextmanager
def open_registry(folder: Path | None) -> Iterator[AccessRegistry]:
    """Locks and reads the registry of a folder of calls for the block; an empty one without a folder to write to.

    Raises:
        ValueError: in one line, if a line is malformed.
    """
    try:
        file = None if folder is None else (folder / FILE).open("a+b")
    except OSError as error:
        if error.errno not in _NO_WRITING:
            raise
        file = None
    if folder is None or file is None:
        path = None if folder is None else folder / FILE
        yield AccessRegistry(_rows(path.read_bytes(), path) if path is not None and path.exists() else [])
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        data = file.read()
        file.truncate(data.rfind(b"\n") + 1)  # without an incomplete last line that a crash left
        yield AccessRegistry(_rows(data, folder / FILE), file)


def _rows(data: bytes, path: Path) -> list[RegisteredAccess]:
    lines = data.split(b"\n")[:-1]
    return [json_as(RegisteredAccess, line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]
