"""Anchors of a verification: keys, heads and cosigned checkpoints that were stored outside the log.

A witness is a service with a key of its own. It cosigns a checkpoint of a log with the moment (C2SP). The holder of the
log's key can then no longer rewrite or backdate the entries below the checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from callsieve.serving.bundle.signing import key_id, read_public_key
from callsieve.training.language import gettext, phrase
from callsieve.training.oversight.log.entry import Head

from .checkpoint import read_cosigned, read_witness_key
from .content import Fault
from .log_check import Line

NO_LEAF = "0" * 64  # a checkpoint has only size and root
SLACK = timedelta(minutes=5)  # between the clocks of a witness and of a log


@dataclass(frozen=True, slots=True)
class Witness:
    """A checkpoint that a witness cosigned at a moment; `name` is that of the file."""

    name: str
    at: str
    head: Head


@dataclass(frozen=True, slots=True)
class Anchors:
    """Files that were stored outside the log.

    Attributes:
        trust: public key that must have signed the log; by default the log's own, which its operator could replace.
        heads: signed heads of the log.
        witnesses: checkpoints that a witness has cosigned (C2SP).
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
        """Returns the cosigned checkpoints, and a fault for each file that is none."""
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
    size, root, at = read_cosigned(path.read_text(encoding="utf-8"), public, log_key)
    return Witness(path.name, at, Head(size, root, NO_LEAF, "of the checkpoint"))
