"""Manipulations of the record of a run, for the table of `test_manipulations.py`: each is a function of a `Record`."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from callsieve.serving.bundle.signing import SIGNING_KEY, key_id, write_public_key
from callsieve.training.oversight.audit.promote import approved_by, candidate
from callsieve.training.oversight.log import approvals, audit_log
from callsieve.training.oversight.log.audit_log import HEAD, LOG, SignedLog, append, erase, payload_path, payloads
from callsieve.training.oversight.log.entry import encode
from callsieve.training.oversight.log.run_paths import RunPaths, default_store
from callsieve.training.oversight.log.tickets import EXPORT, AccessControl, Act, sign_ticket
from callsieve.training.tracking import mlflow_write
from tests.support import recorded_run
from tests.support import small_bundle as small

STRANGER = small.OTHER_KEY
UPDATE = "UPDATE latest_metrics SET value = 0.99 WHERE key = 'auc'"
DROP_RUN = tuple(
    f"DELETE FROM {name} WHERE run_uuid = '{{run}}'"  # noqa: S608
    for name in ("latest_metrics", "metrics", "params", "tags", "runs")
)


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

    def sql(self, statement):
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

    def add(self, kind, **changes):
        """Appends an entry like the first of its kind, with the log's own key."""
        append(self.log, kind, self.payload(kind) | changes, small.KEY)

    def rewrite(self, change=lambda _kind, payload: payload, key=small.KEY):
        """Writes the whole log anew, and names it as the log of its run in MLflow."""
        entries = [(entry.kind, payload) for entry, payload in payloads(self.log, *audit_log.KINDS)]
        shutil.rmtree(self.log)
        for kind, payload in entries:
            if kind == "run":
                own = payload["record"]["tag"][mlflow_write.LOG] = audit_log.log_id(self.log)
                self.sql(f"UPDATE tags SET value = '{own}' WHERE key = '{mlflow_write.LOG}'")  # noqa: S608
            if (changed := change(kind, payload)) is not None:
                append(self.log, kind, changed, key)

    def approval(self, key, name, **changes):
        """Returns a signed approval of the next move, as the log holds it."""
        path = self.elsewhere.parent / "forged.json"
        path.unlink(missing_ok=True)
        statement = candidate(self.place, self.run).statement | changes
        signer = approvals.approve(statement, key, path)
        return {**json.loads(path.read_bytes()), "key": signer, "by": name}


def sql(*statements):
    return lambda record: [record.sql(statement) for statement in statements]


def edited(*names):
    def edit(record):
        for name in names:
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
    def edit(record):
        record.artifact(name).write_bytes(b"{}")

    return edit


def lines(change):
    return lambda record: record.write(change(record.lines()))


def added(kind, **changes):
    return lambda record: record.add(kind, **{
        name: value(record) if callable(value) else value for name, value in changes.items()
    })  # fmt: skip


def other_run(status, experiment=None, tags=None):
    def create(record):
        client = MlflowClient(record.place.uri)
        name = experiment or mlflow_write.EXPERIMENT
        known = client.get_experiment_by_name(name)
        run = client.create_run(known.experiment_id if known else client.create_experiment(name), tags=tags).info.run_id
        if status != "RUNNING":
            client.set_terminated(run, status)

    return create


def run_in_another_experiment(record):
    other_run("FINISHED", "another", {mlflow_write.LOG: audit_log.log_id(record.log)})(record)


def model_of_another_name(record, name="cаllsieve"):  # with a Cyrillic letter
    client = MlflowClient(record.place.uri)
    client.create_registered_model(name)
    client.create_model_version(name, "file:///nowhere", record.run)
    client.set_registered_model_alias(name, mlflow_write.CHAMPION, "1")


def one_payload(change):
    def edit(record):
        path = payload_path(record.log, 2)
        value = json.loads(path.read_bytes())
        change(value["payload"])
        path.write_bytes(encode(value))

    return edit


def logs_merged(record):
    first, *others = record.lines()
    record.rewrite()
    record.write([first, *record.lines()[1:]])
    assert others


