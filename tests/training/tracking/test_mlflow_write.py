"""Runs of trainings and of other commands in MLflow are complete and versioned, and opening them runs no code."""

import csv
import json
import os
import pickletools
import re
import shutil
import sqlite3
import subprocess
import time
import warnings
from functools import partial
from importlib.metadata import version
from types import SimpleNamespace

import mlflow.store.db.utils
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR
from sqlalchemy.exc import OperationalError

from callsieve.features.catalogue import catalogue_hash
from callsieve.serving.bundle.bundle import load
from callsieve.serving.bundle.signing import read_public_key
from callsieve.training import Settings
from callsieve.training import run as running
from callsieve.training.model import provenance
from callsieve.training.model import train as training
from callsieve.training.model.provenance import source_hash
from callsieve.training.oversight.log.gates import shipped_gates
from callsieve.training.oversight.log.run_paths import default_store
from callsieve.training.reports.headline_list import headline_metrics
from callsieve.training.tracking import mlflow_read, mlflow_write
from callsieve.training.tracking.mlflow_model import save_model
from callsieve.training.tracking.run_values import slice_metrics
from tests.support import lite_bundle
from tests.support.errors import raising

pytestmark = pytest.mark.system

NOTE = "mlflow.note.content"
PICKLES = (".pkl", ".pickle", ".joblib", ".cloudpickle", ".npy", ".pt")


@pytest.fixture(scope="module")
def recorded_run(training_run):
    """Client, run and figures of the whole training."""
    folder, figures = training_run
    client = MlflowClient(default_store(folder))
    return client, client.get_run(figures["tracking"]["run"]), figures


@pytest.fixture
def store(empty_store, tmp_path):
    """A folder with an empty store."""
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    return tmp_path


def record(folder, **changed):
    if not (folder / "bundle").exists():
        lite_bundle.write_bundle(folder)
    values = {
        "name": "one", "made_by": "a test", "began": time.time(), "parameters": {"seed": 1}, "metrics": {"auc": 0.5},
        "tags": {"certified": "false"}, "datasets": {}, "figures": {"auc": 0.5}, "files": {},
        "model": partial(save_model, folder / "bundle", signer=folder / "signer.pub"),
    }  # fmt: skip
    return mlflow_write.write_run(default_store(folder), folder / "artifacts", **(values | changed))


def test_the_list_of_models_has_the_run_with_its_metrics_and_calls(recorded_run):
    client, run, figures = recorded_run
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert (model.source_run_id, model.status.name, model.name) == (run.info.run_id, "READY", "callsieve")
    assert model.tags["model_id"] == figures["model"]["id"]
    of_run = {key: value for key, value in run.data.metrics.items() if not key.startswith(("loss ", "catch in "))}
    assert {metric.key: metric.value for metric in model.metrics} == of_run
    calls = next(entry.dataset for entry in run.inputs.dataset_inputs if entry.dataset.name == "calls")
    assert {(metric.dataset_name, metric.dataset_digest) for metric in model.metrics} == {("calls", calls.digest)}
    types = {column["name"]: column["type"] for column in json.loads(calls.schema)["mlflow_colspec"]}
    assert (types["caller"], types["start"]) == ("string", "long")
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]


