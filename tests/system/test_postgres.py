"""A real MLflow server on PostgreSQL records a run, and edits in its database are detected."""

import mlflow
import numpy as np
import pandas as pd
import psycopg
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from callsieve.features.catalogue import NAMES
from callsieve.features.keys.tokens import Key
from callsieve.features.offline.table import vectors
from callsieve.features.records import KEYED_COLUMNS
from callsieve.training import run as running
from callsieve.training.judging import judge as judging
from callsieve.training.oversight.audit.promote import promote
from callsieve.training.oversight.audit.verify import verify
from callsieve.training.oversight.log.run_paths import RunPaths
from callsieve.training.tracking import mlflow_read
from tests.support import small_bundle as small
from tests.support.errors import refused
from tests.support.keys import write_key
from tests.support.servers.postgres import mlflow_server, postgres_cluster
from tests.support.simulated import mark_simulated
from tests.support.trainings import recorded_run
from tests.training.oversight.audit.test_promote import approvals

EDITS = {
    "UPDATE latest_metrics SET value = 0.99 WHERE key = 'auc'": "run {run}, metric auc",
    "UPDATE params SET value = '2' WHERE key = 'seed'": "run {run}, parameter seed",
    "UPDATE tags SET value = 'false' WHERE key = 'certified'": "run {run}, tag certified",
    "UPDATE datasets SET digest = 'ff'": "run {run}, dataset calls",
    "UPDATE model_versions SET source = 'file:///nowhere'": "model version 1 source",
    "UPDATE registered_model_aliases SET version = 7 WHERE alias = 'champion'": "alias champion",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The paths of a run, the run promoted on a server, the address of its database, and the folder."""
    folder = tmp_path_factory.mktemp("server")
    with postgres_cluster() as store, mlflow_server(store, folder / "artifacts") as uri:
        place = RunPaths(folder / "audit", uri)
        run = recorded_run.record_run(place, folder / "one")
        promote(place, run["run"], approvals(place, run["run"], folder / "approvals"), small.KEY, data=None)
        yield place, run, store.replace("+psycopg", ""), folder


def test_a_run_is_recorded_promoted_and_verified(server, tmp_path):
    place, run, _, folder = server
    report = verify(place.log, uri=place.uri)
    assert (report.faults, report.runs) == ((), 1)
    assert mlflow_read.registry(place.uri)["aliases"] == {"candidate": "1", "champion": "1"}
    recorded = MlflowClient(place.uri).get_run(run["run"])
    assert recorded.data.metrics == recorded_run.PASSING_METRICS
    assert recorded.info.artifact_uri.startswith("mlflow-artifacts:")
    root = mlflow_read.download(place.uri, run["run"], tmp_path)
    for name in ("bundle/model.txt", "bundle/MANIFEST.sig", "record/settings.json"):
        assert (root / name).read_bytes() == (folder / "one" / name).read_bytes()


@pytest.mark.filterwarnings("ignore:::mlflow")
def test_the_champion_as_mlflow_loads_it_gives_the_verdicts_of_the_command(
    server, world, command_json, tmp_path, monkeypatch
):
    """After the first week, when the history is long enough for the command to judge; rows alone flag no number."""
    place, run, _, folder = server
    calls = world.calls.select(KEYED_COLUMNS)
    pq.write_table(calls, tmp_path / "calls.parquet")
    mark_simulated(tmp_path)
    words = ("--calls", tmp_path / "calls.parquet", "--layout", "keyed", "--out", tmp_path / "verdicts.parquet")
    Key.generate("c1", "callees").write(tmp_path / "callees.key")
    command_json("score", "--bundle", folder / "one" / "bundle", *words, "--callees-key", tmp_path / "callees.key")
    order = ["start", "caller"]
    verdicts = pq.read_table(tmp_path / "verdicts.parquet").to_pandas().astype({"caller": str}).sort_values(order)
    identity = calls.select(order).to_pandas().astype({"caller": str}).sort_values(order)
    frame = pd.DataFrame(vectors(calls), columns=NAMES).loc[identity.index]
    assert identity["caller"].tolist() == verdicts["caller"].tolist()
    later = (identity["start"] > identity["start"].min() + 8 * 86_400_000).to_numpy()
    later = later & ~verdicts["rules"].astype(str).str.contains("flagged").to_numpy()
    frame, verdicts = frame[later], verdicts[later]
    assert len(set(verdicts["action"])) > 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place.uri)
    for uri in ("models:/callsieve@champion", f"runs:/{run['run']}/model"):
        answers = mlflow.pyfunc.load_model(uri).predict(frame)
        np.testing.assert_array_equal(answers["score"].astype("float32"), verdicts["probability"].astype("float32"))
        assert answers["action"].tolist() == verdicts["action"].tolist()


@pytest.mark.parametrize("statement", EDITS)
def test_an_edit_with_sql_is_named(server, statement):
    place, run, database, _ = server
    with psycopg.connect(database, autocommit=True) as connection:
        table, _, rest = statement.removeprefix("UPDATE ").partition(" SET ")
        column = rest.partition(" = ")[0]
        condition = rest.partition(" WHERE ")[2] or "true"
        old = connection.execute(f"SELECT {column} FROM {table} WHERE {condition}").fetchone()[0]  # noqa: S608
        assert connection.execute(statement).rowcount == 1
        try:
            assert EDITS[statement].format(run=run["run"]) in {
                fault.where for fault in verify(place.log, uri=place.uri).faults
            }
        finally:
            connection.execute(f"UPDATE {table} SET {column} = %s WHERE {condition}", (old,))  # noqa: S608
    assert verify(place.log, uri=place.uri).faults == ()


def test_a_changed_artifact_on_the_server_is_named(server):
    place, run, _, folder = server
    path = next((folder / "artifacts").rglob("model.txt"))
    whole = path.read_bytes()
    path.write_bytes(whole + b" ")
    assert [fault.where for fault in verify(place.log, uri=place.uri).faults] == [
        f"run {run['run']}, artifact model/bundle/model.txt"
    ]
    path.write_bytes(whole)


def test_a_missing_server_is_reported_in_one_line(server, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    place, _, _, _ = server
    with refused(r"^MLflow: "):
        verify(place.log, uri="http://127.0.0.1:9")


def test_a_training_on_two_threads_gives_the_same_model_as_on_one(
    server, training_run, dataset, trained, by_baselines, monkeypatch, tmp_path
):
    """The last test of this file: the server keeps the run."""
    place, first, _, folder = server
    # On two threads; reading a source counts a look.
    monkeypatch.setattr(
        running, "train", lambda sources, *_, **__: trained if [source.read() for source in sources] else None
    )
    monkeypatch.setattr(judging, "baseline_scores", lambda _: by_baselines)
    key = write_key(small.KEY, tmp_path / "signing.key")
    figures = running.record_training(
        dataset, trained.settings, tmp_path / "run", source="simulated world 'tiny'", signing_key=key,
        tracking_uri=place.uri, audit=place.log,
    )  # fmt: skip
    assert figures["model"]["id"] == training_run[1]["model"]["id"]  # trained on one thread
    report = verify(place.log, uri=place.uri)
    assert (report.faults, report.runs) == ((), 2)
    aliases = mlflow_read.registry(place.uri)["aliases"]  # the new model is no better than the shipped one
    assert aliases == {"candidate": "1", "champion": "1"}
    artifacts = next(folder.rglob(f"{figures['tracking']['run']}/artifacts"))
    for name in ("model/bundle/model.txt", "record/reference.json", "report/audit.html", "documents/model_card.md"):
        local = tmp_path / "run" / name.removeprefix("report/").removeprefix("model/")
        assert (artifacts / name).read_bytes() == local.read_bytes()
    assert first["run"] != figures["tracking"]["run"]