def key_of_the_log_replaced(record):
    (record.log / "log.pub").unlink()
    write_public_key(STRANGER.public_key(), record.log / "log.pub")


def bundle_signed_again(record):
    path = record.folder / "bundle" / "bundle.json"
    path.write_bytes(path.read_bytes().replace(b'"calibration"', b'"calibration" ', 1))
    small.sign_again(record.folder / "bundle", STRANGER)
    (record.folder / "signer.pub").unlink()
    write_public_key(STRANGER.public_key(), record.folder / "signer.pub")


def signed_by_another_key(record):
    record.rewrite(key=STRANGER)
    (record.folder / SIGNING_KEY).unlink()


def backdated(record):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(audit_log, "_moment", lambda _before: "2020-01-01T00:00:00Z")
        append(record.log, "policy", {"what": "an old decision", "why": "none"}, small.KEY)


def forked(record):
    """The log without its promotion, and another entry in its place, signed with the log's key."""
    cut_off(record)
    append(record.log, "policy", {"what": "another history", "why": "none"}, small.KEY)


def cut_off(record):
    """Removes the last entry with all its traces in the folder: its line, its payload, and the head."""
    last = record.lines()[-1]
    record.write(record.lines()[:-1])
    payload_path(record.log, json.loads(last)["index"]).unlink()
    (record.log / HEAD).write_bytes(encode(json.loads(record.lines()[-1])["head"]) + b"\n")
    record.sql("DELETE FROM registered_model_aliases WHERE alias = 'champion'")


def look_cut_off(record):
    append(record.log, "touch", {"fold": "f" * 16 + " 1..2", "gates": "0" * 64, "by": "evaluate"}, small.KEY)
    shutil.copy(record.log / HEAD, record.elsewhere / "later.json")
    last = record.lines()[-1]
    record.write(record.lines()[:-1])
    payload_path(record.log, json.loads(last)["index"]).unlink()
    (record.log / HEAD).write_bytes(encode(json.loads(record.lines()[-1])["head"]) + b"\n")


def approvals_of(*keys_and_names, **changes):
    return lambda record: [record.approval(key, name, **changes) for key, name in keys_and_names]


def approval_edited(record):
    first, second = record.payload("promotion")["approvals"]
    return [first, second | {"statement": second["statement"] | {"move": 1}}]


def failing_model_promoted(record):
    """The run's figures fail a gate, and the logged promotion states that they passed."""
    metric = {"model_catch_by_call_low": 0.1}

    def change(kind, payload):
        if kind != "run":
            return payload
        inside = payload["record"]
        return payload | {"record": inside | {"metric": inside["metric"] | metric}}

    record.rewrite(change)


def metric_forged(record):
    """The record claims a bound that the certificate in the bundle does not give, in log and store alike."""

    def change(kind, payload):
        if kind == "promotion":
            return None
        if kind == "run":
            payload["record"]["metric"]["model_benign_error_bound"] = 1e-6
            payload["record"]["history of metric"]["model_benign_error_bound"][0][2] = 1e-6
        return payload

    record.rewrite(change)
    for table in ("latest_metrics", "metrics"):
        record.sql(f"UPDATE {table} SET value = 1e-6 WHERE key = 'model_benign_error_bound'")  # noqa: S608


def looks_forged(record):
    """The log has two looks at the calls before the run, which states one."""
    first = True

    def change(kind, payload):
        nonlocal first
        if kind == "gates" and first:
            first = False
            append(record.log, "touch", {"fold": f"{0:016x} 1..9", "gates": "0" * 64, "by": "evaluate"}, small.KEY)
        return payload | {"gates": payload["gates"] | {"entry": 1}} if kind == "run" else payload

    record.rewrite(change)


def run_forged(**changes):
    """The log has another run entry, written with its key: `changes` replace fields, those of `gates` one by one."""

    def change(kind, payload):
        if kind != "run":
            return payload
        return payload | changes | {"gates": payload["gates"] | changes.get("gates", {})}

    return lambda record: record.rewrite(change)


