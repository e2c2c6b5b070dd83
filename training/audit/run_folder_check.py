"""Compares the copies of a run's artifacts in its folder with the hashes in the audit log.

People open these copies, and scorers load this bundle, while MLflow keeps its own artifacts. The audit page is not
compared, because `callsieve audit page` writes it again; nor are files that are not artifacts.
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
ELSEWHERE = {"report/report.html": "report.html", f"record/{SIGNER}": SIGNER}  # artifacts whose copy has another name


def copy_faults(folder: Path, runs: Sequence[Mapping[str, Any]]) -> tuple[int, list[Fault]]:
    """Returns the number of copies in a folder that were compared with the log, and a fault for each difference.

    Args:
        folder: folder of a run. It belongs to the run that most of its files match, since a log may have several runs.
            If it has no file of any run, such as a folder with only a log, nothing is compared.
        runs: payloads of the runs' entries.
    """
    logged = [copies_of(run["record"]["artifact"]) for run in runs]
    names = {name for hashes in logged for name in hashes}
    present = {name: sha256(folder / name) for name in names if (folder / name).is_file()}
    if not present:
        return 0, []
    expected = max(logged, key=lambda hashes: sum(present.get(name) == digest for name, digest in hashes.items()))
    return len(expected), list(
        differences("copy", expected, {name: present[name] for name in expected.keys() & present.keys()})
    )


def copies_of(artifacts: Mapping[str, str]) -> dict[str, str]:
    """Returns the hash that each copy must have, by its path in the run's folder."""
    paths = {path.removeprefix("model/") if path.startswith("model/bundle/") else path: path for path in artifacts}
    copies = {name: artifacts[path] for name, path in paths.items() if name.partition("/")[0] in FOLDERS}
    return copies | {name: artifacts[path] for path, name in ELSEWHERE.items() if path in artifacts}
