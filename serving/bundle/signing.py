"""Ed25519 keys and detached signatures for files of a bundle."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from callsieve.features.files.ownership import OWN, read_secret

AUDIT, SIGNING_KEY, SIGNER = "audit", "signing.key", "signer.pub"

_MAX_PEM_BYTES = 4096
# A public key as `write_public_key` writes it: what comes before the 32 bytes of an Ed25519 key never differs.
_PUBLIC = re.compile(rb"-----BEGIN PUBLIC KEY-----\n([A-Za-z0-9+/]{59}=)\n-----END PUBLIC KEY-----\n")
_ED25519 = bytes.fromhex("302a300506032b6570032100")
_LINE = re.compile(rb"ed25519 ([0-9a-f]{16}) ([A-Za-z0-9+/]{86}==)\n")


def generate_signing_key(private_path: Path | str, public_path: Path | str) -> str:
    """Write a new key pair as PEM, the private half readable by its owner alone; give the key's id.

    Raises `FileExistsError` rather than replace a key.
    """
    from cryptography.hazmat.primitives import serialization

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _create(private_path, private, OWN)
    try:
        write_public_key(key.public_key(), public_path)
    except OSError:
        Path(private_path).unlink()
        raise
    return key_id(key.public_key())


def write_public_key(key: Ed25519PublicKey, path: Path | str) -> None:
    """Write a public key as PEM. Raises `FileExistsError` rather than replace a key."""
    from cryptography.hazmat.primitives import serialization

    _create(path, key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo), 0o644)


def read_signing_key(path: Path | str) -> Ed25519PrivateKey:
    """The private key of a PEM file; `ValueError` if others may read the file or it holds no such key."""
    from cryptography.hazmat.primitives import serialization

    data = read_secret(path, _MAX_PEM_BYTES)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError(f"{path}: must hold an unencrypted Ed25519 private key in PEM") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path}: must hold an Ed25519 private key, got {type(key).__name__}")
    return key


def read_public_key(path: Path | str) -> Ed25519PublicKey:
    """The public key of a PEM file; `ValueError` if it holds no Ed25519 public key.

    >>> len(read_public_key("signer.pub").public_bytes_raw())
    32
    """
    with Path(path).open("rb") as file:
        data = file.read(_MAX_PEM_BYTES)
    if (match := _PUBLIC.fullmatch(data)) and (der := base64.b64decode(match[1])).startswith(_ED25519):
        return Ed25519PublicKey.from_public_bytes(der.removeprefix(_ED25519))
    from cryptography.hazmat.primitives import serialization  # reads any form, and takes some 5 ms to import

    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{path}: must hold an Ed25519 public key in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"{path}: must hold an Ed25519 public key, got {type(key).__name__}")
    return key


def key_id(key: Ed25519PublicKey) -> str:
    """First 16 hex digits of the SHA-256 of the raw public key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def sign(message: bytes, key: Ed25519PrivateKey) -> bytes:
    """One line: algorithm, key id, signature in base64."""
    signature = base64.b64encode(key.sign(message)).decode()
    return f"ed25519 {key_id(key.public_key())} {signature}\n".encode()


def check_keys(trusted: Iterable[object]) -> None:
    """Raises: TypeError: if one of them is no public key."""
    for key in trusted:
        if not isinstance(key, Ed25519PublicKey):
            raise TypeError(f"trusted must hold keys, as read_public_key gives them, got {type(key).__name__}")


def verify_signature(message: bytes, line: bytes, trusted: Iterable[Ed25519PublicKey]) -> str:
    """The id of the trusted key that signed the message; `ValueError` if none of them did."""
    match = _LINE.fullmatch(line)
    if not match:
        raise ValueError("signature must be one line 'ed25519 KEY-ID BASE64'")
    signature = base64.b64decode(match[2])
    if base64.b64encode(signature) != match[2]:
        raise ValueError("signature must be canonical base64")
    name = match[1].decode()
    for key in trusted:
        if key_id(key) == name:
            try:
                key.verify(signature, message)
            except InvalidSignature:
                raise ValueError(f"signature of key {name} does not fit") from None
            return name
    raise ValueError(f"signed by key {name}, which is not trusted")


def _create(path: Path | str, data: bytes, mode: int) -> None:
    # The mode is set at creation: there is no moment at which others could read a private key.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)


def signer_path(signed: Path, trust: Path | None) -> Path:
    """The file of the public key that must have signed a bundle or a list: without one to trust, that beside it.

    The one beside it proves no more than that it is whole: fit for one's own runs only.

    Raises:
        ValueError: if there is none.
    """
    public = trust or signed.parent / SIGNER
    if not public.exists():
        raise ValueError(f"{public}: no public key; expected --trust FILE with the key that signed {signed.name}")
    return public
