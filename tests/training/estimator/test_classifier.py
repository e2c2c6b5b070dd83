"""The classifier is a scikit-learn estimator, and keeps the callers of the training apart."""

import pickle
import re
import shutil

import mlflow
import numpy as np
import pandas as pd
import polars
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from callsieve.features import call_features
from callsieve.features.catalogue.lite import LITE
from callsieve.training import ForwardGroupSplit, NuisanceClassifier, out_of_fold_probabilities
from callsieve.training.model.calibration import calibration_line
from callsieve.training.model.fit import PARAMETERS
from tests.support import how_to
from tests.support.calls.worlds import small_world, text_values
from tests.support.paths import ROOT

QUICK = {"min_data_in_leaf": 5, "rounds": 20}
NOT_FOR_THIS_ESTIMATOR = {
    "check_sample_weight_equivalence_on_dense_data": "bagging and the minimum rows of a leaf count rows, not weights"
}


@pytest.mark.filterwarnings("ignore:NuisanceClassifier")  # its checks have few rows, and no groups
@parametrize_with_checks(
    [NuisanceClassifier(parameters=QUICK, threads=1)], expected_failed_checks=lambda _: NOT_FOR_THIS_ESTIMATOR
)
def test_scikit_learn_takes_it_for_an_estimator(estimator, check):
    check(estimator)


def drawn(seed):
    """Returns rows of 300 callers whose first column shows the class, less clearly for some callers than for others."""
    rng = np.random.default_rng(seed)
    caller = rng.integers(0, 300, 6000)
    nuisance = (rng.random(300) < 0.3)[caller]
    x = np.column_stack([nuisance + rng.normal(0, 1, 300)[caller] + rng.normal(0, 1, 6000), rng.normal(size=6000)])
    return x, nuisance, caller


@pytest.fixture(scope="module")
def noisy():
    return drawn(0)


@pytest.fixture(scope="module")
def fitted(noisy):
    x, nuisance, caller = noisy
    return NuisanceClassifier(parameters={"rounds": 60}, threads=1).fit(x, nuisance, groups=caller)


def test_probabilities_hold_for_callers_that_were_not_fitted_on(fitted):
    x, nuisance, _ = drawn(1)
    observed, predicted = calibration_curve(nuisance, fitted.predict_proba(x)[:, 1], n_bins=4, strategy="quantile")
    np.testing.assert_allclose(observed, predicted, atol=0.12)


def test_without_groups_rows_of_a_caller_flatter_the_model(noisy):
    x, nuisance, caller = noisy
    memory = np.column_stack([x, np.random.default_rng(2).normal(size=300)[caller]])  # identifies the caller
    grouped, ungrouped = (NuisanceClassifier(parameters=QUICK, threads=1) for _ in range(2))
    grouped.fit(memory, nuisance, groups=caller)
    with pytest.warns(UserWarning, match="no groups, so early stopping and calibration may see the callers"):
        ungrouped.fit(memory, nuisance)
    # A steep calibration says that scores of unseen rows are trusted; those of unseen callers deserve less.
    assert grouped.slope_ < ungrouped.slope_


def test_the_model_depends_on_the_seed_but_not_on_threads_and_survives_pickle(noisy, fitted):
    x, nuisance, caller = noisy
    again, other = (
        NuisanceClassifier(parameters={"rounds": 60}, **options).fit(x, nuisance, groups=caller)
        for options in ({"threads": 2}, {"random_state": 1})
    )
    assert again.model_ == fitted.model_ != other.model_
    restored = pickle.loads(pickle.dumps(fitted))  # noqa: S301
    np.testing.assert_array_equal(restored.decision_function(x), fitted.decision_function(x))


def test_columns_of_the_catalogue_are_read_by_name():
    rng = np.random.default_rng(0)
    x = pd.DataFrame({"call_route": rng.integers(0, 4, 600), "tariff [€]": rng.normal(size=600), "call_hour": 0.0})
    model = NuisanceClassifier(parameters=QUICK).fit(x, x["call_route"].isin([0, 3]), groups=np.arange(600))
    assert "feature_names=call_route column_1 call_hour" in model.model_
    assert model.score(x, x["call_route"].isin([0, 3])) == 1.0


