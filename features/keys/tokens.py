"""Keyed tokens for numbers, blocks, trunks, operators, devices and places.

A token is `epoch.` and 16 bytes, each half byte as one of the letters a-p: the first 16 bytes of
HMAC-SHA-256(secret, use NUL text), and these, if the key has a cover, enciphered by AES-256(cover). There are some six
billion mobile numbers, so a plain hash of one is undone in an hour; without the key this one is not. The use goes into
the hash, so that the token of a number never equals that of a block or a device. No token has a digit after its epoch:
a search for runs of digits in what the project writes finds numbers, not tokens.

**Epochs.** A rotated key has the same secret and a new cover. AES is a permutation, so `rekeying.py` turns a token of
the old epoch into the one of the new epoch without the number: histories stay joinable, and no table of pairs is ever
written. With the old cover destroyed, copies of the old tokens are linked to nothing, not even by whoever holds the new
key, unless the very same calls are still kept under it: then their moments link them. A key without a cover cannot
promise that, for its secret lives on in the next one.

**Purposes.** A key is for one purpose, and is refused for any other: "records" (histories, registers, and callers in
whatever comes of them), "callees" (called numbers in what leaves a history: `callees.py` says why there and not in the
history itself), "sharing" (lists that leave the house), "canaries" (which numbers nobody has). Keys of different
purpose hash to different tokens even where the secret is the same.

**What a stolen store gives without its key.** Who tries all numbers under wrong keys finds one of n tokens with
probability at most n * 6e9 / 2**128 a key (2e-25 for ten thousand), and the key has 256 bits. What tokens do not hide
is their pattern: who can place calls, and knows when he did, finds his own token and those of whom he called, and
`shared_prefix` then tells how near other parties' numbers are to theirs. A store of tokens is not anonymous.
"""

from __future__ import annotations

import base64
import os
import re
from binascii import hexlify, unhexlify
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NoReturn

from callsieve.features.dataclass import dataclass, field
from callsieve.features.files.ownership import OWN, read_secret

Use = Literal["number", "block", "trunk", "operator", "device", "place"]
USES: tuple[Use, ...] = ("number", "block", "trunk", "operator", "device", "place")

Purpose = Literal["records", "callees", "sharing", "canaries"]
PURPOSES: tuple[Purpose, ...] = ("records", "callees", "sharing", "canaries")

ENVIRONMENT = "CALLSIEVE_KEY"
_SECRET_BYTES = 32
_COVER_BYTES = 32
_TOKEN_BYTES = 16
_LETTERS = 2 * _TOKEN_BYTES
_TO_LETTERS = bytes.maketrans(b"0123456789abcdef", b"abcdefghijklmnop")
_TO_HEX = bytes.maketrans(b"abcdefghijklmnop", b"0123456789abcdef")
_EPOCH = re.compile(r"(?!.*[0-9]{7})[A-Za-z0-9_-]{1,16}")
TOKEN = re.compile(r"[A-Za-z0-9_-]{1,16}\.[a-p]{32}")


