"""The lines of an audit log: an entry, the signed head of the log up to it, and their canonical bytes."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from callsieve.features.files.strict_json import as_fields, as_integer, as_text, decode
from callsieve.serving.bundle.signing import verify_signature

from .merkle import leaf_hash

_HEAD_KIND = "callsieve audit head"
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Head:
    """The signed state of a log: number of entries, Merkle root, hash of the newest entry."""

    size: int
    root: str
    leaf: str
    signature: str

    def message(self) -> bytes:
        """Returns the bytes that are signed."""
        return encode({"kind": _HEAD_KIND, "size": self.size, "root": self.root, "leaf": self.leaf})

    def check(self, trusted: Ed25519PublicKey) -> None:
        """Raises a ValueError unless the trusted key signed this head."""
        verify_signature(self.message(), self.signature.encode() + b"\n", [trusted])


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log."""

    index: int
    at: str
    kind: str
    commitment: str
    head: Head

    def body(self) -> dict[str, Any]:
        """Returns the fields of the entry without the head."""
        return {"index": self.index, "at": self.at, "kind": self.kind, "commitment": self.commitment}

    def leaf(self) -> str:
        """Returns the hash of the entry's own bytes, in hex."""
        return leaf_hash(encode(self.body())).hex()


def read_line(line: bytes, where: str) -> Entry:
    """Parses one line, which must have the byte form in which it was written.

    Raises:
        ValueError: in one line that begins with `where`.
    """
    try:
        fields = as_fields(decode(line), "entry", ("index", "at", "kind", "commitment", "head"))
        entry = Entry(
            as_integer(fields["index"], "index"),
            as_text(fields["at"], "at"),
            as_text(fields["kind"], "kind"),
            as_text(fields["commitment"], "commitment"),
            head_of(fields["head"]),
        )
        if entry_line(entry) != line + b"\n":
            raise ValueError("must have the form in which it was written")
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return entry


def entry_line(entry: Entry) -> bytes:
    """Returns the canonical bytes of an entry, with the end of the line."""
    return encode(entry.body() | {"head": head_json(entry.head)}) + b"\n"


def head_of(value: Any) -> Head:
    """Returns a signed head from its plain values.

    Raises:
        ValueError: if a field is missing or malformed.
    """
    fields = as_fields(value, "head", ("size", "root", "leaf", "signature"))
    for name in ("root", "leaf"):
        if not _HASH.fullmatch(as_text(fields[name], f"head: {name}")):
            raise ValueError(f"head: {name} must be 64 hex digits")
    signature = as_text(fields["signature"], "head: signature")
    return Head(as_integer(fields["size"], "head: size", 1), fields["root"], fields["leaf"], signature)


def head_json(head: Head) -> dict[str, Any]:
    """Returns a signed head as plain values."""
    return {"size": head.size, "root": head.root, "leaf": head.leaf, "signature": head.signature}


def commitment(salt: bytes, payload: bytes) -> str:
    """Returns HMAC-SHA256 of a payload in hex, with the salt as key."""
    return hmac.new(salt, payload, hashlib.sha256).hexdigest()


def encode(value: Mapping[str, Any]) -> bytes:
    """Returns the canonical bytes of a JSON object, on one line."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
