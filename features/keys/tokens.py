"""Keyed tokens for numbers, blocks, trunks, operators, devices and places.

A token is `epoch.` and 16 bytes, each half byte as one of the letters a-p. The bytes are the first 16 of
HMAC-SHA-256(secret, use NUL text), encrypted with AES-256(cover) if the key has a cover. There are about six billion
mobile numbers, so a plain hash of a number is inverted in an hour. A keyed hash is not, without the key. The use is
part of the hash, so that the token of a number never equals that of a block or a device. No token has a digit after its
epoch: a search for runs of digits in the project's output finds numbers, not tokens.

**Epochs.** A rotated key has the same secret and a new cover. AES is a permutation, so `rotation.py` turns a token of
the old epoch into the token of the new epoch without the number: histories stay joinable, and no table of pairs is ever
written. Once the old cover is destroyed, no holder of a new key can link copies of the old tokens.
The exception is a call that is stored under both epochs: its time links them. A key without a cover has no such
protection, because its secret lives on in the next key.

**Purposes.** A key has one purpose, and is refused for any other: "records" (histories, registers, and callers in
everything derived from them), "callees" (called numbers in data that leaves a history; see `callee_keys.py`), "sharing"
(lists for other organisations), "canaries" (which numbers are canaries). Keys of different purpose give different
tokens even with the same secret.

**A stolen store without its key.** An attacker who tries all numbers under wrong keys finds one of n tokens with
probability at most n * 6e9 / 2**128 per key (2e-25 for ten thousand), and the key has 256 bits. Tokens do not hide
their pattern: an attacker who places calls at known times finds the tokens of both numbers. `shared_prefix` then
reveals how close other numbers are to these. A store of tokens is not anonymous.
"""

from __future__ import annotations

import base64
import os
import re
from binascii import hexlify, unhexlify
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NoReturn

from callsieve.features.files.atomic import write_new
from callsieve.features.files.ownership import OWNER_ONLY, read_secret

from .passphrase import decrypted, encrypted, passphrase

Use = Literal["number", "block", "trunk", "operator", "device", "place"]
USES: tuple[Use, ...] = ("number", "block", "trunk", "operator", "device", "place")

Purpose = Literal["records", "callees", "sharing", "canaries"]
PURPOSES: tuple[Purpose, ...] = ("records", "callees", "sharing", "canaries")

KEY_VARIABLE = "CALLSIEVE_KEY"
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
    """The secrets of one epoch. The repr hides them, and a key cannot be pickled, so that they never mix with data.

    Raises: ValueError: for an epoch that is not 1-16 of A-Z a-z 0-9 _ - or has seven digits in a row, as a number
    would; for a secret of less than 32 bytes, a cover of other than 32 bytes, or an unknown purpose.

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
        prefix = b"" if self.purpose == "records" else self.purpose.encode() + b"\0"
        for use in USES:
            # HMAC (RFC 2104) as its two hash states, each updated once with the key: `hmac` takes twice as long.
            block = (sha256(self.secret).digest() if len(self.secret) > 64 else self.secret).ljust(64, b"\0")
            inner, outer = sha256(bytes(b ^ 0x36 for b in block)), sha256(bytes(b ^ 0x5C for b in block))
            inner.update(prefix + use.encode() + b"\0")
            self._states[use] = (inner, outer)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is never pickled; pass the path of its file, or set it in the environment")

    @classmethod
    def generate(cls, epoch: str, purpose: Purpose = "records") -> Key:
        """Makes a random key; a key for records has a cover, because it can be rotated."""
        cover = os.urandom(_COVER_BYTES) if purpose == "records" else None
        return cls(epoch, os.urandom(_SECRET_BYTES), cover, purpose)

    def rotated(self, epoch: str) -> Key:
        """Returns the key of the next epoch; `rotation.Rekeying` turns tokens of this key into tokens of that one.

        Raises: ValueError: for the same epoch, or a key of another purpose than records.
        """
        if epoch == self.epoch:
            raise ValueError(f"epoch must differ from {self.epoch}")
        if self.purpose != "records":
            raise ValueError(f"a key for {self.purpose} is not rotated; make a new key, and write its data again")
        return Key(epoch, self.secret, os.urandom(_COVER_BYTES), self.purpose)

    def write(self, path: str | Path) -> None:
        """Writes a new file that only its owner may read, encrypted if the environment has a passphrase.

        Raises: FileExistsError: if the file exists.
        """
        text, secret = f"{self._text()}\n".encode("ascii"), passphrase()
        write_new(Path(path), text if secret is None else encrypted(text, secret), OWNER_ONLY)

    def _text(self) -> str:
        secret, cover = (base64.b64encode(part or b"").decode() for part in (self.secret, self.cover))
        if self.purpose != "records":
            return f"{self.epoch}:{secret}:{cover}:{self.purpose}"
        return f"{self.epoch}:{secret}:{cover}" if cover else f"{self.epoch}:{secret}"

    def token(self, use: Use, text: str) -> str:
        """Returns the token of a text.

        Raises: ValueError: if `use` is not one of USES.
        """
        states = self._states_of(use)
        return f"{self.epoch}.{to_letters(self._encipher(_hmac(*states, text)[:_TOKEN_BYTES]))}"

    def tokens(self, use: Use, texts: Iterable[str]) -> list[str]:
        """Returns the tokens of many texts, in half the time of single calls of `token`.

        Raises: ValueError: if `use` is not one of USES.
        """
        states = self._states_of(use)
        hashed = b"".join([_hmac(*states, text)[:_TOKEN_BYTES] for text in texts])
        letters, epoch = to_letters(self._encipher(hashed)), f"{self.epoch}."
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
    """Returns functions that encrypt and decrypt the 16 bytes of each of several concatenated tokens.

    Each token is one block of AES, is pseudorandom, and is unique to its text: ECB, without chaining, leaks nothing.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    if len(cover) != _COVER_BYTES:
        raise ValueError(f"cover must have {_COVER_BYTES} bytes, got {len(cover)}")
    aes = Cipher(algorithms.AES(cover), modes.ECB())  # noqa: S305 - see the docstring
    return aes.encryptor().update, aes.decryptor().update


