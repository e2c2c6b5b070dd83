"""The table of manipulations of a record: `callsieve audit verify` names each, or it is listed as out of reach.

`Anchor` files were stored elsewhere before the manipulation: public keys, a signed head, a cosigned checkpoint.
"""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import mlflow
import pytest
from mlflow import MlflowClient

from callsieve.features.files.dates import utc_text
from callsieve.serving.bundle.signing import SIGNING_KEY, key_id, write_public_key
from callsieve.training.oversight.audit.attempts import NO_RESULT, attempts
from callsieve.training.oversight.audit.content import read_content
from callsieve.training.oversight.audit.entry_check import run_faults
from callsieve.training.oversight.audit.promote import approve, approved_by, candidate, promote
from callsieve.training.oversight.audit.verify import ELSEWHERE as COPIES
from callsieve.training.oversight.audit.verify import FOLDERS
from callsieve.training.oversight.log import approvals, audit_log
from callsieve.training.oversight.log.audit_log import HEAD, LOG, SignedLog, append, payload_path, read
from callsieve.training.oversight.log.entry import encode
from callsieve.training.oversight.log.looks import Ledger
from callsieve.training.oversight.log.rounds import Round
from callsieve.training.oversight.log.run_paths import RECORDED
from callsieve.training.oversight.log.tickets import EXPORT, AccessControl, Act, sign_ticket
from callsieve.training.tracking import mlflow_write
from tests.support import small_bundle as small
from tests.support.audit_notes import checkpoint_of, cosign
from tests.support.keys import write_key
from tests.support.paths import ROOT
from tests.support.trainings import recorded_run
from tests.training.oversight.audit.record_edits import (
    Record,
    approvals_of,
    artifact_added,
    artifact_edited,
    edited,
    erased,
    files_added,
    lines,
    other_run,
    promoted,
    promoted_again,
    removed,
    run_forged,
    sql,
)

pytestmark = pytest.mark.system
TRUST, ON_HEAD, WITNESSED, OWNED = "--trust", "--head", "--witness", "--gates-key"
STRANGER = small.OTHER_KEY
RISK, LEGAL, OPERATIONS = zip(recorded_run.APPROVERS, recorded_run.OFFICES, strict=True)


def of_run(change):
    return sql(f"UPDATE runs SET {change} WHERE run_uuid = '{{run}}'")  # noqa: S608


def payload_edited(index, old, new):
    def edit(record):
        path = payload_path(record.log, index)
        assert old in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(old, new, 1))

    return edit


def mode(name, bits):
    return lambda record: (record.folder / name).chmod(bits)


def metric_forged(name, value):
    """The run's figures fail a gate, and the logged promotion states that they passed."""

    def change(run):
        run["record"]["metric"][name] = value
        return run

    return lambda record: record.rewrite(run=change)


UPDATE = "UPDATE latest_metrics SET value = 0.99 WHERE key = 'auc'"
DROP_RUN = tuple(
    f"DELETE FROM {name} WHERE run_uuid = '{{run}}'"  # noqa: S608
    for name in ("latest_metrics", "metrics", "params", "tags", "runs")
)


@pytest.fixture(scope="module")
def original(empty_store, tmp_path_factory):
    """A run whose model is the champion, and copies of its key, its head and a witness."""
    whole = tmp_path_factory.mktemp("whole")
    record = Record(whole / "run", whole / "elsewhere", "")
    record.folder.mkdir()
    record.elsewhere.mkdir()
    shutil.copyfile(empty_store, record.folder / "mlflow.db")
    record.run = recorded_run.record_run(record.place, record.folder)["run"]
    write_key(small.KEY, record.folder / SIGNING_KEY)
    files = []
    for nth, key in enumerate(recorded_run.APPROVERS[:2]):
        files.append(whole / f"approval{nth}.json")
        approvals.approve(candidate(record.place, record.run).statement, key, files[-1])
    promote(record.place, record.run, files, small.KEY, data=None)
    shutil.copy(record.log / "log.pub", record.elsewhere)
    shutil.copy(record.log / HEAD, record.elsewhere)
    write_public_key(recorded_run.OWNER.public_key(), record.elsewhere / "owner.pub")
    write_public_key(recorded_run.WITNESS.public_key(), record.elsewhere / "witness.pub")
    note = checkpoint_of(record.log, small.KEY, len(read(record.log)))
    (record.elsewhere / "checkpoint").write_text(cosign(note, utc_text())[0])
    shutil.copytree(record.folder, whole / "kept")
    return record


