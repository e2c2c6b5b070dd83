"""Compares the copies of a run's artifacts in its folder with the hashes in the audit log.

People open these copies, and scorers load this bundle, while MLflow keeps its own artifacts. Files beside the folders
of artifacts are not compared.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from callsieve.features.files.atomic import sha256
from callsieve.serving.bundle.signing import SIGNER, SIGNING_KEY, read_signing_key
from callsieve.training.language import gettext, phrase
from callsieve.training.oversight.log.payload_types import RunPayload

from .content import Fault
from .mlflow_check import differences

FOLDERS = ("bundle", "documents", "plots", "record", "tables")
ELSEWHERE = {  # artifacts whose copy has another name
    "report/report.html": "report.html",
    "report/audit.html": "audit.html",
    f"record/{SIGNER}": SIGNER,
    "model/bundle.provenance.json": "bundle.provenance.json",
}


def copy_faults(folder: Path, runs: Collection[RunPayload]) -> tuple[int, list[Fault]]:
    """Returns the number of copies in a folder that were compared with the log, and a fault for each difference.

    Args:
        folder: folder of a run. It belongs to the run that most of its files match, since a log may have several runs.
        runs: payloads of the runs' entries.
    """
    logged = [copies_of(run["record"]["artifact"]) for run in runs]
    names = {name for hashes in logged for name in hashes}
    present = {name: sha256(folder / name) for name in names if (folder / name).is_file()}
    if not present:
        what = gettext("%(folder)s has no file of a run to compare; expected --in FOLDER of a run", folder=folder)
        return 0, [Fault(gettext("folder"), what)] if runs else []
    expected = max(logged, key=lambda hashes: sum(present.get(name) == digest for name, digest in hashes.items()))
    for name in FOLDERS:
        files = (path.relative_to(folder).as_posix() for path in (folder / name).rglob("*") if path.is_file())
        present |= {path: "added" for path in files if path not in present}
    named = {name: digest for name, digest in present.items() if name in expected or name not in names}
    return len(expected), list(differences(gettext("copy"), expected, named))


def key_faults(folder: Path, log_key: Ed25519PublicKey) -> tuple[list[Fault], list[Fault]]:
    """Returns the faults of a private key in a run's folder, and a note that it should not be there."""
    path = folder / SIGNING_KEY
    if not path.exists():
        return [], []
    what = gettext("the private key lies beside the log that it signs; move it to your key folder")
    note = Fault(SIGNING_KEY, what)
    if (mode := path.stat().st_mode & 0o777) & 0o077:
        octal = f"{mode:o}"
        what = gettext("mode %(mode)s: other users may use it; expected mode 600", mode=octal)
        return [Fault(SIGNING_KEY, what)], [note]
    try:
        signs = read_signing_key(path).public_key().public_bytes_raw() == log_key.public_bytes_raw()
    except ValueError as error:
        return [Fault(SIGNING_KEY, phrase(str(error)))], [note]
    return [] if signs else [Fault(SIGNING_KEY, gettext("is not the key of the log"))], [note]


def copies_of(artifacts: Mapping[str, str]) -> dict[str, str]:
    """Returns the hash that each copy must have, by its path in the run's folder."""
    paths = {path.removeprefix("model/") if path.startswith("model/bundle/") else path: path for path in artifacts}
    copies = {name: artifacts[path] for name, path in paths.items() if name.partition("/")[0] in FOLDERS}
    return copies | {name: artifacts[path] for path, name in ELSEWHERE.items() if path in artifacts}
