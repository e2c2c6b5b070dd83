"""Edits of MLflow's database by SQL, and of its artifacts: `verify` names each of them."""

import shutil
import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient
from mlflow.data import get_source

from callsieve.training.oversight.audit.content import Content
from callsieve.training.oversight.audit.mlflow_check import aliases
from callsieve.training.oversight.audit.verify import verify
from callsieve.training.oversight.log.audit_log import append, log_id, payload_path, payloads
from callsieve.training.oversight.log.run_paths import default_store
from callsieve.training.tracking import mlflow_read, mlflow_write
from tests.support import small_bundle as small
from tests.support.trainings import recorded_run

pytestmark = pytest.mark.system

# Edits of the database beside those of `test_manipulations.py`; the place and text of the fault that each must give;
# {run} is the first run.
EDITS = {
    "DELETE FROM latest_metrics WHERE key = 'auc' AND run_uuid = '{run}'": ("run {run}, metric auc", "is gone"),
    "DELETE FROM params WHERE key = 'seed' AND run_uuid = '{run}'": ("run {run}, parameter seed", "is gone"),
    "INSERT INTO params (key, value, run_uuid) VALUES ('rounds', '9', '{run}')": (
        "run {run}, parameter rounds", "was added afterwards"),
    "INSERT INTO tags (key, value, run_uuid) VALUES ('approved', 'yes', '{run}')": (
        "run {run}, tag approved", "was added afterwards"),
    "UPDATE runs SET status = 'FAILED' WHERE run_uuid = '{run}'": (
        "run {run}, run status", "logged as 'FINISHED', now 'FAILED'"),
    "UPDATE runs SET end_time = end_time + 1 WHERE run_uuid = '{run}'": ("run {run}, run end_time", "logged as"),
    "UPDATE datasets SET dataset_profile = '{{}}'": ("run {run}, dataset calls", "logged as"),
    "UPDATE model_versions SET run_id = 'another' WHERE version = 1": ("model version 1 run", "now 'another'"),
    "UPDATE model_versions SET current_stage = 'Production' WHERE version = 1": (
        "model version 1 stage", "now 'Production'"),
    "INSERT INTO model_version_tags (key, value, name, version) VALUES ('approved', 'yes', 'callsieve', 1)": (
        "model version 1 tag approved", "was added afterwards"),
    "INSERT INTO registered_model_tags (key, value, name) VALUES ('approved', 'yes', 'callsieve')": (
        "registered model tag approved", "was added afterwards"),
    "UPDATE registered_models SET description = 'approved'": (
        "registered model description", "was added afterwards"),
    "UPDATE model_versions SET user_id = 'another' WHERE version = 1": (
        "model version 1 user", "was added afterwards"),
    "UPDATE model_versions SET creation_time = creation_time - 1 WHERE version = 1": (
        "model version 1 creation time", "logged as"),
    "UPDATE latest_metrics SET timestamp = timestamp - 1 WHERE key = 'auc' AND run_uuid = '{run}'": (
        "run {run}, moment of metric auc", "logged as [0, "),
    "UPDATE model_versions SET run_link = 'https://elsewhere.example' WHERE version = 1": (
        "model version 1 run link", "was added afterwards"),
    "UPDATE model_versions SET status_message = 'approved by all' WHERE version = 1": (
        "model version 1 status message", "was added afterwards"),
    "UPDATE model_versions SET status = 'FAILED_REGISTRATION' WHERE version = 1": (
        "model version 1 status", "was added afterwards"),
    "UPDATE experiments SET artifact_location = 'file:///nowhere' WHERE name = 'callsieve'": (
        "run {run}, experiment artifact_location", "now 'file:///nowhere'"),
    "INSERT INTO experiment_tags (key, value, experiment_id) SELECT 'note', 'fine', experiment_id FROM runs LIMIT 1": (
        "run {run}, experiment tag note", "was added afterwards"),
    "DELETE FROM model_versions WHERE version = 1": ("model version 1", "is gone"),
    "UPDATE registered_model_aliases SET version = 1": (
        "alias candidate", "logged as pointing to version 2, now to version 1"),
    "INSERT INTO registered_model_aliases (alias, version, name) VALUES ('champion', 1, 'callsieve')": (
        "alias champion", "logged as pointing to nothing, now to version 1"),
    "INSERT INTO registered_model_aliases (alias, version, name) VALUES ('serving', 1, 'callsieve')": (
        "alias serving", "logged as pointing to nothing, now to version 1"),
}  # fmt: skip


