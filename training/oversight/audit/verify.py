"""Verifies the audit log, and MLflow and a run's folder against it; reports every fault with its place.

People open the copies of artifacts in a run's folder, and scorers load its bundle, while MLflow keeps its own
artifacts. Files beside the folders of artifacts are not compared. Declarations and steps of complaints in the folder
are compared with their entries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from callsieve.features.files.atomic import sha256
from callsieve.features.files.progress import Progress, silent, steps
from callsieve.serving.bundle.signing import AUDIT, SIGNER, SIGNING_KEY, key_id, read_public_key, read_signing_key
from callsieve.serving.custody import purposes
from callsieve.training.language import gettext, phrase
from callsieve.training.oversight.log import audit_log
from callsieve.training.oversight.log.audit_log import HEAD, PUBLIC_KEY
from callsieve.training.oversight.log.folder_log import COMPLAINT, STEPS_FILE
from callsieve.training.oversight.log.payload_types import RunPayload

from .anchors import Anchors, anchor, witness_faults
from .content import Content, Fault, entry_place, read_content
from .entry_check import move_faults, run_faults
from .log_check import date_faults, file_faults, head_faults, missing, order_faults, read_heads, read_lines, root_faults
from .mlflow_check import differences, is_missing, store_faults

FOLDERS = ("bundle", "documents", "plots", "record", "tables")
ELSEWHERE = {  # artifacts whose copy has another name
    "report/report.html": "report.html",
    "report/audit.html": "audit.html",
    f"record/{SIGNER}": SIGNER,
    "model/bundle.provenance.json": "bundle.provenance.json",
}
_STEP = ("complaint", "status", "note", "entered")


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of a verification.

    Attributes:
        entries: number of entries.
        root: Merkle root over all entries, in hex.
        erased: indices of the entries whose payload was erased.
        runs: number of runs that were compared with MLflow.
        copies: number of files in the run's folder that were compared with the log.
        touches: number of looks at each test fold.
        faults: all faults, without repetitions.
        anchor: what the result rests on, in words.
        notes: what is no fault, but a reviewer should know.
    """

    entries: int
    root: str
    erased: tuple[int, ...]
    runs: int
    copies: int
    touches: Mapping[str, int]
    faults: tuple[Fault, ...]
    anchor: str
    notes: tuple[Fault, ...]

    def to_json(self) -> dict[str, object]:
        """Returns plain values for JSON."""
        return {"sound": not self.faults, **asdict(self)}


def verify(
    folder: Path,
    *,
    uri: str | None = None,
    anchors: Anchors = Anchors(),  # noqa: B008 - immutable
    run_folder: Path | None = None,
    progress: Progress = silent,
) -> Verified:
    """Verifies the log of a folder."""
    audit_log.require(folder)
    step_progress = steps(progress, {"log": 1, "store": 0 if uri is None else 9})
    step_progress["log"]("log", 0.0)
    key = read_public_key(anchors.trust or folder / PUBLIC_KEY)
    with audit_log.read_locked(folder):
        lines, faults = read_lines(folder, key)
        faults += order_faults(lines) + date_faults(lines) + root_faults(lines) + file_faults(folder)
        signed_heads, unreadable = read_heads([folder / HEAD, *anchors.heads], key)
        witnesses, unsigned = anchors.read_witnesses(key)
        faults += unreadable + unsigned
        signed_heads += [(seen.name, seen.head) for seen in witnesses]
        faults += [fault for name, head in signed_heads for fault in head_faults(name, head, lines)]
        faults += missing(lines, faults, max((head.size for _, head in signed_heads), default=0))
        faults += witness_faults(witnesses, lines)
        entries = [line.entry for line in lines if not line.wrong]
        content, payload_faults = read_content(folder, entries, {fault.where for fault in faults})
        faults += payload_faults
    if not is_key(folder / PUBLIC_KEY, key):
        faults.append(Fault(PUBLIC_KEY, gettext("is not the key that --trust names")))
    faults += run_faults(content) + move_faults(content, key_id(key), anchors.gates_owner())
    notes = [
        Fault(entry_place(index), gettext("its content was erased, as entry %(by)s records", by=by))
        for index, by in sorted(content.erased.items())
    ]
    if uri is not None and (content.runs or content.unnamed or not is_missing(uri)):
        of_store, of_others = store_faults(uri, content, step_progress["store"])
        faults += of_store
        notes += of_others
    copies = 0
    if run_folder is not None:
        copies, differing = copy_faults(run_folder, content.runs.values())
        if not content.runs and not content.unnamed:
            differing += stranger_faults(run_folder, folder)
        if folder.resolve() == (run_folder / AUDIT).resolve():
            differing += declaration_faults(run_folder, content) + step_faults(run_folder, content)
        of_key, beside = key_faults(run_folder, key)
        faults += differing + of_key
        notes += beside
    progress("verified", 1.0)
    return Verified(
        entries=len(lines),
        root=lines[-1].entry.head.root if lines else "",
        erased=tuple(sorted(content.erased)),
        runs=0 if uri is None else len(content.runs),
        copies=copies,
        touches=dict(Counter(touch["fold"] for touch in content.touches.values())),
        faults=tuple(dict.fromkeys(faults)),
        anchor=anchor(anchors, key_id(key), witnesses),
        notes=tuple(notes),
    )


