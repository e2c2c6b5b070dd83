"""The search sees the training side alone, goes on after a kill, and leaves a file that a training takes."""

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

from callsieve.training.log.run_paths import default_store
from callsieve.training.model.fit import PARAMETERS
from callsieve.training.model.parameters import RANGES, read_parameters, write_parameters
from callsieve.training.model.settings import Settings
from callsieve.training.model.split import plan
from callsieve.training.studies import search as searching
from callsieve.training.studies.search import RESULT, STORE, search, training_side
from callsieve.training.tracking import mlflow_read

QUICK = Settings(threads=1, parameters={"rounds": 6, "patience": 3})


@pytest.fixture(scope="module")
def searched(dataset, tmp_path_factory, empty_store):
    """A search of one trial that was killed in its second, and gone on with to three."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    told = {"minutes": 60.0, "uri": default_store(folder), "source": "a tiny world"}
    first = search(dataset, QUICK, folder, trials=1, **told)
    optuna.load_study(study_name=first["study"], storage=f"sqlite:///{folder / STORE}").ask()
    return folder, first, search(dataset, QUICK, folder, trials=3, **told)


def rows(path, query):
    with closing(sqlite3.connect(path)) as store:
        return store.execute(query).fetchall()


def test_a_killed_search_goes_on_where_it_stood(searched):
    folder, first, last = searched
    assert (first["trials"], last["trials"]) == (1, 3)
    assert (first["study"], first["run"]) == (last["study"], last["run"])
    states = [state for (state,) in rows(folder / STORE, "select state from trials order by number")]
    assert states == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    tried = [
        json.loads(told)
        for (told,) in rows(
            folder / STORE, "select value_json from trial_user_attributes where key = 'parameters' order by trial_id"
        )
    ]
    assert len({json.dumps(one, sort_keys=True) for one in tried}) == 3  # none was proposed twice
    assert tried[0] == {**PARAMETERS, **QUICK.parameters, "min_data_in_leaf": tried[0]["min_data_in_leaf"]}
    losses = [
        json.loads(told)["log_loss"]
        for (told,) in rows(
            folder / STORE, "select value_json from trial_user_attributes where key = 'figures' order by trial_id"
        )
    ]
    assert last["figures"]["log_loss"] == min(losses) <= last["shipped"]["log_loss"] == losses[0]


def test_a_killed_search_finds_what_an_unbroken_one_finds(searched, dataset, tmp_path, empty_store):
    folder, _, last = searched
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    told = {"minutes": 60.0, "uri": default_store(tmp_path), "source": "a tiny world"}
    whole = search(dataset, QUICK, tmp_path, trials=3, **told)
    query = "select key, value_json from trial_user_attributes order by trial_id, key"
    assert rows(tmp_path / STORE, query) == rows(folder / STORE, query)
    assert {name: whole[name] for name in ("parameters", "figures", "shipped")} == (
        {name: last[name] for name in ("parameters", "figures", "shipped")}
    )


def test_a_file_of_trials_that_fails_is_told_in_one_line(dataset, monkeypatch, tmp_path):
    side = training_side(dataset, QUICK)
    monkeypatch.setattr(searching, "training_side", lambda *_: side)
    (tmp_path / STORE).write_text("no database, but a text that is long enough to be read as the head of one" * 20)
    with pytest.raises(ValueError, match=r"^search: search.db cannot be used: file is not a database$"):
        search(dataset, QUICK, tmp_path, trials=1, minutes=1.0, uri=default_store(tmp_path), source="")
    full = OperationalError("insert", {"value": "secret"}, sqlite3.OperationalError("database or disk is full"))
    with pytest.raises(ValueError, match=r"cannot be used: database or disk is full$"), searching.storage_errors():
        raise StorageInternalError("a text of Optuna") from full


def test_trials_are_runs_nested_in_the_run_of_the_search(searched):
    folder, _, last = searched
    parents = rows(folder / "mlflow.db", "select value from tags where key = 'mlflow.parentRunId'")
    assert parents == [(last["run"],)] * 3
    told = mlflow_read.snapshot(default_store(folder), last["run"])
    assert told["run"]["status"] == "FINISHED"
    assert rows(folder / "mlflow.db", "select distinct value from tags where key = 'mlflow.source.name'") == [
        ("callsieve study search",)
    ]
    assert all(end - start > 0 for start, end in rows(folder / "mlflow.db", "select start_time, end_time from runs"))
    assert told["metric"]["best_log_loss"] == last["figures"]["log_loss"]
    assert RESULT in told["artifact"]
    assert mlflow_read.finished_runs(default_store(folder)) == []  # none of them could be promoted


def test_the_file_is_what_a_training_takes(searched):
    folder, _, last = searched
    assert read_parameters(folder / RESULT) == last["parameters"]
    assert set(last["parameters"]) == {*PARAMETERS, "min_data_in_leaf"}


def test_nothing_after_the_label_cutoff_is_seen(dataset):
    """Neither the truth, nor what was found later, nor a later call's outcome."""
    start = dataset.calls["start"].to_numpy()
    folds = plan(int(start.min()), int(start.max()))
    side = training_side(dataset, QUICK)
    assert side.matrix.moment.max() < folds.train[1]
    calls = dataset.calls
    talk = np.where(start >= folds.label_cutoff, 1, calls["talk"].to_numpy())
    place = calls.column_names.index("talk")
    other = calls.set_column(place, calls.schema.field("talk"), [talk.astype(calls["talk"].type.to_pandas_dtype())])
    findings = dataset.findings.copy()
    late = (findings["known_at"].astype("int64") // 10**6 >= folds.label_cutoff).to_numpy()
    findings.loc[late, "nuisance"] = ~findings.loc[late, "nuisance"]
    assert training_side(replace(dataset, calls=other, findings=findings, truth=dataset.truth), QUICK).name == side.name
    assert training_side(replace(dataset, complaints=dataset.complaints.iloc[:0]), QUICK).name != side.name


def test_nuisance_of_one_group_cannot_be_searched(dataset, monkeypatch):
    side = SimpleNamespace(y=np.array([0, 1, 1]), group=np.array([1, 2, 2]))
    monkeypatch.setattr(searching, "build_matrix", lambda *_: side)
    monkeypatch.setattr(searching, "training_vectors", lambda *_: None)
    with pytest.raises(ValueError, match="expected nuisance callers of 2 groups or more to learn from, got 1"):
        training_side(dataset, QUICK)


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
def test_a_file_that_does_not_fit_is_one_line(tmp_path, text, says):
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(ValueError) as caught:
        read_parameters(tmp_path / "p.toml")
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_parameters_come_back_as_they_were_written(tmp_path):
    told = {name: low if isinstance(low, int) else low + 0.1 for name, (low, _) in RANGES.items()}
    write_parameters(told, "by hand", tmp_path / "p.toml")
    assert read_parameters(tmp_path / "p.toml") == told
    assert set(PARAMETERS) <= set(RANGES)
    assert read_parameters(None) == {}
