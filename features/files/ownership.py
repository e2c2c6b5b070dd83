"""Checks of a file's owner and mode, for secrets and for files that are trusted."""

from __future__ import annotations

import os
import stat
from pathlib import Path

OWNER_ONLY = 0o600
"""Mode of a file that only its owner may read and write; set at creation, so that the file is never open to others."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def read_secret(path: Path | str, limit: int) -> bytes:
    """Reads the first `limit` bytes of a file that only its owner may use.

    Raises: ValueError: if group or others have any permission on it.

    >>> read_secret("number.key", 3)
    b'e1:'
    """
    with Path(path).open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode  # of the open file: the path could point to another one by now
        if os.name == "posix" and mode & _OTHERS:
            raise ValueError(f"{path} has mode {stat.S_IMODE(mode):04o}: others may use it; change it to 0600")
        return file.read(limit)


def only_we_may_write(status: os.stat_result) -> bool:
    """Returns whether a file or folder belongs to the current user, and neither group nor others may write it.

    >>> only_we_may_write(os.stat("number.key"))
    True
    """
    return status.st_uid == os.getuid() and not status.st_mode & _OTHERS_WRITE