def copy_faults(folder: Path, runs: Collection[RunPayload]) -> tuple[int, list[Fault]]:
    """Returns the number of copies in a folder that were compared with the log, and a fault for each difference."""
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


def is_key(path: Path, key: Ed25519PublicKey) -> bool:
    """Returns whether a file has this public key."""
    with suppress(ValueError):
        return read_public_key(path).public_bytes_raw() == key.public_bytes_raw()
    return False


def stranger_faults(folder: Path, log: Path) -> list[Fault]:
    """Returns a fault for each result of a run in a folder whose log has no run.

    A folder with a log of its own is left out if another log is verified.
    """
    if log.resolve() != (folder / AUDIT).resolve() and audit_log.has_log(folder / AUDIT):
        return []
    results = [name for name in (*FOLDERS, *ELSEWHERE.values()) if (folder / name).exists()]
    return [Fault(f"{folder.name}/{name}", gettext("is of no run in this log")) for name in results]


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


def declaration_faults(folder: Path, content: Content) -> list[Fault]:
    """Returns a fault if the declaration of a folder is not the newest one in its log; none if the log has none."""
    if not content.declarations:
        return []
    index, newest = max(content.declarations.items())
    try:
        present = purposes.declared_content(folder)
    except ValueError:
        present = {}
    if present == newest["declaration"]:
        return []
    entry = entry_place(index)
    what = gettext("differs from the declaration in %(entry)s: it was changed without an entry", entry=entry)
    return [Fault(purposes.FILE, what)]


def step_faults(folder: Path, content: Content) -> list[Fault]:
    """Returns a fault for each step of a complaint without an entry that has the same complaint, note and moment.

    As many steps may be without an entry as entries of steps were erased.
    """
    path = folder / STEPS_FILE
    rows = pq.read_table(path, columns=list(_STEP)).to_pylist() if path.is_file() else []
    entered = [tuple(payload[name] for name in _STEP) for payload in content.steps.values()]
    unknown = [row for row in rows if (*[row[name] for name in _STEP[:3]], _ms(row)) not in entered]
    erased = sum(entry.kind == COMPLAINT and entry.index in content.erased for entry in content.entries)
    if len(unknown) <= erased:
        return []
    what = gettext("has no entry: it was added or changed")
    return [Fault(f"{STEPS_FILE}, {row['complaint']}, {row['status']}", what) for row in unknown]


def _ms(row: dict[str, Any]) -> int:
    moment: datetime = row["entered"]
    return round(moment.timestamp() * 1000)