def test_parameters_metrics_and_tags_are_recorded(recorded_run):
    client, run, figures = recorded_run
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == "0"
    assert run.data.params["calls"] == str(figures["data"]["calls"])
    slices = slice_metrics(figures)
    metrics = dict(run.data.metrics)
    curve = client.get_metric_history(run.info.run_id, "loss on held-out folds")
    assert [point.step for point in curve] == list(range(1, len(curve) + 1)) and len(curve) > 10
    assert metrics.pop("loss on held-out folds") == curve[-1].value < curve[0].value
    gain = {
        "shipped/gain": figures["gain"]["rate"],
        "shipped/gain_low": figures["gain"]["low"],
        "better_than_shipped": 0.0,
    }
    assert metrics == pytest.approx(headline_metrics(figures) | slices | gain | {"test_fold_touches": 1.0})
    assert len([name for name in run.data.metrics if "/" not in name]) <= 15
    assert run.info.run_name.endswith(figures["model"]["id"][:6])
    described = client.get_model_version(mlflow_write.MODEL, figures["tracking"]["version"])
    assert described.description == run.data.tags[NOTE]
    assert described.tags["user"] == run.data.tags["mlflow.user"] != ""
    assert len([name for name in metrics if not name.startswith("slice/")]) <= 31
    assert {"auc", "ece", "model_benign_error_bound", "rule/catch_by_call"} <= set(run.data.metrics)
    tags = run.data.tags
    assert tags["data_sha256"] == figures["data"]["fingerprint"]
    assert tags["catalogue_sha256"] == catalogue_hash()
    assert tags["model_id"] == figures["model"]["id"]
    assert tags["source_sha256"] == source_hash()
    assert tags["certified"] == "false"
    assert tags["gates_sha256"] == shipped_gates().sha256 == figures["gates"]["sha256"]
    assert tags["version.lightgbm"] == version("lightgbm")
    head = figures["headline"]["model"]
    refused = ", ".join(figures["gates"]["refused"])
    start = f"**not certified, refused by gates on {refused}**"
    assert f"{start}: {head['false_calls']} of {head['benign_calls']:,} innocent" in tags[NOTE]


def test_parameters_of_the_fit_equal_those_in_the_model_text(recorded_run, training_run):
    recorded_parameters = recorded_run[1].data.params.items()
    parameters = {name.removeprefix("lightgbm_"): value for name, value in recorded_parameters if "lightgbm_" in name}
    text = (training_run[0] / "bundle" / "model.txt").read_text()
    written = dict(re.findall(r"^\[(\w+): (.*)\]$", text, flags=re.MULTILINE))
    assert written["num_iterations"] == parameters.pop("rounds") and int(parameters.pop("patience")) > 0
    assert parameters.pop("deterministic") == parameters.pop("force_row_wise") == "True"
    assert {"num_leaves", "learning_rate", "min_data_in_leaf", "lambda_l2", "objective"} < parameters.keys()
    plain = {name: value for name, value in parameters.items() if name in ("objective", "metric")}
    assert plain == {name: written[name] for name in plain}
    for name in parameters.keys() - plain.keys():
        assert float(written[name]) == float(parameters[name]), name


