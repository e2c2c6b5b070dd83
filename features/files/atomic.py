"""Files that get their name when all of them is there, and folders that one process fills at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# How unfinished files are named, by this module, `folders` and `rewriting`.
_UNFINISHED = ("{}.part", ".{}.new", ".{}." + "[0-9a-f]" * 8)

ABANDONED = 60.0  # seconds since a writer that is alive has written something

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what only those who write are told


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Say of which file it is that a disk has no room: who writes into an open one does not know its name.

    Raises: OSError: with the name.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write to, in place of the file's own; nothing is left of an attempt that failed.

    Raises: ValueError: if another one writes this file now: the two would be mixed. OSError: if the disk refuses.
    """
    part = path.with_name(path.name + ".part")
    held = _hold(part, part.name)
    try:
        try:
            with named(path):
                yield part
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    finally:
        os.close(held)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Fill a folder that no other process fills meanwhile; a new one is gone again if nothing came into it.

    Raises: ValueError: in one line, if another one fills it now, or it is none.
    """
    new = not folder.exists()
    if not new and not folder.is_dir():
        raise ValueError(f"{folder}: expected a new or empty folder, it is a file")
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / "_lock"
    held = _hold(lock, str(folder))
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(held)
        if new:
            with suppress(OSError):  # there is something in it
                folder.rmdir()


def _hold(part: Path, told: str) -> int:
    """Lock a file until it is closed, or its process ends; one that was left by a killed process is free."""
    while True:
        file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file), part.stat()):
                return file
        except BlockingIOError:
            os.close(file)
            raise ValueError(f"{told}: is written by another process now, expected one at a time") from None
        except FileNotFoundError:  # it got its name, or was given up, between the two steps
            pass
        except OSError:  # a disk that knows no locks
            return file
        os.close(file)


def drop_unfinished(folder: Path, name: str) -> None:
    """Delete what killed writers of some files left in a folder: a person stands there as in the files themselves.

    Args:
        name: of the files, as a pattern.
    """
    for form in _UNFINISHED:
        for part in folder.glob(form.format(name)):
            with contextlib.suppress(FileNotFoundError):
                if part.stat().st_mtime < time.time() - ABANDONED:
                    part.unlink()


def sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
