"""The audit log: what was done, in an order that nobody can change afterwards without its being seen.

    log.jsonl            one line an entry: index, moment, kind, commitment; and the signed head of the log up to it
    head.json            the newest signed head; a copy kept elsewhere shows that the log was not cut short
    log.pub              the key that signs
    payloads/000007.json what entry 7 says, with the salt of its commitment

An entry holds no payload, only HMAC-SHA256(salt, payload). So a payload can be erased, as a person may demand, and the
chain still holds; without the 32 random bytes of salt nothing can be guessed from the commitment. A head signs the
number of entries, the Merkle root over them (RFC 6962) and the newest entry's own hash: so a fault is found at the
very entry, and the entries after it stay sound. Whoever holds the signing key can write another log: keep it apart
from the log, and heads outside of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.strict_json import as_fields, as_integer, as_mapping, as_text, decode
from callsieve.serving.bundle.signing import key_id, read_public_key, sign, verify_signature, write_public_key

from .merkle import consistency_proof, inclusion_proof, leaf_hash, root

LOG, HEAD, PUBLIC_KEY, PAYLOADS, LOCK = "log.jsonl", "head.json", "log.pub", "payloads", "lock"
KINDS = (
    "gates", "touch", "run", "promotion", "rollback", "policy", "threshold", "access", "erasure",
    "decision", "retention", "deletion", "key",
)  # fmt: skip
_HEAD_KIND = "callsieve audit head"
_SALT_BYTES = 32
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Head:
    """The signed state of a log: number of entries, Merkle root, hash of the newest entry."""

    size: int
    root: str
    leaf: str
    signature: str

    def message(self) -> bytes:
        """What is signed."""
        return encode({"kind": _HEAD_KIND, "size": self.size, "root": self.root, "leaf": self.leaf})

    def check(self, trusted: Ed25519PublicKey) -> None:
        """Raise `ValueError` unless the trusted key signed this."""
        verify_signature(self.message(), self.signature.encode() + b"\n", [trusted])


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log."""

    index: int
    at: str
    kind: str
    commitment: str
    head: Head

    def told(self) -> dict[str, Any]:
        """What it says itself, without the head."""
        return {"index": self.index, "at": self.at, "kind": self.kind, "commitment": self.commitment}

    def leaf(self) -> str:
        """The hash of the entry's own bytes."""
        return leaf_hash(encode(self.told())).hex()


def append(folder: Path, kind: str, payload: Mapping[str, Any], key: Ed25519PrivateKey) -> int:
    """Add an entry and sign the new head; the entry's index. The first entry makes the folder.

    Raises:
        ValueError: if the log is cut short, changed at its end, or signed by another key: nothing is added to it.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    (folder / PAYLOADS).mkdir(parents=True, exist_ok=True)
    with locked(folder, LOCK):
        return _add(folder, kind, payload, key)


def note(folder: Path, kind: str, what: str, why: str, file: Path | None, key: Ed25519PrivateKey) -> int:
    """Enter what a person did, with the text of a new policy if there is one; the entry's index."""
    payload: dict[str, Any] = {"what": what, "why": why}
    if file is not None:
        data = file.read_bytes()
        payload |= {"file": file.name, "sha256": hashlib.sha256(data).hexdigest(), "text": data.decode()}
    return append(folder, kind, payload, key)


def erase(folder: Path, index: int, why: str, key: Ed25519PrivateKey) -> int:
    """Delete an entry's payload, and say so in the log; the index of the entry that says it.

    Raises:
        ValueError: if there is no such payload, or it is itself the word of an erasure.
    """
    require(folder)
    with locked(folder, LOCK):
        known = {entry.index: entry for entry in read(folder)}
        if index not in known or not payload_path(folder, index).exists():
            raise ValueError(f"entry {index}: expected an entry with a payload")
        if known[index].kind == "erasure":
            raise ValueError(f"entry {index}: says that another one was erased; it must stay")
        told = _add(folder, "erasure", {"entry": index, "why": why}, key)
        payload_path(folder, index).unlink()
    return told