@pytest.fixture
def record(original):
    """The record, to be manipulated; it is restored in place, so that MLflow opens its store once."""
    yield original
    backup = original.folder.parent / "kept"
    for path in original.folder.iterdir():
        if path.name != "mlflow.db":
            path.unlink() if path.is_file() or path.is_symlink() else shutil.rmtree(path)
    for path in backup.iterdir():
        if path.name != "mlflow.db":
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, original.folder / path.name)
    with closing(sqlite3.connect(backup / "mlflow.db")) as old, \
            closing(sqlite3.connect(original.folder / "mlflow.db")) as new:  # fmt: skip
        old.backup(new)


@pytest.fixture
def verify(run_command):
    def run(record, *anchors):
        outside = record.elsewhere
        words = {
            TRUST: (TRUST, outside / "log.pub"),
            ON_HEAD: (ON_HEAD, outside / HEAD),
            WITNESSED: (WITNESSED, outside / "checkpoint", "--witness-key", outside / "witness.pub"),
            OWNED: (OWNED, outside / "owner.pub"),
        }
        chosen = [word for anchor in anchors for word in words[anchor]]
        code, out, err = run_command("audit", "verify", "--in", record.folder, *chosen)
        return code, out + err

    return run


def root_edited(line):
    """The line with another last digit of its signed root."""
    entry = json.loads(line)
    root = entry["head"]["root"]
    entry["head"]["root"] = root[:-1] + ("0" if root[-1] != "0" else "1")
    return encode(entry) + b"\n"


