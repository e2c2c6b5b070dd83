"""Where a run's MLflow store and its private key are; store, artifacts and run move together."""

import shutil

import mlflow
import pytest

from callsieve.serving.bundle.signing import key_id, write_public_key
from callsieve.training.oversight.audit.verify import verify
from callsieve.training.oversight.log.audit_log import append
from callsieve.training.oversight.log.key_folder import VARIABLE, key_folder, key_path, log_signing_key, new_key
from callsieve.training.oversight.log.run_paths import RunPaths, record_store, run_paths, working_store
from callsieve.training.run import signer
from callsieve.training.tracking import mlflow_read, mlflow_write
from tests.support import small_bundle as small
from tests.support.keys import write_key
from tests.support.trainings import recorded_run


@pytest.fixture
def working(tmp_path, monkeypatch):
    """A working folder, in which MLflow is set to no store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def test_the_store_is_the_given_one_then_the_recorded_then_that_of_mlflow_then_that_of_the_folder(working, monkeypatch):
    run = working / "run"
    run.mkdir()
    assert run_paths(run, None, None).uri == f"sqlite:///{working}/mlruns.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server.example")
    assert run_paths(run, None, None).uri == "http://server.example"
    record_store(run, "http://user:word@server.example")
    assert list(run.iterdir()) == []  # a URI may have a password
    record_store(run, f"sqlite:///{working}/mlruns.db")
    assert run_paths(run, None, None).uri == f"sqlite:///{working}/mlruns.db"
    assert run_paths(run, None, "sqlite:///other.db").uri == "sqlite:///other.db"
    (run / "tracking.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tracking\.json: expected the place of a store"):
        run_paths(run, None, None)


@pytest.mark.filterwarnings("ignore:::mlflow")
@pytest.mark.usefixtures("working")
def test_set_tracking_uri_is_honoured():
    before = mlflow.get_tracking_uri()
    try:
        mlflow.set_tracking_uri("http://server.example")
        assert working_store() == "http://server.example"
    finally:
        mlflow.set_tracking_uri(before)


@pytest.mark.system
def test_runs_of_two_logs_share_a_store_and_both_move(working, empty_store, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "line 7")
    shutil.copyfile(empty_store, working / "mlruns.db")
    places = [RunPaths(working / name / "audit", working_store()) for name in ("a", "b")]
    for place in places:
        place.log.parent.mkdir()
        recorded_run.record_run(place, place.log.parent / "run")
    assert [verify(place.log, uri=place.uri).faults for place in places] == [(), ()]
    runs = list(mlflow_read.all_runs(working_store()))
    assert len(runs) == 2
    assert {path.name for path in (working / "mlartifacts").iterdir()} == set(runs)
    client = mlflow_write.client_of(working_store())
    assert {client.get_run(run).info.experiment_id for run in runs} == {
        client.get_experiment_by_name("line 7").experiment_id
    }
    # A run that no log has is a fault of each of them.
    mlflow_write.write_run(
        working_store(), working / "mlartifacts", name="hidden", made_by="a test", began=0.0, parameters={},
        metrics={}, tags={}, datasets={}, figures={}, files={},
    )  # fmt: skip
    assert all("not in the log" in str(verify(place.log, uri=place.uri).faults) for place in places)

    moved = tmp_path / "elsewhere"
    working.rename(moved)
    monkeypatch.chdir(moved)
    for name in ("a", "b"):
        (fault,) = verify(moved / name / "audit", uri=working_store()).faults
        assert "not in the log" in fault.what
    assert (mlflow_read.download(working_store(), runs[0], tmp_path / "files") / "figures.json").exists()


@pytest.mark.system
def test_a_copy_is_verified_by_itself_with_and_without_the_original(
    working, empty_store, tmp_path, monkeypatch, command_json, run_command
):
    shutil.copyfile(empty_store, working / "mlruns.db")
    place = RunPaths(working / "run" / "audit", working_store())
    place.log.parent.mkdir()
    recorded_run.record_run(place, place.log.parent)
    record_store(place.log.parent, place.uri)
    copy = tmp_path / "auditor" / "copy"
    shutil.copytree(working, copy)
    monkeypatch.chdir(tmp_path)
    words = ("audit", "verify", "--in", copy / "run")
    assert command_json(*words)["sound"]
    # The original is not looked at: it neither hides a fault of the copy nor adds one.
    (artifact,) = (copy / "mlartifacts").rglob("slices.csv")
    before = artifact.read_bytes()
    artifact.write_bytes(b"slice,calls\ncourier,13\n")
    code, out, _ = run_command(*words)
    assert code == 1 and "slices.csv" in out
    artifact.write_bytes(before)
    (original,) = (working / "mlartifacts").rglob("slices.csv")
    original.write_bytes(b"slice,calls\ncourier,13\n")
    assert command_json(*words)["sound"]
    working.rename(tmp_path / "away")
    result = command_json(*words)
    assert result["sound"] and result["runs"] == 1


# Key folder


@pytest.fixture
def keys(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "keys"))
    return tmp_path / "keys"


def test_a_new_key_is_the_users_alone(keys):
    key = new_key()
    (path,) = keys.iterdir()
    assert path.name == f"{key_id(key.public_key())}.key"
    assert (keys.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)


def test_the_key_folder_is_named_or_in_the_users_configuration(keys, monkeypatch, tmp_path):
    assert key_folder() == keys
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert key_folder() == tmp_path / "config" / "callsieve" / "keys"
    (tmp_path / "file").touch()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file" / "keys"))
    with pytest.raises(ValueError, match=rf"no key can be made here .*; set {VARIABLE}, or give --signing-key FILE"):
        new_key()


def test_a_training_signs_with_the_key_of_its_log(keys, tmp_path):
    run, log = tmp_path / "run", tmp_path / "audit"
    run.mkdir()
    first = signer(run, log, None)
    assert [path.name for path in run.iterdir()] == ["signer.pub"] and len(list(keys.iterdir())) == 1
    append(log, "policy", {}, first)
    (tmp_path / "other").mkdir()
    again = signer(tmp_path / "other", log, None)
    assert again.private_bytes_raw() == first.private_bytes_raw() and len(list(keys.iterdir())) == 1
    assert log_signing_key(run, log, None).private_bytes_raw() == first.private_bytes_raw()


def test_the_key_beside_an_earlier_run_is_read_and_a_missing_one_is_named(keys, tmp_path):
    write_public_key(small.KEY.public_key(), tmp_path / "signer.pub")
    with pytest.raises(ValueError, match=rf"{keys}/[0-9a-f]{{16}}\.key: no key that signs .*; expected --signing-key"):
        log_signing_key(tmp_path, tmp_path / "audit", None)
    beside = write_key(small.KEY, tmp_path / "signing.key")
    assert key_path(tmp_path, tmp_path / "audit") == beside
    assert log_signing_key(tmp_path, tmp_path / "audit", None).public_key() == small.KEY.public_key()
