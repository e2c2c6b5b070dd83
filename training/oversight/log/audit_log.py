"""The audit log: an append-only list of signed entries, in which every later change is detected.

    log.jsonl            one line an entry: index, moment, kind, commitment; and the signed head of the log up to it
    head.json            the newest signed head; a copy kept elsewhere shows that the log was not cut short
    log.pub              the key that signs
    payloads/000007.json payload of entry 7, with the salt of its commitment

An entry has no payload, only HMAC-SHA256(salt, payload and actor). The actor is the user who wrote the entry, as the
system names it, and the id of the key. A payload can be erased on a person's request, and the log
stays valid. Without the 32 random bytes of salt, the commitment reveals nothing. A head signs the number of entries,
the Merkle root over them (RFC 6962) and the newest entry's own hash. A fault is therefore located at its entry, and
later entries stay valid. The owner of the signing key can write another log: store the key and copies of heads outside
the log.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, overload

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct, to_builtins

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.dates import utc_text
from callsieve.features.files.decode import json_as
from callsieve.serving.bundle.signing import key_id, read_public_key, read_signing_key, sign, write_public_key
from callsieve.training.language import gettext

from .entry import Body, Entry, Head, commitment, encode, entry_line, head_message, read_line
from .merkle import consistency_proof, inclusion_proof, root
from .payload_types import GatesPayload, Move, Payload, RunPayload, TouchPayload

LOG, HEAD, PUBLIC_KEY, PAYLOADS, LOCK = "log.jsonl", "head.json", "log.pub", "payloads", "lock"
LOCKS = (LOCK, "moving", "entering", "erasing")  # files of the locks that promotions, accesses and retention take
KINDS = (
    "gates", "touch", "run", "promotion", "rollback", "policy", "threshold", "access", "erasure",
    "decision", "retention", "deletion", "key", "declaration", "import", "complaint",
    "rectification",
)  # fmt: skip
MOVES: Final = ("promotion", "rollback")
# What a judgement needs stays.
ERASABLE = ("access", "policy", "threshold", "decision", "deletion", "retention", "key", "complaint")
_SALT_BYTES = 32


@dataclass(frozen=True, slots=True)
class SignedLog:
    """An audit log and the key that signs its entries."""

    folder: Path
    key: Ed25519PrivateKey

    @classmethod
    def of(cls, folder: Path, signing_key: Path) -> SignedLog:
        """Returns the log of a folder with the key of a file."""
        return cls(folder, read_signing_key(signing_key))

    def append(self, kind: str, payload: Mapping[str, Any]) -> int:
        """Adds an entry and returns its index, like the function `append`."""
        return append(self.folder, kind, payload, self.key)


def log_id(folder: Path) -> str:
    """Returns what tells a log from other logs: the hash of its first entry, in hex; "" for a log without entries."""
    entries = read(folder) if folder.exists() else []
    return entries[0].leaf() if entries else ""


def append(folder: Path, kind: str, payload: Mapping[str, Any], key: Ed25519PrivateKey) -> int:
    """Adds an entry and signs the new head; returns the entry's index. The first entry creates the folder."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    (folder / PAYLOADS).mkdir(parents=True, exist_ok=True)
    with locked(folder, LOCK):
        return _add(folder, kind, payload, key)


def note(folder: Path, kind: str, what: str, why: str, file: Path | None, key: Ed25519PrivateKey) -> int:
    """Enters a person's act, with the content of `file` if there is one; returns the entry's index."""
    payload = {"what": what, "why": why}
    if file is not None:
        data = file.read_bytes()
        payload |= {"file": file.name, "sha256": hashlib.sha256(data).hexdigest(), "text": data.decode()}
    return append(folder, kind, payload, key)


def erase(folder: Path, index: int, why: str, key: Ed25519PrivateKey) -> int:
    """Deletes an entry's payload and records the erasure; returns the index of the new entry.

    The erasure of an access keeps its act, its rows and its tickets, without a name: limits and used tickets stay.
    """
    require(folder)
    with locked(folder, LOCK):
        entries = {entry.index: entry for entry in read(folder)}
        if index not in entries or not payload_path(folder, index).exists():
            raise ValueError(f"entry {index}: expected an entry with a payload")
        if (kind := entries[index].kind) not in ERASABLE:
            raise ValueError(f"entry {index}: is of kind {kind}; it must stay")
        stays = _staying(read_payload(folder, entries[index]) or {}) if kind == "access" else {}
        erasure = _add(folder, "erasure", {"entry": index, "why": why, **stays}, key)
        payload_path(folder, index).unlink()
    return erasure


