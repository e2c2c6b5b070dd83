"""Encrypts the text of a key file with a passphrase, which the environment has: the file alone gives no key.

scrypt (RFC 7914) makes an AES-256-GCM key of the passphrase and a random salt. One guess takes about 0.1 s and 64 MiB.
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VARIABLE = "CALLSIEVE_KEY_PASSPHRASE"
_PREFIX = b"scrypt:"
_SALT_BYTES, _NONCE_BYTES = 16, 12


def passphrase() -> bytes | None:
    """Returns the passphrase of the environment variable VARIABLE; None without one."""
    return os.environ.get(VARIABLE, "").encode("utf-8", "surrogateescape") or None


def encrypted(text: bytes, secret: bytes) -> bytes:
    """Returns a text encrypted under a passphrase, as one line."""
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    return _PREFIX + base64.b64encode(salt + nonce + _cipher(secret, salt).encrypt(nonce, text, None)) + b"\n"


def decrypted(data: bytes, where: str) -> bytes:
    """Returns the text of a key file; a text that is not encrypted as it is."""
    if not data.startswith(_PREFIX):
        return data
    secret = passphrase()
    if secret is None:
        raise ValueError(f"{where}: the key is encrypted; set {VARIABLE} to its passphrase")
    from cryptography.exceptions import InvalidTag

    try:
        content = base64.b64decode(data.removeprefix(_PREFIX).strip(), validate=True)
        salt, rest = content[:_SALT_BYTES], content[_SALT_BYTES:]
        text: bytes = _cipher(secret, salt).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], None)
    except (InvalidTag, ValueError):
        raise ValueError(f"{where}: {VARIABLE} is not the passphrase of this key") from None
    return text


def _cipher(secret: bytes, salt: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    return AESGCM(Scrypt(salt=salt, length=32, n=1 << 16, r=8, p=1).derive(secret))
