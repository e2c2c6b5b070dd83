"""A history on disk: a line of facts, a line of tokens, the raw arrays, and a SHA-256 checksum over all of it.

The arrays contain indices into each other, so a snapshot is trusted like program code. A file that other users may
write is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

from callsieve.features.files.atomic import atomic_path
from callsieve.features.files.ownership import OWNER_ONLY, only_we_may_write

from .trusted_moment import MomentFacts

DIGEST = 32
CHUNK = 1 << 24
FORMAT = f"callsieve history 1, {sys.byteorder}-endian"


class Facts(TypedDict):
    """The parts of a history besides its arrays and tokens; `History` explains them."""

    layout: int
    features: Sequence[str] | None
    calls: int
    numbers: int
    moment: MomentFacts
    days: list[int]
    dropped_until: int
    counters: dict[str, int]
    sizes: dict[str, dict[str, int]]


def write(path: Path, facts: Facts, tokens: dict[str, list[str]], arrays: Iterable[Any]) -> None:
    """Writes a snapshot atomically; only its owner may read it."""
    digest = hashlib.sha256()
    with atomic_path(path) as part:
        part.unlink(missing_ok=True)  # left by a killed process
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "wb") as file:
            for piece in chain((line({"format": FORMAT, **facts}), line(tokens)), arrays):
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
    """Rewrites a snapshot atomically with other tokens."""
    file, facts, tokens = open_snapshot(path)
    with file:
        arrays = file.read()[:-DIGEST]
    write(path, facts, {name: change(texts) for name, texts in tokens.items()}, [arrays])


def line(value: Any) -> bytes:
    """Returns one line of JSON."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def open_snapshot(path: Path) -> tuple[BinaryIO, Facts, dict[str, list[str]]]:
    """Opens a snapshot and reads its facts and tokens; the file is positioned at the first array."""
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


def _object(text: bytes, path: Path) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a snapshot, but one of its first two lines is not a JSON object")
    return value


def check(file: BinaryIO, path: Path) -> None:
    """Raises ValueError unless the file is complete and only its owner may write it."""
    status = os.fstat(file.fileno())
    if not only_we_may_write(status):
        raise ValueError(f"{path}: expected a snapshot that this user owns and no other user may write; run chmod go-w")
    digest, remaining = hashlib.sha256(), status.st_size - DIGEST
    while remaining > 0:
        piece = file.read(min(remaining, CHUNK))
        digest.update(piece)
        remaining -= len(piece) or remaining
    if remaining < 0 or file.read(DIGEST) != digest.digest():
        raise ValueError(f"{path}: expected a complete snapshot, but its checksum is wrong; restore it from a copy")
    file.seek(0)
