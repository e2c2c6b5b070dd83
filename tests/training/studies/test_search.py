"""The search uses the training side only, resumes after a kill, and writes a parameter file for training."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError

from callsieve.training.model.fit import PARAMETERS
from callsieve.training.model.settings import RANGES, Settings, read_parameters, write_parameters
from callsieve.training.model.split import plan
from callsieve.training.oversight.log.run_paths import default_store
from callsieve.training.studies import search as searching
from callsieve.training.studies.search import RESULT, STORE, gain_of, search, training_side
from callsieve.training.tracking import mlflow_read

pytestmark = pytest.mark.system

QUICK = Settings(threads=1, parameters={"rounds": 6, "patience": 3})


@pytest.fixture(scope="module")
def search_results(dataset, tmp_path_factory, empty_store):
    """A search that was killed in its second trial and then resumed to three trials."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    options = {"minutes": 60.0, "uri": default_store(folder), "source": "a tiny world"}
    first = search(dataset, QUICK, folder, trials=1, **options)
    optuna.load_study(study_name=first["study"], storage=f"sqlite:///{folder / STORE}").ask()
    return folder, first, search(dataset, QUICK, folder, trials=3, **options)


def rows(path, query):
    with closing(sqlite3.connect(path)) as store:
        return store.execute(query).fetchall()


def trial_attributes(folder, key):
    values = rows(folder / STORE, "select key, value_json from trial_user_attributes order by trial_id")
    return [json.loads(text) for name, text in values if name == key]


def test_a_killed_search_resumes_at_the_next_trial(search_results):
    folder, first, last = search_results
    assert (first["trials"], last["trials"]) == (1, 3)
    assert (first["study"], first["run"]) == (last["study"], last["run"])
    states = [state for (state,) in rows(folder / STORE, "select state from trials order by number")]
    assert states == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    proposed = trial_attributes(folder, "parameters")
    assert len({json.dumps(parameters, sort_keys=True) for parameters in proposed}) == 3  # no proposal is repeated
    assert proposed[0] == {**PARAMETERS, **QUICK.parameters, "min_data_in_leaf": proposed[0]["min_data_in_leaf"]}
    losses = [figures["log_loss"] for figures in trial_attributes(folder, "figures")]
    assert last["figures"]["log_loss"] == min(losses) <= last["shipped"]["log_loss"] == losses[0]


def test_a_killed_search_gives_the_same_result_as_an_unbroken_search(search_results, dataset, tmp_path, empty_store):
    folder, _, last = search_results
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    options = {"minutes": 60.0, "uri": default_store(tmp_path), "source": "a tiny world"}
    whole = search(dataset, QUICK, tmp_path, trials=3, **options)
    query = "select key, value_json from trial_user_attributes order by trial_id, key"
    assert rows(tmp_path / STORE, query) == rows(folder / STORE, query)
    assert all(whole[name] == last[name] for name in ("parameters", "figures", "shipped"))


def test_an_unusable_file_of_trials_is_refused_in_one_line(dataset, monkeypatch, tmp_path):
    side = training_side(dataset, QUICK)
    monkeypatch.setattr(searching, "training_side", lambda *_: side)
    (tmp_path / STORE).write_text("no database, but long enough to be read as the head of a database" * 20)
    with pytest.raises(ValueError, match=r"^search: search.db cannot be used: file is not a database$"):
        search(dataset, QUICK, tmp_path, trials=1, minutes=1.0, uri=default_store(tmp_path), source="")
    full = OperationalError("insert", {"value": "secret"}, sqlite3.OperationalError("database or disk is full"))
    with pytest.raises(ValueError, match=r"cannot be used: database or disk is full$"), searching.storage_errors():
        raise StorageInternalError("a text of Optuna") from full


def test_trials_are_runs_nested_in_the_run_of_the_search(search_results):
    folder, _, last = search_results
    parents = rows(folder / "mlflow.db", "select value from tags where key = 'mlflow.parentRunId'")
    assert parents == [(last["run"],)] * 3
    record = mlflow_read.snapshot(default_store(folder), last["run"])
    assert record["run"]["status"] == "FINISHED"
    sources = rows(folder / "mlflow.db", "select distinct value from tags where key = 'mlflow.source.name'")
    assert sources == [("callsieve study search",)]
    assert all(end - start > 0 for start, end in rows(folder / "mlflow.db", "select start_time, end_time from runs"))
    assert record["metric"]["best_log_loss"] == last["figures"]["log_loss"]
    assert RESULT in record["artifact"]
    assert mlflow_read.all_runs(default_store(folder)) == {}  # no trial can be promoted


