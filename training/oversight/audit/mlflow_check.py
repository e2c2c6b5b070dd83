"""Compares MLflow with the audit log: each run, artifact, model version and alias."""

from __future__ import annotations

import hashlib
import math
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from callsieve.features.files.progress import Progress, silent
from callsieve.features.files.strict_json import decode
from callsieve.serving.rules.strata import STRATA
from callsieve.training.language import gettext, words
from callsieve.training.oversight.log.audit_log import MOVES
from callsieve.training.oversight.log.payload_types import RunPayload, Section
from callsieve.training.oversight.log.run_paths import SQLITE, sqlite_path
from callsieve.training.tracking import mlflow_read, mlflow_write

from .content import Content, Fault
from .entry_check import CARD

ALIASES = (mlflow_write.ALIAS, mlflow_write.CHAMPION)  # aliases that the project moves
LOAD_NOTE = "model/registered_model_meta"  # `mlflow.pyfunc.load_model` writes it beside the model that it loads
MAX_SHOWN = 60
CERTIFIED = {"model_benign_error_bound": "bound", "model_false_calls": "false_calls"}  # metrics of the certificate
ALIKE = 0.85  # ratio of SequenceMatcher; one letter of nine differs: 0.89


def store_faults(uri: str, content: Content, progress: Progress = silent) -> tuple[list[Fault], list[Fault]]:
    """Returns every difference between the store and the log, and notes on other work in the store."""
    if wrong := store_fault(uri):
        return [Fault(gettext("store"), wrong)], []
    faults, runs, own = list[Fault](), list(content.runs.values()), content.log_id
    registry = mlflow_read.registry(uri)
    others = {  # versions of runs that another log has; one store serves the logs of several runs
        version
        for version, facts in registry["versions"].items()
        if (log := mlflow_read.log_of(uri, facts["run"])) and log != own
    }
    for position, payload in enumerate(runs):
        progress(f"run {position + 1}/{len(runs)}", position / len(runs))
        faults += run_faults(uri, payload)
    versions = {version: facts for version, facts in registry["versions"].items() if version not in others}
    faults += version_faults(versions, runs, content.unnamed)
    expected_aliases = aliases(content)
    current_aliases = {
        name: to for name, to in registry["aliases"].items() if name in expected_aliases or name not in ALIASES
    }
    faults += alias_faults(current_aliases, expected_aliases, others)
    faults += differences(gettext("registered model"), {}, registry["notes"])
    named, notes = name_faults(uri, {payload["run"] for payload in runs})
    unlogged, unfinished = unlogged_runs(uri, content)
    return faults + named + unlogged, notes + unfinished


def unlogged_runs(uri: str, content: Content) -> tuple[list[Fault], list[Fault]]:
    """Returns a fault for each run in MLflow that the log does not know, and notes on trainings that did not finish.

    Runs of other logs are left out.
    """
    runs, own = content.runs.values(), content.log_id
    experiments = {payload["record"]["run"]["experiment_id"] for payload in runs}
    logged, statuses = {payload["run"] for payload in runs}, mlflow_read.all_runs(uri, experiments, own)
    logs = {run: mlflow_read.log_of(uri, run) for run in sorted(statuses.keys() - logged)}
    unknown = [run for run, log in logs.items() if log in ("", own)]
    # A training enters its gates first. One that then fails may leave an unfinished run of this log.
    begun = sum(entry.kind == "gates" for entry in content.entries) - len(
        {payload["gates"]["entry"] for payload in runs}
    )
    failed = [run for run in unknown if logs[run] == own and own and statuses[run] != "FINISHED"][: max(begun, 0)]
    unknown = [run for run in unknown if run not in failed]
    notes = [
        Fault(run_place(run), gettext("(%(status)s): a training of this log that did not finish", status=statuses[run]))
        for run in failed
    ]
    if len(unknown) <= content.unnamed:
        return [], notes
    return [
        Fault(run_place(run), gettext("(%(status)s): is in MLflow, but not in the log", status=statuses[run]))
        for run in unknown
    ], notes