def card_left_out(record):
    """The metadata of the bundle, which has the certificate, is in no artifact."""
    record.artifact("model/bundle/bundle.json").unlink()

    def change(kind, payload):
        if kind == "run":
            del payload["record"]["artifact"]["model/bundle/bundle.json"]
        return payload

    record.rewrite(change)


def look_left_out(record):
    record.rewrite(lambda kind, payload: None if kind == "touch" else payload)


def promoted_again(**changes):
    """A second promotion with valid approvals, whose comparison with the champion was never made."""
    won = {"better": True, "low": 0.1, "callers": 40, "margin": 0.0, "confidence": 0.95, "least_callers": 1}
    approvals = approvals_of(*zip(recorded_run.APPROVERS[:2], recorded_run.OFFICES, strict=False))
    return added("promotion", **{"from": "1"}, approvals=approvals, comparison=won | changes)


def erased(kind):
    """An erasure of an entry that must stay, written with the log's key."""

    def remove(record):
        entry = next(entry for entry, _ in payloads(record.log, kind))
        with pytest.raises(ValueError, match="it must stay"):
            erase(record.log, entry.index, "hide it", small.KEY)
        append(record.log, "erasure", {"entry": entry.index, "why": "hide it"}, small.KEY)
        payload_path(record.log, entry.index).unlink()

    return remove


def store_of_a_copy_edited(record):
    artifact_edited("documents/model_card.md")(record)


def torn(record):
    with (record.log / LOG).open("ab") as file:
        file.write(b'{"at":"2026')


def linked(record):
    record.log.rename(record.folder.parent / "outside")
    record.log.symlink_to(record.folder.parent / "outside")


def files_added(*names):
    def add(record):
        for name in names:
            (record.folder / name).write_text("an extra file")

    return add


def gates_of_the_trainer(record):
    """Gates with one condition and two keys of the trainer, who also signed them."""
    mine = recorded_run.gates(owner=STRANGER)

    def change(kind, payload):
        if kind == "gates":
            return {"sha256": mine.sha256, "text": mine.data.decode(), "signature": mine.signature}
        if kind == "run":
            return payload | {"gates": payload["gates"] | {"sha256": mine.sha256}}
        return None if kind == "promotion" else payload

    record.rewrite(change)
    promotion = [
        record.approval(key, name) for key, name in zip(recorded_run.APPROVERS, recorded_run.OFFICES[:2], strict=False)
    ]
    results = candidate(record.place, record.run)
    payload = {"run": record.run, "version": "1", "model": results.run["model"], "from": None, "comparison": None}
    payload |= {"gates": results.gate_results, "gates_sha256": mine.sha256, "approvals": promotion}
    append(record.log, "promotion", payload, small.KEY)


def two_keys_of_one_person(_record, folder):
    """The owner of the gates names persons; one person with two keys is one approval."""
    risk = f'risk = "{recorded_run.hex_of(recorded_run.APPROVERS[0])}"'
    both = f'risk = ["{recorded_run.hex_of(recorded_run.APPROVERS[0])}", "{recorded_run.hex_of(STRANGER)}"]'
    gates, paths = recorded_run.gates(**{risk: both}), [folder / "a.json", folder / "b.json"]
    for key, path in zip((recorded_run.APPROVERS[0], STRANGER), paths, strict=True):
        approvals.approve({"move": 0}, key, path)
    approvals.check(paths, {"move": 0}, gates, 2, ())


def export_by_own_gates(_record, folder):
    """A trainer who also owns the gates signs a ticket with a key that they name."""
    act, gates = Act(EXPORT, "a" * 64, 500, "why", "me"), recorded_run.gates(owner=small.KEY)
    sign_ticket(act, recorded_run.APPROVERS[0], folder / "ticket.json")
    AccessControl(SignedLog(folder / "log", small.KEY), gates, [folder / "ticket.json"]).enter(act)


def approved_by_gates(record, gates):
    chosen = replace(candidate(record.place, record.run), gates=gates)
    approved_by(chosen, [], {key_id(small.KEY.public_key())})