def read(folder: Path) -> list[Entry]:
    """Reads the entries of a log and checks only their form."""
    require(folder)
    return [read_line(line, f"{folder / LOG}: line {n}") for n, line in enumerate(log_lines(folder)[0], 1)]


def require(folder: Path) -> None:
    """Raises a ValueError unless the folder has a log."""
    if not has_log(folder):
        raise ValueError(f"{folder}: expected an audit log, with {PUBLIC_KEY} and {LOG}")


def has_log(folder: Path) -> bool:
    """Returns whether a folder has a log."""
    return (folder / PUBLIC_KEY).exists()


def log_lines(folder: Path) -> tuple[list[bytes], bytes]:
    """Returns the complete lines of a log, and the incomplete last one that a crash or an edit left, b"" if there is
    none; the next entry removes it.
    """
    path = folder / LOG
    *whole, incomplete = path.read_bytes().split(b"\n") if path.exists() else [b""]
    return whole, incomplete


def read_head(path: Path) -> Head:
    """Reads a signed head from its file, without a check of the signature."""
    return json_as(Head, path.read_bytes(), str(path))


def read_payload(folder: Path, entry: Entry) -> Payload | None:
    """Reads the payload of an entry; None if its file does not exist."""
    content = _content(folder, entry)
    return None if content is None else content.payload


def read_actor(folder: Path, entry: Entry) -> dict[str, str]:
    """Reads who wrote an entry: `user` and `key`; empty if the payload is erased."""
    content = _content(folder, entry)
    return {} if content is None else content.actor


class _Content(Struct, frozen=True, forbid_unknown_fields=True):
    """The file of a payload."""

    salt: str
    payload: dict[str, Any]
    actor: dict[str, str]


def _content(folder: Path, entry: Entry) -> _Content | None:
    path = payload_path(folder, entry.index)
    if not path.exists():
        return None
    try:
        content = json_as(_Content, path.read_bytes(), "")
        salt = bytes.fromhex(content.salt)
    except ValueError:
        raise ValueError(gettext("its payload was edited: it is no longer what was written")) from None
    data = encode({"actor": content.actor, "payload": content.payload})
    if len(salt) != _SALT_BYTES or not hmac.compare_digest(commitment(salt, data), entry.commitment):
        raise ValueError(gettext("its payload was edited: it does not fit the commitment"))
    return content


@overload
def payloads(folder: Path, kind: Literal["gates"], /) -> Iterator[tuple[Entry, GatesPayload]]: ...
@overload
def payloads(folder: Path, kind: Literal["touch"], /) -> Iterator[tuple[Entry, TouchPayload]]: ...
@overload
def payloads(folder: Path, kind: Literal["run"], /) -> Iterator[tuple[Entry, RunPayload]]: ...
@overload
def payloads(
    folder: Path, kind: Literal["promotion"], other: Literal["rollback"], /
) -> Iterator[tuple[Entry, Move]]: ...
@overload
def payloads(folder: Path, *kinds: str) -> Iterator[tuple[Entry, Payload]]: ...
def payloads(folder: Path, *kinds: str) -> Iterator[tuple[Entry, Any]]:
    """Yields the entries of these kinds that have a payload, with the payload, in order."""
    for entry in read(folder):
        if entry.kind in kinds:
            payload = read_payload(folder, entry)
            if payload is not None:
                yield entry, payload


def accesses(folder: Path) -> Iterator[tuple[Entry, Payload]]:
    """Yields the entries of accesses with their payload, in order; an erased one has what its erasure keeps."""
    entries = read(folder)
    stays = {payload.get("entry"): payload.get("stays") for _, payload in payloads(folder, "erasure")}
    for entry in entries:
        if entry.kind == "access":
            payload = read_payload(folder, entry) or stays.get(entry.index)
            if payload is not None:
                yield entry, payload


def _staying(access: Payload) -> dict[str, Any]:
    stays = {name: access[name] for name in ("act", "count", "source") if name in access}
    tickets = [{name: ticket[name] for name in ("signature", "key")} for ticket in access.get("tickets", ())]
    return {"stays": {**stays, "tickets": tickets, **({"refused": "erased"} if "refused" in access else {})}}


