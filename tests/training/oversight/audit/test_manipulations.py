"""The table of manipulations of a record: `callsieve audit verify` names each, or it is listed as out of reach.

`Anchor` files were stored elsewhere before the manipulation: public keys, a signed head, the statement of a witness.
"""

import shutil
import sqlite3
from contextlib import closing

import pytest

from callsieve.serving.bundle.signing import SIGNING_KEY, write_public_key
from callsieve.training.oversight.audit import run_folder_check
from callsieve.training.oversight.audit.anchors import witness
from callsieve.training.oversight.audit.promote import approve, candidate, promote
from callsieve.training.oversight.log import approvals
from callsieve.training.oversight.log.audit_log import HEAD, append
from callsieve.training.oversight.log.looks import Ledger
from tests.support import recorded_run
from tests.support import small_bundle as small
from tests.support.keys import write_key
from tests.training.oversight.audit.record_edits import (
    DROP_RUN,
    STRANGER,
    UPDATE,
    Record,
    added,
    approval_edited,
    approvals_of,
    approved_by_gates,
    artifact_edited,
    backdated,
    bundle_signed_again,
    card_left_out,
    cut_off,
    edited,
    erased,
    export_by_own_gates,
    failing_model_promoted,
    files_added,
    forked,
    gates_of_the_trainer,
    key_of_the_log_replaced,
    lines,
    linked,
    logs_merged,
    look_cut_off,
    look_left_out,
    looks_forged,
    metric_forged,
    model_of_another_name,
    one_payload,
    other_run,
    promoted_again,
    removed,
    run_forged,
    run_in_another_experiment,
    signed_by_another_key,
    sql,
    store_of_a_copy_edited,
    torn,
    two_keys_of_one_person,
)

pytestmark = pytest.mark.system
TRUST, ON_HEAD, WITNESSED, OWNED = "--trust", "--head", "--witness", "--gates-key"


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
    witness(record.log, recorded_run.WITNESS, record.elsewhere / "witness.json")
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
        words = {
            TRUST: (TRUST, record.elsewhere / "log.pub"),
            ON_HEAD: (ON_HEAD, record.elsewhere / HEAD),
            WITNESSED: (
                WITNESSED,
                record.elsewhere / "witness.json",
                "--witness-key",
                record.elsewhere / "witness.pub",
            ),
            OWNED: (OWNED, record.elsewhere / "owner.pub"),
        }
        chosen = [word for anchor in anchors for word in words[anchor]]
        code, out, err = run_command("audit", "verify", "--in", record.folder, *chosen)
        return code, out + err

    return run