def name_faults(uri: str, runs: Collection[str]) -> tuple[list[Fault], list[Fault]]:
    """Returns faults of experiments and models that may be taken for callsieve's, and notes on all other ones."""
    faults, notes = [], []
    own = ("Default", mlflow_write.EXPERIMENT, mlflow_write.experiment_name())
    for name in mlflow_read.experiment_names(uri):
        where = gettext("experiment %(name)s", name=repr(name))
        if is_like(name, mlflow_write.EXPERIMENT):
            faults.append(Fault(where, gettext("is named like %(own)s", own=mlflow_write.EXPERIMENT)))
        elif name not in own and not name.startswith(tuple(f"{experiment} " for experiment in own)):
            notes.append(Fault(where, gettext("its runs are not of this log")))
    for name, of_model in mlflow_read.other_models(uri).items():
        where, ours = gettext("registered model %(name)s", name=repr(name)), sorted(of_model.keys() & set(ALIASES))
        if is_like(name, mlflow_write.MODEL):
            faults.append(Fault(where, gettext("is named like %(own)s", own=mlflow_write.MODEL)))
        elif any(of_model[alias] in runs for alias in ours):
            faults.append(Fault(where, gettext("has the alias %(alias)s on a run of this log", alias=ours[0])))
        elif ours:
            notes.append(Fault(where, gettext("has the alias %(alias)s, too; it is not of this log", alias=ours[0])))
    return faults, notes


def is_like(name: str, own: str) -> bool:
    """Returns whether another name may be taken for an own one. A name that goes on after the own one is another.

    >>> [is_like(name, "callsieve") for name in ("cаllsieve", "callsieve", "callsieve2", "Callsieve ", "churn")]
    [True, False, False, True, False]
    """
    plain = name.casefold().strip()
    differs = plain == own or not plain.startswith(own)
    return name != own and differs and SequenceMatcher(None, plain, own).ratio() > ALIKE


def store_fault(uri: str) -> str:
    """Returns the fault of an SQLite store's file, or "" if it is sound.

    MLflow would create a missing file, and fails without a clear message on a damaged one.
    """
    path = Path(uri.removeprefix(SQLITE)).resolve()
    if not uri.startswith(SQLITE):
        return ""
    if not path.is_file():
        return gettext("%(path)s does not exist", path=path)
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            result = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        result = str(error)
    return "" if result == "ok" else gettext("%(path)s is not sound: %(why)s", path=path, why=" ".join(result.split()))


def is_missing(uri: str) -> bool:
    """Returns whether a store is an SQLite file that does not exist."""
    path = sqlite_path(uri)
    return path is not None and not path.exists()


def run_place(run: str) -> str:
    """Returns the place of a fault in a run in MLflow."""
    return gettext("run %(run)s", run=run)


def section_place(run: str, section: str) -> str:
    """Returns the place of a fault in a section of a run, such as its metrics."""
    return gettext("%(run)s, %(section)s", run=run, section=words(section))


def run_faults(uri: str, payload: RunPayload) -> Iterator[Fault]:
    """Yields every difference between a run in MLflow and its record in the log."""
    where = run_place(payload["run"])
    try:
        stored = mlflow_read.snapshot(uri, payload["run"])
    except ValueError as error:
        yield Fault(where, str(error))
        return
    for section, logged in payload["record"].items():
        shown = without_load_note(stored[section], payload["version"]) if section == "artifact" else stored[section]
        yield from differences(section_place(where, section), logged, shown)
    if stored["artifact"].get(CARD, "") == payload["record"]["artifact"].get(CARD):
        yield from certificate_faults(
            where, payload["record"]["metric"], mlflow_read.artifact_bytes(uri, payload["run"], CARD)
        )


def without_load_note(artifacts: Section, version: str) -> Section:
    """Returns the artifacts of a run without the file in which MLflow notes a load of the registered model.

    The file counts as an artifact if it says anything else than the name and the version of the model.
    """
    note = f"model_name: {mlflow_write.MODEL}\nmodel_version: '{version}'\n"
    is_note = artifacts.get(LOAD_NOTE) == hashlib.sha256(note.encode()).hexdigest()
    return {name: digest for name, digest in artifacts.items() if not (is_note and name == LOAD_NOTE)}