# Row of the list of manipulations, what is done, how, the text that must be in the answer, the anchors that it needs.
CAUGHT = [
    (1, "a metric is edited", sql(UPDATE), "metric auc: logged as 0.97, now 0.99"),
    (2, "the history of a metric is edited", sql(UPDATE.replace("latest_", "")), "history of metric auc: logged as"),
    (3, "a parameter is edited", sql("UPDATE params SET value = '2' WHERE key = 'seed'"), "parameter seed: logged as"),
    (3, "a tag is edited", sql("UPDATE tags SET value = 'no' WHERE key = 'certified'"), "tag certified: logged as"),
    (4, "the run is deleted", sql(*DROP_RUN), "MLflow has no such run"),
    (5, "a finished run is added", other_run("FINISHED"), "is in MLflow, but not in the log"),
    (6, "the experiment gets a Cyrillic name", sql("UPDATE experiments SET name = 'cаllsieve' WHERE experiment_id > 0"),
        "experiment name: logged as 'callsieve'"),
    (7, "the alias champion is removed", sql("DELETE FROM registered_model_aliases WHERE alias = 'champion'"),
        "alias champion: logged as pointing to version 1, now to nothing"),
    (7, "a version gets a note", sql("UPDATE model_versions SET description = 'fine'"),
        "model version 1 description: was added"),
    (8, "an artifact is edited", artifact_edited("model/bundle/model.txt"), "artifact model/bundle/model.txt: logged"),
    (8, "figures.json is edited", artifact_edited("figures.json"), "artifact figures.json: logged as"),
    (9, "the run page is edited", edited("report.html"), "copy report.html: logged as"),
    (10, "the model card is edited", edited("documents/model_card.md"), "copy documents/model_card.md: logged as"),
    (11, "a plot is removed", removed("plots/curve.svg"), "copy plots/curve.svg: is gone"),
    (12, "the signer's key is edited", edited("signer.pub"), "copy signer.pub: logged as"),
    (13, "the record is removed", removed("record/settings.json"), "copy record/settings.json: is gone"),
    (14, "the log is cut short", lines(lambda all_lines: all_lines[:-1]), "entry 3: missing: the log was cut short"),
    (15, "entries change places", lines(lambda a: [a[1], a[0], *a[2:]]), "entry 0: reordered"),
    (16, "an entry is repeated", lines(lambda a: [*a, a[1]]), "entry 1: occurs twice"),
    (17, "a date is edited", lines(lambda a: [a[0].replace(b'"at":"20', b'"at":"19'), *a[1:]]), "entry 0: edited"),
    (17, "a payload is removed", removed("audit/payloads/000001.json"), "entry 1: its payload is missing"),
    (18, "the head is removed", removed("audit/head.json"), "head.json: missing"),
    (19, "the log is removed", removed("audit"), "expected an audit log"),
    (23, "an approver approves twice", promoted(approvals=approvals_of(RISK, RISK)), "approved already"),
    (23, "a stranger approves", promoted(approvals=approvals_of(RISK, (STRANGER, "legal"))), "is not trusted"),
    (23, "the signer of the bundle approves", promoted(approvals=approvals_of(RISK, (small.KEY, "legal"))),
        "entry 4: approval 2: signed by key"),
    (23, "an approval is used again", promoted(), "entry 4: approval 1: statement: move must be 1"),
    (25, "the provenance is edited", edited("bundle.provenance.json"), "copy bundle.provenance.json: logged as"),
    (27, "the log is written anew with its key", Record.rewrite, "the log was rewritten", ON_HEAD),
    (27, "the log is written anew with its key", Record.rewrite, "the log was rewritten", WITNESSED),
    (29, "a promotion has invented approvals", promoted(approvals=[{"by": "risk"}, {"by": "legal"}]),
        "entry 4: approval 1: object missing required field `statement`"),
    (29, "a promotion has no approvals", promoted(approvals=[]), "expected 2 by different persons"),
    (29, "a promotion states other gates", promoted(gates=[]), "entry 4: its gates differ"),
    (29, "a champion was never compared", promoted(**{"from": "1"}), "entry 4: no comparison with the champion"),
    (29, "a promotion states another version", promoted(version="2"), "entry 4: its version is 2"),
    (29, "a promotion states another champion", promoted(**{"from": "9"}), "replaces version 9, the champion was 1"),
    (29, "approvals name other persons", promoted(approvals=approvals_of((RISK[0], "legal"), (LEGAL[0], "risk"))),
        "entry 4: states other approvers"),
    (29, "a comparison is invented", promoted_again(low=None),
        "entry 4: its comparison: low: expected `float`, got `null`"),
    (29, "a comparison has easier bounds", promoted_again(margin=-1.0), "entry 4: its comparison has other bounds"),
    (29, "a comparison was lost", promoted_again(low=0.0), "entry 4: its comparison does not show a better model"),
    (29, "a comparison had no look", promoted_again(), "entry 4: the log records no use of its calls"),
    (29, "a promotion of an unknown run", promoted(run="f" * 32), "entry 4: of run ffff"),
    (30, "the run is of another bundle", run_forged(manifest_sha256="0" * 64),
        "entry 2: its artifacts are not the bundle"),
    (30, "the number of looks is left out", run_forged(gates={"touches": None}), "entry 2: states no use of its calls"),
    (30, "the look is left out", lambda record: record.rewrite(touch=lambda _: None),
        "entry 1: the log records no use of its calls"),
    (31, "a look is erased", erased("touch"), "entry 4: erases entry 1, a touch"),
    (31, "the gates are erased", erased("gates"), "entry 4: erases entry 0, a gates"),
    (31, "a run is erased", erased("run"), "entry 4: erases entry 2, a run"),
    (31, "a promotion is erased", erased("promotion"), "entry 4: erases entry 3, a promotion"),
    (32, "an artifact of a copy is edited", artifact_edited("documents/model_card.md"),
        "artifact documents/model_card.md: logged as"),
    (33, "the audit page is edited", edited("audit.html"), "copy audit.html: logged as"),
    (34, "a failed run is added", other_run("FAILED"), "(FAILED): is in MLflow, but not in the log"),
    (34, "a running run is added", other_run("RUNNING"), "(RUNNING): is in MLflow, but not in the log"),
    (34, "another experiment has nearly our name", other_run("FINISHED", "callsleve"),
        "experiment 'callsleve': is named like"),
    (35, "all copies are deleted", removed(*FOLDERS, *COPIES.values()), "no file of a run"),
    (36, "files are added", files_added("audit/notes.txt", "bundle/code.py", "documents/note.md"),
        "audit/notes.txt: belongs"),
    (36, "code is added to the bundle", files_added("bundle/code.py"), "copy bundle/code.py: was added"),
    (13, "the record is edited", edited("record/settings.json"), "copy record/settings.json: logged as"),
    (25, "the bundle has one byte more", edited("bundle/model.txt"), "copy bundle/model.txt: logged as"),
    (8, "code is added to the registered model", artifact_added("model/loader.py"),
        "artifact model/loader.py: was added"),
    (8, "the loader of the registered model is another", artifact_edited("model/MLmodel"),
        "artifact model/MLmodel: logged"),
    (3, "the run has another user", of_run("user_id = 'x'"), "run user_id: logged as"),
    (3, "the run began at another time", of_run("start_time = 1"), "run start_time: logged as"),
    (3, "the run is deleted softly", of_run("lifecycle_stage = 'deleted'"), "run lifecycle_stage: logged as"),
    (3, "the artifacts of the run are elsewhere", of_run("artifact_uri = '/tmp/x'"), "run artifact_uri: logged as"),
    (7, "a version has another source", sql("UPDATE model_versions SET source = 'x'"),
        "model version 1 source: logged as"),
    (7, "a version is stored elsewhere", sql("UPDATE model_versions SET storage_location = 'x'"), "model version 1"),
    (3, "the calls of the run have another hash", sql("UPDATE datasets SET digest = 'x'"), "dataset"),
    (3, "the run has no calls", sql("DELETE FROM inputs"), "dataset"),
    (17, "a payload is edited", payload_edited(2, b'"model":"', b'"model":"x'), "entry 2: its payload was edited"),
    (17, "a gate of the log is edited", payload_edited(0, b"least", b"most"), "entry 0: its payload was edited"),
    (17, "another writer is named", payload_edited(2, b'"user":"', b'"user":"x'), "entry 2: its payload was edited"),
    (22, "all users may write the log", mode(f"audit/{LOG}", 0o666), "log.jsonl: all users may write it"),
    (22, "all users may read the private key", mode(SIGNING_KEY, 0o777), "signing.key: mode 777"),
    (23, "a refused model is promoted", metric_forged("model_catch_by_call_low", 0.1),
        "the model fails: model_catch_by"),
    (14, "a signed root is edited", lines(lambda a: [a[0], root_edited(a[1]), *a[2:]]), "entry 1: edited"),
]  # fmt: skip
# Row, what is done, how, and the assumption without which `audit verify` cannot see it.
OUT_OF_REACH = [(27, "the log is written anew with its key", Record.rewrite, "a head or a witness from before it")]
REFUSED = []  # row, what is tried, how, and the refusal


