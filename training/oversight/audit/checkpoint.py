"""Heads of a log in the formats of C2SP, which stock witnesses cosign: signed-note, tlog-checkpoint, tlog-cosignature.

A checkpoint names the log, its size and its root, and has the signature of the log. A witness that has seen an earlier
checkpoint cosigns it after a proof that the log only grew.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from callsieve.serving.bundle.signing import key_id, read_public_key
from callsieve.training.oversight.log import audit_log
from callsieve.training.oversight.log.merkle import consistency_proof

_PREFIX = "callsieve/"  # of the name of each log
_DASH = "\u2014 "  # begins a line with a signature
_ED25519, _COSIGNATURE = 1, 4  # types of signatures


class Checkpoint(NamedTuple):
    """A checkpoint of a log, the request `add-checkpoint` (tlog-witness) with it, and the log's key as text."""

    note: str
    request: str
    log_key: str


class Cosigned(NamedTuple):
    """The content of a cosigned checkpoint: the size of the log, its root in hex, and the moment of the cosignature."""

    size: int
    root: str
    at: str


def checkpoint(log: Path, key: Ed25519PrivateKey, since: int = 0) -> Checkpoint:
    """Returns the newest checkpoint of a log, with what a stock witness asks for."""
    name = _PREFIX + key_id(read_public_key(log / audit_log.PUBLIC_KEY))
    if name != _PREFIX + key_id(key.public_key()):
        raise ValueError(f"{log}: the log is signed by another key, got {key_id(key.public_key())}")
    entries = audit_log.read(log)
    head = entries[-1].head
    text = f"{name}\n{head.size}\n{_base64(bytes.fromhex(head.root))}\n"
    digest = _key_hash(name, _ED25519, key.public_key())
    signature = digest + key.sign(text.encode())
    note = f"{text}\n{_DASH}{name} {_base64(signature)}\n"
    leaves = [bytes.fromhex(entry.leaf()) for entry in entries]
    proof = [f"{_base64(step)}\n" for step in consistency_proof(leaves, since)] if since else []
    log_key = f"{name}+{digest.hex()}+{_base64(bytes([_ED25519]) + key.public_key().public_bytes_raw())}"
    return Checkpoint(note, f"old {since}\n{''.join(proof)}\n{note}", log_key)


def read_cosigned(note: str, witness: Ed25519PublicKey, log_key: Ed25519PublicKey) -> Cosigned:
    """Returns the content of a checkpoint that both the log and a witness have signed."""
    text, _, lines = note.partition("\n\n")
    text += "\n"
    try:
        name, size, root = text.splitlines()
        signatures = [line.removeprefix(_DASH).split(" ") for line in lines.splitlines() if line.startswith(_DASH)]
        signed = [(signer, base64.b64decode(value, validate=True)) for signer, value in signatures]
        entries, digest = int(size), base64.b64decode(root, validate=True).hex()
    except ValueError:
        raise ValueError("expected a checkpoint of C2SP") from None
    own = [value[4:] for signer, value in signed if value[:4] == _key_hash(signer, _ED25519, log_key)]
    if name != _PREFIX + key_id(log_key) or not any(_fits(log_key, value, text.encode()) for value in own):
        raise ValueError(f"key {key_id(log_key)} of the log has not signed this checkpoint")
    for signer, value in signed:
        at = int.from_bytes(value[4:12], "big")
        message = f"cosignature/v1\ntime {at}\n{text}".encode()
        if value[:4] == _key_hash(signer, _COSIGNATURE, witness) and _fits(witness, value[12:], message):
            moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            return Cosigned(entries, digest, moment)
    raise ValueError(f"key {key_id(witness)} of the witness has not cosigned this checkpoint")


def read_witness_key(path: Path) -> Ed25519PublicKey:
    """Returns the public key of a witness, from PEM or from the text `name+hash+key` of a stock witness."""
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    if text.count("+") < 2 or text.startswith("-----"):
        return read_public_key(path)
    name, digest, encoded = text.split("+", 2)
    try:
        raw = base64.b64decode(encoded, validate=True)
        public = Ed25519PublicKey.from_public_bytes(raw[1:])
        if raw[0] != _COSIGNATURE or _key_hash(name, _COSIGNATURE, public).hex() != digest:
            raise ValueError
    except (ValueError, IndexError):
        raise ValueError(f"{path}: expected a key of a witness, as PEM or as name+hash+key of C2SP") from None
    return public


def _key_hash(name: str, kind: int, key: Ed25519PublicKey) -> bytes:
    return hashlib.sha256(f"{name}\n".encode() + bytes([kind]) + key.public_bytes_raw()).digest()[:4]


def _fits(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
