"""Paths of a run: its audit log, by default in the run's folder, and its MLflow store.

The store is, in this order: the given one; the one that the run was recorded in; the one that MLFLOW_TRACKING_URI
names, which `mlflow.set_tracking_uri` also sets; `mlruns.db` in the working folder, so that the runs of a project are
side by side.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from callsieve.features.files.atomic import write_atomic
from callsieve.serving.bundle.signing import AUDIT

SQLITE = "sqlite:///"
SHARED = "mlruns.db"  # store of a working folder
ARTIFACTS = "mlartifacts"  # beside a store
RECORDED = "tracking.json"  # in a run's folder: where its store is


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Folder of the audit log, and URI of the MLflow store."""

    log: Path
    uri: str


def run_paths(folder: Path, log: Path | None, uri: str | None) -> RunPaths:
    """Returns the paths of a run's folder; `log` and `uri` replace the defaults."""
    return RunPaths(log_folder(folder, log), uri or recorded_store(folder) or working_store())


def working_store() -> str:
    """Returns the URI of the store that MLflow is set to, or of the one of the working folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{Path(SHARED).resolve()}"


def default_store(folder: Path) -> str:
    """Returns the URI of a SQLite store of a folder alone; earlier versions had one for each run."""
    return f"{SQLITE}{(folder / 'mlflow.db').resolve()}"


def recorded_store(folder: Path) -> str:
    """Returns the URI of the SQLite store that a run was recorded in; "" if its folder has none and names none."""
    path = folder / RECORDED
    if path.exists():
        try:
            return f"{SQLITE}{(folder / json.loads(path.read_text(encoding='utf-8'))['store']).resolve()}"
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: expected the place of a store: {error}") from None
    return default_store(folder) if (folder / "mlflow.db").exists() else ""


def record_store(folder: Path, uri: str) -> None:
    """Notes in a run's folder where its SQLite store is, relative to the folder, so that both can move together.

    The URI of a server is not written, because it may have a password.
    """
    if (path := sqlite_path(uri)) is not None:
        place = os.path.relpath(path, folder.resolve())
        write_atomic(folder / RECORDED, (json.dumps({"store": place}) + "\n").encode())


def sqlite_path(uri: str) -> Path | None:
    """Returns the file of a SQLite store; None for a server and for a store in memory."""
    name = uri.removeprefix(SQLITE)
    return Path(name).resolve() if uri.startswith(SQLITE) and name else None


def artifact_folder(uri: str) -> Path:
    """Returns the folder for the artifacts of a store that is not a server: beside a SQLite store."""
    path = sqlite_path(uri)
    return (path.parent if path is not None else Path.cwd()) / ARTIFACTS


def log_folder(folder: Path, log: Path | None) -> Path:
    """Returns the folder of the audit log."""
    return log or folder / AUDIT