def caught(row, text, *anchors):
    """Adds a manipulation, named by its function, to the table of those that `audit verify` names."""
    return _into(CAUGHT, row, text, *anchors)


def unseen(row, assumption):
    """Adds a manipulation that `audit verify` cannot see without an assumption."""
    return _into(OUT_OF_REACH, row, assumption)


def refused(row, text):
    """Adds an attempt, a function of the record and an empty folder, that is refused with a text."""
    return _into(REFUSED, row, text)


def _into(table, row, *more):
    def add(act):
        table.append((row, act.__name__.replace("_", " "), act, *more))
        return act

    return add


@caught(17, "entry 0: its payload was edited")
def two_payloads_change_places(record):
    first, second = payload_path(record.log, 0), payload_path(record.log, 1)
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)


@caught(20, "entry 4: edited: signed by key")
def an_entry_of_another_log_is_added(record):
    other = record.folder / "other"
    for what in range(5):
        append(other, "policy", {"what": str(what), "why": "none"}, STRANGER)
    record.write([*record.lines(), (other / LOG).read_bytes().splitlines(keepends=True)[-1]])
    shutil.rmtree(other)


@caught(4, "does not exist")
def the_folder_names_another_store(record):
    (record.folder / RECORDED).write_bytes(encode({"store": "another.db"}))


