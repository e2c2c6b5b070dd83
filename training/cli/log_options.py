"""Options about the audit log, and about the people who ask for personal data, that several commands share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer import Option

from callsieve.features.files.atomic import sha256
from callsieve.training.oversight.log.audit_log import SignedLog, user
from callsieve.training.oversight.log.folder_log import IMPORT, PersonalLog, check_person, folder_log
from callsieve.training.oversight.log.gates import read_gates
from callsieve.training.oversight.log.key_folder import log_signing_key
from callsieve.training.oversight.log.looks import Ledger, ledger_beside
from callsieve.training.oversight.log.run_paths import log_folder
from callsieve.training.oversight.log.tickets import AccessControl


@dataclass(frozen=True, kw_only=True, slots=True)
class LookOptions:
    """The audit log that records each use of a bundle's test set."""

    audit_log: Path | None = None
    signing_key: Path | None = None

    def ledger(self, bundle: Path) -> Ledger | None:
        """Returns the ledger that counts the looks with this bundle; None if its log or its key is missing."""
        return ledger_beside(bundle, self.audit_log, self.signing_key)


LOOK_OPTIONS = ("audit_log", "signing_key")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """A run's folder and its audit log."""

    path: Annotated[Path, Option("--in", help="Folder of a run, with its audit log and MLflow store.")] = Path(
        "callsieve-run"
    )
    audit_log: Path | None = None

    @property
    def log(self) -> Path:
        """Returns the folder of the audit log."""
        return log_folder(self.path, self.audit_log)


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedRunOptions(RunOptions):
    """A run's folder, its audit log, and the key that signs the log."""

    signing_key: Path | None = None

    @property
    def key(self) -> Ed25519PrivateKey:
        """Returns the key that signs the log."""
        return log_signing_key(self.path, self.log, self.signing_key)


@dataclass(frozen=True, kw_only=True, slots=True)
class LogOptions:
    """The audit log that records an act on personal data, and the key that signs it."""

    audit_log: Path
    signing_key: Path

    def signed(self) -> SignedLog:
        """Returns the log with the key that signs it."""
        return SignedLog.of(self.audit_log, self.signing_key)


@dataclass(frozen=True, kw_only=True, slots=True)
class ActOptions:
    """The person of an act on a folder of data, and the key that signs the log in that folder."""

    person: str
    signing_key: Path | None = None

    def log(self, folder: Path) -> PersonalLog:
        """Returns the log in a folder, for entries of this person."""
        check_person(self.person)
        return PersonalLog(folder_log(folder, self.signing_key), self.person)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOptions:
    """The person who imports registers, and the key that signs the log in their folder."""

    person: str | None = None
    signing_key: Path | None = None

    def enter(self, folder: Path, files: Mapping[str, Path]) -> int:
        """Enters the hashes of the written files in the log in their folder; returns the index of the entry."""
        log = PersonalLog(folder_log(folder, self.signing_key), user() if self.person is None else self.person)
        return log.append(IMPORT, {"sha256": {name: sha256(path) for name, path in files.items()}})


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """The requester of a disclosure and the purpose."""

    purpose: Annotated[str, Option("--purpose", help="Purpose, for the audit log.")]
    person: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Permission:
    """The tickets that permit an act, and the gates that name who may agree."""

    gates: Path | None = None
    ticket: Annotated[
        list[Path] | None, Option("--ticket", help="File that `privacy ticket agree` wrote; repeat for several.")
    ] = None

    def control(self, log: SignedLog) -> AccessControl:
        """Returns the control that admits an act with these tickets and records it in the log."""
        return AccessControl(log, read_gates(self.gates), self.ticket or ())


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    """The days of a report or an audit, and the verdicts on their calls."""

    verdicts: Annotated[
        Path | None, Option("--verdicts", help="File that `callsieve score --out` wrote for these calls.")
    ] = None
    until: Annotated[
        str | None, Option("--until", help="Local date after the last day; by default after the last call.")
    ] = None
    days: Annotated[int, Option("--days", min=1, help="Number of days; compared with as many days before.")] = 7
