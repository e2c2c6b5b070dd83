"""Ed25519 keys, and detached signatures of bundles and token lists."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from callsieve.features.files.atomic import write_new
from callsieve.features.files.bounded import read_bounded
from callsieve.features.files.ownership import OWNER_ONLY, read_secret
from callsieve.features.keys.passphrase import VARIABLE, passphrase

AUDIT, SIGNING_KEY, SIGNER = "audit", "signing.key", "signer.pub"

_MAX_PEM_BYTES = 4096
# The PEM text of `write_public_key`. The DER bytes before the 32 bytes of an Ed25519 key are constant.
_PUBLIC = re.compile(rb"-----BEGIN PUBLIC KEY-----\n([A-Za-z0-9+/]{59}=)\n-----END PUBLIC KEY-----\n")
_ED25519 = bytes.fromhex("302a300506032b6570032100")
_LINE = re.compile(rb"ed25519 ([0-9a-f]{16}) ([A-Za-z0-9+/]{86}==)\n")


def generate_signing_key(private_path: Path | str, public_path: Path | str) -> str:
    """Writes a new key pair as PEM and returns the key's id. Only the owner can read the private key's file.

    The private key is encrypted if the environment has a passphrase (`features/keys/passphrase.py`).
    """
    from cryptography.hazmat.primitives import serialization

    key, secret = Ed25519PrivateKey.generate(), passphrase()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption() if secret is None else serialization.BestAvailableEncryption(secret),
    )
    write_new(Path(private_path), private, OWNER_ONLY)
    try:
        write_public_key(key.public_key(), public_path)
    except OSError:
        Path(private_path).unlink()
        raise
    return key_id(key.public_key())


def write_public_key(key: Ed25519PublicKey, path: Path | str) -> None:
    """Writes a public key as PEM."""
    from cryptography.hazmat.primitives import serialization

    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_new(Path(path), pem, 0o644)  # whole or not at all: an audit log without a readable key is useless


def read_signing_key(path: Path | str) -> Ed25519PrivateKey:
    """Reads the private key of a PEM file."""
    from cryptography.hazmat.primitives import serialization

    data = read_secret(path, _MAX_PEM_BYTES)
    secret = passphrase() if b"ENCRYPTED" in data else None
    try:
        key = serialization.load_pem_private_key(data, password=secret)
    except TypeError:
        raise ValueError(f"{path}: the key is encrypted; set {VARIABLE} to its passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        wrong = f"{VARIABLE} is not its passphrase, or it is no " if secret else "expected an "
        raise ValueError(f"{path}: {wrong}Ed25519 private key in PEM") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path}: expected an Ed25519 private key, got {type(key).__name__}")
    return key


def read_public_key(path: Path | str) -> Ed25519PublicKey:
    """Reads the public key of a PEM file.

    Raises:
        ValueError: if the file has no Ed25519 public key.

    >>> len(read_public_key("signer.pub").public_bytes_raw())
    32
    """
    try:
        data = read_bounded(path, _MAX_PEM_BYTES, follow_links=True)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; expected an Ed25519 public key in PEM") from None
    if (match := _PUBLIC.fullmatch(data)) and (der := base64.b64decode(match[1])).startswith(_ED25519):
        return Ed25519PublicKey.from_public_bytes(der.removeprefix(_ED25519))
    from cryptography.hazmat.primitives import serialization  # reads every form of PEM, but takes about 5 ms to import

    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{path}: expected an Ed25519 public key in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"{path}: expected an Ed25519 public key, got {type(key).__name__}")
    return key


def key_id(key: Ed25519PublicKey) -> str:
    """Returns the id of a key: the first 16 hex digits of the SHA-256 of the raw public key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def sign(message: bytes, key: Ed25519PrivateKey) -> bytes:
    """Returns a signature as one line: algorithm, key id, signature in base64."""
    signature = base64.b64encode(key.sign(message)).decode()
    return f"ed25519 {key_id(key.public_key())} {signature}\n".encode()


def check_keys(trusted: Iterable[object]) -> None:
    """Checks that all items are public keys."""
    for key in trusted:
        if not isinstance(key, Ed25519PublicKey):
            raise TypeError(f"trusted: expected keys from read_public_key, got {type(key).__name__}")


def verify_signature(message: bytes, line: bytes, trusted: Iterable[Ed25519PublicKey]) -> str:
    """Returns the id of the trusted key that signed the message. `message`: the signed bytes."""
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
                raise ValueError(f"the signature of key {name} does not fit the signed file") from None
            return name
    raise ValueError(f"signed by key {name}, which is not trusted")


def signer_path(signed: Path, trust: Path | None) -> Path:
    """Returns the path of the public key that must have signed a bundle or a token list."""
    public = trust or signed.parent / SIGNER
    if not public.is_file():
        if not signed.exists():
            raise ValueError(f"{signed}: not found")
        raise ValueError(f"{public}: no public key; expected --trust FILE with the key that signed {signed.name}")
    return public