@caught(1, "metric auc: logged as")
def two_metrics_are_exchanged(record):
    name = "model_benign_error_bound"
    for table in ("latest_metrics", "metrics"):
        with closing(sqlite3.connect(record.folder / "mlflow.db")) as store:
            query = f"SELECT key, value FROM {table} WHERE key IN ('auc', '{name}')"  # noqa: S608
            values = dict(store.execute(query).fetchall())
        for key, other in (("auc", name), (name, "auc")):
            record.sql(f"UPDATE {table} SET value = {values[other]} WHERE key = '{key}'")  # noqa: S608


@caught(20, "entry 1: its signed root differs from the root of the entries up to it")
def two_logs_of_one_key_are_joined(record):
    first = record.lines()[0]
    record.rewrite()
    record.write([first, *record.lines()[1:]])


@caught(21, "entry 0: edited: signed by key")
def the_public_key_of_the_log_is_replaced(record):
    (record.log / "log.pub").unlink()
    write_public_key(STRANGER.public_key(), record.log / "log.pub")


@caught(22, "signing.key: is not the key")
def the_private_key_is_another(record):
    write_key(STRANGER, record.folder / SIGNING_KEY)


@caught(23, "does not fit the signed file")
def an_approval_is_edited(record):
    first, second = record.payload("promotion")["approvals"]
    promoted(approvals=[first, second | {"statement": second["statement"] | {"move": 1}}])(record)


@caught(25, "copy bundle/bundle.json: logged as")
def the_bundle_is_edited_and_signed_again(record):
    path = record.folder / "bundle" / "bundle.json"
    path.write_bytes(path.read_bytes().replace(b'"calibration"', b'"calibration" ', 1))
    small.sign_again(record.folder / "bundle", STRANGER)
    (record.folder / "signer.pub").unlink()
    write_public_key(STRANGER.public_key(), record.folder / "signer.pub")


@caught(26, "entry 0: edited: signed by key", TRUST)
@unseen(26, "the log's key is known from elsewhere (--trust)")
def the_log_is_signed_by_another_key(record):
    record.rewrite(key=STRANGER)
    (record.folder / SIGNING_KEY).unlink()


@caught(27, "entry 4: dated 2020-01-01T00:00:00Z, before entry 3")
def an_entry_is_backdated(record):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(audit_log, "_moment", lambda _before: "2020-01-01T00:00:00Z")
        record.note("an old decision")


def cut_off(record):
    """Removes the last entry with its line, its payload and the head."""
    *others, last = record.lines()
    record.write(others)
    payload_path(record.log, json.loads(last)["index"]).unlink()
    (record.log / HEAD).write_bytes(encode(json.loads(others[-1])["head"]) + b"\n")


@caught(27, "entry 3: missing: the log was cut short", ON_HEAD)
@unseen(27, "a head or a witness from after it")
@caught(28, "entry 3: missing: the log was cut short", WITNESSED)
def the_whole_folder_is_an_older_one(record):
    cut_off(record)
    record.sql("DELETE FROM registered_model_aliases WHERE alias = 'champion'")


@caught(27, "the log was rewritten", ON_HEAD)
def the_log_is_forked(record):
    """The log without its promotion, and another entry in its place, signed with the log's key."""
    the_whole_folder_is_an_older_one(record)
    record.note("another history")


def failed(record):
    """Enters the gates of an attempt that then failed; returns the index of the entry."""
    return append(record.log, "gates", recorded_run.gates().to_json(), small.KEY)


@caught(14, "entry 4: missing")
def a_failed_attempt_is_removed_from_the_log(record):
    entry = failed(record)
    record.note("a later decision")
    all_lines = record.lines()
    record.write([*all_lines[:entry], *all_lines[entry + 1 :]])
    payload_path(record.log, entry).unlink()


@unseen(14, "`audit attempts`, which lists the attempt by its gates in the log")
def the_run_of_a_failed_attempt_is_removed(record):
    """A training that fails early leaves no run in MLflow, so a log does not say that there was one."""
    failed(record)
    other_run("FAILED")(record, {mlflow_write.LOG: audit_log.log_id(record.log)})
    record.sql("DELETE FROM tags WHERE run_uuid <> '{run}'", "DELETE FROM runs WHERE run_uuid <> '{run}'")
    assert [attempt.result for attempt in attempts(record.log)][1:] == [NO_RESULT]


