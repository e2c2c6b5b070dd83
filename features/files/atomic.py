"""Files that appear whole or not at all, and folders that one process fills at a time."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Names of unfinished files: of `atomic_path`, of `training.oversight.privacy.rewriting` and of `write_atomic`.
_PARTIAL_NAMES = ("{}.part", ".{}.new", ".{}." + "[0-9a-f]" * 8)

ABANDONED_SECONDS = 60.0
"""A partial file that was last written longer ago than this belongs to no living process."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def naming_the_file(path: Path) -> Iterator[None]:
    """Adds the path to an OSError of a full disk: a write to an open file does not know its name."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a path to write to; the file is renamed to `path` when the block ends, and deleted if it fails."""
    part = path.with_name(path.name + ".part")
    lock = _lock(part, part.name)
    try:
        try:
            with naming_the_file(path):
                yield part
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    finally:
        os.close(lock)


def write_atomic(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Writes a file, and replaces an existing one only when all bytes are on the disk."""
    with _synced_copy(path, data, mode) as part:
        part.replace(path)


def write_new(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Writes a file that does not exist yet; of several processes that write it at once, one succeeds."""
    with _synced_copy(path, data, mode) as part:
        try:
            os.link(part, path)
        except FileExistsError:
            raise FileExistsError(f"{path}: exists already; nothing is overwritten") from None


@contextmanager
def _synced_copy(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    """Yields a file beside `path` whose bytes are on the disk, and removes its name afterwards."""
    part = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except OSError as error:  # of a missing folder, for example: the file is known by its own name
            raise OSError(error.errno, error.strerror, str(path)) from None
        with naming_the_file(path), os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield part
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Locks a folder against other processes that fill it; a new folder that stays empty is removed."""
    new = not folder.exists()
    if not new and not folder.is_dir():
        raise ValueError(f"{folder}: expected a new or empty folder, it is a file")
    folder.mkdir(parents=True, exist_ok=True)
    lock_file = folder / "_lock"
    lock = _lock(lock_file, str(folder))
    try:
        yield
    finally:
        lock_file.unlink(missing_ok=True)
        os.close(lock)
        if new:
            with suppress(OSError):  # the folder is not empty
                folder.rmdir()


def _lock(path: Path, name: str) -> int:
    """Locks a file until its descriptor is closed or the process ends, so that a killed process leaves no lock.

    Returns: the open descriptor.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise ValueError(f"{name}: is written by another process now, expected one at a time") from None
        except FileNotFoundError:  # renamed or deleted between open and lock: try again
            pass
        except OSError:  # the file system has no locks
            return descriptor
        os.close(descriptor)


def remove_partial_files(folder: Path, name: str) -> None:
    """Deletes the partial files that killed writers left in a folder: they hold the same personal data."""
    for form in _PARTIAL_NAMES:
        for part in folder.glob(form.format(name)):
            with suppress(FileNotFoundError):
                if part.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                    part.unlink()


def check_distinct(*paths: Path | None) -> None:
    """Checks that no path of a command is used twice, so that an output never replaces an input."""
    resolved: set[Path] = set()
    for path in filter(None, paths):
        if path.resolve() in resolved:
            raise ValueError(f"{path}: is used for two files of this command; expected a different path for each")
        resolved.add(path.resolve())


def check_present(*paths: Path | None) -> None:
    """Checks that all inputs of a command exist, before the first one is read."""
    for path in filter(None, paths):
        if not path.exists():
            raise ValueError(f"{path}: not found")


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