def test_scores_that_mislead_give_every_row_about_the_share_of_the_class():
    raw, y = np.array([2.0, 2.0, 2.0, -2.0]), np.array([0, 0, 0, 1])
    slope, intercept = calibration_line(raw, y, None)
    assert slope > 0  # the order of the scores stays
    np.testing.assert_allclose(1 / (1 + np.exp(-slope * raw - intercept)), 0.25, atol=0.01)


@pytest.mark.filterwarnings("ignore:NuisanceClassifier. the classes have rows of")  # 3 nuisance callers in a split
def test_cross_validation_forward_in_time_by_caller_finds_nuisance_calls_of_a_world():
    world = small_world()
    calls = world.calls.select(["start", "caller", "callee", "ring", "talk", "outcome"]).to_pandas()
    nuisance = np.asarray(world.truth["nuisance"].to_numpy(zero_copy_only=False), dtype=bool)
    rows = np.flatnonzero(nuisance | (np.random.default_rng(0).random(len(calls)) < 0.15))
    x, y, groups = (
        call_features(calls, features=LITE).iloc[rows],
        nuisance[rows],
        text_values(world.calls, "caller")[rows],
    )
    forward = ForwardGroupSplit(calls["start"].iloc[rows], n_splits=2, gap="3D")
    model = NuisanceClassifier(parameters={"rounds": 30}, threads=2)
    with sklearn.config_context(enable_metadata_routing=True):
        scores = cross_val_score(model, x, y, params={"groups": groups}, cv=forward, scoring="roc_auc")
    assert scores.shape == (2,)
    assert scores.min() > 0.7
    probability, by_hand = out_of_fold_probabilities(model, x, y, groups=groups, cv=forward), np.full(len(y), np.nan)
    for score, (train, test) in zip(scores, forward.split(x, y, groups), strict=True):
        fitted = clone(model).fit(x.iloc[train], y[train], groups=groups[train])
        by_hand[test] = fitted.predict_proba(x.iloc[test])[:, 1]
        assert roc_auc_score(y[test], by_hand[test]) == pytest.approx(score)
    np.testing.assert_array_equal(probability, by_hand)
    assert 0 < np.isnan(probability).sum() < len(y)


def test_the_cross_validation_of_the_page_fits_by_group():
    """Its log loss is that of an explicit loop whose fits know the groups; without them it is another one."""
    (code,) = re.findall(
        r"```python skip=data\n(import sklearn\n.*?)```", (ROOT / "docs/how-to/train.md").read_text(), re.DOTALL
    )
    rng = np.random.default_rng(4)
    caller, day = rng.integers(0, 60, 3000), rng.integers(0, 30, 3000)
    calls = pd.DataFrame({"a": 13800138000 + caller, "b": 13900139000 + rng.integers(0, 400, 3000)})
    calls["when"] = pd.Timestamp("2026-03-01") + pd.to_timedelta(day * 86_400 + rng.integers(0, 86_400, 3000), unit="s")
    calls["seconds"] = rng.integers(0, 90, 3000) * (rng.random(3000) < 0.5)
    y = (rng.random(60) < 0.5)[caller]
    assert code.count("NuisanceClassifier()") == 1
    code = code.replace("NuisanceClassifier()", f"NuisanceClassifier(parameters={QUICK}, threads=1)")
    names = {"calls": calls, "y": y}
    with sklearn.config_context():  # the code sets an option of all threads
        exec(code, names)  # noqa: S102
    model, x, losses = names["model"], names["X"], {"grouped": [], "not": []}
    for train, test in names["split"].split(x, y, calls["a"]):
        for name, groups in (("grouped", calls["a"].iloc[train]), ("not", np.arange(len(train)))):
            fitted = clone(model).fit(x.iloc[train], y[train], groups=groups)
            losses[name].append(log_loss(y[test], fitted.predict_proba(x.iloc[test])))
    np.testing.assert_allclose(names["scores"], np.negative(losses["grouped"]), rtol=1e-12)
    assert abs(np.mean(losses["grouped"]) - np.mean(losses["not"])) > 0.01