@unseen(28, "a head from after it, or the registry beside the calls")
def a_counted_look_is_removed(record):
    append(record.log, "touch", {"fold": "f" * 16 + " 1..2", "gates": "0" * 64, "by": "evaluate"}, small.KEY)
    cut_off(record)


@caught(29, "entry 4: there was no champion before")
def a_rollback_without_approvals(record):
    append(record.log, "rollback", {"run": record.run, "version": "1", "model": "x", "from": "1", "why": ""}, small.KEY)


@caught(30, "metric model_benign_error_bound: is 1e-06")
def a_metric_of_a_gate_is_forged(record):
    """The record claims a bound that the certificate in the bundle does not give, in log and store alike."""

    def change(run):
        run["record"]["metric"]["model_benign_error_bound"] = 1e-6
        run["record"]["history of metric"]["model_benign_error_bound"][0][2] = 1e-6
        return run

    record.rewrite(run=change, promotion=lambda _: None)
    for table in ("latest_metrics", "metrics"):
        record.sql(f"UPDATE {table} SET value = 1e-6 WHERE key = 'model_benign_error_bound'")  # noqa: S608


@caught(30, "entry 2: its artifacts are not the bundle")
def the_certificate_is_left_out(record):
    """The metadata of the bundle, which has the certificate, is in no artifact."""
    record.artifact("model/bundle/bundle.json").unlink()

    def change(run):
        del run["record"]["artifact"]["model/bundle/bundle.json"]
        return run

    record.rewrite(run=change)


@caught(30, "states 1 uses of its calls, the log has 2")
def the_number_of_looks_is_forged(record):
    """The log has two looks at the calls before the run, which states one."""

    def change(gates):
        append(record.log, "touch", {"fold": f"{0:016x} 1..9", "gates": "0" * 64, "by": "evaluate"}, small.KEY)
        return gates

    record.rewrite(gates=change, run=lambda run: run | {"gates": run["gates"] | {"entry": 1}})


@caught(34, "is in MLflow, but not in the log")
def a_run_of_this_log_is_in_another_experiment(record):
    other_run("FINISHED", "another")(record, {mlflow_write.LOG: audit_log.log_id(record.log)})


@caught(34, "is named like callsieve")
def another_model_has_our_name_in_cyrillic(record):
    client, name = MlflowClient(record.place.uri), "cаllsieve"
    client.create_registered_model(name)
    client.create_model_version(name, "file:///nowhere", record.run)
    client.set_registered_model_alias(name, mlflow_write.CHAMPION, "1")


@caught(21, "run/bundle: is of no run in this log")
def a_fresh_log_of_a_stranger_lies_beside_the_bundle(record):
    shutil.rmtree(record.log)
    append(record.log, "policy", {"what": "begun", "why": "none"}, STRANGER)
    (record.folder / SIGNING_KEY).unlink(missing_ok=True)


@caught(21, "log.pub: is not the key that --trust names", TRUST)
def the_key_file_beside_the_log_is_of_a_stranger(record):
    (record.log / "log.pub").unlink()
    write_public_key(STRANGER.public_key(), record.log / "log.pub")


@caught(36, "artifact model/registered_model_meta: was added afterwards")
def a_file_of_the_name_that_mlflow_writes_has_other_content(record):
    record.artifact("model/registered_model_meta").write_text("model_name: other\nmodel_version: '1'\n")


@caught(36, "entry 4: an incomplete line")
def the_last_line_is_torn(record):
    with (record.log / LOG).open("ab") as file:
        file.write(b'{"at":"2026')


@caught(36, "audit: is a symbolic link")
def the_log_is_a_symbolic_link(record):
    record.log.rename(record.folder.parent / "outside")
    record.log.symlink_to(record.folder.parent / "outside")


