"""The classifier is a scikit-learn estimator, and keeps the callers of the training apart."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from callsieve.features import call_features
from callsieve.features.catalogue.lite import LITE
from callsieve.training import ForwardGroupSplit, NuisanceClassifier
from callsieve.training.model.calibration import calibration_line
from tests.support.calls.worlds import small_world, text_values
from tests.support.errors import refused

QUICK = {"min_data_in_leaf": 5, "rounds": 20}
NOT_FOR_THIS_ESTIMATOR = {
    "check_sample_weight_equivalence_on_dense_data": "bagging and the minimum rows of a leaf count rows, not weights",
}


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
    grouped, ungrouped = (
        NuisanceClassifier(parameters=QUICK, threads=1).fit(memory, nuisance, groups=groups)
        for groups in (caller, None)
    )
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
    x = pd.DataFrame(
        {"call_route": rng.integers(0, 4, 600), "tariff [€]": rng.normal(size=600), "reported_count_7d": 0.0}
    )
    model = NuisanceClassifier(parameters=QUICK).fit(x, x["call_route"].isin([0, 3]))
    assert "feature_names=call_route column_1 reported_count_7d" in model.model_
    assert "monotone_constraints=0 0 1" in model.model_
    assert model.score(x, x["call_route"].isin([0, 3])) == 1.0


@pytest.mark.parametrize(
    ("parameters", "groups", "words"),
    [
        ({"leaves": 3}, None, "parameters: .*'leaves'"),
        ({}, [1, 2], r"groups: expected one a row, 40 in all, got 2"),
    ],
)
def test_an_invalid_argument_is_refused_in_one_line(parameters, groups, words):
    with refused(words):
        NuisanceClassifier(parameters=parameters).fit(np.zeros((40, 1)), np.arange(40) % 2, groups=groups)


def test_scores_that_mislead_give_every_row_about_the_share_of_the_class():
    raw, y = np.array([2.0, 2.0, 2.0, -2.0]), np.array([0, 0, 0, 1])
    slope, intercept = calibration_line(raw, y, None)
    assert slope > 0  # the order of the scores stays
    np.testing.assert_allclose(1 / (1 + np.exp(-slope * raw - intercept)), 0.25, atol=0.01)


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
    scores = cross_val_score(
        model, x, y, groups=groups, cv=forward, scoring="roc_auc", params={"groups": groups}, error_score="raise"
    )
    assert scores.shape == (2,)
    assert scores.min() > 0.7
    train, test = next(forward.split(x, y, groups))
    by_hand = model.fit(x.iloc[train], y[train], groups=groups[train]).decision_function(x.iloc[test])
    assert roc_auc_score(y[test], by_hand) == pytest.approx(scores[0])