def read(folder: Path) -> list[Entry]:
    """The entries, as they stand in the log; nothing is checked but their form.

    Raises:
        ValueError: if there is no log; in one line that says which line is no entry.
    """
    require(folder)
    return [read_line(line, f"{folder / LOG}: line {n}") for n, line in enumerate(whole_lines(folder), 1)]


def require(folder: Path) -> None:
    """Raise `ValueError` unless a log was begun in the folder."""
    if not has_log(folder):
        raise ValueError(f"{folder}: expected an audit log, with {PUBLIC_KEY} and {LOG}")


def has_log(folder: Path) -> bool:
    """Whether a folder has a log; an empty one may be made by whoever asks first."""
    return (folder / PUBLIC_KEY).exists()


def read_line(line: bytes, where: str) -> Entry:
    """One line, which must have the byte form in which it was written."""
    try:
        value = as_fields(decode(line), "entry", ("index", "at", "kind", "commitment", "head"))
        entry = Entry(
            as_integer(value["index"], "index"),
            as_text(value["at"], "at"),
            as_text(value["kind"], "kind"),
            as_text(value["commitment"], "commitment"),
            _head(value["head"]),
        )
        if entry_line(entry) != line + b"\n":
            raise ValueError("must have the form in which it was written")
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return entry


def entry_line(entry: Entry) -> bytes:
    """The one byte form of an entry."""
    return encode(entry.told() | {"head": _head_json(entry.head)}) + b"\n"


def whole_lines(folder: Path) -> list[bytes]:
    """The log's lines; a last one without its end, left by a crash, is not among them."""
    path = folder / LOG
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def read_head(path: Path) -> Head:
    """A signed head from its file; its signature is not checked here."""
    try:
        return _head(decode(path.read_bytes()))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_payload(folder: Path, entry: Entry) -> dict[str, Any] | None:
    """What an entry says; None if the file is not there.

    Raises:
        ValueError: if it is not what the entry commits to.
    """
    path = payload_path(folder, entry.index)
    if not path.exists():
        return None
    try:
        value = as_fields(decode(path.read_bytes()), "payload", ("salt", "payload"))
        salt, payload = bytes.fromhex(as_text(value["salt"], "salt")), as_mapping(value["payload"], "payload")
    except ValueError:
        raise ValueError("its payload was edited: it is no longer what was written") from None
    if len(salt) != _SALT_BYTES or not hmac.compare_digest(commitment(salt, encode(payload)), entry.commitment):
        raise ValueError("its payload was edited: it does not fit the commitment")
    return payload


def payloads(folder: Path, *kinds: str) -> Iterator[tuple[Entry, dict[str, Any]]]:
    """The entries of some kinds whose payload is there, in order."""
    for entry in read(folder):
        if entry.kind in kinds:
            payload = read_payload(folder, entry)
            if payload is not None:
                yield entry, payload


def proof(folder: Path, index: int, since: int | None = None) -> dict[str, Any]:
    """What shows, without the log, that an entry is in it, and with `since` that it grew from its first entries.

    Returns: hashes in hex, for `merkle.includes` and `merkle.consistent`, and the signed head that they lead to.
    """
    entries = read(folder)
    leaves = [bytes.fromhex(entry.leaf()) for entry in entries]
    told: dict[str, Any] = {
        "entry": index,
        "inclusion": [step.hex() for step in inclusion_proof(leaves, index)],
        "leaf": leaves[index].hex(),
        "head": _head_json(entries[-1].head),
    }
    if since is not None:
        told |= {"since": since, "consistency": [step.hex() for step in consistency_proof(leaves, since)]}
    return told


def payload_path(folder: Path, index: int) -> Path:
    """Where an entry's payload lies."""
    return folder / PAYLOADS / f"{index:06d}.json"


def commitment(salt: bytes, payload: bytes) -> str:
    """HMAC-SHA256 with the salt as key, in hex."""
    return hmac.new(salt, payload, hashlib.sha256).hexdigest()


