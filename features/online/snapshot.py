"""A history on disk: a line of facts, the tokens, the arrays as they are, and a checksum over all of it.

The arrays hold places in each other, so a snapshot is trusted as the program is: a file that others may write is
refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from callsieve.features.files.atomic import whole
from callsieve.features.files.ownership import OWN, ours_alone

DIGEST = 32
CHUNK = 1 << 24
FORMAT = f"callsieve history 1, {sys.byteorder}-endian"


def write(path: Path, facts: dict[str, Any], tokens: dict[str, list[str]], arrays: Iterable[Any]) -> None:
    """Write a snapshot, whole or not at all; only its owner may read it."""
    digest = hashlib.sha256()
    with whole(path) as part:
        part.unlink(missing_ok=True)  # of a process that was killed
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWN), "wb") as file:
            for piece in chain((line({"format": FORMAT} | facts), line(tokens)), arrays):
                digest.update(piece)
                file.write(piece)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def replace_tokens(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Write a snapshot anew with other tokens in the place of its own, whole or not at all.

    Args:
        change: gives the new token of each token, in the same order.
    """
    file, facts, tokens = opened(path)
    with file:
        arrays = file.read()[:-DIGEST]
    write(path, facts, {name: change(texts) for name, texts in tokens.items()}, [arrays])


def line(plain: Any) -> bytes:
    """One line of JSON."""
    return json.dumps(plain, separators=(",", ":")).encode() + b"\n"


def opened(path: Path) -> tuple[BinaryIO, dict[str, Any], dict[str, list[str]]]:
    """An open snapshot, at its first array, and the facts and tokens before it.

    Raises:
        ValueError: if it is not whole, was not written here, or others may write it.
        OSError: if it cannot be read.
    """
    file = path.open("rb")
    try:
        check(file, path)
        facts = _object(file.readline(), path)
        if facts.get("format") != FORMAT:
            raise ValueError(f"{path}: expected a snapshot in format {FORMAT!r}, got {facts.get('format')!r:.80}")
        return file, facts, _object(file.readline(), path)
    except BaseException:
        file.close()
        raise


def _object(text: bytes, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a snapshot, a line of it is no JSON object")
    return found


def check(file: BinaryIO, path: Path) -> None:
    """Raise ValueError unless the file is its owner's alone to write, and whole."""
    found = os.fstat(file.fileno())
    if not ours_alone(found):
        raise ValueError(f"{path}: expected a snapshot that belongs to this user and that nobody else may write")
    digest, left = hashlib.sha256(), found.st_size - DIGEST
    while left > 0:
        piece = file.read(min(left, CHUNK))
        digest.update(piece)
        left -= len(piece) or left
    if left < 0 or file.read(DIGEST) != digest.digest():
        raise ValueError(f"{path}: expected a whole snapshot, its checksum is wrong")
    file.seek(0)
