"""A registry beside calls: a file of JSON lines that one process at a time reads and writes.

`looks.jsonl` and `accesses.jsonl` hold for all audit logs that use a folder of calls. The files are not signed: who may
write to the folder can remove them. Each audit log then still has its own entries.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from msgspec import to_builtins

from callsieve.features.files.decode import Record, json_as

from .entry import encode

R = TypeVar("R", bound=Record)
_NO_WRITING = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT)


@dataclass(frozen=True, slots=True)
class Registry(Generic[R]):
    """The rows of a registry, and the locked file to which `add` writes; None if it cannot be written."""

    rows: list[R]
    file: BinaryIO | None = None

    def add(self, row: R) -> None:
        """Adds a row; returns when it is on the disk."""
        if self.file is not None:
            self.file.write(encode(to_builtins(row)) + b"\n")
            self.file.flush()
            os.fsync(self.file.fileno())


@contextmanager
def open_registry(path: Path | None, kind: type[R]) -> Iterator[Registry[R]]:
    """Locks and reads a registry for the block; an empty one without a path."""
    if path is None:
        yield Registry([])
        return
    file = None
    try:
        file = path.open("a+b")
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if file is not None:
            file.close()
        if error.errno not in _NO_WRITING:
            raise
        yield Registry(registered(path, kind))
        return
    with file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)  # without an incomplete last line that a crash left
        yield Registry(registered(path, kind), file)


def registered(path: Path, kind: type[R]) -> list[R]:
    """Returns the rows of a registry, in order; none without a file."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json_as(kind, line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]