@caught(40, "are signed by key", OWNED)
@unseen(40, "the owner's key is known from elsewhere (--gates-key)")
def the_gates_are_of_the_trainer(record):
    """Gates with one condition and two keys of the trainer, who also signed them."""
    mine = recorded_run.gates(owner=STRANGER)
    record.rewrite(
        gates=lambda _: mine.to_json(),
        run=lambda run: run | {"gates": run["gates"] | {"sha256": mine.sha256}},
        promotion=lambda _: None,
    )
    results = candidate(record.place, record.run)
    payload = {"run": record.run, "version": "1", "model": results.run["model"], "from": None, "comparison": None}
    payload |= {"gates": results.gate_results, "gates_sha256": mine.sha256}
    append(record.log, "promotion", payload | {"approvals": approvals_of(RISK, LEGAL)(record)}, small.KEY)


@pytest.mark.parametrize("case", CAUGHT, ids=lambda case: f"{case[0]}: {case[1]} {' '.join(case[4:])}")
def test_a_manipulation_is_named(record, verify, case):
    _row, _what, act, text, *anchors = case
    act(record)
    code, answer = verify(record, *anchors)
    assert code == 1 and text in answer, answer


@pytest.mark.parametrize("case", OUT_OF_REACH, ids=lambda case: f"{case[0]}: {case[1]}")
def test_without_its_assumption_a_manipulation_is_not_seen_and_the_first_line_says_so(record, verify, case):
    _row, _what, act, _assumption = case
    act(record)
    code, answer = verify(record)
    assert (code, answer.startswith("not anchored: the holder of key ")) == (0, True), answer


@refused(22, "the log is signed by key")
def an_entry_by_another_key(record, _folder):
    append(record.log, "policy", {}, STRANGER)


@refused(23, "do not name key")
def a_stranger_approves(record, folder):
    approve(record.place, record.run, STRANGER, folder / "x.json")


@refused(38, "risk approved already, with key")
def a_person_approves_with_two_keys(_record, folder):
    """The owner of the gates names persons; one person with two keys is one approval."""
    risk = f'risk = "{recorded_run.hex_of(recorded_run.APPROVERS[0])}"'
    both = f'risk = ["{recorded_run.hex_of(recorded_run.APPROVERS[0])}", "{recorded_run.hex_of(STRANGER)}"]'
    gates, paths = recorded_run.gates(**{risk: both}), [folder / "a.json", folder / "b.json"]
    for key, path in zip((recorded_run.APPROVERS[0], STRANGER), paths, strict=True):
        approvals.approve({"move": 0}, key, path)
    approvals.check(paths, {"move": 0}, gates, 2, ())


@refused(38, "expected Latin or Chinese")
def the_name_of_an_approver_in_cyrillic(_record, _folder):
    recorded_run.gates(risk='"lеgal"')


@refused(38, "must differ by more")
def the_name_of_an_approver_with_an_accent(_record, _folder):
    recorded_run.gates(risk='"légal"')


def approve_by(gates, record):
    approved_by(replace(candidate(record.place, record.run), gates=gates), [], {key_id(small.KEY.public_key())})


@refused(40, "cannot own its")
def gates_of_the_trainer(record, _folder):
    approve_by(recorded_run.gates(owner=small.KEY), record)


@refused(40, "the signature of an owner")
def gates_without_an_owner(record, _folder):
    approve_by(recorded_run.gates(owner=None), record)


@refused(40, "cannot own its gates")
def an_export_by_gates_of_the_trainer(_record, folder):
    """A trainer who also owns the gates signs a ticket with a key that they name."""
    act, gates = Act(EXPORT, "a" * 64, 500, "why", "me"), recorded_run.gates(owner=small.KEY)
    sign_ticket(act, recorded_run.APPROVERS[0], folder / "ticket.json")
    AccessControl(SignedLog(folder / "log", small.KEY), gates, [folder / "ticket.json"]).enter(act)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case[0]}: {case[1]}")
def test_a_manipulation_is_refused(record, tmp_path, case):
    _row, _what, act, text = case
    with pytest.raises(ValueError, match=text):
        act(record, tmp_path)


