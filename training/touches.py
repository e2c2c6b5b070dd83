"""Who looked at calls that judge: gates and touches enter the audit log before anything is trained or scored.

A fold is a stretch of time of some data. Stretches that overlap are looks at the same calls: a fold that begins a day
later is not a fresh one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .auditlog import append, payloads
from .gates import Gates

Span = tuple[int, int]  # Unix ms, [begin, end)
_DATA = 16  # hex digits of the fingerprint that name the data


@dataclass(frozen=True, slots=True)
class Ledger:
    """An audit log, the key that signs it, and the gates by which what is seen will be judged."""

    log: Path
    key: Ed25519PrivateKey
    gates: Gates

    def begin(self) -> int:
        """Enter the gates, before the first look; the entry's index."""
        return append(self.log, "gates", {"sha256": self.gates.sha256, "text": self.gates.data.decode()}, self.key)

    def touch(self, data: str, span: Span, by: str) -> dict[str, Any]:
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