def encode(value: Mapping[str, Any]) -> bytes:
    """The one byte form of a JSON object on one line."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _add(folder: Path, kind: str, payload: Mapping[str, Any], key: Ed25519PrivateKey) -> int:
    """Add an entry to a log that is locked."""
    if not (folder / PUBLIC_KEY).exists():
        write_public_key(key.public_key(), folder / PUBLIC_KEY)
    before = _sound(folder, key)
    _clear(folder)
    index, salt, said = len(before), secrets.token_bytes(_SALT_BYTES), encode(payload)
    bare = Entry(index, _now(), kind, commitment(salt, said), Head(0, "", "", ""))
    leaves = [bytes.fromhex(entry.head.leaf) for entry in before]
    leaf = bare.leaf()
    head = Head(index + 1, root([*leaves, bytes.fromhex(leaf)]).hex(), leaf, "")
    signed = Head(head.size, head.root, leaf, sign(head.message(), key).decode().strip())
    # The payload first: an entry without its payload would be a fault.
    write_atomic(payload_path(folder, index), encode({"salt": salt.hex(), "payload": dict(payload)}))
    _append_line(folder / LOG, entry_line(Entry(index, bare.at, kind, bare.commitment, signed)))
    write_atomic(folder / HEAD, encode(_head_json(signed)) + b"\n")
    return index


def _sound(folder: Path, key: Ed25519PrivateKey) -> list[Entry]:
    """The entries, if another one may be added to them."""
    trusted = read_public_key(folder / PUBLIC_KEY)
    if key_id(trusted) != key_id(key.public_key()):
        raise ValueError(f"{folder}: the log is signed by key {key_id(trusted)}, got {key_id(key.public_key())}")
    entries = read(folder)
    told = read_head(folder / HEAD).size if (folder / HEAD).exists() else 0
    if len(entries) < told:
        raise ValueError(f"{folder}: the log was cut short, {told} entries are signed; see callsieve audit verify")
    if entries:
        last, leaves = entries[-1].head, [bytes.fromhex(entry.leaf()) for entry in entries]
        last.check(trusted)
        if last.size != len(entries) or last.root != root(leaves).hex():
            raise ValueError(f"{folder}: the log was changed; see callsieve audit verify")
    return entries


def _clear(folder: Path) -> None:
    """Delete what a crash left of files that were being written: whoever has the lock writes alone."""
    for part in (*folder.glob(".*.json.*"), *(folder / PAYLOADS).glob(".*.json.*")):
        part.unlink()


def _append_line(path: Path, line: bytes) -> None:
    """Add a line and wait until it is on the disk; what a crash left of a line was never an entry, and goes."""
    with path.open("ab") as file:
        whole = path.read_bytes().rfind(b"\n") + 1
        file.truncate(whole)
        try:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), whole)
            raise


@contextmanager
def locked(folder: Path, lock: str) -> Iterator[None]:
    """One process at a time that takes this lock of a log."""
    with (folder / lock).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def read_locked(folder: Path) -> Iterator[None]:
    """Nothing is added meanwhile: log, head and payloads are of one moment. A copy has no lock, and needs none."""
    with ExitStack() as held:
        with suppress(FileNotFoundError):
            fcntl.flock(held.enter_context((folder / LOCK).open()), fcntl.LOCK_SH)
        yield


def _head(value: Any) -> Head:
    told = as_fields(value, "head", ("size", "root", "leaf", "signature"))
    for name in ("root", "leaf"):
        if not _HASH.fullmatch(as_text(told[name], f"head: {name}")):
            raise ValueError(f"head: {name} must be 64 hex digits")
    signature = as_text(told["signature"], "head: signature")
    return Head(as_integer(told["size"], "head: size", 1), told["root"], told["leaf"], signature)


def _head_json(head: Head) -> dict[str, Any]:
    return {"size": head.size, "root": head.root, "leaf": head.leaf, "signature": head.signature}


def _now() -> str:
    return datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
