"""Compares the copies of a run's artifacts in its folder with the hashes in the audit log.

People open these copies, and scorers load this bundle, while MLflow keeps its own artifacts. The audit page is not
compared, because `callsieve audit page` writes it again; nor are files that are no artifacts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from callsieve.features.files.atomic import sha256
from callsieve.serving.bundle.signing import SIGNER

from .fault import Fault
from .mlflow_check import differences

FOLDERS = ("bundle", "documents", "plots", "record", "tables")
ELSEWHERE = {"report/report.html": "report.html", f"record/{SIGNER}": SIGNER}  # artifacts with a copy of another name


def copy_faults(folder: Path, runs: Sequence[Mapping[str, Any]]) -> tuple[int, list[Fault]]:
    """How many copies in a folder were compared with what the log says, and a fault for each that is another or gone.

    Args:
        runs: what the log says of runs. The folder is of the one that most of its files are of: a log may tell of
            several. A folder without any of their files, such as one that holds a log alone, is of none.
    """
    logged = [copies_of(run["record"]["artifact"]) for run in runs]
    names = {name for told in logged for name in told}
    there = {name: sha256(folder / name) for name in names if (folder / name).is_file()}
    if not there:
        return 0, []
    own = max(logged, key=lambda told: sum(there.get(name) == hashed for name, hashed in told.items()))
    return len(own), list(differences("copy", own, {name: there[name] for name in own.keys() & there.keys()}))


def copies_of(artifacts: Mapping[str, str]) -> dict[str, str]:
    """Returns the hash that each copy must have, by its path in the run's folder."""
    same = {path: hashed for path, hashed in artifacts.items() if path.partition("/")[0] in FOLDERS}
    return same | {name: artifacts[path] for path, name in ELSEWHERE.items() if path in artifacts}