def test_a_training_reads_the_parameter_file(search_results):
    folder, _, last = search_results
    assert read_parameters(folder / RESULT) == last["parameters"]
    assert set(last["parameters"]) == {*PARAMETERS, "min_data_in_leaf"}


def test_data_after_the_label_cutoff_does_not_change_the_training_side(dataset):
    """Later talk times, later findings and the truth change nothing; complaints before the cutoff do."""
    start = dataset.calls["start"].to_numpy()
    folds = plan(int(start.min()), int(start.max()))
    side = training_side(dataset, QUICK)
    assert side.matrix.moment.max() < folds.train[1]
    calls = dataset.calls
    talk = np.where(start >= folds.label_cutoff, 1, calls["talk"].to_numpy())
    column = calls.column_names.index("talk")
    other = calls.set_column(column, calls.schema.field("talk"), [talk.astype(calls["talk"].type.to_pandas_dtype())])
    findings = dataset.findings.copy()
    late = (findings["known_at"].astype("int64") // 10**6 >= folds.label_cutoff).to_numpy()
    findings.loc[late, "nuisance"] = ~findings.loc[late, "nuisance"]
    assert training_side(replace(dataset, calls=other, findings=findings, truth=dataset.truth), QUICK).name == side.name
    assert training_side(replace(dataset, complaints=dataset.complaints.iloc[:0]), QUICK).name != side.name


def test_nuisance_callers_of_one_group_are_refused(dataset, monkeypatch):
    side = SimpleNamespace(y=np.array([0, 1, 1]), group=np.array([1, 2, 2]))
    monkeypatch.setattr(searching, "joined_matrix", lambda *_: side)
    monkeypatch.setattr(searching, "training_vectors", lambda *_: None)
    with pytest.raises(ValueError, match="expected nuisance callers of 2 groups or more to learn from, got 1"):
        training_side(dataset, QUICK)


def test_a_gain_that_groups_do_not_share_is_not_sure(search_results):
    _, first, last = search_results
    assert first["gain"]["enough_groups"] is None and first["gain"]["mean"] == 0.0  # the shipped parameters alone
    difference = last["shipped"]["log_loss"] - last["figures"]["log_loss"]
    assert last["gain"]["mean"] == pytest.approx(difference, rel=1e-3, abs=1e-9)
    rng = np.random.default_rng(3)
    covered, group = 0, np.repeat(np.arange(40), 5)
    matrix = SimpleNamespace(group=group, y=(group < 20).astype(int), weight=np.ones(200))
    for _ in range(200):
        gain = gain_of(matrix, 5 * rng.normal(0.5, 0.1, 40), 5 * rng.normal(0.6, 0.1, 40))
        covered += gain["low"] <= 0.1 <= gain["high"]
    assert 180 <= covered <= 198 and gain["sure"] and gain["nuisance_groups"] == 20
    noise = gain_of(matrix, np.zeros(40), np.where(np.arange(40) % 2, 10.0, -9.0))
    assert not noise["sure"] and noise["enough_groups"] > 20
    few = SimpleNamespace(group=group, y=(group < 4).astype(int), weight=np.ones(200))
    assert not gain_of(few, np.zeros(40), np.ones(40))["sure"]  # four groups can agree by chance


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("leaves = 31\n", "expected parameters among num_leaves, "),
        ("num_leaves = 31.5\n", "num_leaves: expected a whole number from 2 to 4096, got 31.5"),
        ("learning_rate = true\n", "learning_rate: expected a number from 0.0001 to 1, got True"),
        ("lambda_l2 = -1\n", "lambda_l2: expected a number from 0 to 1e+06, got -1"),
        ("num_leaves = \n", "expected a TOML file"),
    ],
)
def test_an_invalid_parameter_file_is_refused_in_one_line(tmp_path, text, says):
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(ValueError) as error:
        read_parameters(tmp_path / "p.toml")
    assert says in str(error.value) and "\n" not in str(error.value)


def test_parameters_are_read_as_written(tmp_path):
    parameters = {name: low if isinstance(low, int) else low + 0.1 for name, (low, _) in RANGES.items()}
    write_parameters(parameters, "by hand", tmp_path / "p.toml")
    assert read_parameters(tmp_path / "p.toml") == parameters
    assert set(PARAMETERS) <= set(RANGES)
    assert read_parameters(None) == {}
