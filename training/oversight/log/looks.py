"""Records every use of test data in the audit log before it happens: gates first, then each look.

A fold is a period of time of some data. Overlapping periods share calls, so a fold that begins a day later is not an
unused fold. Each comparison of a finished model with the truth is counted in the log of its training, beside its
bundle. Without that log, calls that the model was certified on must not be evaluated.

The folder of the calls counts looks, too, in `looks.jsonl`: all audit logs that judge on a folder share one count, so
another log does not begin at 1 again. That file is not signed: who may write to the folder can remove it. The audit log
then has its own looks, and a report says what was counted. The user's key folder has a second such file, for all calls
that are not simulated: a copy of the calls without the first one is recognised by its fingerprint. The rounds of an
adaptation have a look each, and count as one use (`rounds.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import to_builtins

from callsieve.features.files.dates import utc_text
from callsieve.features.files.decode import Record
from callsieve.serving.bundle.metadata import BundleMetadata
from callsieve.serving.custody.purposes import CALLS, is_simulated

from .audit_log import PUBLIC_KEY, append, log_id, payloads, read
from .gates import Gates, shipped_gates
from .key_folder import key_folder, key_path, log_signing_key
from .payload_types import Look, TouchPayload
from .registry import open_registry, registered
from .rounds import Round, preceding, round_of, uses
from .run_paths import log_folder

Span = tuple[int, int]  # Unix ms, [begin, end)
FILE = "looks.jsonl"  # registry of looks, in a folder of calls
_DATA = 16  # hex digits of the fingerprint that name the data


@dataclass(frozen=True, slots=True)
class Fold:
    """A period of time of some data.

    Attributes:
        data: first hex digits of the fingerprint of the whole data.
        begin: begin of the period, Unix ms.
        end: end of the period, Unix ms, excluded.
    """

    data: str
    begin: int
    end: int

    @classmethod
    def of(cls, fingerprint: str, span: Span) -> Fold:
        """Returns the fold of a period of the data with this fingerprint."""
        return cls(fingerprint[:_DATA], *span)

    @classmethod
    def parse(cls, text: str) -> Fold:
        """Returns the fold that a text names.

        >>> Fold.parse("aa 0..10")
        Fold(data='aa', begin=0, end=10)
        """
        data, _, period = text.partition(" ")
        begin, _, end = period.partition("..")
        return cls(data, int(begin), int(end))

    def __str__(self) -> str:
        return f"{self.data} {self.begin}..{self.end}"

    def overlaps(self, other: Fold) -> bool:
        """Returns whether both folds may share calls.

        >>> [Fold("aa", 0, 10).overlaps(Fold.parse(text)) for text in ("aa 9..20", "aa 10..20", "bb 0..10")]
        [True, False, False]
        """
        return self.data == other.data and self.begin < other.end and other.begin < self.end


@dataclass(frozen=True, slots=True)
class Ledger:
    """An audit log, the key that signs it, and the gates that judge the model."""

    log: Path
    key: Ed25519PrivateKey
    gates: Gates

    def begin(self) -> int:
        """Records the gates before the first look; returns the index of the entry."""
        return append(self.log, "gates", self.gates.to_json(), self.key)

    def touch(self, data: str, span: Span, by: str, folder: Path | None, round_: Round | None = None) -> Look:
        """Records a look at the calls of a period, and counts the uses of these calls.

        `folder`: of the calls, whose registry gets the look; None if the calls are not in a folder that stays.
        """
        fold = Fold.of(data, span)
        payload: TouchPayload = {"fold": str(fold), "gates": self.gates.sha256, "by": by}
        if round_ is not None:
            earlier = filter(None, (preceding(looks, round_) for looks in self._looks(fold, folder)))
            payload["round"] = to_builtins(round_)
            payload["follows"] = next((before.digest for before in earlier), "")
        append(self.log, "touch", payload, self.key)
        registered = folder is not None and register_look(folder, fold, log_id(self.log), by, round_)
        in_folder, in_logs = self._looks(fold, folder)
        # A look without a payload may be one at any calls, so it counts.
        unnamed = sum(entry.kind == "touch" for entry in read(self.log)) - len(list(payloads(self.log, "touch")))
        count = max(len(uses(in_folder)), len(uses(in_logs)) + unnamed)
        return {"fold": str(fold), "touches": count, "registered": registered}

    def _looks(self, fold: Fold, folder: Path | None) -> tuple[list[Round | None], list[Round | None]]:
        """Returns the looks at calls of a fold: those in the registry of the folder, and those of other logs and of
        this one. The registry may be younger than this log.
        """
        known = [] if folder is None else registered_looks(folder)
        if folder is not None and _is_recognised(folder):
            known += [look for look in registered_looks(key_folder()) if look not in known]
        known = [look for look in known if fold.overlaps(Fold.parse(look.fold))]
        logged = [touch for _, touch in payloads(self.log, "touch") if fold.overlaps(Fold.parse(touch["fold"]))]
        others = [look.round for look in known if look.log != log_id(self.log)]
        return [look.round for look in known], [*others, *map(round_of, logged)]


def ledger_beside(bundle: Path, audit: Path | None, signing_key: Path | None) -> Ledger | None:
    """Returns the ledger in the folder of a bundle's run; None if its log or its key is missing."""
    log = log_folder(bundle.parent, audit)
    key = signing_key or key_path(bundle.parent, log)
    missing = [
        *([] if audit or (log / PUBLIC_KEY).exists() else [f"{log}: no audit log; expected --audit FOLDER"]),
        *([] if key.exists() else [f"{key}: no key of the audit log; expected --signing-key FILE"]),
    ]
    if missing and (audit or signing_key):
        raise ValueError(missing[0])
    return None if missing else Ledger(log, log_signing_key(bundle.parent, log, signing_key), shipped_gates())


