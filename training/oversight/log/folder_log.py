"""The audit log of a folder of data, or of a case store: the folder `audit` beside the data, with a key of its own.

Declarations, imports of registers, steps of complaints and decisions on appeals are entries in it, each with the person
who did it. The private key lies in the user's key folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callsieve.features.files.masking import has_long_digits

from .audit_log import SignedLog, has_log
from .key_folder import key_path, log_signing_key, new_key
from .run_paths import log_folder

DECLARATION, IMPORT, COMPLAINT, RECTIFICATION = (
    "declaration",
    "import",
    "complaint",
    "rectification",
)  # kinds of entries
STEPS_FILE = "complaint_status.parquet"  # table of the steps of complaints
_LONGEST = 100
_LONGEST_NOTE = 500


@dataclass(frozen=True, slots=True)
class PersonalLog:
    """An audit log, and the person whose acts enter it."""

    log: SignedLog
    person: str

    def append(self, kind: str, act: Mapping[str, Any]) -> int:
        """Adds an act of the person as an entry; returns its index."""
        check_person(self.person)
        return self.log.append(kind, {"person": self.person, **act})


def check_person(person: str) -> None:
    """Raises a ValueError unless a text names a person: one line, not too long, without a telephone number."""
    if not person.strip() or not person.isprintable() or len(person) > _LONGEST or has_long_digits(person):
        raise ValueError(f"--person: expected a name of at most {_LONGEST} characters without a telephone number")


def check_note(text: str, option: str) -> None:
    """Raises a ValueError unless a text is printable, not too long, and without a telephone number."""
    if has_long_digits(text) or not text.isprintable() or len(text) > _LONGEST_NOTE:
        raise ValueError(f"{option}: expected at most {_LONGEST_NOTE} printable characters without a telephone number")


def folder_log(folder: Path, signing_key: Path | None, log: Path | None = None) -> SignedLog:
    """Returns the log of a folder; a log without entries gets a new key in the user's key folder.

    `signing_key`: file of the key; by default the one in the user's key folder.
    """
    place = log_folder(folder, log)
    if signing_key is None and not has_log(place) and not key_path(place.parent, place).exists():
        return SignedLog(place, new_key())
    return SignedLog(place, log_signing_key(place.parent, place, signing_key))