RISK, LEGAL, OPERATIONS = zip(recorded_run.APPROVERS, recorded_run.OFFICES, strict=True)
# Row of the list of manipulations, what is done, how, the text that must be in the answer, the anchors that it needs.
CAUGHT = [
    (1, "a metric is edited", sql(UPDATE), "metric auc: logged as 0.97, now 0.99"),
    (2, "the history of a metric is edited", sql(UPDATE.replace("latest_", "")), "history of metric auc: logged as"),
    (3, "a parameter is edited", sql("UPDATE params SET value = '2' WHERE key = 'seed'"), "parameter seed: logged as"),
    (3, "a tag is edited", sql("UPDATE tags SET value = 'no' WHERE key = 'certified'"), "tag certified: logged as"),
    (4, "the run is deleted", sql(*DROP_RUN), "MLflow has no such run"),
    (5, "a finished run is added", other_run("FINISHED"), "is in MLflow, but not in the log"),
    (
        6,
        "the experiment gets a Cyrillic name",
        sql("UPDATE experiments SET name = 'cаllsieve' WHERE experiment_id > 0"),
        "experiment name: logged as 'callsieve'",
    ),
    (
        7,
        "the alias champion is removed",
        sql("DELETE FROM registered_model_aliases WHERE alias = 'champion'"),
        "alias champion: logged as pointing to version 1, now to nothing",
    ),
    (
        7,
        "a version gets a note",
        sql("UPDATE model_versions SET description = 'fine'"),
        "model version 1 description: was added",
    ),
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
    (
        17,
        "a payload is edited",
        one_payload(lambda payload: payload.update(model="x")),
        "entry 2: its payload was edited",
    ),
    (17, "a payload is removed", removed("audit/payloads/000001.json"), "entry 1: its payload is missing"),
    (18, "the head is removed", removed("audit/head.json"), "head.json: missing"),
    (19, "the log is removed", removed("audit"), "expected an audit log"),
    (20, "two logs of one key are joined", logs_merged, "entry 1: its signed root differs"),
    (21, "the log's public key is replaced", key_of_the_log_replaced, "entry 0: edited: signed by key"),
    (
        22,
        "all users may read the private key",
        lambda r: (r.folder / SIGNING_KEY).chmod(0o777),
        "signing.key: mode 777",
    ),
    (
        22,
        "the private key is another",
        lambda r: write_key(STRANGER, r.folder / SIGNING_KEY),
        "signing.key: is not the key",
    ),
    (23, "an approver approves twice", added("promotion", approvals=approvals_of(RISK, RISK)), "approved already"),
    (
        23,
        "a stranger approves",
        added("promotion", approvals=approvals_of(RISK, (STRANGER, "legal"))),
        "is not trusted",
    ),
    (
        23,
        "the signer of the bundle approves",
        added("promotion", approvals=approvals_of(RISK, (small.KEY, "legal"))),
        "entry 4: approval 2: signed by key",
    ),
    (23, "an approval is edited", added("promotion", approvals=approval_edited), "does not fit the signed file"),
    (23, "an approval is used again", added("promotion"), "entry 4: approval 1: statement: move must be 1"),
    (23, "a refused model is promoted", failing_model_promoted, "the model fails: model_catch_by_call_low"),
    (25, "the bundle is edited and signed again", bundle_signed_again, "copy bundle/bundle.json: logged as"),
    (25, "the provenance is edited", edited("bundle.provenance.json"), "copy bundle.provenance.json: logged as"),
    (26, "the log is signed by another key", signed_by_another_key, "entry 0: edited: signed by key", TRUST),
    (27, "the log is written anew with its key", lambda r: r.rewrite(), "the log was rewritten", ON_HEAD),
    (27, "the log is written anew with its key", lambda r: r.rewrite(), "the log was rewritten", WITNESSED),
    (27, "an entry is backdated", backdated, "entry 4: dated 2020-01-01T00:00:00Z, before entry 3"),
    (27, "the log is forked", forked, "the log was rewritten", ON_HEAD),
    (27, "the whole folder is an older one", cut_off, "entry 3: missing: the log was cut short", ON_HEAD),
    (28, "a counted look is removed", cut_off, "entry 3: missing: the log was cut short", WITNESSED),
    (
        29,
        "a promotion has invented approvals",
        added("promotion", approvals=lambda _: [{"by": "risk"}, {"by": "legal"}]),
        "entry 4: approval 1: approval must have",
    ),
    (29, "a promotion has no approvals", added("promotion", approvals=[]), "expected 2 by different persons"),
    (29, "a promotion states other gates", added("promotion", gates=[]), "entry 4: its gates differ"),
    (
        29,
        "a champion was never compared",
        added("promotion", **{"from": "1"}),
        "entry 4: no comparison with the champion",
    ),
    (29, "a promotion states another version", added("promotion", version="2"), "entry 4: its version is 2"),
    (
        29,
        "a promotion states another champion",
        added("promotion", **{"from": "9"}),
        "replaces version 9, the champion was 1",
    ),
    (
        29,
        "approvals name other persons",
        added("promotion", approvals=approvals_of((RISK[0], "legal"), (LEGAL[0], "risk"))),
        "entry 4: states other approvers",
    ),
    (29, "a comparison is invented", promoted_again(low=None), "entry 4: its comparison: low must be"),
    (29, "a comparison has easier bounds", promoted_again(margin=-1.0), "entry 4: its comparison has other bounds"),
    (29, "a comparison was lost", promoted_again(low=0.0), "entry 4: its comparison does not show a better model"),
    (29, "a comparison had no look", promoted_again(), "entry 4: the log records no use of its calls"),
    (29, "a promotion of an unknown run", added("promotion", run="f" * 32), "entry 4: of run ffff"),
    (
        29,
        "a rollback without approvals",
        lambda r: append(
            r.log, "rollback", {"run": r.run, "version": "1", "model": "x", "from": "1", "why": ""}, small.KEY
        ),
        "entry 4: there was no champion before",
    ),
    (30, "a gate's metric is forged", metric_forged, "metric model_benign_error_bound: is 1e-06"),
    (
        30,
        "the run is of another bundle",
        run_forged(manifest_sha256="0" * 64),
        "entry 2: its artifacts are not the bundle",
    ),
    (30, "the certificate is left out", card_left_out, "entry 2: its artifacts are not the bundle"),
    (
        30,
        "the number of looks is left out",
        run_forged(gates={"touches": None}),
        "entry 2: states no use of its calls",
    ),
    (30, "the look is left out", look_left_out, "entry 1: the log records no use of its calls"),
    (30, "the number of looks is forged", looks_forged, "states 1 uses of its calls, the log has 2"),
    (31, "a look is erased", erased("touch"), "entry 4: erases entry 1, a touch"),
    (31, "the gates are erased", erased("gates"), "entry 4: erases entry 0, a gates"),
    (31, "a run is erased", erased("run"), "entry 4: erases entry 2, a run"),
    (31, "a promotion is erased", erased("promotion"), "entry 4: erases entry 3, a promotion"),
    (32, "an artifact of a copy is edited", store_of_a_copy_edited, "artifact documents/model_card.md: logged as"),
    (33, "the audit page is edited", edited("audit.html"), "copy audit.html: logged as"),
    (34, "a failed run is added", other_run("FAILED"), "(FAILED): is in MLflow, but not in the log"),
    (34, "a running run is added", other_run("RUNNING"), "(RUNNING): is in MLflow, but not in the log"),
    (34, "a run of this log is in another experiment", run_in_another_experiment, "is in MLflow, but not in the log"),
    (
        34,
        "another experiment has nearly our name",
        other_run("FINISHED", "callsleve"),
        "experiment 'callsleve': is named like",
    ),
    (34, "another model has our name in Cyrillic", model_of_another_name, "is named like callsieve"),
    (
        35,
        "all copies are deleted",
        removed(*run_folder_check.FOLDERS, *run_folder_check.ELSEWHERE.values()),
        "no file of a run",
    ),
    (36, "the last line is torn", torn, "entry 4: an incomplete line"),
    (
        36,
        "files are added",
        files_added("audit/notes.txt", "bundle/code.py", "documents/note.md"),
        "audit/notes.txt: belongs",
    ),
    (36, "files are added", files_added("bundle/code.py"), "copy bundle/code.py: was added"),
    (36, "the log is a symbolic link", linked, "audit: is a symbolic link"),
    (40, "the gates are of the trainer", gates_of_the_trainer, "are signed by key", OWNED),
]