def test_a_load_of_the_registered_model_by_mlflow_is_no_fault(record, verify):
    before = mlflow.get_tracking_uri()
    try:
        mlflow.set_tracking_uri(record.place.uri)
        for _ in range(3):
            mlflow.artifacts.download_artifacts("models:/callsieve/1")  # as `mlflow.pyfunc.load_model` does first
    finally:
        mlflow.set_tracking_uri(before)  # MLflow writes it into the environment
    assert record.artifact("model/registered_model_meta").exists(), "MLflow notes no load: the test holds nothing"
    assert verify(record)[0] == 0


def test_a_sound_log_without_runs_passes_and_its_erasures_are_printed(tmp_path, run_command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # other tests have models in that store
    for what in ("begun", "a name"):
        append(tmp_path / "privacy", "policy", {"what": what, "why": "none"}, small.KEY)
    code, out, _ = run_command("audit", "verify", "--audit", tmp_path / "privacy")
    assert code == 0 and "2 entries, 0 runs" in out and "note" not in out
    audit_log.erase(tmp_path / "privacy", 1, "asked", small.KEY)
    code, out, _ = run_command("audit", "verify", "--audit", tmp_path / "privacy")
    assert code == 0 and "note: entry 1: its content was erased, as entry 2 records\n" in out


def test_looks_of_several_logs_are_counted_together(tmp_path):  # row 39
    ledgers = [Ledger(tmp_path / name, small.KEY, recorded_run.gates()) for name in ("a", "b", "c")]
    (tmp_path / "data").mkdir()
    looks = [ledger.touch("ab" * 32, (0, 10), "train", tmp_path / "data")["touches"] for ledger in ledgers]
    assert looks == [1, 2, 3]


def record_round(ledger, round_):
    """Enters gates, look and run of a round of an adaptation; returns the uses that its run states."""
    entry = ledger.begin()
    look = ledger.touch("ab" * 32, (0, 10), "adapt", None, round_)
    stated = {**look, "entry": entry, "sha256": ledger.gates.sha256, "refused": [], "owner": ""}
    record = {"metric": {"test_fold_touches": float(look["touches"])}, "tag": {}, "artifact": {}}
    payload = {"run": str(entry), "version": "", "registered": {}, "model": "m", "gates": stated, "record": record}
    append(ledger.log, "run", payload, ledger.key)
    return look["touches"]


def test_rounds_of_an_adaptation_are_counted_and_chained(tmp_path):
    ledger = Ledger(tmp_path / "log", small.KEY, recorded_run.gates())
    rounds = [Round("a", None, ()), Round("a", "d", ("x",)), Round("a", "d", ("x", "y")), Round("a", "d", ("x", "z"))]
    assert [record_round(ledger, round_) for round_ in rounds] == [1, 1, 1, 2]
    content, faults = read_content(ledger.log, read(ledger.log), set())
    assert faults == run_faults(content) == []
    third, last = sorted(content.touches)[2:]
    content.runs[last + 1]["gates"]["touches"] = 1
    content.runs[last + 1]["record"]["metric"]["test_fold_touches"] = 1.0
    content.touches[third]["follows"] = rounds[0].digest
    assert [fault.what for fault in run_faults(content)] == [
        "does not name the round of its adaptation before it",
        "states 1 uses of its calls, the log has 2",
    ]


# The folder of calls is no part of the record, which has the hashes of its tables and its purposes at the training.
ELSEWHERE = {
    24: "`model replay` names the table that differs (test_reproduce.py)",
    37: "an edited declaration is assumed to be the operator's own; the record has the purposes that it had",
    39: "looks are counted beside the calls (the test above)",
}


def test_the_documentation_says_what_each_change_out_of_reach_needs():
    page = (ROOT / "docs/how-to/audit.md").read_text(encoding="utf-8")
    for _row, what, _act, assumption in OUT_OF_REACH:
        assert f"| {what} | {assumption} |" in page, what


def test_the_table_has_all_rows():
    what = {(case[0], case[1]) for case in (*CAUGHT, *OUT_OF_REACH, *REFUSED)}
    assert len(what) >= 105
    rows = {case[0] for case in (*CAUGHT, *OUT_OF_REACH, *REFUSED)} | ELSEWHERE.keys()
    assert rows == set(range(1, 41))
