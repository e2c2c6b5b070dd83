"""Where runs are recorded, and their keys lie: by default all in the folder of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.serving.bundle.signing import AUDIT, SIGNING_KEY, read_signing_key

SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class RunPaths:
    """The folder of the audit log, and the address of the store."""

    log: Path
    uri: str


def run_paths(folder: Path, log: Path | None, uri: str | None) -> RunPaths:
    """The log and the store of a run's folder, unless told otherwise."""
    return RunPaths(log_folder(folder, log), uri or default_store(folder))


def default_store(folder: Path) -> str:
    """The address of the SQLite store in a folder."""
    return f"{SQLITE}{(folder / 'mlflow.db').resolve()}"


def log_folder(folder: Path, log: Path | None) -> Path:
    """The folder of the audit log."""
    return log or folder / AUDIT


def log_signing_key(folder: Path, key: Path | None) -> Ed25519PrivateKey:
    """The key that signs the log: by default the one that the run made for itself."""
    return read_signing_key(key or folder / SIGNING_KEY)
