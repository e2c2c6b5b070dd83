"""Whose a file is: a secret is its owner's alone to read, and what is believed unchecked is ours alone to write."""

from __future__ import annotations

import os
import stat
from pathlib import Path

OWN = 0o600
"""Mode of a file that only its owner may read and write; said as it is made, so that it never was another's."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def read_secret(path: Path | str, most: int) -> bytes:
    """The first `most` bytes of a file that its owner alone may use.

    Raises: ValueError: in one line, if others may.

    >>> read_secret("number.key", 3)
    b'e1:'
    """
    with Path(path).open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode  # of what is read: by its path, another file could be looked at
        if os.name == "posix" and mode & _OTHERS:
            raise ValueError(f"{path} has mode {stat.S_IMODE(mode):04o}: others may use it; change it to 0600")
        return file.read(most)


def ours_alone(found: os.stat_result) -> bool:
    """Whether a file or folder belongs to the user who runs this, and nobody else may write it.

    >>> ours_alone(os.stat("number.key"))
    True
    """
    return found.st_uid == os.getuid() and not found.st_mode & _OTHERS_WRITE