def count_look(
    ledger: Ledger | None, card: BundleMetadata, data: str, span: Span, by: str, folder: Path | None
) -> Look:
    """Counts a look at calls that judge a finished model; call it before they are scored."""
    if ledger is not None:
        return ledger.touch(data, span, by, folder)
    if certified_on(card, data, span):
        raise ValueError(
            f"{by}: the model was certified on these calls, and each use of them is recorded: expected --audit FOLDER "
            "and --signing-key FILE, the log of its training and the key that signs it"
        )
    return {"fold": None, "touches": None, "registered": False}


def certified_on(card: BundleMetadata, data: str, span: Span) -> bool:
    """Returns whether a period of some data has calls that a model was certified on."""
    for folder in card.training.get("folders", ()):
        begin, end = (round(datetime.fromisoformat(moment).timestamp() * 1000) for moment in folder["folds"]["certify"])
        # The metadata holds whole seconds.
        if folder["data"] == data and begin < end and span[0] < end + 1000 and begin < span[1]:
            return True
    return False


def in_words(look: Mapping[str, object]) -> str:
    """Returns a look in words.

    >>> in_words({"fold": "aa 0..10", "touches": 2, "registered": True})
    'use 2 of these calls, recorded in the audit log and beside the calls: fold aa 0..10'
    """
    if look["touches"] is None:
        return "this use of the calls was not recorded: there is no audit log with its key beside the bundle"
    where = "and beside the calls" if look["registered"] else "alone; uses in other logs are not known"
    return f"use {look['touches']} of these calls, recorded in the audit log {where}: fold {look['fold']}"


class RegisteredLook(Record, frozen=True, omit_defaults=True):
    """A look at calls in the registry of their folder.

    Attributes:
        fold: text of the fold, as in the audit log.
        log: `audit_log.log_id` of the audit log that has the look.
        by: the command.
        at: UTC moment.
        round: the round of an adaptation; None for another command.
    """

    fold: str
    log: str
    by: str
    at: str
    round: Round | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        Fold.parse(self.fold)


def register_look(folder: Path, fold: Fold, log: str, by: str, round_: Round | None = None) -> bool:
    """Adds a look to the registry of a folder of calls, and to that of the user if copies of the calls are recognised.

    Returns: False if the folder cannot be written to.
    """
    look = RegisteredLook(str(fold), log, by, utc_text(), round_)
    if _is_recognised(folder):
        _write_look(key_folder(), look)
    return _write_look(folder, look)


def _is_recognised(folder: Path) -> bool:
    """Returns whether calls are recognised by their content in another folder: they are real, and on the disk.

    A simulated world is made again by its seed, so its copies are no secret.
    """
    return (folder / CALLS).is_file() and not is_simulated(folder) and key_folder().is_dir()


def _write_look(folder: Path, look: RegisteredLook) -> bool:
    with open_registry(folder / FILE, RegisteredLook) as registry:
        registry.add(look)
        return registry.file is not None


def registered_looks(folder: Path) -> list[RegisteredLook]:
    """Returns the looks in the registry of a folder of calls, in order; none without a registry."""
    return registered(folder / FILE, RegisteredLook)
