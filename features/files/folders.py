"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .atomic import named


def write_whole(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Put a file in place once all of it is on the disk; one that was there stays until then.

    Args:
        mode: of the new file, less what the process masks.
    Raises:
        OSError: if the disk refuses; nothing is left of the attempt.
    """
    with _kept(path, data, mode) as part:
        part.replace(path)


def write_new(path: Path, data: bytes) -> None:
    """The same of a file that is not there yet; of several that write it at once one does.

    Raises:
        FileExistsError: if there is one; it stays as it is.
    """
    with _kept(path, data, 0o666) as part:
        try:
            os.link(part, path)
        except FileExistsError:
            raise FileExistsError(f"{path}: exists already; nothing is overwritten") from None


@contextmanager
def _kept(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    """A file beside another one, of which all is on the disk; it is gone afterwards if it has no other name."""
    part = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with named(path), os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield part
    finally:
        part.unlink(missing_ok=True)


def check_apart(*paths: Path | None) -> None:
    """Refuse names of files that are one and the same: what is written must not take the place of what is read.

    Raises:
        ValueError: if two of them, not counting None, are one file or folder.
    """
    found: set[Path] = set()
    for path in filter(None, paths):
        if path.resolve() in found:
            raise ValueError(f"{path}: is to be read and written, or written twice; expected a place of its own")
        found.add(path.resolve())
