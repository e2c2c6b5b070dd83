"""The provenance of a bundle: a signed statement of how its files were made, in a file beside the bundle.

    bundle/                 the bundle
    bundle.provenance.json  a DSSE envelope around an in-toto statement with SLSA provenance; the signer of the bundle
                            signs it, and its subjects are the files of the bundle by SHA-256

The scorer does not read it: a bundle without a statement is valid. `callsieve model verify` checks it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature

from callsieve.features.files.atomic import sha256, write_atomic
from callsieve.features.files.strict_json import as_list, as_mapping, as_text, decode, encode

from .signing import key_id

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
_MAX_BYTES = 1 << 20
_MAX_ITEMS = 16  # files of a bundle, and signatures of an envelope


def attestation_path(bundle: Path) -> Path:
    """Returns the path of a bundle's statement.

    >>> attestation_path(Path("/run/bundle"))
    PosixPath('/run/bundle.provenance.json')
    """
    bundle = bundle.resolve()  # a link `current` points to the bundle whose statement is beside it
    return bundle.with_name(f"{bundle.name}.provenance.json")


def write_attestation(bundle: Path, predicate: Mapping[str, Any], key: Ed25519PrivateKey) -> None:
    """Writes the statement beside a bundle.

    Args:
        predicate: SLSA provenance v1, as plain values.
        key: the private key of the bundle's signer.
    """
    subject = [{"name": name, "digest": {"sha256": digest}} for name, digest in _files(bundle).items()]
    statement = {"_type": STATEMENT, "subject": subject, "predicateType": PREDICATE, "predicate": predicate}
    payload = encode(statement)
    signature = {"keyid": key_id(key.public_key()), "sig": _text(key.sign(_signed_bytes(payload)))}
    envelope = {"payload": _text(payload), "payloadType": PAYLOAD_TYPE, "signatures": [signature]}
    write_atomic(attestation_path(bundle), encode(envelope))


def verify_attestation(bundle: Path, key: Ed25519PublicKey) -> dict[str, Any]:
    """Returns the statement beside a bundle.

    Args:
        bundle: a bundle that was verified.
        key: the public key of the bundle's signer.
    Raises:
        ValueError: in one line, if the key did not sign it, or it is about other files. OSError: if it cannot be read.
    """
    with attestation_path(bundle).open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ValueError(f"must have at most {_MAX_BYTES} bytes")
    envelope = as_mapping(decode(data), "envelope")
    if envelope.get("payloadType") != PAYLOAD_TYPE:
        raise ValueError(f"payloadType must be {PAYLOAD_TYPE}")
    payload = _bytes(envelope.get("payload"), "payload")
    _check_signature(_signed_bytes(payload), envelope.get("signatures"), key)
    statement = as_mapping(decode(payload), "statement")
    for name, expected in (("_type", STATEMENT), ("predicateType", PREDICATE)):
        if statement.get(name) != expected:
            raise ValueError(f"{name} must be {expected}")
    stated, files = _subjects(statement.get("subject")), _files(bundle)
    if differing := sorted(name for name in stated | files if stated.get(name) != files.get(name)):
        raise ValueError(f"is about other files than the bundle's: {', '.join(differing)[:200]}")
    return statement


def _files(bundle: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in sorted(bundle.iterdir()) if path.is_file()}


def _subjects(value: Any) -> dict[str, str]:
    subjects = [as_mapping(item, "subject") for item in as_list(value, "subject", 1, _MAX_ITEMS)]
    return {
        as_text(item.get("name"), "name"): as_text(as_mapping(item.get("digest"), "digest").get("sha256"), "sha256")
        for item in subjects
    }


def _signed_bytes(payload: bytes) -> bytes:
    """Returns the bytes that DSSE signs: type and payload, each with its length ("pre-authentication encoding")."""
    return b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _check_signature(message: bytes, signatures: Any, key: Ed25519PublicKey) -> None:
    for item in as_list(signatures, "signatures", 1, _MAX_ITEMS):  # others may have signed, too
        with suppress(InvalidSignature):
            key.verify(_bytes(as_mapping(item, "signature").get("sig"), "sig"), message)
            return
    raise ValueError(f"has no valid signature of the bundle's signer, key {key_id(key)}")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(value: Any, where: str) -> bytes:
    if not isinstance(value, str):
        raise ValueError(f"{where} must be a text in base64")
    return base64.b64decode(value, validate=True)
