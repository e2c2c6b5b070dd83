"""Commands besides `train` are recorded in MLflow; a store that cannot be reached costs no figure."""

import time

import pytest

from callsieve.training.tracking import mlflow_write
from callsieve.training.tracking.activity import EXPERIMENT, record_activity

pytestmark = pytest.mark.system


def test_figures_are_metrics_and_lists_are_curves(tracking_store, tmp_path):
    (tmp_path / "picture.svg").write_text("<svg/>")
    figures = {"share": 0.5, "once": {"catch": 1}, "periods": [{"catch": 0.5}, {"catch": 0.25}], "bad %": 2}
    fault = record_activity(
        "study decay", figures, began=time.time(), files={"plots": tmp_path / "picture.svg"}, data="w"
    )
    assert fault == ""
    client = mlflow_write.client_of(f"sqlite:///{tracking_store}")
    experiment = client.get_experiment_by_name(mlflow_write.EXPERIMENT + EXPERIMENT)
    run = next(run for run in client.search_runs([experiment.experiment_id]) if run.info.run_name == "study decay w")
    assert run.data.metrics == {"share": 0.5, "once/catch": 1.0, "periods/catch": 0.25, "bad -": 2.0}
    history = client.get_metric_history(run.info.run_id, "periods/catch")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.25)]
    assert run.data.tags["mlflow.source.name"] == "callsieve study decay"
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"figures.json", "plots"}


def test_an_unreachable_store_is_reported_in_one_line(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    fault = record_activity("evaluate", {"auc": 1.0}, began=time.time())
    assert fault.startswith("evaluate: not recorded in MLflow: ") and "\n" not in fault
