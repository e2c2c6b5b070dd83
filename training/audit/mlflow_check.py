"""Compares MLflow with the audit log: each run, artifact, model version and alias."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
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
ALIASES = (mlflow_write.ALIAS, mlflow_write.CHAMPION)  # aliases that the project moves
LOGGED = ("run", "version", "registered", "record")  # fields of a run's entry that are compared with the store
MAX_SHOWN = 60

Payloads = Sequence[tuple[Entry, Mapping[str, Any]]]


def store_faults(uri: str, entries: Sequence[Entry], payloads: Payloads, progress: Progress = silent) -> list[Fault]:
    """Returns every difference between the store and the log.

    Args:
        entries: entries of the log; some payloads may be erased.
        payloads: the entries that still have a payload, with it.
    """
    faults = [
        Fault(f"entry {entry.index}", missing_fields(payload))
        for entry, payload in payloads
        if lacks_fields(entry, payload)
    ]
    if wrong := store_fault(uri):
        return [*faults, Fault("store", wrong)]
    runs = [payload for entry, payload in payloads if entry.kind == "run" and not lacks_fields(entry, payload)]
    unnamed = sum(entry.kind == "run" for entry in entries) - len(runs)
    registry = mlflow_read.registry(uri)
    own = entries[0].leaf() if entries else ""
    others = {  # versions of runs that another log has; one store serves the logs of several runs
        version
        for version, facts in registry["versions"].items()
        if (log := mlflow_read.log_of(uri, facts["run"])) and log != own
    }
    for position, payload in enumerate(runs):
        progress(f"run {position + 1}/{len(runs)}", position / len(runs))
        faults += run_faults(uri, payload)
    versions = {version: facts for version, facts in registry["versions"].items() if version not in others}
    faults += version_faults(versions, runs, unnamed)
    expected_aliases = aliases(entries, payloads)
    current_aliases = {
        name: to for name, to in registry["aliases"].items() if name in expected_aliases or name not in ALIASES
    }
    faults += alias_faults(current_aliases, expected_aliases, others)
    faults += differences("registered model", {}, registry["notes"])
    experiments = {payload["record"]["run"]["experiment_id"] for payload in runs}
    unlogged = set(mlflow_read.finished_runs(uri, experiments)) - {payload["run"] for payload in runs}
    unknown = sorted(run for run in unlogged if mlflow_read.log_of(uri, run) in ("", own))
    # The log does not name the run of an entry whose payload is erased or incomplete.
    if len(unknown) > unnamed:
        faults += [Fault(f"run {run}", "is in MLflow, but not in the log") for run in unknown]
    return faults


def store_fault(uri: str) -> str:
    """Returns the fault of an SQLite store's file, or "" if it is sound.

    MLflow would create a missing file, and fails without a clear message on a damaged one.
    """
    path = Path(uri.removeprefix(SQLITE)).resolve()
    if not uri.startswith(SQLITE):
        return ""
    if not path.is_file():
        return f"{path} does not exist"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            result = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        result = str(error)
    return "" if result == "ok" else f"{path} is not sound: {' '.join(result.split())}"


def lacks_fields(entry: Entry, payload: Mapping[str, Any]) -> bool:
    """Returns whether a run's entry lacks fields that are compared; entries of earlier versions do."""
    return entry.kind == "run" and not payload.keys() >= set(LOGGED)


def missing_fields(payload: Mapping[str, Any]) -> str:
    """Returns a sentence that names the missing fields of a run's entry."""
    return f"has no {', '.join(name for name in LOGGED if name not in payload)}: its run is not compared"


def run_faults(uri: str, payload: Mapping[str, Any]) -> Iterator[Fault]:
    """Yields every difference between a run in MLflow and its record in the log."""
    where = f"run {payload['run']}"
    try:
        stored = mlflow_read.snapshot(uri, payload["run"])
    except ValueError as error:
        yield Fault(where, str(error))
        return
    for section, logged in payload["record"].items():
        yield from differences(f"{where}, {section}", logged, stored[section])


def differences(where: str, logged: Mapping[str, Any], stored: Mapping[str, Any]) -> Iterator[Fault]:
    """Yields a fault for each name whose value differs, is missing, or was added."""
    for name in sorted(logged.keys() | stored.keys()):
        if name not in stored:
            yield Fault(f"{where} {name}", "is gone")
        elif name not in logged:
            yield Fault(f"{where} {name}", "was added afterwards")
        elif not same(logged[name], stored[name]):
            yield Fault(f"{where} {name}", f"logged as {_short(logged[name])}, now {_short(stored[name])}")


def same(logged: Any, stored: Any) -> bool:
    """Returns whether a value is as logged; entries of earlier versions have absolute places beside the store."""
    relative = isinstance(stored, str) and stored.startswith("./") and isinstance(logged, str)
    return bool(logged == stored or (relative and logged.endswith(stored[1:])))


def version_faults(
    stored: Mapping[str, Mapping[str, Any]], runs: Sequence[Mapping[str, Any]], unnamed: int
) -> Iterator[Fault]:
    """Yields a fault for each model version that differs from the log, is gone, or was never logged."""
    logged = {payload["version"]: payload for payload in runs if payload["version"]}
    for version, payload in logged.items():
        where = f"model version {version}"
        if version not in stored:
            yield Fault(where, "is gone")
        else:
            expected = payload["registered"]
            # Entries of earlier versions lack the time at which MLflow created the model version.
            current = {
                name: value
                for name, value in stored[version].items()
                if name != mlflow_read.CREATED or name in expected
            }
            yield from differences(where, expected, current)
    unknown = sorted(stored.keys() - logged.keys())
    if len(unknown) > unnamed:
        yield from (Fault(f"model version {version}", "is in MLflow, but not in the log") for version in unknown)


def aliases(entries: Sequence[Entry], payloads: Payloads) -> dict[str, str | None]:
    """Returns the model version to which each alias must point; None if it must not exist.

    An alias whose last move is in an erased entry is left out.
    """
    versions = {entry.index: payload.get("version") for entry, payload in payloads if entry.kind in ("run", *MOVES)}
    expected: dict[str, str | None] = {}
    for alias, kinds in ((mlflow_write.ALIAS, ("run",)), (mlflow_write.CHAMPION, MOVES)):
        # A run without a bundle moves no alias.
        movers = [entry.index for entry in entries if entry.kind in kinds and versions.get(entry.index) != ""]
        if not movers or movers[-1] in versions:
            expected[alias] = versions[movers[-1]] if movers else None
    return expected


def alias_faults(
    current: Mapping[str, str], expected: Mapping[str, str | None], others: Collection[str]
) -> Iterator[Fault]:
    """Yields a fault for each alias that differs from its last move in the log, or that the log never moved.

    Args:
        others: versions of runs that another log has. That log may move an alias that this one has never moved, and
            its newer run is the candidate.
    """
    for name in sorted(current.keys() | expected.keys()):
        version = expected.get(name) or None
        to = current.get(name)
        if (
            to is not None
            and to in others
            and (version is None or (name == mlflow_write.ALIAS and int(to) > int(version)))
        ):
            continue
        if version != current.get(name):
            logged_as, points_to = (
                f"version {number}" if number else "nothing" for number in (version, current.get(name))
            )
            yield Fault(f"alias {name}", f"logged as pointing to {logged_as}, now to {points_to}")


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= MAX_SHOWN else f"{shown[: MAX_SHOWN - 3]}..."