def read_key(path: str | Path, purpose: Purpose = "records", *, allow_group_read: bool = False) -> Key:
    """Reads a key file.

    Args:
        allow_group_read: whether the file's group may read it.

    Raises: ValueError: if others than the owner may use it, if it does not hold `epoch:base64`, or if the key has
    another purpose.

    >>> read_key("number.key")
    Key(epoch='e1')
    """
    key = _key(read_secret(path, 4096, make=_make(path), allow_group_read=allow_group_read), str(path))
    if key.purpose != purpose:
        raise ValueError(f"{path} holds a key for {key.purpose}, expected one for {purpose}")
    return key


def read_any_key(path: str | Path) -> Key:
    """Reads a key file of any purpose, to describe or destroy the key, not to make tokens."""
    return _key(read_secret(path, 4096, make=_make(path)), str(path))


def _make(path: str | Path) -> str:
    if find_spec("typer") is None:
        return f"python -c \"from callsieve.features import Key; Key.generate('e1').write('{path}')\""
    return f"callsieve privacy key new {path} --epoch e1"


def key_from_environment() -> Key:
    """Reads the key in the environment variable CALLSIEVE_KEY.

    Raises: ValueError: if it is not set, or not `epoch:base64`.

    >>> import base64, os
    >>> os.environ["CALLSIEVE_KEY"] = "e1:" + base64.b64encode(bytes(32)).decode()
    >>> key_from_environment()
    Key(epoch='e1')
    >>> del os.environ["CALLSIEVE_KEY"]
    """
    text = os.environ.get(KEY_VARIABLE)
    if not text:
        raise ValueError(f"{KEY_VARIABLE} is not set; set it to a key as epoch:base64")
    return _key(text.encode("utf-8", "replace"), KEY_VARIABLE)


def to_letters(data: bytes) -> str:
    """Encodes bytes as letters a-p, two each, so that no token contains a run of digits."""
    return hexlify(data).translate(_TO_LETTERS).decode()


def from_letters(letters: str) -> bytes:
    """Decodes letters a-p to bytes; raises ValueError for other letters or an odd count."""
    return unhexlify(letters.encode().translate(_TO_HEX))


def is_token(text: str) -> bool:
    """Returns whether a text is a token of any key.

    >>> is_token("e1." + "a" * 32), is_token("+8613800138000")
    (True, False)
    """
    # Most texts are numbers, which are shorter than any token: the length avoids the regular expression.
    return len(text) > _LETTERS + 1 and TOKEN.fullmatch(text) is not None


def _key(data: bytes, where: str) -> Key:
    text = decrypted(data, where)
    try:
        epoch, *parts = text.strip().decode("ascii").split(":")
        secret, cover, purpose = [*parts, *("", "", "records")[len(parts) :]]
        covered = base64.b64decode(cover, validate=True) or None
        return Key(epoch, base64.b64decode(secret, validate=True), covered, purpose)  # type: ignore[arg-type]
    except ValueError:
        # The message shows neither the text nor the cause: both could contain a part of the key.
        raise ValueError(f"{where} must hold a key as epoch:base64, of {_SECRET_BYTES} bytes or more") from None
