"""The lines of an audit log: an entry, the signed head of the log up to it, and their canonical bytes."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Annotated, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Meta, to_builtins

from callsieve.features.files.decode import Record, json_as
from callsieve.serving.bundle.signing import verify_signature

from .merkle import leaf_hash

_HEAD_KIND = "callsieve audit head"


Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Head(Record, frozen=True):
    """The signed state of a log: number of entries, Merkle root, hash of the newest entry."""

    size: Annotated[int, Meta(ge=1)]
    root: Hash
    leaf: Hash
    signature: str

    def check(self, trusted: Ed25519PublicKey) -> None:
        """Raises a ValueError unless the trusted key signed this head."""
        verify_signature(head_message(self.size, self.root, self.leaf), self.signature.encode() + b"\n", [trusted])


class Body(Record, frozen=True):
    """The fields of an entry without its head."""

    index: Annotated[int, Meta(ge=0)]
    at: str
    kind: str
    commitment: str

    def leaf(self) -> str:
        """Returns the hash of the entry's own bytes, in hex."""
        fields = {"index": self.index, "at": self.at, "kind": self.kind, "commitment": self.commitment}
        return leaf_hash(encode(fields)).hex()


class Entry(Body, frozen=True):
    """One line of the log: an entry with the signed head of the log up to it."""

    head: Head


def read_line(line: bytes, where: str) -> Entry:
    """Parses one line, which must have the byte form in which it was written."""
    entry = json_as(Entry, line, where)
    if entry_line(entry) != line + b"\n":
        raise ValueError(f"{where}: must have the form in which it was written")
    return entry


def entry_line(entry: Entry) -> bytes:
    """Returns the canonical bytes of an entry, with the end of the line."""
    return encode(to_builtins(entry)) + b"\n"


def head_message(size: int, root: str, leaf: str) -> bytes:
    """Returns the bytes that the signature of a head signs."""
    return encode({"kind": _HEAD_KIND, "size": size, "root": root, "leaf": leaf})


def commitment(salt: bytes, payload: bytes) -> str:
    """Returns HMAC-SHA256 of a payload in hex, with the salt as key."""
    return hmac.new(salt, payload, hashlib.sha256).hexdigest()


def encode(value: Mapping[str, Any]) -> bytes:
    """Returns the canonical bytes of a JSON object, on one line."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