@pytest.fixture(scope="module")
def two_runs(empty_store, tmp_path_factory):
    """A folder with an audit log and a store of two runs, and a copy of its files."""
    folder = tmp_path_factory.mktemp("two")
    shutil.copyfile(empty_store, folder / "mlflow.db")
    place = recorded_run.run_paths_in(folder)
    runs = [recorded_run.record_run(place, folder / name) for name in ("one", "two")]
    copy = tmp_path_factory.mktemp("copy")
    for name in ("audit", "mlartifacts"):
        shutil.copytree(folder / name, copy / name)
    shutil.copyfile(folder / "mlflow.db", copy / "mlflow.db")
    return folder, place, runs, copy


@pytest.fixture
def store(two_runs):
    """The folder, its paths and its first run; the edits of a test are undone after it."""
    folder, place, runs, copy = two_runs
    yield folder, place, runs[0]["run"]
    for name in ("audit", "mlartifacts"):
        shutil.rmtree(folder / name)
        shutil.copytree(copy / name, folder / name)
    # Restored by SQLite, so that open connections notice.
    with closing(sqlite3.connect(copy / "mlflow.db")) as old, closing(sqlite3.connect(folder / "mlflow.db")) as new:
        old.backup(new)


def sql(folder, statement):
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        assert database.execute(statement).rowcount > 0, statement


def faults(place):
    return {fault.where: fault.what for fault in verify(place.log, uri=place.uri).faults}


def test_an_unedited_store_has_no_faults(store):
    _, place, _ = store
    verification = verify(place.log, uri=place.uri)
    assert (verification.faults, verification.runs, verification.entries) == ((), 2, 6)
    assert set(verification.touches.values()) == {1} and len(verification.touches) == 2


@pytest.mark.parametrize("statement", EDITS)
def test_an_edit_by_sql_is_named(store, statement):
    folder, place, run = store
    sql(folder, statement.format(run=run))
    where, what = EDITS[statement]
    assert what in faults(place)[where.format(run=run)]


