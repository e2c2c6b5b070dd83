"""The record of a run to be manipulated, and edits with parameters: each returns a function of a `Record`."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

from callsieve.training.oversight.audit.promote import candidate
from callsieve.training.oversight.log import approvals, audit_log
from callsieve.training.oversight.log.audit_log import LOG, append, erase, payload_path, payloads
from callsieve.training.oversight.log.run_paths import RunPaths, default_store
from callsieve.training.tracking import mlflow_write
from tests.support import small_bundle as small
from tests.support.trainings import recorded_run


@dataclass
class Record:
    """A copy of a run's folder with log and store, and the anchors that were stored elsewhere."""

    folder: Path
    elsewhere: Path
    run: str

    @property
    def place(self):
        return RunPaths(self.folder / "audit", default_store(self.folder))

    @property
    def log(self):
        return self.folder / "audit"

    def sql(self, *statements):
        for statement in statements:
            with closing(sqlite3.connect(self.folder / "mlflow.db")) as database, database:
                assert database.execute(statement.format(run=self.run)).rowcount > 0, statement

    def artifact(self, name):
        return self.folder / "mlartifacts" / self.run / "artifacts" / name

    def lines(self):
        return (self.log / LOG).read_bytes().splitlines(keepends=True)

    def write(self, lines):
        (self.log / LOG).write_bytes(b"".join(lines))

    def payload(self, kind):
        return next(payload for _, payload in payloads(self.log, kind))

    def note(self, what):
        """Appends an entry of a decision, with the log's own key."""
        append(self.log, "policy", {"what": what, "why": "none"}, small.KEY)

    def rewrite(self, key=small.KEY, **changes):
        """Writes the whole log anew, and names it as the log of its run in MLflow.

        `changes` are functions of payloads by kind of entry; a payload of None leaves the entry out.
        """
        entries = [(entry.kind, payload) for entry, payload in payloads(self.log, *audit_log.KINDS)]
        shutil.rmtree(self.log)
        for kind, payload in entries:
            if kind == "run":
                own = payload["record"]["tag"][mlflow_write.LOG] = audit_log.log_id(self.log)
                self.sql(f"UPDATE tags SET value = '{own}' WHERE key = '{mlflow_write.LOG}'")  # noqa: S608
            changed = changes[kind](payload) if kind in changes else payload
            if changed is not None:
                append(self.log, kind, changed, key)

    def approval(self, key, name):
        """Returns a signed approval of the next move, as the log holds it."""
        path = self.elsewhere.parent / "forged.json"
        path.unlink(missing_ok=True)
        signer = approvals.approve(candidate(self.place, self.run).statement, key, path)
        return {**json.loads(path.read_bytes()), "key": signer, "by": name}


def sql(*statements):
    return lambda record: record.sql(*statements)


def edited(name):
    def edit(record):
        path = record.folder / name
        path.write_bytes(path.read_bytes() + b" ")

    return edit


def removed(*names):
    def remove(record):
        for name in names:
            path = record.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return remove


def artifact_edited(name):
    return lambda record: record.artifact(name).write_bytes(b"{}")


def artifact_added(name):
    return lambda record: record.artifact(name).write_text("an extra file")


def lines(change):
    return lambda record: record.write(change(record.lines()))


def promoted(**changes):
    """A promotion like the first, with the log's own key; a change is a value or a function of the record."""

    def add(record):
        values = {name: value(record) if callable(value) else value for name, value in changes.items()}
        append(record.log, "promotion", record.payload("promotion") | values, small.KEY)

    return add


def other_run(status, experiment=mlflow_write.EXPERIMENT):
    def create(record, tags=None):
        client = MlflowClient(record.place.uri)
        known = client.get_experiment_by_name(experiment)
        place = known.experiment_id if known else client.create_experiment(experiment)
        run = client.create_run(place, tags=tags).info.run_id
        if status != "RUNNING":
            client.set_terminated(run, status)

    return create


def approvals_of(*keys_and_names):
    return lambda record: [record.approval(key, name) for key, name in keys_and_names]


def run_forged(**changes):
    """The log has another run entry, written with its key: `changes` replace fields, those of `gates` one by one."""
    gates = changes.pop("gates", {})
    return lambda record: record.rewrite(run=lambda run: run | changes | {"gates": run["gates"] | gates})


def promoted_again(**changes):
    """A second promotion with valid approvals, whose comparison with the champion was never made."""
    won = {"better": True, "low": 0.1, "callers": 40, "margin": 0.0, "confidence": 0.95, "least_callers": 1}
    approved = approvals_of(*zip(recorded_run.APPROVERS[:2], recorded_run.OFFICES, strict=False))
    return promoted(**{"from": "1"}, approvals=approved, comparison=won | changes)


def erased(kind):
    """An erasure of an entry that must stay, written with the log's key."""

    def remove(record):
        entry = next(entry for entry, _ in payloads(record.log, kind))
        with pytest.raises(ValueError, match="it must stay"):
            erase(record.log, entry.index, "hide it", small.KEY)
        append(record.log, "erasure", {"entry": entry.index, "why": "hide it"}, small.KEY)
        payload_path(record.log, entry.index).unlink()

    return remove


def files_added(*names):
    def add(record):
        for name in names:
            (record.folder / name).write_text("an extra file")

    return add