def test_a_run_has_the_start_time_and_the_command_of_its_training(recorded_run, training_run, run_key):
    _, run, _ = recorded_run
    written = [path.stat().st_mtime_ns // 10**6 for path in (run_key, training_run[0] / "bundle" / "model.txt")]
    # File times have a coarser clock that is some milliseconds behind.
    assert run.info.start_time - 20 <= written[0] < written[1] < run.info.end_time
    assert run.data.tags["mlflow.source.name"] == "callsieve train"


def test_mlflow_does_not_show_pages_for_language_models(recorded_run):
    client, run, _ = recorded_run
    assert client.get_experiment(run.info.experiment_id).tags["mlflow.experimentKind"] == "custom_model_development"


def test_the_model_of_a_run_holds_the_signed_bundle(recorded_run, training_run, tmp_path):
    client, run, figures = recorded_run
    version = client.get_model_version(mlflow_write.MODEL, figures["tracking"]["version"])
    assert version.run_id == run.info.run_id and not version.aliases  # not better than the shipped model: no candidate
    local = client.download_artifacts(run.info.run_id, "model/bundle", str(tmp_path))
    bundle = load(local, [read_public_key(training_run[0] / "signer.pub")])
    assert bundle.model_id == figures["model"]["id"]


def test_figures_and_pages_are_artifacts(recorded_run, tmp_path):
    client, run, figures = recorded_run
    stored = json.loads(run_file(client, run, "figures.json", tmp_path).read_text())
    assert stored == {name: value for name, value in figures.items() if name not in ("tracking", "audit")}
    names = {
        file.path for name in ("report", "documents", "record", "tables", "model", "model/bundle")
        for file in client.list_artifacts(run.info.run_id, name)
    }  # fmt: skip
    assert names >= {
        "report/report.html", "report/audit.html", "documents/model_card.md", "documents/datasheet.md",
        "record/settings.json", "record/reference.json",
        "record/versions.json", "record/datasets.json", "record/gates.toml", "record/signer.pub", "tables/slices.csv",
        "tables/curve_model.csv", "model/bundle/bundle.json", "model/MLmodel", "model/input_example.json",
    }  # fmt: skip
    versions = json.loads(run_file(client, run, "record/versions.json", tmp_path).read_text())
    assert versions["decisive"]["lightgbm"] == versions["installed"]["lightgbm"] == version("lightgbm")
    baselines = rows_of(run_file(client, run, "tables/baselines.csv", tmp_path))
    both = figures["headline"] | figures["baselines"]
    assert [row["way"] for row in baselines] == list(both) and len(baselines) == 8
    for row in baselines:
        head = both[row["way"]]
        assert [float(row[f"bootstrap.{end}"]) for end in ("low", "high")] == head["bootstrap"]
        assert float(row["bound"]) == head["bound"] and row["certified"] == str(head["certified"])
    slices = rows_of(run_file(client, run, "tables/slices.csv", tmp_path))
    assert [row["slice"] for row in slices] == [row["slice"] for row in figures["slices"]]
    assert [int(row["calls"]) for row in slices] == [row["calls"] for row in figures["slices"]]


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run_file(client, run, name, folder):
    return folder / client.download_artifacts(run.info.run_id, name, str(folder))


def test_no_file_of_a_run_contains_a_pickle(training_run):
    files = [path for path in training_run[0].rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        assert path.suffix not in PICKLES, path
        assert not is_pickle(path.read_bytes()), path


def is_pickle(data):
    """Tells whether the bytes are a whole pickle, because some texts begin like a pickle."""
    try:
        with warnings.catch_warnings(action="ignore"):  # a text may have escapes that Python does not know
            return list(pickletools.genops(data))[-1][2] == len(data) - 1
    except (ValueError, KeyError, IndexError, UnicodeDecodeError):
        return data[:1] == b"\x80" and data[1:2] in b"\x02\x03\x04\x05"


def test_pickles_of_every_protocol_are_detected():
    import pickle

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert is_pickle(pickle.dumps([1.0, "x"], protocol))


def test_two_records_are_two_versions_and_the_alias_moves(store):
    first, second = record(store), record(store, name="two")
    assert (first["version"], second["version"]) == ("1", "2")
    assert first["run"] != second["run"]
    client = MlflowClient(default_store(store))
    assert client.get_model_version_by_alias(mlflow_write.MODEL, mlflow_write.ALIAS).run_id == second["run"]
    assert client.get_run(first["run"]).info.run_name == "one"

    assert record(store, candidate=False)["version"] == "3"
    nothing = record(store, model=None)
    assert nothing["version"] == ""
    assert client.get_model_version_by_alias(mlflow_write.MODEL, mlflow_write.ALIAS).run_id == second["run"]

    with pytest.raises(FileNotFoundError):
        record(store, files={"report": store / "missing.html"})
    experiment = client.get_experiment_by_name(mlflow_write.EXPERIMENT)
    last = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"], max_results=1)[0]
    assert last.info.status == "FAILED"
    # A failed run is never a candidate.
    assert client.get_model_version_by_alias(mlflow_write.MODEL, mlflow_write.ALIAS).run_id == second["run"]


def test_a_parameter_that_mlflow_would_truncate_is_refused(store):
    with pytest.raises(ValueError, match="parameter policy: expected at most 6000 characters"):
        record(store, parameters={"policy": "x" * 6001})


def test_many_parameters_and_tags_are_written(store):
    many = {f"n{i}": str(i) for i in range(250)}
    entry = record(store, parameters=many, tags=many, metrics={})
    data = MlflowClient(default_store(store)).get_run(entry["run"]).data
    assert data.params == many
    assert {name: word for name, word in data.tags.items() if not name.startswith("mlflow.")} == many


def test_the_commit_is_read_before_the_training_begins(dataset, monkeypatch, tmp_path):
    """A training takes minutes; a commit made meanwhile is not the code that ran."""
    steps = []
    monkeypatch.setattr(running, "commit", lambda: steps.append("commit") or {})
    monkeypatch.setattr(training, "source_hash", lambda: steps.append("source"))

    def first_step(*_args):
        steps.append("begin")
        raise InterruptedError

    monkeypatch.setattr(training, "gather", first_step)
    with pytest.raises(InterruptedError):
        running.record_training(dataset, Settings(), tmp_path / "run", source="simulated world 'tiny'")
    assert steps == ["commit", "source", "begin"]


def test_outside_a_checkout_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.commit() == {}
    monkeypatch.setattr(subprocess, "run", raising(FileNotFoundError("git")))
    assert provenance.commit() == {}


@pytest.mark.source("L36", by="training/model/provenance.py")
def test_the_commit_is_of_callsieve_and_never_of_the_project_that_it_is_installed_in(monkeypatch, tmp_path):
    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        command = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    installed = tmp_path / ".venv" / "site-packages" / "callsieve"
    installed.mkdir(parents=True)
    (tmp_path / "own.py").write_text("")
    git("init", "-q")
    git("add", "own.py")
    git("commit", "-q", "-m", "own work")
    monkeypatch.setattr(provenance, "ROOT", installed)
    assert provenance.commit() == {}
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.commit()["commit"] == git("rev-parse", "HEAD")


def test_the_setting_of_mlflows_progress_bar_is_restored(monkeypatch):
    name = "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"
    monkeypatch.setenv(name, "yes")
    with mlflow_write.quiet():
        assert os.environ[name] == "false"
    assert os.environ[name] == "yes"


def test_a_failing_store_is_an_error(monkeypatch):
    down = raising(MlflowException("the store is down", INTERNAL_ERROR))
    client = SimpleNamespace(create_registered_model=down, get_run=down)
    with pytest.raises(MlflowException, match="the store is down"):
        mlflow_write.register(client, "run")
    monkeypatch.setattr(mlflow_read, "client_of", lambda _uri: client)
    with pytest.raises(ValueError, match="MLflow: the store is down"):
        mlflow_read.snapshot("sqlite://", "run")
    client.get_registered_model = down
    with pytest.raises(ValueError, match="MLflow: the store is down"):  # and not taken for a store without a model
        mlflow_read.registry("sqlite://")


def test_an_unfinished_store_is_removed(monkeypatch, tmp_path, copied_stores):
    monkeypatch.setattr(mlflow_write, "new_store", copied_stores)
    monkeypatch.setattr(mlflow.store.db.utils, "_upgrade_db", raising(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        mlflow_read.registry(default_store(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_concurrent_new_stores_stays(monkeypatch, store, tmp_path):
    other = (store / "mlflow.db").rename(tmp_path / "other")
    experiment = mlflow_write.experiment_of(MlflowClient(f"sqlite:///{other}"), "", tmp_path)

    def slower(folder):
        other.rename(store / "mlflow.db")
        return shutil.copyfile(empty, folder / "copy.db")

    empty = shutil.copyfile(other, tmp_path / "empty")
    monkeypatch.setattr(mlflow_write, "new_store", slower)
    client = mlflow_write.client_of(default_store(store))
    assert mlflow_write.experiment_of(client, "", tmp_path) == experiment
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "mlflow.db"}


def test_only_its_owner_can_read_a_new_store(empty_store):
    assert empty_store.stat().st_mode & 0o777 == 0o600


def test_an_experiment_that_another_process_creates_is_used(monkeypatch, store):
    client, answers = mlflow_write.client_of(default_store(store)), [None]
    first, ask = mlflow_write.experiment_of(client, "", store), client.get_experiment_by_name
    monkeypatch.setattr(client, "get_experiment_by_name", lambda name: answers.pop() if answers else ask(name))
    assert mlflow_write.experiment_of(client, "", store) == first


def test_a_store_error_is_reported_in_one_line_without_values():
    fault = OperationalError("insert into tags", {"value": "secret"}, sqlite3.OperationalError("database is\nlocked"))
    with pytest.raises(ValueError, match=r"^MLflow: the store failed: database is locked$"), mlflow_write.quiet():
        raise fault
