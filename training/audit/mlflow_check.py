"""Compares MLflow with the audit log: each run, artifact, model version and alias."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callsieve.features.files.progress import silent
from callsieve.training.log.audit_log import Entry
from callsieve.training.log.run_paths import SQLITE
from callsieve.training.tracking import mlflow_read, mlflow_write

from .fault import Fault

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress

MOVES = ("promotion", "rollback")
ALIASES = (mlflow_write.ALIAS, mlflow_write.CHAMPION)  # that the project moves
LOGGED = ("run", "version", "registered", "record")  # of a run: what the store is held to
SHOWN = 60

Told = Sequence[tuple[Entry, Mapping[str, Any]]]


def store_faults(uri: str, entries: Sequence[Entry], told: Told, tell: Progress = silent) -> list[Fault]:
    """Returns every difference between the store and the log.

    Args:
        entries: entries of the log; some payloads may be erased.
        told: those that still say something, with what they say.
    """
    faults = [Fault(f"entry {entry.index}", unsaid(payload)) for entry, payload in told if poor(entry, payload)]
    if wrong := store_fault(uri):
        return [*faults, Fault("store", wrong)]
    runs = [payload for entry, payload in told if entry.kind == "run" and not poor(entry, payload)]
    silent = sum(entry.kind == "run" for entry in entries) - len(runs)
    found = mlflow_read.registry(uri)
    for place, payload in enumerate(runs):
        tell(f"run {place + 1}/{len(runs)}", place / len(runs))
        faults += run_faults(uri, payload)
    faults += version_faults(found["versions"], runs, silent)
    wanted = aliases(entries, told)
    known = {name: to for name, to in found["aliases"].items() if name in wanted or name not in ALIASES}
    faults += alias_faults(known, wanted)
    faults += differences("registered model", {}, found["notes"])
    experiments = {payload["record"]["run"]["experiment_id"] for payload in runs}
    unknown = sorted(set(mlflow_read.finished_runs(uri, experiments)) - {payload["run"] for payload in runs})
    # A run whose payload was erased, or says too little, has no name in the log any more.
    if len(unknown) > silent:
        faults += [Fault(f"run {run}", "stands in MLflow, not in the log") for run in unknown]
    return faults


def store_fault(uri: str) -> str:
    """What is wrong with the file of an SQLite store: MLflow would make a missing one, and asks a torn one in vain."""
    path = Path(uri.removeprefix(SQLITE)).resolve()
    if not uri.startswith(SQLITE):
        return ""
    if not path.is_file():
        return f"{path} is not there"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            found = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        found = str(error)
    return "" if found == "ok" else f"{path} is not sound: {' '.join(found.split())}"


def poor(entry: Entry, payload: Mapping[str, Any]) -> bool:
    """Whether a run's entry lacks fields that are compared, as entries of earlier versions do."""
    return entry.kind == "run" and not payload.keys() >= set(LOGGED)


def unsaid(payload: Mapping[str, Any]) -> str:
    """What the entry of a run does not say."""
    return f"says nothing of {', '.join(name for name in LOGGED if name not in payload)}: its run is not compared"


def run_faults(uri: str, payload: Mapping[str, Any]) -> Iterator[Fault]:
    """What MLflow says of a run that the log does not, and the other way round."""
    where = f"run {payload['run']}"
    try:
        found = mlflow_read.snapshot(uri, payload["run"])
    except ValueError as error:
        yield Fault(where, str(error))
        return
    for section, logged in payload["record"].items():
        yield from differences(f"{where}, {section}", logged, found[section])


def differences(where: str, logged: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Fault]:
    """Yields a fault for each name whose value differs, is missing, or was added."""
    for name in sorted(logged.keys() | found.keys()):
        if name not in found:
            yield Fault(f"{where} {name}", "is gone")
        elif name not in logged:
            yield Fault(f"{where} {name}", "was added afterwards")
        elif logged[name] != found[name]:
            yield Fault(f"{where} {name}", f"logged as {_short(logged[name])}, now {_short(found[name])}")


def version_faults(
    found: Mapping[str, Mapping[str, Any]], runs: Sequence[Mapping[str, Any]], silent: int
) -> Iterator[Fault]:
    """Versions of the registered model that lead elsewhere than logged, are gone, or were never logged."""
    logged = {payload["version"]: payload for payload in runs if payload["version"]}
    for version, payload in logged.items():
        where = f"model version {version}"
        if version not in found:
            yield Fault(where, "is gone")
        else:
            logged_then = payload["registered"]
            # An entry of an earlier version does not say when MLflow made its version.
            now = {
                name: word
                for name, word in found[version].items()
                if name != mlflow_read.CREATED or name in logged_then
            }
            yield from differences(where, logged_then, now)
    unknown = sorted(found.keys() - logged.keys())
    if len(unknown) > silent:
        yield from (Fault(f"model version {version}", "stands in MLflow, not in the log") for version in unknown)


def aliases(entries: Sequence[Entry], told: Told) -> dict[str, str | None]:
    """Where each alias must point: None is nowhere. One that an erased entry moved last is left out."""
    said = {entry.index: payload.get("version") for entry, payload in told if entry.kind in ("run", *MOVES)}
    wanted: dict[str, str | None] = {}
    for alias, kinds in ((mlflow_write.ALIAS, ("run",)), (mlflow_write.CHAMPION, MOVES)):
        movers = [entry.index for entry in entries if entry.kind in kinds]
        if not movers or movers[-1] in said:
            wanted[alias] = said[movers[-1]] if movers else None
    return wanted


def alias_faults(found: Mapping[str, str], wanted: Mapping[str, str | None]) -> Iterator[Fault]:
    """Aliases that do not point where the log moved them last, or that it never moved."""
    for name in sorted(found.keys() | wanted.keys()):
        version = wanted.get(name) or None
        if version != found.get(name):
            to, now = (f"version {one}" if one else "nothing" for one in (version, found.get(name)))
            yield Fault(f"alias {name}", f"logged as pointing to {to}, now to {now}")


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= SHOWN else f"{shown[: SHOWN - 3]}..."
