"""A folder of live state: whose it is, and how the memory of a process gets there while the process goes on."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import warnings
from pathlib import Path
from typing import NoReturn

from callsieve.features.files.ownership import OWNER_ONLY
from callsieve.features.online.history import History


def lock_folder(folder: Path) -> int | None:
    """Hold the folder for this process, until the file is closed; None on a disk that takes nothing: calls go on.

    A copy of the process does not hold it.

    Raises:
        ValueError: if another process holds it.
    """
    try:
        file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY)
    except OSError:
        return None
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise ValueError(f"{folder}: another process serves from this folder; expected one at a time") from None
    for where in partial_snapshots(folder):
        with contextlib.suppress(OSError):
            where.unlink()
    return file


def unlock_folder(file: int | None) -> None:
    """The folder is free."""
    if file is not None:
        os.close(file)


def snapshot_path(folder: Path, number: int) -> Path:
    """The snapshot that holds all events of files before a number."""
    return folder / f"state-{number:08d}.snapshot"


def snapshot_numbers(folder: Path) -> list[int]:
    """Numbers of the snapshots that are there."""
    found = [where.name[6:-9] for where in folder.glob("state-*.snapshot")]
    return [int(each) for each in found if each.isdecimal()]


def delete_unreadable(folder: Path) -> None:
    """Delete snapshots that nobody reads, the refused ones and the unfinished: nobody can be forgotten in one.

    Raises: OSError: if one is left.
    """
    for where in (*folder.glob("state-*.refused"), *partial_snapshots(folder)):
        where.unlink(missing_ok=True)


def partial_snapshots(folder: Path) -> list[Path]:
    """What copies of a process left that were killed as they wrote; nobody would overwrite it."""
    return list(folder.glob("state-*.snapshot.part"))


def save_in_child(history: History, where: Path) -> int:
    """Have a copy of this process write a snapshot of the memory as it is now; gives the copy's process id.

    Its exit status is 0 if the snapshot is there.
    """
    with warnings.catch_warnings():
        # Later Pythons warn of threads: the copy waits for none, it writes arrays to a file and is gone.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _save_and_exit(history, where)
    return child


def _save_and_exit(history: History, where: Path) -> NoReturn:
    status = 1
    try:
        gc.disable()
        # Connections that the service closes must not stay open here.
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.nice(10)
        history.save(where)
        status = 0
    finally:
        os._exit(status)
