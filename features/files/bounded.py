"""Reading of files of unknown origin: regular files only, and no further than to a limit."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path | str, *, follow_links: bool = False) -> BinaryIO:
    """Opens a regular file without a buffer."""
    # The flags refuse a link that has replaced the file, and do not wait for the writer of a pipe.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags | (0 if follow_links else getattr(os, "O_NOFOLLOW", 0))), "rb", buffering=0)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError("must be a regular file")
    return file


def read_bounded(path: Path | str, most: int, *, follow_links: bool = False) -> bytes:
    """Returns the content of a regular file; of a longer one, no more than `most` bytes and one are read."""
    data = b""
    with open_regular(path, follow_links=follow_links) as file:
        while len(data) <= most and (piece := file.read(most + 1 - len(data))):
            data += piece
    if len(data) > most:
        raise ValueError(f"must have at most {most} bytes")
    return data