@pytest.mark.parametrize("data", [b"no database" * 1000, None])
def test_a_damaged_store_is_one_fault_of_one_line(two_runs, tmp_path, data):
    folder, place, *_ = two_runs
    whole, damaged = (folder / "mlflow.db").read_bytes(), tmp_path / "damaged.db"
    damaged.write_bytes(whole[: len(whole) // 2] if data is None else data)
    (fault,) = verify(place.log, uri=default_store(tmp_path).replace("mlflow.db", "damaged.db")).faults
    assert fault.where == "store" and f"{damaged} is not sound: " in fault.what and "\n" not in str(fault)


def test_a_removed_run_and_an_added_run_are_named(store):
    folder, place, run = store
    for table in ("latest_metrics", "metrics", "params", "tags"):
        sql(folder, f"DELETE FROM {table} WHERE run_uuid = '{run}'")  # noqa: S608
    sql(folder, f"DELETE FROM runs WHERE run_uuid = '{run}'")  # noqa: S608
    assert faults(place)[f"run {run}"] == "MLflow has no such run"
    client = MlflowClient(place.uri)
    added = client.create_run(client.get_experiment_by_name(mlflow_write.EXPERIMENT).experiment_id).info.run_id
    client.set_terminated(added)
    version = client.create_model_version(mlflow_write.MODEL, "file:///nowhere", added).version
    messages = faults(place)
    assert messages[f"run {added}"] == "(FINISHED): is in MLflow, but not in the log"
    assert messages[f"model version {version}"] == "is in MLflow, but not in the log"
    sql(folder, "UPDATE experiments SET name = 'another' WHERE name = 'callsieve'")
    assert faults(place)[f"run {added}"] == "(FINISHED): is in MLflow, but not in the log"


def test_a_second_dataset_of_the_same_name_is_named(store):
    _, place, run = store
    inputs = MlflowClient(place.uri).get_run(run).inputs.dataset_inputs
    other = {"sha256": "f" * 64, "rows": 10, "source": "nowhere", "context": "training"}
    MlflowClient(place.uri).log_inputs(run, [mlflow_write.dataset_input("calls", other)])
    assert len(MlflowClient(place.uri).get_run(run).inputs.dataset_inputs) == len(inputs) + 1
    assert faults(place)[f"run {run}, dataset calls (2)"] == "was added afterwards"


@pytest.mark.parametrize("artifact", ["model/bundle/model.txt", "model/MLmodel", "figures.json", "tables/slices.csv"])
@pytest.mark.parametrize("how", ["edited", "removed", "replaced by a link to the same bytes outside the store"])
def test_an_edited_or_removed_artifact_is_named(store, tmp_path, artifact, how):
    folder, place, run = store
    path = folder / "mlartifacts" / run / "artifacts" / artifact
    whole = path.read_bytes()
    path.write_bytes(whole + b" ") if how == "edited" else path.unlink()
    if how.startswith("replaced"):
        (tmp_path / "elsewhere").write_bytes(whole)
        path.symlink_to(tmp_path / "elsewhere")
    ((where, what),) = faults(place).items()
    assert where == f"run {run}, artifact {artifact}"
    assert "logged as" in what if how == "edited" else what == "is gone"


def test_a_run_without_its_payload_is_not_compared_and_is_a_fault(store):
    folder, place, run = store
    entry = next(payloads(place.log, "run"))[0]
    payload_path(place.log, entry.index).unlink()
    sql(folder, f"UPDATE latest_metrics SET value = 0.99 WHERE key = 'auc' AND run_uuid = '{run}'")  # noqa: S608
    verification = verify(place.log, uri=place.uri)
    assert verification.runs == 1
    assert [fault.where for fault in verification.faults] == [f"entry {entry.index}"]


def test_other_work_in_the_store_is_noted(store):
    """A training that failed, and an experiment and a model of somebody else, are no faults of this record."""
    _, place, _ = store
    client = MlflowClient(place.uri)
    append(place.log, "gates", recorded_run.gates().to_json(), small.KEY)
    experiment = client.get_experiment_by_name(mlflow_write.EXPERIMENT).experiment_id
    failed = client.create_run(experiment, tags={mlflow_write.LOG: log_id(place.log)}).info.run_id
    client.set_terminated(failed, "FAILED")
    client.create_run(client.create_experiment("churn"))
    client.create_registered_model("churn")
    client.create_model_version("churn", "file:///nowhere")
    client.set_registered_model_alias("churn", mlflow_write.CHAMPION, "1")
    verification = verify(place.log, uri=place.uri)
    assert verification.faults == ()
    assert {note.where for note in verification.notes} == {
        f"run {failed}", "experiment 'churn'", "registered model 'churn'"
    }  # fmt: skip


def test_an_incomplete_run_entry_is_a_fault_without_false_edits(store):
    """The missing keys are named, and no value counts as edited."""
    _, place, _ = store
    first = next(what for _, what in payloads(place.log, "run"))
    entry = append(place.log, "run", {"run": first["run"], "version": first["version"]}, small.KEY)
    messages = faults(place)
    assert messages.pop(f"entry {entry}") == "has no registered, record: its run is not compared"
    assert set(messages) <= {"alias candidate"}  # the entry moves this alias


def test_an_empty_store_lacks_every_logged_run_and_a_missing_store_is_named_and_not_created(
    store, empty_store, tmp_path
):
    _, place, run = store
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    with pytest.raises(ValueError, match=r"^MLflow: .*$"):
        mlflow_read.download(place.uri, "0" * 32, tmp_path)
    messages = {fault.where: fault.what for fault in verify(place.log, uri=default_store(tmp_path)).faults}
    assert messages[f"run {run}"] == "MLflow has no such run"
    assert messages["model version 1"] == "is gone"
    (fault,) = verify(place.log, uri=default_store(tmp_path / "other")).faults
    assert (fault.where, fault.what) == ("store", f"{(tmp_path / 'other' / 'mlflow.db').resolve()} does not exist")
    assert not (tmp_path / "other").exists()


def test_a_dataset_has_the_hash_of_all_its_rows(store):
    _, place, run = store
    first = MlflowClient(place.uri).get_run(run).inputs.dataset_inputs[0]
    assert (first.dataset.name, first.dataset.digest) == ("calls", "0" * 36)
    assert '"sha256": "' + "0" * 64 in first.dataset.profile
    assert get_source(first.dataset).to_dict() == {"tags": {"source": "nowhere"}}


def test_no_path_of_a_program_is_recorded(store):
    """The tags name the source that the caller passed, not the path of this process."""
    _, place, run = store
    entry = MlflowClient(place.uri).get_run(run)
    tags = entry.data.tags
    of_mlflow = {"mlflow.runName", "mlflow.source.name", "mlflow.source.type", "mlflow.user"}
    assert set(tags) == {"data_sha256", "certified", mlflow_write.LOG} | of_mlflow
    assert (tags["mlflow.source.name"], tags["mlflow.source.type"]) == ("a test", "LOCAL")
    assert entry.info.user_id == tags["mlflow.user"] == mlflow_write.user()


def test_an_alias_that_an_erased_entry_moved_last_may_point_anywhere():
    first, last = (SimpleNamespace(index=index, kind="run") for index in range(2))
    runs = {0: {"version": "1", "record": {"tag": {}}}}
    assert aliases(Content([first, last], runs=runs)) == {mlflow_write.CHAMPION: None}
    assert aliases(Content([first], runs=runs)) == {mlflow_write.CHAMPION: None, mlflow_write.ALIAS: "1"}
    runs[0]["record"]["tag"] = {mlflow_write.ALIAS: "false"}  # no better than the shipped model
    assert aliases(Content([first], runs=runs)) == {mlflow_write.CHAMPION: None, mlflow_write.ALIAS: None}
