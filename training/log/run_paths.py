"""Paths of a run: its audit log, its MLflow store and its signing key, by default in the run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.serving.bundle.signing import AUDIT, SIGNING_KEY, read_signing_key

SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Folder of the audit log, and URI of the MLflow store."""

    log: Path
    uri: str


def run_paths(folder: Path, log: Path | None, uri: str | None) -> RunPaths:
    """Returns the paths of a run's folder; `log` and `uri` replace the defaults."""
    return RunPaths(log_folder(folder, log), uri or default_store(folder))


def default_store(folder: Path) -> str:
    """Returns the URI of the SQLite store in a folder."""
    return f"{SQLITE}{(folder / 'mlflow.db').resolve()}"


def log_folder(folder: Path, log: Path | None) -> Path:
    """Returns the folder of the audit log."""
    return log or folder / AUDIT


def log_signing_key(folder: Path, key: Path | None) -> Ed25519PrivateKey:
    """Reads the key that signs the log; by default the key that the run created."""
    return read_signing_key(key or folder / SIGNING_KEY)
