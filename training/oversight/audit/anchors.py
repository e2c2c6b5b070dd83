"""Anchors of a verification: keys, heads and statements of witnesses that were stored outside the log.

A witness is a person or service with a key of its own. It signs the head of a log with the moment, and keeps or
publishes the file. The holder of the log's key can then no longer rewrite or backdate what was witnessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import to_builtins

from callsieve.features.files.atomic import write_new
from callsieve.features.files.dates import utc_text
from callsieve.features.files.decode import Record, json_as
from callsieve.features.files.strict_json import encode
from callsieve.serving.bundle.signing import key_id, read_public_key, sign, verify_signature
from callsieve.training.language import gettext, phrase
from callsieve.training.oversight.log.audit_log import HEAD, read_head
from callsieve.training.oversight.log.entry import Head

from .checkpoint import PREFIX, read_cosigned, read_witness_key
from .content import Fault
from .log_check import Line

NO_LEAF = "0" * 64  # a checkpoint has only size and root
SLACK = timedelta(minutes=5)  # between the clocks of a witness and of a log


class Statement(Record, frozen=True):
    """The statement that a witness signs: a head of a log, and the moment at which the witness saw it."""

    kind: Literal["callsieve witness"]
    head: Head
    at: str


class _Signed(Record, frozen=True):
    """The content of a witness's file."""

    statement: Statement
    signature: str


@dataclass(frozen=True, slots=True)
class Witness:
    """A signed head that a witness saw at a moment; `name` is that of the file."""

    name: str
    at: str
    head: Head


@dataclass(frozen=True, slots=True)
class Anchors:
    """Files that were stored outside the log.

    Attributes:
        trust: public key that must have signed the log; by default the log's own, which its operator could replace.
        heads: signed heads of the log.
        witnesses: statements of a witness, or checkpoints that it has cosigned (C2SP).
        witness_key: public key of that witness.
        gates_key: public key of the owner of the gates.
    """

    trust: Path | None = None
    heads: Sequence[Path] = ()
    witnesses: Sequence[Path] = ()
    witness_key: Path | None = None
    gates_key: Path | None = None

    def gates_owner(self) -> str:
        """Returns the id of the key of the owner of the gates; "" if it is not known."""
        return key_id(read_public_key(self.gates_key)) if self.gates_key else ""

    def read_witnesses(self, log_key: Ed25519PublicKey) -> tuple[list[Witness], list[Fault]]:
        """Returns the statements of the witness, and a fault for each file that is none.

        Raises:
            ValueError: if the key of the witness is missing, or is that of the log.
        """
        if not self.witnesses:
            return [], []
        if self.witness_key is None:
            raise ValueError("--witness: expected --witness-key FILE, too")
        public = read_witness_key(self.witness_key)
        if key_id(public) == key_id(log_key):
            raise ValueError(f"{self.witness_key}: key {key_id(public)} signs the log, and cannot witness it")
        seen, faults = [], []
        for path in self.witnesses:
            try:
                seen.append(_witness(path, public, log_key))
            except (ValueError, OSError) as error:
                what = gettext("not a statement of the witness: %(error)s", error=phrase(str(error)))
                faults.append(Fault(path.name, what))
        return seen, faults


def witness(log: Path, key: Ed25519PrivateKey, path: Path) -> Head:
    """Signs the newest head of a log with the moment into a new file; returns the head.

    Raises:
        FileExistsError: if the file exists.
        ValueError: if the log has no head.
    """
    head = read_head(log / HEAD)
    statement = Statement("callsieve witness", head, utc_text())
    signed = to_builtins(statement)
    write_new(path, encode({"statement": signed, "signature": sign(encode(signed), key).decode().strip()}))
    return head


def witness_faults(witnesses: Sequence[Witness], lines: Sequence[Line]) -> list[Fault]:
    """Returns a fault for each entry that is dated after a witness saw it, or before one that did not see it."""
    faults = []
    for seen in witnesses:
        saw = datetime.fromisoformat(seen.at)
        for line in (line for line in lines if not line.wrong):
            later = datetime.fromisoformat(line.entry.at) - saw
            if (later > SLACK) if line.index < seen.head.size else (later < -SLACK):
                names = {"at": line.entry.at, "witness": seen.name, "seen": seen.at}
                if line.index < seen.head.size:
                    what = gettext("dated %(at)s, but %(witness)s of %(seen)s has it", **names)
                else:
                    what = gettext("dated %(at)s, but %(witness)s of %(seen)s lacks it", **names)
                faults.append(Fault(line.name, what))
    return faults


def anchor(anchors: Anchors, key: str, witnesses: Sequence[Witness]) -> str:
    """Returns in words what a verification rests on."""
    rests_on = [
        *([gettext("key %(key)s of %(file)s", key=key, file=anchors.trust.name)] if anchors.trust else []),
        *(gettext("head %(file)s", file=path.name) for path in anchors.heads),
        *(
            gettext("witness %(file)s of %(at)s, %(entries)s entries", file=w.name, at=w.at, entries=w.head.size)
            for w in witnesses
        ),
        *([gettext("gates of %(file)s", file=anchors.gates_key.name)] if anchors.gates_key else []),
    ]
    known = gettext("; ").join(rests_on)
    if anchors.heads or witnesses:
        return gettext("anchored in %(files)s", files=known)
    if known:
        known = gettext(" (%(inside)s)", inside=known)
    return gettext(
        "not anchored%(known)s: the holder of key %(key)s could have rewritten this; give --head or --witness",
        known=known,
        key=key,
    )


def _witness(path: Path, public: Ed25519PublicKey, log_key: Ed25519PublicKey) -> Witness:
    data = path.read_bytes()
    if data.startswith(PREFIX.encode()):
        size, root, at = read_cosigned(data.decode(), public, log_key)
        return Witness(path.name, at, Head(size, root, NO_LEAF, "of the checkpoint"))
    content = json_as(_Signed, data, "")
    statement = content.statement
    verify_signature(encode(to_builtins(statement)), content.signature.encode() + b"\n", [public])
    statement.head.check(log_key)
    return Witness(path.name, statement.at, statement.head)
