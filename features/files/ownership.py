"""Checks of a file's owner and mode, for secrets and for files that are trusted."""

from __future__ import annotations

import os
import stat
from pathlib import Path

OWNER_ONLY = 0o600
"""Mode of a file that only its owner may read and write; set at creation, so that the file is never open to others."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def read_secret(path: Path | str, limit: int, *, make: str = "", allow_group_read: bool = False) -> bytes:
    """Reads the first `limit` bytes of a file that only its owner may use.

    >>> read_secret("number.key", 3, make="callsieve privacy key new")
    b'e1:'
    """
    if not os.path.lexists(path):
        step = f"make it with `{make}`, or name another file" if make else "name another file"
        raise FileNotFoundError(f"{Path(path).absolute()}: not found; {step}")
    with Path(path).open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode  # of the open file: the path could point to another one by now
        refused, expected = (_OTHERS & ~stat.S_IRGRP, "0640") if allow_group_read else (_OTHERS, "0600")
        if os.name == "posix" and mode & refused:
            raise ValueError(f"{path} has mode {stat.S_IMODE(mode):04o}: others may use it; change it to {expected}")
        return file.read(limit)


def only_we_may_write(status: os.stat_result) -> bool:
    """Returns whether a file or folder belongs to the current user, and neither group nor others may write it.

    >>> only_we_may_write(os.stat("number.key"))
    True
    """
    return status.st_uid == os.getuid() and not status.st_mode & _OTHERS_WRITE
