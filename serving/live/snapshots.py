"""Snapshots in a folder of live state, and the lock by which one process owns the folder."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import tempfile
import warnings
from pathlib import Path
from typing import NoReturn

from callsieve.features.files.ownership import OWNER_ONLY
from callsieve.features.online.history import History


class FolderInUseError(ValueError):
    """Another process has the lock of a folder of live state."""


def lock_folder(folder: Path) -> int:
    """Locks the folder for this process and deletes unfinished snapshots. A forked child does not hold the lock.

    Returns: the open lock file.
    """
    try:
        tempfile.TemporaryFile(dir=folder).close()  # the lock file alone may be of an earlier process
        file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY)
    except OSError as error:
        reason = (error.strerror or "refused").lower()
        raise OSError(
            f"{folder}: cannot write the state: {reason}; give this user a folder that it can write"
        ) from None
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise FolderInUseError(f"{folder}: another process serves from this folder; expected one at a time") from None
    for where in partial_snapshots(folder):
        with contextlib.suppress(OSError):
            where.unlink()
    return file


def unlock_folder(file: int | None) -> None:
    """Releases the lock of a folder; does nothing without a lock."""
    if file is not None:
        os.close(file)


def snapshot_path(folder: Path, number: int) -> Path:
    """Returns the path of the snapshot that contains all events of the journal files before a number."""
    return folder / f"state-{number:08d}.snapshot"


def snapshot_numbers(folder: Path) -> list[int]:
    """Returns the numbers of the snapshots in a folder."""
    names = [where.name[6:-9] for where in folder.glob("state-*.snapshot")]
    return [int(name) for name in names if name.isdecimal()]


def delete_unreadable(folder: Path) -> None:
    """Deletes refused and unfinished snapshots: a number cannot be removed from them."""
    for where in (*folder.glob("state-*.refused"), *partial_snapshots(folder)):
        where.unlink(missing_ok=True)


def partial_snapshots(folder: Path) -> list[Path]:
    """Returns the unfinished snapshots of child processes that were killed while they wrote."""
    return list(folder.glob("state-*.snapshot.part"))


def save_in_child(history: History, where: Path) -> int:
    """Forks a child process that writes a snapshot of the memory as it is now.

    Returns: the child's process id. Its exit status is 0 if the snapshot was written.
    """
    with warnings.catch_warnings():
        # Later Pythons warn about threads. The child waits for none: it writes arrays to a file and exits.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _save_and_exit(history, where)
    return child


def _save_and_exit(history: History, where: Path) -> NoReturn:
    status = 1
    try:
        gc.disable()
        # A connection that the parent closes must not stay open in the child.
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.nice(10)
        history.save(where)
        status = 0
    finally:
        os._exit(status)