def certificate_faults(where: str, metrics: Mapping[str, float], card: bytes) -> Iterator[Fault]:
    """Yields a fault for each metric that the certificate in the bundle contradicts.

    An adaptation that learnt nothing keeps the certificate of its base, from the calls of the base; its metrics are of
    other calls, so they are not compared. Nor are those of a band that abstains for all calls: it certifies none.
    """
    metadata = decode(card)
    band = metadata["thresholds"][0]
    if metadata["training"].get("base", {}).get("learnt") == "nothing" or set(STRATA) <= set(band["silent"]):
        return
    certificate = band["certificate"]
    for metric, field in CERTIFIED.items():
        if metric in metrics and not math.isclose(metrics[metric], certificate[field], rel_tol=1e-9):
            own, proven = f"{metrics[metric]:g}", f"{certificate[field]:g}"
            what = gettext("is %(own)s, the certificate in the bundle has %(proven)s", own=own, proven=proven)
            yield Fault(f"{section_place(where, 'metric')} {metric}", what)


def differences(where: str, logged: Section, stored: Section) -> Iterator[Fault]:
    """Yields a fault for each name whose value differs, is missing, or was added."""
    for name in sorted(logged.keys() | stored.keys()):
        if name not in stored:
            yield Fault(f"{where} {name}", gettext("is gone"))
        elif name not in logged:
            yield Fault(f"{where} {name}", gettext("was added afterwards"))
        elif logged[name] != stored[name]:
            then, now = _short(logged[name]), _short(stored[name])
            yield Fault(f"{where} {name}", gettext("logged as %(then)s, now %(now)s", then=then, now=now))


def version_faults(stored: Mapping[str, Section], runs: Sequence[RunPayload], unnamed: int) -> Iterator[Fault]:
    """Yields a fault for each model version that differs from the log, is gone, or was never logged."""
    logged = {payload["version"]: payload for payload in runs if payload["version"]}
    for version, payload in logged.items():
        where = gettext("model version %(version)s", version=version)
        if version not in stored:
            yield Fault(where, gettext("is gone"))
        else:
            yield from differences(where, payload["registered"], stored[version])
    unknown = sorted(stored.keys() - logged.keys())
    if len(unknown) > unnamed:
        what = gettext("is in MLflow, but not in the log")
        yield from (Fault(gettext("model version %(version)s", version=version), what) for version in unknown)


def aliases(content: Content) -> dict[str, str | None]:
    """Returns the model version to which each alias must point; None if it must not exist.

    An alias whose last move is in an erased or incomplete entry is left out.
    """
    of_runs = {
        index: run["version"] if run["record"]["tag"].get(mlflow_write.ALIAS) != "false" else ""
        for index, run in content.runs.items()
    }
    of_moves = {index: str(move.get("version")) for index, move in content.moves.items()}
    expected: dict[str, str | None] = {}
    for alias, kinds, versions in ((mlflow_write.ALIAS, ("run",), of_runs), (mlflow_write.CHAMPION, MOVES, of_moves)):
        # A run without a bundle, or whose model is no candidate, moves no alias.
        movers = [e.index for e in content.entries if e.kind in kinds and versions.get(e.index) != ""]
        if not movers or movers[-1] in versions:
            expected[alias] = versions[movers[-1]] if movers else None
    return expected


def alias_faults(
    current: Mapping[str, str], expected: Mapping[str, str | None], others: Collection[str]
) -> Iterator[Fault]:
    """Yields a fault for each alias that differs from its last move in the log, or that the log never moved."""
    for name in sorted(current.keys() | expected.keys()):
        version = expected.get(name) or None
        to = current.get(name)
        if (
            to is not None
            and to in others
            and (version is None or (name == mlflow_write.ALIAS and int(to) > int(version)))
        ):
            continue
        if version != to:
            then, now = (
                gettext("version %(version)s", version=number) if number else gettext("nothing")
                for number in (version, to)
            )
            what = gettext("logged as pointing to %(then)s, now to %(now)s", then=then, now=now)
            yield Fault(gettext("alias %(name)s", name=name), what)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= MAX_SHOWN else f"{shown[: MAX_SHOWN - 3]}..."
