"""Places that can have a person's data, and the person to delete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from callsieve.features.files.progress import Progress, size_of, steps
from callsieve.features.keys.callee_keys import CalleeCipher
from callsieve.serving.custody.retention import Retention, read_retention

from .states import CALLS


@dataclass(frozen=True, slots=True)
class Person:
    """A person: the token of a number.

    Attributes:
        callees: cipher of the called numbers in files of verdicts; required if their key still exists.
    """

    token: str
    callees: CalleeCipher | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Places with personal data, and the rules of their retention.

    Attributes:
        data: folder of keyed calls.
        states: folders of live state of scorers, running or not.
        store: URL of a case store.
        verdicts: files of verdicts.
        registers: folders of registers as a scorer reads them.
    """

    data: Path | None = None
    states: Sequence[Path] = ()
    store: str | None = None
    verdicts: Sequence[Path] = ()
    registers: Sequence[Path] = ()
    rules: Retention = field(default_factory=read_retention)

    def steps(self, progress: Progress) -> dict[str, Progress]:
        """Returns a progress callback for each slow step: fingerprint before and after, and the files to rewrite."""
        calls, tables = (0, 0) if self.data is None else (size_of(self.data / CALLS), size_of(self.data))
        sizes = {"before": calls, "tables": tables, "verdicts": sum(map(size_of, self.verdicts)), "after": calls}
        return steps(progress, sizes)
