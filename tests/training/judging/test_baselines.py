"""The baselines use the labels and the target of the model."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from msgspec import structs
from sklearn.linear_model import LogisticRegression

from callsieve.features.catalogue import FEATURES, NAMES
from callsieve.features.records import NUMBER_CLASSES
from callsieve.serving.rules.strata import STRATA
from callsieve.training.judging.baselines import COUNTERS, log_odds, logistic
from callsieve.training.judging.judge import SHIPPED, at_equal_error, gain_on, judged_calls
from callsieve.training.model.fit import NO_CV_FOLD
from tests.support import real_bundle

CALLER_CLASS = "call_caller_class"
CLASS = NAMES.index(CALLER_CLASS)


def test_baselines_score_judged_and_threshold_calls_but_no_training_calls(trained, by_baselines):
    assert list(by_baselines) == ["logistic regression", "number class", "five counters", "reputation list"]
    pool = trained.pool
    later = pool.start >= trained.last.folds.plan.label_cutoff
    for raw in by_baselines.values():
        assert (~np.isnan(raw) == (later & (pool.choose | ~pool.trained))).all()
        assert not np.isnan(raw[judged_calls(trained).lives]).any()


def test_the_reputation_list_counts_the_complaints_of_the_last_28_days(trained, by_baselines):
    reports, callers = trained.last.dataset.complaints, trained.last.dataset.calls["caller"].take(trained.pool.row)
    listed = np.flatnonzero(by_baselines["reputation list"] > 0)
    unlisted = np.flatnonzero(by_baselines["reputation list"] == 0)
    assert len(listed)
    for row in [*listed[:: max(1, len(listed) // 40)], *unlisted[:: max(1, len(unlisted) // 40)]]:
        at = pd.Timestamp(int(trained.pool.start[row]), unit="ms", tz="UTC")
        own = reports[reports["number"].astype(str) == callers[int(row)].as_py()]
        recent = (own["known_at"] < at) & (own["known_at"] >= at - pd.Timedelta(days=28))
        assert by_baselines["reputation list"][row] == recent.sum()


def test_the_five_counters_give_the_highest_rank_among_innocent_calls(trained, by_baselines):
    raw, pool = by_baselines["five counters"], trained.pool
    scored = np.flatnonzero(~np.isnan(raw))
    innocent = pool.choose & ~pool.judged.nuisance & pool.judged.known
    columns = {name: sign * trained.X[:, NAMES.index(name)] for name, sign in COUNTERS.items()}
    benign = {name: values[innocent & ~np.isnan(values)] for name, values in columns.items()}
    for row in scored[:: max(1, len(scored) // 60)]:
        below = [(benign[name] < columns[name][row]).mean() for name in COUNTERS if not np.isnan(columns[name][row])]
        assert raw[row] == max([0.0, *below])
    assert len(np.unique(raw[scored])) > 10


def test_the_number_class_gives_one_score_per_class(trained, by_baselines):
    """One score per class, and for calls that choose thresholds one per class and cross-validation part."""
    scored = np.flatnonzero(~np.isnan(by_baselines["number class"]))
    fits = np.where(trained.pool.choose[scored], trained.cv_fold[scored], NO_CV_FOLD)
    levels, raw = trained.X[scored, CLASS], by_baselines["number class"][scored]
    scores = {
        (level, fit): set(raw[(levels == level) & (fits == fit)])
        for level in set(levels[~np.isnan(levels)])
        for fit in range(NO_CV_FOLD, trained.fitted.parts)
    }
    assert all(len(distinct) <= 1 for distinct in scores.values())
    mobile = NUMBER_CLASSES.index("mobile")
    assert len(set.union(*(scores[mobile, fit] for fit in range(NO_CV_FOLD, trained.fitted.parts)))) > 1


def test_the_number_class_ranks_classes_by_their_share_of_nuisance():
    rng = np.random.default_rng(1)
    X = np.zeros((3000, len(NAMES)))
    X[:, CLASS] = rng.integers(0, 3, 3000)
    y = (rng.random(3000) < np.array([0.5, 0.1, 0.3])[X[:, CLASS].astype(int)]).astype(np.int8)
    raw = log_odds(logistic((CALLER_CLASS,)).fit(X, y), X, np.arange(3000))
    for level in range(3):
        rows = X[:, CLASS] == level
        assert raw[rows] == pytest.approx(np.log(y[rows].mean() / (1 - y[rows].mean())), abs=0.1)


def test_the_regression_fits_slopes_levels_and_missing_values():
    """The true log-odds have a slope on a logarithm, a level and a missing value, which a regression can express."""
    rng = np.random.default_rng(1)
    X = np.zeros((6000, len(NAMES)))
    plain, other = (NAMES.index(feature.name) for feature in [f for f in FEATURES if not f.levels][:2])
    X[:, plain], X[:, CLASS] = np.expm1(3 * rng.random(6000)), rng.integers(0, 3, 6000)
    X[:, other] = np.where(rng.random(6000) < 0.3, np.nan, 1.0)
    law = 1.5 * np.log1p(X[:, plain]) - 2.0 * (X[:, CLASS] == 1) + 1.0 * np.isnan(X[:, other]) - 2.0
    y = (rng.random(6000) < 1 / (1 + np.exp(-law))).astype(np.int8)

    model = logistic((NAMES[plain], NAMES[other], CALLER_CLASS)).fit(X, y)
    fitted = log_odds(model, X, np.arange(6000))
    assert np.abs(fitted - law).mean() < 0.15
    assert np.isnan(log_odds(model, X, np.array([7]))[[6, 8]]).all()


def test_each_call_is_scored_by_a_regression_of_the_other_parts(trained, by_baselines):
    """Each regression equals one that starts from zero, on the rows without the part of the calls that it scores."""
    learn, raw = trained.learnt, by_baselines["logistic regression"]
    columns = logistic(NAMES)[:-1]
    table = columns.fit_transform(learn.X)
    fits = np.where(trained.pool.choose, trained.cv_fold, NO_CV_FOLD)
    for fit in range(NO_CV_FOLD, trained.fitted.parts):
        rows, rest = np.flatnonzero((fits == fit) & ~np.isnan(raw))[:500], trained.learnt_fold != fit
        regression = LogisticRegression(solver="newton-cholesky", tol=1e-8)
        regression.fit(table[rest], learn.y[rest], learn.weight[rest])
        assert len(rows)
        expected = regression.decision_function(columns.transform(trained.X[rows]))
        np.testing.assert_allclose(raw[rows], expected, rtol=0.001, atol=0.001)


def test_all_baselines_are_judged_on_the_same_calls_and_target(training_run):
    _, figures = training_run
    by_way = {**figures["headline"], **figures["baselines"]}
    baselines = ["logistic regression", "number class", "five counters", "reputation list"]
    assert list(by_way) == ["model", "policy", "rule", *baselines, SHIPPED]
    assert len({entry["benign_calls"] for entry in by_way.values()}) == 1
    assert {entry["target"] for entry in by_way.values()} == {1e-4}
    assert all(0 <= entry["catch"]["call"]["rate"] <= 1 for entry in by_way.values())


@pytest.mark.parametrize(
    ("own", "others", "callers", "false", "better"),
    [
        (0.9, 0.6, 40, 0, True),
        (0.9, 0.6, 40, 1, False),  # an innocent call more than the shipped model and the target allow
        (0.9, 0.6, 20, 0, False),  # too few callers to show a difference
        (0.6, 0.6, 40, 0, False),
        (0.3, 0.6, 40, 0, False),
    ],
)
def test_a_better_model_catches_more_than_the_shipped_one_at_no_more_errors(own, others, callers, false, better):
    """Ten calls of each nuisance caller and 100 innocent ones have scores set by hand."""
    nuisance = np.repeat([True, False], [10 * callers, 100])
    caller = np.r_[np.repeat(np.arange(callers), 10), np.arange(100) + callers]
    nth = np.r_[np.tile(np.arange(10), callers), np.arange(100)]
    raw, other = (np.where(nuisance & (nth < 10 * share), 1.0, -1.0) for share in (own, others))
    raw[10 * callers : 10 * callers + false] = 1.0
    band = structs.replace(real_bundle.card().thresholds[0], threshold=0.0, raised={}, abstains=())
    calls = SimpleNamespace(
        rows=np.ones(len(raw), dtype=bool), judged=SimpleNamespace(nuisance=nuisance),
        stratum=np.zeros(len(raw), dtype=np.int8), caller=caller, raw=raw, seed=0,
    )  # fmt: skip
    gain = gain_on(calls, band, other, band)
    assert gain["equal"]["caught"] == pytest.approx(own) and gain["equal"]["flagged"] == false
    assert gain["equal"]["base_caught"] == pytest.approx(others) and gain["equal"]["base_flagged"] == 0
    assert gain["better"] is better and gain["callers"] == callers
    assert gain["rate"] == pytest.approx(own - others) and gain["low"] - 1e-9 <= gain["rate"] <= gain["high"] + 1e-9


@pytest.mark.parametrize(("flagged", "base_caught"), [(0, 0.1), (1, 0.4), (2, 0.4), (3, 1.0)])
def test_the_base_is_compared_where_it_flags_no_more_innocent_calls_than_the_model(flagged, base_caught):
    """The base flags three innocent calls of ten, two of them with equal scores, and all nuisance calls."""
    nuisance = np.arange(20) < 10
    base = np.r_[9.0, 7.0, 7.0, 7.0, np.full(6, 3.0), 8.0, 5.0, 5.0, np.full(7, -1.0)]
    raw = np.where(nuisance & (np.arange(20) < 5), 1.0, -1.0)
    raw[10 : 10 + flagged] = 1.0
    band = structs.replace(real_bundle.card().thresholds[0], threshold=0.0, raised={}, abstains=())
    calls = SimpleNamespace(
        rows=np.ones(20, dtype=bool), judged=SimpleNamespace(nuisance=nuisance), stratum=np.zeros(20, dtype=np.int8),
        caller=np.arange(20), raw=raw,
    )  # fmt: skip
    equal = at_equal_error(calls, band, base, band)
    assert (equal["flagged"], equal["base_flagged"], equal["caught"]) == (flagged, 3, 0.5)
    assert equal["base_caught"] == pytest.approx(base_caught)
    silent = structs.replace(band, abstains=STRATA)
    assert at_equal_error(calls, band, base, silent)["base_caught"] is None
