"""An own classifier goes through the folds, thresholds, certificate, report and record of every training."""

import io
import json
from contextlib import redirect_stdout

import numpy as np
import pandas as pd
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from callsieve.serving.bundle.forest import read_forest
from callsieve.serving.scorer.scorer import Scorer
from callsieve.training import Settings
from callsieve.training.estimator.unsigned import UNSIGNED
from callsieve.training.model.fit import FitRows, held_out_folds, mean_of
from callsieve.training.model.train import train, write_bundle
from callsieve.training.oversight.audit.audit_page import write_page
from callsieve.training.oversight.audit.promote import approve
from callsieve.training.oversight.audit.verify import verify
from callsieve.training.oversight.log.audit_log import payloads
from callsieve.training.oversight.log.run_paths import run_paths
from callsieve.training.own.own_estimator import OwnModel, estimator_name, fit_own, fit_own_members, make_estimator
from callsieve.training.tracking import mlflow_read
from tests.conftest import command
from tests.support.errors import refused
from tests.support.trainings import own_estimators, short_trainings
from tests.support.trainings.own_estimators import boosting

PLACE = "tests.support.trainings.own_estimators"


@pytest.fixture(scope="module")
def rows():
    """Returns training rows with unknown values, their classes, and a cross-validation fold for each."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(600, 3))
    y = (values[:, 0] + rng.normal(size=600) > 0).astype(int)
    values[rng.random(values.shape) < 0.1] = np.nan
    return FitRows(values, y, np.ones(600)), np.arange(600) % 5


def fitted(rows, name):
    return fit_own(f"{PLACE}:{name}", rows[0].X, rows[0].y, rows[0].weight, ("a", "b", "c"), (), 0)


@pytest.mark.parametrize("name", ["boosting", "pipeline"])
def test_the_raw_score_is_the_mean_log_odds_of_the_members(rows, name):
    first, second = fitted(rows, name), fitted((FitRows(rows[0].X[:300], rows[0].y[:300]), None), name)
    model = mean_of([first, second])
    p = [
        part.members[0].predict_proba(pd.DataFrame(rows[0].X, columns=[*"abc"]))[:, 1].astype(float)
        for part in (first, second)
    ]
    expected = np.mean([np.log(q / (1 - q)) for q in p], axis=0)
    np.testing.assert_allclose(model.predict_raw(rows[0].X), expected, atol=1e-5)


def test_a_classifier_of_lightgbm_becomes_a_forest_that_can_be_signed(rows):
    from lightgbm import Booster

    text = fitted(rows, "lightgbm")
    expected = Booster(model_str=text).predict(rows[0].X, raw_score=True)
    np.testing.assert_array_equal(read_forest(text).predict_raw(rows[0].X), expected)
    assert read_forest(text).features == ("a", "b", "c")


def test_each_member_is_fitted_without_the_folds_that_it_holds_out(rows, monkeypatch):
    seen = []

    class Recorder(LogisticRegression):
        def fit(self, frame, y, sample_weight=None):
            seen.append(set(frame["place"].astype(int)))
            return super().fit(frame, y, sample_weight)

    monkeypatch.setattr(own_estimators, "recorder", Recorder, raising=False)
    values, fold = np.arange(600.0)[:, None], rows[1]
    shares = []
    training_rows = values, rows[0].y, np.ones(600)
    fit_own_members(f"{PLACE}:recorder", training_rows, fold, held_out_folds(5), ("place",), (), 0, shares.append)
    assert shares == pytest.approx(np.arange(1, 11) / 10)
    expected = [set(np.flatnonzero(~np.isin(fold, folds)).tolist()) for folds in held_out_folds(5)]
    assert seen == expected


def test_weights_reach_the_last_step_of_a_pipeline(rows):
    heavy = FitRows(rows[0].X, rows[0].y, np.where(rows[0].y == 1, 100.0, 1.0))
    weighted = fitted((heavy, None), "pipeline").predict_raw(rows[0].X)
    assert weighted.mean() > fitted(rows, "pipeline").predict_raw(rows[0].X).mean() + 2


def test_settings_name_the_estimator_for_the_record_and_its_open_seed_is_set():
    assert Settings(estimator=boosting).estimator == f"{PLACE}:boosting"
    assert make_estimator(Settings(estimator=HistGradientBoostingClassifier).estimator, 0).random_state == 0
    assert make_estimator("sklearn.ensemble:RandomForestClassifier", 7).random_state == 7
    assert make_estimator(f"{PLACE}:pipeline", 7).get_params()["logisticregression__random_state"] == 7


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (LogisticRegression(), "expected a class or function that makes a classifier.*got LogisticRegression"),
        (lambda: None, "expected a class or function that its module names"),
    ],
)
def test_an_estimator_without_a_name_cannot_be_recorded(estimator, words):
    with pytest.raises((TypeError, ValueError), match=words):
        estimator_name(estimator)


def test_parameters_of_lightgbm_beside_an_own_estimator_are_refused():
    with pytest.raises(ValueError, match="parameters: they are of the project's own LightGBM"):
        Settings(estimator=boosting, parameters={"num_leaves": 7})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("xgboost", "expected module:name, such as sklearn.ensemble:Hist.*got 'xgboost'"),
        ("no_such_module:model", "cannot be imported: No module named 'no_such_module'"),
        (f"{PLACE}:gone", "cannot be imported: module .* has no attribute 'gone'"),
        (f"{PLACE}:NOT_A_MAKER", "expected to make a classifier, 'int' object is not callable"),
        (f"{PLACE}:nothing", "expected to make a classifier"),
        ("sklearn.linear_model:Ridge", r"expected a classifier with predict_proba\(\), got Ridge"),
    ],
)
def test_a_name_that_makes_no_classifier_is_refused_in_one_line(name, words):
    with refused(words):
        make_estimator(name, 0)


def test_a_classifier_that_refuses_unknown_values_says_so_and_names_columns_without_a_value(rows):
    with refused(r"without_imputer: fit\(\) failed on vectors, in which NaN is unknown") as error:
        fitted(rows, "without_imputer")
    assert "have no value" not in str(error.value)
    values = rows[0].X.copy()
    values[:, 1] = np.nan
    with refused(r"; b have no value in any row: a Pipeline with SimpleImputer"):
        fitted((FitRows(values, rows[0].y, rows[0].weight), None), "without_imputer")


def test_a_module_of_the_working_folder_is_found(tmp_path, monkeypatch):
    (tmp_path / "my_own_model.py").write_text("from sklearn.linear_model import LogisticRegression as model\n")
    monkeypatch.chdir(tmp_path)
    assert isinstance(make_estimator("my_own_model:model", 0), LogisticRegression)


def test_certainty_has_finite_log_odds():
    class Certain:
        classes_ = (0, 1)

        def predict_proba(self, _):
            return np.array([[1.0, 0.0], [0.0, 1.0]])

    raw = OwnModel([Certain()], ("a",)).predict_raw(np.zeros((2, 1)))
    assert np.isfinite(raw).all() and raw[0] < -20 < 20 < raw[1]


@pytest.fixture(scope="module")
def own_run(world_folder, tmp_path_factory):
    """Returns folder and output of a whole training of XGBoost by the command."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(io.StringIO()) as out:
        short_trainings.shorten(patched)
        words = ("--data", world_folder, "--out", folder, "--estimator", f"{PLACE}:boosting", "--threads", 1)
        assert command(patched, "train", *words) == 0
    return folder, out.getvalue()


