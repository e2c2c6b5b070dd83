"""Who looked at calls that judge: gates and touches enter the audit log before anything is trained or scored.

A fold is a stretch of time of some data. Stretches that overlap are looks at the same calls: a fold that begins a day
later is not a fresh one. Of a finished model, each look that holds it against the truth is counted in the log of its
training, which lies beside its bundle; where there is none, calls that it was certified on are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.serving.bundle.signing import SIGNING_KEY

from .audit_log import PUBLIC_KEY, append, payloads
from .gates import Gates, shipped_gates
from .run_paths import log_folder, log_signing_key

if TYPE_CHECKING:
    from callsieve.serving.bundle.metadata import BundleMetadata

Span = tuple[int, int]  # Unix ms, [begin, end)
_DATA = 16  # hex digits of the fingerprint that name the data


class Look(TypedDict):
    """A look at a fold, and how many looks there were so far, this one included; None for both if not counted."""

    fold: str | None
    touches: int | None


@dataclass(frozen=True, slots=True)
class Ledger:
    """An audit log, the key that signs it, and the gates by which what is seen will be judged."""

    log: Path
    key: Ed25519PrivateKey
    gates: Gates

    def begin(self) -> int:
        """Enter the gates, before the first look; the entry's index."""
        return append(self.log, "gates", {"sha256": self.gates.sha256, "text": self.gates.data.decode()}, self.key)

    def touch(self, data: str, span: Span, by: str) -> Look:
        """Enter a look at the calls of a stretch.

        Args:
            data: fingerprint of the whole data, also where a part of it is looked at.
            by: the command that looks.
        Returns: the fold, and how often it was looked at, this look included.
        """
        fold = f"{data[:_DATA]} {span[0]}..{span[1]}"
        append(self.log, "touch", {"fold": fold, "gates": self.gates.sha256, "by": by}, self.key)
        folds = (told["fold"] for _, told in payloads(self.log, "touch"))
        return {"fold": fold, "touches": looks(folds, data[:_DATA], span)}


def ledger_beside(bundle: Path, audit: Path | None, signing_key: Path | None) -> Ledger | None:
    """The audit log in the folder of a bundle's run and the key that signs it, or those named; None without both.

    Raises:
        ValueError: if one of them is named, and the other is neither named nor there.
    """
    log, key = log_folder(bundle.parent, audit), signing_key or bundle.parent / SIGNING_KEY
    missing = [
        *([] if audit or (log / PUBLIC_KEY).exists() else [f"{log}: no audit log; expected --audit FOLDER"]),
        *([] if key.exists() else [f"{key}: no key of the audit log; expected --signing-key FILE"]),
    ]
    if missing and (audit or signing_key):
        raise ValueError(missing[0])
    return None if missing else Ledger(log, log_signing_key(bundle.parent, signing_key), shipped_gates())


def count_look(ledger: Ledger | None, card: BundleMetadata, data: str, span: Span, by: str) -> Look:
    """Count a look at calls by which a finished model is judged; call it before they are scored.

    Args:
        ledger: as from `ledger_beside`.
        data, span, by: as for `Ledger.touch`.
    Returns: as `Ledger.touch`; None for both where other calls than the model's own are looked at without a log.
    Raises:
        ValueError: if these are calls that the model was certified on, and there is no log to count the look in.
    """
    if ledger is not None:
        return ledger.touch(data, span, by)
    if certified_on(card, data, span):
        raise ValueError(
            f"{by}: the model was certified on these calls, and each look at them is counted: expected --audit FOLDER "
            "and --signing-key FILE, the log of its training and the key that signs it"
        )
    return {"fold": None, "touches": None}


def certified_on(card: BundleMetadata, data: str, span: Span) -> bool:
    """Whether a stretch of some data has calls that a model was certified on."""
    told = card.training
    if told.get("data") != data or "folds" not in told:
        return False
    begin, end = (round(datetime.fromisoformat(moment).timestamp() * 1000) for moment in told["folds"]["certify"])
    return span[0] < end + 1000 and begin < span[1]  # the card tells whole seconds


def in_words(told: Mapping[str, Any]) -> str:
    """What a person reads of a look, as from `count_look`.

    >>> in_words({"fold": "aa 0..10", "touches": 2})
    'look 2 at these calls, counted in the audit log: fold aa 0..10'
    """
    if told["touches"] is None:
        return "this look at the calls was not counted: there is no audit log with its key beside the bundle"
    return f"look {told['touches']} at these calls, counted in the audit log: fold {told['fold']}"


def looks(folds: Iterable[str], data: str, span: Span) -> int:
    """How many of these folds are of this data and overlap this stretch.

    >>> looks(["aa 0..10", "aa 9..20", "aa 10..20", "bb 0..10"], "aa", (0, 10))
    2
    """
    begin, end = span
    spans = (parts(fold) for fold in folds)
    return sum(name == data and first < end and begin < last for name, first, last in spans)


def parts(fold: str) -> tuple[str, int, int]:
    """Data, begin and end of a fold's name."""
    name, _, stretch = fold.partition(" ")
    first, _, last = stretch.partition("..")
    return name, int(first), int(last)
