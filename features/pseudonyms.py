"""Keyed tokens for numbers, blocks, trunks, operators, devices and places.

A token is `epoch.` and the first 16 bytes of HMAC-SHA-256(key, use NUL text), each half byte as one of the
letters a-p. There are some six billion mobile numbers, so a plain hash of one is undone in an hour; without
the key this one is not. The use goes into the hash, so that the token of a number never equals that of a
block or a device. No token has a digit after its epoch: a search for runs of digits in what the project
writes finds numbers, not tokens. A new epoch has a new key; with the old one destroyed, nothing links the two.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
from binascii import hexlify
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NoReturn

Use = Literal["number", "block", "trunk", "operator", "device", "place"]
USES: tuple[Use, ...] = ("number", "block", "trunk", "operator", "device", "place")

ENVIRONMENT = "CALLSIEVE_KEY"
_SECRET_BYTES = 32
_TOKEN_BYTES = 16
_LETTERS = bytes.maketrans(b"0123456789abcdef", b"abcdefghijklmnop")
_EPOCH = re.compile(r"(?!.*[0-9]{7})[A-Za-z0-9_-]{1,16}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,16}\.[a-p]{32}")


@dataclass(frozen=True, slots=True)
class Key:
    """The secret of one epoch. It is kept apart from data: its repr hides it, and it cannot be pickled.

    Raises: ValueError: for an epoch that is not 1-16 of A-Z a-z 0-9 _ - (or has seven digits in a row, as a
    number would), or a secret of less than 32 bytes.

    >>> key = Key("e1", bytes(32))
    >>> key
    Key(epoch='e1')
    >>> key.token("number", "+8613800138000")
    'e1.fnmkcfekdmjenjkjgnbhhbjdeicmmpnp'
    """

    epoch: str
    secret: bytes = field(repr=False)
    _states: dict[str, tuple[Any, Any]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        if not _EPOCH.fullmatch(self.epoch):
            raise ValueError("epoch must be 1-16 of A-Z a-z 0-9 _ -, without seven digits in a row")
        if len(self.secret) < _SECRET_BYTES:
            raise ValueError(f"secret must have {_SECRET_BYTES} bytes or more, got {len(self.secret)}")
        for use in USES:
            # HMAC (RFC 2104) as its two hash states, each fed once with the key: `hmac` takes twice as long.
            block = (sha256(self.secret).digest() if len(self.secret) > 64 else self.secret).ljust(64, b"\0")
            inner, outer = sha256(bytes(b ^ 0x36 for b in block)), sha256(bytes(b ^ 0x5C for b in block))
            inner.update(use.encode() + b"\0")
            self._states[use] = (inner, outer)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is never pickled: pass the path of its file, or set it in the environment")

    @classmethod
    def generate(cls, epoch: str) -> Key:
        """A new key from the system's source of randomness."""
        return cls(epoch, secrets.token_bytes(_SECRET_BYTES))

    def write(self, path: str | Path) -> None:
        """Write a new file that only its owner may read; FileExistsError if there is one."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise FileExistsError(f"{path} exists already: a key file is never overwritten") from error
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{self.epoch}:{base64.b64encode(self.secret).decode()}\n")

    def token(self, use: Use, text: str) -> str:
        """The token of one text.

        Raises: ValueError: if `use` is not one of USES.
        """
        states = self._states.get(use)
        if states is None:
            raise ValueError(f"use must be one of {', '.join(USES)}, got {use!r}")
        inner, outer = states[0].copy(), states[1].copy()
        inner.update(text.encode("utf-8", "surrogatepass"))
        outer.update(inner.digest())
        return f"{self.epoch}.{hexlify(outer.digest()[:_TOKEN_BYTES]).translate(_LETTERS).decode()}"

    def tokens(self, use: Use, texts: Iterable[str]) -> list[str]:
        """The tokens of many texts."""
        return [self.token(use, text) for text in texts]


def read_key(path: str | Path) -> Key:
    """Read a key file.

    Raises: ValueError: if others than the owner may read it, or if it does not hold `epoch:base64`.
    """
    with Path(path).open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
        if os.name == "posix" and mode & 0o077:
            raise ValueError(f"{path} has mode {mode:04o}: others may use it; change it to 0600")
        return _key(file.read(4096), str(path))


def key_from_environment() -> Key:
    """The key in CALLSIEVE_KEY.

    Raises: ValueError: if it is not set, or not `epoch:base64`.
    """
    text = os.environ.get(ENVIRONMENT)
    if not text:
        raise ValueError(f"{ENVIRONMENT} is not set: it holds a key as epoch:base64")
    return _key(text.encode("utf-8", "replace"), ENVIRONMENT)


def is_token(text: str) -> bool:
    """Whether a text is a token of any key.

    >>> is_token("e1." + "a" * 32), is_token("+8613800138000")
    (True, False)
    """
    # Nearly all texts are numbers, shorter than any token: the length spares them the expression.
    return len(text) > 2 * _TOKEN_BYTES + 1 and _TOKEN.fullmatch(text) is not None


def _key(text: bytes, where: str) -> Key:
    epoch, _, secret = text.strip().partition(b":")
    try:
        return Key(epoch.decode("ascii"), base64.b64decode(secret, validate=True))
    except ValueError:
        # Neither the text nor the cause: both could show a part of the key.
        raise ValueError(f"{where} must hold a key as epoch:base64, of {_SECRET_BYTES} bytes or more") from None