def proof(folder: Path, index: int, since: int | None = None) -> dict[str, Any]:
    """Returns a proof that an entry is in the log; with `since`, also that the log extends its first `since` entries.

    Returns: Hashes in hex, for `merkle.includes` and `merkle.consistent`, and the signed head that they lead to.
    """
    entries = read(folder)
    leaves = [bytes.fromhex(entry.leaf()) for entry in entries]
    proof_json: dict[str, Any] = {
        "entry": index,
        "inclusion": [step.hex() for step in inclusion_proof(leaves, index)],
        "leaf": leaves[index].hex(),
        "head": to_builtins(entries[-1].head),
    }
    if since is not None:
        proof_json |= {"since": since, "consistency": [step.hex() for step in consistency_proof(leaves, since)]}
    return proof_json


def payload_path(folder: Path, index: int) -> Path:
    """Returns the path of an entry's payload."""
    return folder / PAYLOADS / f"{index:06d}.json"


def _add(folder: Path, kind: str, payload: Mapping[str, Any], key: Ed25519PrivateKey) -> int:
    """Adds an entry to a locked log; returns its index."""
    if not (folder / PUBLIC_KEY).exists():
        write_public_key(key.public_key(), folder / PUBLIC_KEY)
    before = _sound(folder, key)
    _clear(folder)
    content = {"actor": {"user": user(), "key": key_id(key.public_key())}, "payload": dict(payload)}
    index, salt, data = len(before), secrets.token_bytes(_SALT_BYTES), encode(content)
    body = Body(index, _moment(before), kind, commitment(salt, data))
    leaves, leaf = [bytes.fromhex(entry.head.leaf) for entry in before], body.leaf()
    state = index + 1, root([*leaves, bytes.fromhex(leaf)]).hex(), leaf
    head = Head(*state, sign(head_message(*state), key).decode().strip())
    # Write the payload first: an entry without its payload would be a fault.
    write_atomic(payload_path(folder, index), encode({"salt": salt.hex()} | content))
    _append_line(folder / LOG, entry_line(Entry(index, body.at, kind, body.commitment, head)))
    write_atomic(folder / HEAD, encode(to_builtins(head)) + b"\n")
    return index


def _sound(folder: Path, key: Ed25519PrivateKey) -> list[Entry]:
    """Returns the entries of a log."""
    trusted = read_public_key(folder / PUBLIC_KEY)
    if key_id(trusted) != key_id(key.public_key()):
        raise ValueError(f"{folder}: the log is signed by key {key_id(trusted)}, got {key_id(key.public_key())}")
    entries = read(folder)
    signed_size = read_head(folder / HEAD).size if (folder / HEAD).exists() else 0
    if len(entries) < signed_size:
        raise ValueError(
            f"{folder}: the log was cut short, {signed_size} entries are signed; see callsieve audit verify"
        )
    if entries:
        last, leaves = entries[-1].head, [bytes.fromhex(entry.leaf()) for entry in entries]
        last.check(trusted)
        if last.size != len(entries) or last.root != root(leaves).hex():
            raise ValueError(f"{folder}: the log was changed; see callsieve audit verify")
    return entries


def _clear(folder: Path) -> None:
    for part in (*folder.glob(".*.json.*"), *folder.glob(f".{PUBLIC_KEY}.*"), *(folder / PAYLOADS).glob(".*.json.*")):
        part.unlink()


def _append_line(path: Path, line: bytes) -> None:
    with path.open("ab") as file:
        end = path.read_bytes().rfind(b"\n") + 1
        file.truncate(end)
        try:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), end)
            raise


@contextmanager
def locked(folder: Path, lock: str) -> Iterator[None]:
    """Takes a lock of a log for the block; other processes wait."""
    with (folder / lock).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def read_locked(folder: Path) -> Iterator[None]:
    """Locks a log for a consistent read of log, head and payloads; a copy without a lock file needs no lock."""
    with ExitStack() as stack:
        with suppress(FileNotFoundError):
            fcntl.flock(stack.enter_context((folder / LOCK).open()), fcntl.LOCK_SH)
        yield


def user() -> str:
    """Returns the login name of the user of this process; "unknown" if the system has none."""
    with suppress(KeyError, OSError):  # a container may have no name for its user
        return getpass.getuser()
    return "unknown"


def _moment(before: Sequence[Entry]) -> str:
    return max(utc_text(), before[-1].at) if before else utc_text()