@pytest.mark.system
def test_a_training_of_xgboost_is_judged_and_recorded_but_not_signed(own_run, training_run, tmp_path):
    folder, output = own_run
    assert not (folder / "bundle").exists()
    only = "none: only a LightGBM model can be signed"
    assert f"{only}; the model of {PLACE}:boosting is evaluated and recorded" in " ".join(output.split())
    place = run_paths(folder, None, None)
    ((_, payload),) = payloads(place.log, "run")
    assert payload["version"] == "" and payload["model"].startswith(UNSIGNED)
    assert verify(place.log, uri=place.uri).faults == ()
    figures = json.loads((mlflow_read.download(place.uri, payload["run"], tmp_path) / "figures.json").read_text())
    # The same calls judge it as judge the project's own model, and its thresholds hold on them as far as can be seen.
    own, usual = (run["headline"]["model"] for run in (figures, training_run[1]))
    assert own["benign_calls"] == usual["benign_calls"] > 1000
    assert figures["folds"] == training_run[1]["folds"]
    assert own["false_calls"] <= 0.01 * own["benign_calls"]
    assert figures["ranking"]["auc"] > 0.5 and figures["ranking"] != training_run[1]["ranking"]
    assert figures["model"]["estimator"] == f"{PLACE}:boosting" and "model" not in figures["model"]["trees"]
    assert sum(figures["last_day"]["actions"].values()) == figures["last_day"]["calls"] > 0
    assert "own estimator" in (folder / "documents" / "model_card.md").read_text()
    assert json.loads((folder / "record" / "settings.json").read_text())["estimator"] == f"{PLACE}:boosting"
    write_page(place, payload["run"], tmp_path, tmp_path / "audit.html")
    with pytest.raises(ValueError, match="its model is of an own estimator and has no signed bundle"):
        approve(place, payload["run"], Ed25519PrivateKey.generate(), tmp_path / "approval")


@pytest.mark.system
def test_a_classifier_of_lightgbm_can_be_signed(dataset, tmp_path):
    trained = train(dataset, Settings(threads=2, estimator=own_estimators.lightgbm))
    key = Ed25519PrivateKey.generate()
    write_bundle(trained, tmp_path / "bundle", key)
    scorer = Scorer.load(tmp_path / "bundle", trusted=[key.public_key()])
    chosen = trained.pool.certify
    np.testing.assert_array_equal(scorer.score_table(trained.X[chosen]).raw, trained.raw[chosen])