@dataclass(frozen=True, slots=True)
class Key:
    """The secrets of one epoch. They are kept apart from data: the repr hides them, and a key cannot be pickled.

    Raises: ValueError: for an epoch that is not 1-16 of A-Z a-z 0-9 _ - (or has seven digits in a row, as a
    number would), a secret of less than 32 bytes, a cover that is not of 32, or an unknown purpose.

    >>> key = Key("e1", bytes(32))
    >>> key
    Key(epoch='e1')
    >>> key.token("number", "+8613800138000")
    'e1.fnmkcfekdmjenjkjgnbhhbjdeicmmpnp'
    """

    epoch: str
    secret: bytes = field(repr=False)
    cover: bytes | None = field(repr=False, default=None)
    purpose: Purpose = field(repr=False, default="records")
    _states: dict[str, tuple[Any, Any]] = field(init=False, repr=False, compare=False, default_factory=dict)
    _encipher: Callable[[bytes], bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _EPOCH.fullmatch(self.epoch):
            raise ValueError("epoch must be 1-16 of A-Z a-z 0-9 _ -, without seven digits in a row")
        if len(self.secret) < _SECRET_BYTES:
            raise ValueError(f"secret must have {_SECRET_BYTES} bytes or more, got {len(self.secret)}")
        if self.purpose not in PURPOSES:
            raise ValueError(f"purpose must be one of {', '.join(PURPOSES)}")
        object.__setattr__(self, "_encipher", bytes if self.cover is None else cipher(self.cover)[0])
        apart = b"" if self.purpose == "records" else self.purpose.encode() + b"\0"
        for use in USES:
            # HMAC (RFC 2104) as its two hash states, each fed once with the key: `hmac` takes twice as long.
            block = (sha256(self.secret).digest() if len(self.secret) > 64 else self.secret).ljust(64, b"\0")
            inner, outer = sha256(bytes(b ^ 0x36 for b in block)), sha256(bytes(b ^ 0x5C for b in block))
            inner.update(apart + use.encode() + b"\0")
            self._states[use] = (inner, outer)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is never pickled: pass the path of its file, or set it in the environment")

    @classmethod
    def generate(cls, epoch: str, purpose: Purpose = "records") -> Key:
        """A new key from the system's source of randomness; only a key for records is rotated, and has a cover."""
        cover = os.urandom(_COVER_BYTES) if purpose == "records" else None
        return cls(epoch, os.urandom(_SECRET_BYTES), cover, purpose)

    def rotated(self, epoch: str) -> Key:
        """The key of the next epoch: `rekeying.Rekeying` turns this one's tokens into those of the new one.

        Raises: ValueError: for the same epoch, or a key for anything but records: make a new one.
        """
        if epoch == self.epoch:
            raise ValueError(f"epoch must be another one than {self.epoch}")
        if self.purpose != "records":
            raise ValueError(f"a key for {self.purpose} is not rotated: make a new key, and write anew what it is for")
        return Key(epoch, self.secret, os.urandom(_COVER_BYTES), self.purpose)

    def write(self, path: str | Path) -> None:
        """Write a new file that only its owner may read; FileExistsError if there is one."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWN)
        except FileExistsError as error:
            raise FileExistsError(f"{path} exists already: a key file is never overwritten") from error
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(self._text() + "\n")

    def _text(self) -> str:
        secret, cover = (base64.b64encode(part or b"").decode() for part in (self.secret, self.cover))
        if self.purpose != "records":
            return f"{self.epoch}:{secret}:{cover}:{self.purpose}"
        return f"{self.epoch}:{secret}:{cover}" if cover else f"{self.epoch}:{secret}"

    def token(self, use: Use, text: str) -> str:
        """The token of one text.

        Raises: ValueError: if `use` is not one of USES.
        """
        states = self._states_of(use)
        return f"{self.epoch}.{letters_of(self._encipher(_hmac(*states, text)[:_TOKEN_BYTES]))}"

    def tokens(self, use: Use, texts: Iterable[str]) -> list[str]:
        """The tokens of many texts, at half the price of one by one.

        Raises: ValueError: if `use` is not one of USES.
        """
        states = self._states_of(use)
        hashed = b"".join([_hmac(*states, text)[:_TOKEN_BYTES] for text in texts])
        letters, epoch = letters_of(self._encipher(hashed)), f"{self.epoch}."
        return [epoch + letters[at : at + _LETTERS] for at in range(0, len(letters), _LETTERS)]

    def _states_of(self, use: Use) -> tuple[Any, Any]:
        states = self._states.get(use)
        if states is None:
            raise ValueError(f"use must be one of {', '.join(USES)}, got {use!r}")
        return states


def _hmac(inner: Any, outer: Any, text: str) -> bytes:
    inner, outer = inner.copy(), outer.copy()
    inner.update(text.encode("utf-8", "surrogatepass"))
    outer.update(inner.digest())
    digest: bytes = outer.digest()
    return digest


def cipher(cover: bytes) -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    """How a cover turns the 16 bytes of one token, or of many in a row, into others, and back.

    Each token is one block of AES, already as good as random and never equal to another text's, so that nothing is
    chained (ECB).

    Raises: ValueError: if the cover is not of 32 bytes.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    if len(cover) != _COVER_BYTES:
        raise ValueError(f"cover must have {_COVER_BYTES} bytes, got {len(cover)}")
    aes = Cipher(algorithms.AES(cover), modes.ECB())  # noqa: S305 - as told above
    return aes.encryptor().update, aes.decryptor().update


def read_key(path: str | Path, purpose: Purpose = "records") -> Key:
    """Read a key file.

    Raises: ValueError: if others than the owner may read it, if it does not hold `epoch:base64`, or if the key was
    made for another purpose.

    >>> read_key("number.key")
    Key(epoch='e1')
    """
    key = read_any_key(path)
    if key.purpose != purpose:
        raise ValueError(f"{path} holds a key for {key.purpose}, expected one for {purpose}")
    return key


def read_any_key(path: str | Path) -> Key:
    """Read a key file, whatever its key is for: to tell or to destroy it, not to make tokens.

    Raises: ValueError: if others than the owner may read it, or if it does not hold `epoch:base64`.
    """
    return _key(read_secret(path, 4096), str(path))


def key_from_environment() -> Key:
    """The key in CALLSIEVE_KEY.

    Raises: ValueError: if it is not set, or not `epoch:base64`.

    >>> import base64, os
    >>> os.environ["CALLSIEVE_KEY"] = "e1:" + base64.b64encode(bytes(32)).decode()
    >>> key_from_environment()
    Key(epoch='e1')
    >>> del os.environ["CALLSIEVE_KEY"]
    """
    text = os.environ.get(ENVIRONMENT)
    if not text:
        raise ValueError(f"{ENVIRONMENT} is not set: it holds a key as epoch:base64")
    return _key(text.encode("utf-8", "replace"), ENVIRONMENT)


def letters_of(data: bytes) -> str:
    """Bytes as the letters a-p, two each: no run of digits is a number."""
    return hexlify(data).translate(_TO_LETTERS).decode()


def bytes_of(letters: str) -> bytes:
    """The bytes of letters. Raises ValueError: if there are others than a-p, or half a byte."""
    return unhexlify(letters.encode().translate(_TO_HEX))


def is_token(text: str) -> bool:
    """Whether a text is a token of any key.

    >>> is_token("e1." + "a" * 32), is_token("+8613800138000")
    (True, False)
    """
    # Nearly all texts are numbers, shorter than any token: the length spares them the expression.
    return len(text) > _LETTERS + 1 and TOKEN.fullmatch(text) is not None


def _key(text: bytes, where: str) -> Key:
    try:
        epoch, *parts = text.strip().decode("ascii").split(":")
        secret, cover, purpose = [*parts, *("", "", "records")[len(parts) :]]
        covered = base64.b64decode(cover, validate=True) or None
        return Key(epoch, base64.b64decode(secret, validate=True), covered, purpose)  # type: ignore[arg-type]
    except ValueError:
        # Neither the text nor the cause: both could show a part of the key.
        raise ValueError(f"{where} must hold a key as epoch:base64, of {_SECRET_BYTES} bytes or more") from None
