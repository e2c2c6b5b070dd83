"""The provenance of a bundle: a signed statement of how its files were made, in a file beside the bundle.

    bundle/                 the bundle
    bundle.provenance.json  a DSSE envelope around an in-toto statement with SLSA provenance; the signer of the bundle
                            signs it, and its subjects are the files of the bundle by SHA-256

The scorer does not read it: a bundle without a statement is valid. `callsieve model verify` checks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta, Struct, field, to_builtins

from callsieve.features.files.atomic import sha256, write_atomic
from callsieve.features.files.bounded import read_bounded
from callsieve.features.files.decode import Record, json_as
from callsieve.features.files.strict_json import encode

from .signing import key_id

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
_MAX_BYTES = 1 << 20
_Items = Meta(min_length=1, max_length=16)  # files of a bundle, and signatures of an envelope


class _Signature(Struct, frozen=True):
    """A signature, which the file has in base64, and the id of its key."""

    sig: bytes
    keyid: str = ""


class _Envelope(Struct, frozen=True):
    """A DSSE envelope; the file has the payload in base64."""

    payload: bytes
    payload_type: Literal[PAYLOAD_TYPE] = field(name="payloadType")  # type: ignore[valid-type]
    signatures: Annotated[tuple[_Signature, ...], _Items]


class _Subject(Record, frozen=True, forbid_unknown_fields=False):
    """A file by its name and its hash: `sha256`."""

    name: str
    digest: Mapping[str, str]


class Statement(Struct, frozen=True):
    """An in-toto statement of SLSA provenance, which `predicate` is, about the files of a bundle."""

    kind: Literal[STATEMENT] = field(name="_type")  # type: ignore[valid-type]
    predicate_type: Literal[PREDICATE] = field(name="predicateType")  # type: ignore[valid-type]
    subject: Annotated[tuple[_Subject, ...], _Items]
    predicate: Mapping[str, Any]


def attestation_path(bundle: Path) -> Path:
    """Returns the path of a bundle's statement.

    >>> attestation_path(Path("/run/bundle"))
    PosixPath('/run/bundle.provenance.json')
    """
    bundle = bundle.resolve()  # a link `current` points to the bundle whose statement is beside it
    return bundle.with_name(f"{bundle.name}.provenance.json")


def write_attestation(bundle: Path, predicate: Mapping[str, Any], key: Ed25519PrivateKey) -> None:
    """Writes the statement beside a bundle."""
    subject = tuple(_Subject(name, {"sha256": digest}) for name, digest in _files(bundle).items())
    payload = encode(to_builtins(Statement(STATEMENT, PREDICATE, subject, predicate)))
    signature = _Signature(key.sign(_signed_bytes(payload)), key_id(key.public_key()))
    envelope = _Envelope(payload, PAYLOAD_TYPE, (signature,))
    write_atomic(attestation_path(bundle), encode(to_builtins(envelope)))


def verify_attestation(bundle: Path, key: Ed25519PublicKey) -> Statement:
    """Returns the statement beside a bundle."""
    data = read_bounded(attestation_path(bundle), _MAX_BYTES, follow_links=True)
    envelope = json_as(_Envelope, data, "envelope")
    _check_signature(envelope, key)
    statement = json_as(Statement, envelope.payload, "statement")
    stated, files = {subject.name: subject.digest.get("sha256") for subject in statement.subject}, _files(bundle)
    if differing := sorted(name for name in stated | files if stated.get(name) != files.get(name)):
        raise ValueError(f"is about other files than the bundle's: {', '.join(differing)[:200]}")
    return statement


def _files(bundle: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in sorted(bundle.iterdir()) if path.is_file()}


def _signed_bytes(payload: bytes) -> bytes:
    return b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _check_signature(envelope: _Envelope, key: Ed25519PublicKey) -> None:
    for signature in envelope.signatures:  # others may have signed, too
        with suppress(InvalidSignature):
            key.verify(signature.sig, _signed_bytes(envelope.payload))
            return
    raise ValueError(f"has no valid signature of the bundle's signer, key {key_id(key)}")