def test_a_search_sets_parameters_of_lightgbm_and_hands_the_groups_on(noisy):
    x, nuisance, caller = noisy
    model = NuisanceClassifier(parameters={"min_data_in_leaf": 5, "rounds": 5}, threads=1)
    grid = {"parameters__learning_rate": [1e-4, 0.3]}
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(model, grid, cv=GroupKFold(2), scoring="neg_log_loss").fit(x, nuisance, groups=caller)
    assert search.best_params_ == {"parameters__learning_rate": 0.3}
    assert search.best_estimator_.parameters == {"min_data_in_leaf": 5, "rounds": 5, "learning_rate": 0.3}
    assert model.parameters == {"min_data_in_leaf": 5, "rounds": 5}  # that of the user stays as it is
    by_hand = clone(search.best_estimator_).fit(x, nuisance, groups=caller)
    assert by_hand.model_ == search.best_estimator_.model_
    assert NuisanceClassifier().set_params(parameters__rounds=3).get_params()["parameters__rounds"] == 3


@pytest.mark.parametrize("library", [pd.DataFrame, polars.DataFrame])
def test_text_and_categories_are_learnt_as_categories(library):
    rng = np.random.default_rng(3)
    tariff, noise = rng.choice(["gold", "iron", "lead", "tin"], 1200), rng.normal(size=1200)
    y = np.isin(tariff, ["gold", "lead"])
    x = library({"noise": noise, "tariff": tariff})
    if library is pd.DataFrame:
        x["again"] = pd.Categorical([None] * 1200, categories=["x"])
    model = NuisanceClassifier(parameters=QUICK, threads=1).fit(x, y, groups=np.arange(1200))
    assert model.categories_["tariff"] == ["gold", "iron", "lead", "tin"]
    assert model.score(x, y) == 1.0
    assert model.feature_importances_[1] > 0.9 and model.feature_importances_.sum() == pytest.approx(1)
    # The words decide, whatever the order of rows is and whichever words occur; an unknown word is an unknown value.
    few = x[[2, 1, 0]] if library is polars.DataFrame else x.iloc[[2, 1, 0]]
    np.testing.assert_array_equal(model.decision_function(few), model.decision_function(x)[[2, 1, 0]])
    new, none = (pd.DataFrame({"noise": [0.0], "tariff": [word]}) for word in ("zinc", None))
    if library is pd.DataFrame:
        new["again"], none["again"] = None, None
    np.testing.assert_array_equal(model.decision_function(new), model.decision_function(none))


def test_importances_are_shares_of_the_gain(fitted):
    gain = np.zeros(2)
    for features, gains in re.findall(r"split_feature=(.*)\nsplit_gain=(.*)", fitted.model_):
        np.add.at(gain, np.array(features.split(), dtype=int), np.array(gains.split(), dtype=float))
    np.testing.assert_allclose(fitted.feature_importances_, gain / gain.sum(), rtol=1e-4)
    assert not hasattr(NuisanceClassifier(), "feature_importances_")


@pytest.mark.system
@pytest.mark.filterwarnings("ignore")  # MLflow's, about the environment
def test_mlflow_logs_the_model_as_its_page_says_and_no_part_of_it(noisy, empty_store, tmp_path, monkeypatch):
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setitem(PARAMETERS, "rounds", 3)
    # MLflow infers requirements by loading the model in another process, which takes seconds.
    monkeypatch.setattr(mlflow.models, "infer_pip_requirements", lambda _uri, _flavor, fallback, **_: fallback)
    X, y, caller = noisy
    (code,) = (block.code for block in how_to.blocks("mlflow") if block.skip == "data")
    names = {"mlflow": mlflow, "X": X, "y": y, "caller": caller}
    try:
        exec(code, names)  # noqa: S102 - the code of the page
        back = mlflow.sklearn.load_model(names["logged"].model_uri)
        np.testing.assert_array_equal(back.predict_proba(X), names["model"].predict_proba(X))
        NuisanceClassifier().fit(X, y, groups=caller)  # records no run of its parts
        runs = mlflow.search_runs(search_all_experiments=True)
    finally:
        mlflow.sklearn.autolog(disable=True)
        mlflow.end_run()
        mlflow.set_tracking_uri(None)
    classes = runs.filter(like="tags.estimator_name").iloc[:, 0].dropna().tolist()
    assert classes == ["Pipeline"] and not any("solver" in name for name in runs.columns)
