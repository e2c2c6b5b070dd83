"""API keys of a service: bearer tokens with scopes and a rate, of which only hashes are stored."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

from callsieve.features.files.ownership import OWNER_ONLY, read_secret

SCOPES = ("score", "report", "explain", "admin", "appeal", "decide", "audit")  # audit: read only
RATE = 20_000  # requests a second of a key, unless its line says otherwise
_MAX_FILE = 1 << 20  # bytes of a file of keys
_LINE = re.compile(
    r"(?P<name>[a-z][a-z0-9_-]{0,31}) (?P<scopes>[a-z,]+) (?P<rate>[1-9][0-9]{0,6}) (?P<hash>[0-9a-f]{64})"
)


class KeyHolder:
    """The holder of a key: name, scopes, and a token bucket of `rate` requests a second."""

    def __init__(self, name: str, scopes: frozenset[str], rate: int) -> None:
        self.name, self.scopes, self.rate = name, scopes, rate
        self._left, self._filled = float(rate), time.monotonic()

    def spend(self, requests: int = 1) -> bool:
        """Counts requests; returns whether they are within the rate. The requests of one second may come at once."""
        now = time.monotonic()
        self._left = min(self._left + (now - self._filled) * self.rate, self.rate)
        self._filled = now
        if self._left < requests:
            return False
        self._left -= requests
        return True


class ApiKeys:
    """The keys in a file."""

    def __init__(self, holders: Iterable[tuple[bytes, KeyHolder]]) -> None:
        self._holders = tuple(holders)

    def holder(self, authorization: bytes) -> KeyHolder | None:
        """Returns the holder of the key in an `Authorization` header; None if it is unknown. Constant time."""
        kind, _, key = authorization.partition(b" ")
        if kind.lower() != b"bearer":
            return None
        digest, match = hashlib.sha256(key.strip()).digest(), None
        for known, holder in self._holders:
            if hmac.compare_digest(known, digest):
                match = holder
        return match


def read_keys(path: Path, *, allow_group_read: bool = False) -> ApiKeys:
    """Reads a file of keys: a line each with name, scopes, requests a second, and the key's SHA-256."""
    holders = []
    make = f"callsieve live api-key --keys {path} --name CLIENT"
    data = read_secret(path, _MAX_FILE, make=make, allow_group_read=allow_group_read)
    for number, line in enumerate(data.decode("ascii", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        scopes = frozenset(match["scopes"].split(",")) if match else frozenset()
        if match is None or not scopes <= set(SCOPES):
            # The message must not show the line: it could contain a key.
            raise ValueError(f"{path}, line {number}: expected NAME SCOPES RATE SHA256, scopes of {', '.join(SCOPES)}")
        holders.append((bytes.fromhex(match["hash"]), KeyHolder(match["name"], scopes, int(match["rate"]))))
    if not holders:
        raise ValueError(f"{path} holds no key: expected lines of NAME SCOPES RATE SHA256")
    return ApiKeys(holders)


def add_key(path: Path, name: str, scopes: Iterable[str], rate: int = RATE) -> str:
    """Makes a key, adds its hash to a file that only its owner may read, and returns the key, which is not stored."""
    key = f"cs_{secrets.token_urlsafe(32)}"
    scopes = sorted(scopes)
    line = f"{name} {','.join(scopes)} {rate} {hashlib.sha256(key.encode()).hexdigest()}"
    if not _LINE.fullmatch(line) or not set(scopes) <= set(SCOPES):
        raise ValueError(f"a key needs a name of a-z 0-9 _ -, a rate of 1 or more, and scopes of {', '.join(SCOPES)}")
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, OWNER_ONLY), "rb+") as file:
        # A line that was edited by hand may have no line end; a key added to that line would be lost.
        size = file.seek(0, os.SEEK_END)
        ended = not size or os.pread(file.fileno(), 1, size - 1) == b"\n"
        file.write((line if ended else f"\n{line}").encode() + b"\n")
    return key