@pytest.mark.parametrize("case", CAUGHT, ids=lambda case: f"{case[0]}: {case[1]} {' '.join(case[4:])}")
def test_a_manipulation_is_named(record, verify, case):
    _row, _what, act, text, *anchors = case
    act(record)
    code, answer = verify(record, *anchors)
    assert code == 1 and text in answer, answer


# Row, what is done, how, and the assumption without which `audit verify` cannot see it.
OUT_OF_REACH = [
    (26, "the log is signed by another key", signed_by_another_key, "the log's key is known from elsewhere (--trust)"),
    (27, "the log is written anew with its key", lambda r: r.rewrite(), "a head or a witness from before it"),
    (27, "the whole folder is an older one", cut_off, "a head or a witness from after it"),
    (28, "a counted look is removed", look_cut_off, "a head from after it, or the registry beside the calls (row 39)"),
    (40, "the gates are of the trainer", gates_of_the_trainer, "the owner's key is known from elsewhere (--gates-key)"),
]


@pytest.mark.parametrize("case", OUT_OF_REACH, ids=lambda case: f"{case[0]}: {case[1]}")
def test_without_its_assumption_a_manipulation_is_not_seen_and_the_first_line_says_so(record, verify, case):
    _row, _what, act, _assumption = case
    act(record)
    code, answer = verify(record)
    assert (code, answer.startswith("not anchored: the holder of key ")) == (0, True), answer


# Row, what is tried, how, and the refusal.
REFUSED = [
    (22, "an entry by another key", lambda r, _: append(r.log, "policy", {}, STRANGER), "the log is signed by key"),
    (23, "a stranger approves", lambda r, f: approve(r.place, r.run, STRANGER, f / "x.json"), "do not name key"),
    (38, "a person approves with two keys", two_keys_of_one_person, "risk approved already, with key"),
    (38, "an approver's name in Cyrillic", lambda *_: recorded_run.gates(risk='"lеgal"'), "expected Latin or Chinese"),
    (38, "an approver's name with an accent", lambda *_: recorded_run.gates(risk='"légal"'), "must differ by more"),
    (
        40,
        "gates of the trainer",
        lambda r, _: approved_by_gates(r, recorded_run.gates(owner=small.KEY)),
        "cannot own its",
    ),
    (
        40,
        "gates without an owner",
        lambda r, _: approved_by_gates(r, recorded_run.gates(owner=None)),
        "the signature of an owner",
    ),
    (40, "an export by gates of the trainer", export_by_own_gates, "cannot own its gates"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case[0]}: {case[1]}")
def test_a_manipulation_is_refused(record, tmp_path, case):
    _row, _what, act, text = case
    with pytest.raises(ValueError, match=text):
        act(record, tmp_path)


def test_looks_of_several_logs_are_counted_together(tmp_path):  # row 39
    ledgers = [Ledger(tmp_path / name, small.KEY, recorded_run.gates()) for name in ("a", "b", "c")]
    (tmp_path / "data").mkdir()
    looks = [ledger.touch("ab" * 32, (0, 10), "train", tmp_path / "data")["touches"] for ledger in ledgers]
    assert looks == [1, 2, 3]


# The folder of calls is no part of the record, which has the hashes of its tables and its purposes at the training.
ELSEWHERE = {
    24: "`model replay` names the table that differs (test_reproduce.py)",
    37: "an edited declaration is assumed to be the operator's own; the record has the purposes that it had",
    39: "looks are counted beside the calls (the test above)",
}


def test_the_table_has_all_rows():
    rows = {case[0] for case in (*CAUGHT, *OUT_OF_REACH, *REFUSED)} | ELSEWHERE.keys()
    assert rows == set(range(1, 41))
