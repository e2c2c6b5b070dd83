"""Fit and calibration: reproducible models that a bundle accepts, and calibrated probabilities."""

import re

import lightgbm as lgb
import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss

from callsieve.features.catalogue.lite import LITE, MONOTONE_SIGNS
from callsieve.training.judging.metrics import calibration_table
from callsieve.training.model.calibration import calibrate
from callsieve.training.model.fit import (
    CV_FOLDS,
    MINIMUM_TREES,
    PARAMETERS,
    FitRows,
    cv_folds,
    fit,
    fit_members,
    mean_model,
)
from callsieve.training.model.settings import PASSED, RANGES, checked, read_parameters
from callsieve.training.model.trees import read_forest

NAMES = ("steep", "flat", "kind", "noise")
LEVELS = {"kind": 5}
# Small trees and few rounds are enough for these tests.
QUICK = {"num_leaves": 7, "rounds": 60, "patience": 50, "min_data_in_leaf": 20}


def draw_rows(rows, seed, classes=1):
    """Draws values, some missing, and labels that depend on the first three columns."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 4))
    values[:, 2] = rng.integers(0, 5, rows)
    values[rng.random((rows, 4)) < 0.1] = np.nan
    score = np.nan_to_num(2 * values[:, 0]) + np.nan_to_num(values[:, 1]) + (values[:, 2] == 3)
    if classes > 1:
        return FitRows(values, np.digitize(score + rng.normal(size=rows), [-1.0, 1.0]))
    return FitRows(values, (rng.random(rows) < expit(score)).astype(int), rng.choice([0.7, 0.9, 1.0], rows))


def fit_model(classes=1, **changed):
    options = {"categorical": ("kind",), "classes": classes, "parameters": QUICK, "seed": 3, "threads": 1} | changed
    return fit(draw_rows(3000, 1, classes), draw_rows(1000, 2, classes), NAMES, **options)


@pytest.mark.parametrize("classes", [1, 3])
def test_a_repeated_fit_gives_the_same_bytes_on_any_number_of_threads(classes):
    text = fit_model(classes)
    assert text == fit_model(classes)
    assert text == fit_model(classes, threads=2)
    assert "num_threads" not in text


def test_the_seed_determines_the_model():
    assert fit_model() != fit_model(seed=4)


@pytest.mark.parametrize("classes", [1, 3])
def test_a_bundle_accepts_the_text_and_scores_as_lightgbm_does(classes):
    text = fit_model(classes)
    values = draw_rows(500, 9).X
    raw = read_forest(text).predict_raw(values).reshape(len(values), classes)
    theirs = lgb.Booster(model_str=text).predict(values, raw_score=True).reshape(len(values), classes)
    np.testing.assert_array_equal(raw, theirs)


def test_a_bundle_accepts_a_split_by_missing_values():
    """LightGBM writes it as a threshold of infinity."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2000, 1))
    y = rng.integers(0, 2, 2000)
    values[(y == 1) & (rng.random(2000) < 0.8)] = np.nan
    part = FitRows(values, y)
    text = fit(part, part, ["x"], parameters=QUICK | {"num_leaves": 2})
    assert re.search(r"^threshold=inf$", text, re.MULTILINE)
    rows = np.array([[np.nan], [0.0], [1e308], [-1e308]])
    raw = read_forest(text).predict_raw(rows)
    np.testing.assert_array_equal(raw, lgb.Booster(model_str=text).predict(rows, raw_score=True))
    assert raw[0] > raw[1:].max()


def test_a_model_has_a_minimum_of_trees():
    """No feature predicts the labels: the best log-loss comes early, below the minimum of trees."""
    rng = np.random.default_rng(1)
    noise = [FitRows(rng.normal(size=(2000, 4)), rng.integers(0, 2, 2000)) for _ in range(2)]
    text = fit(*noise, NAMES, parameters={"rounds": 200, "num_leaves": 7})
    assert text.count("\nTree=") == MINIMUM_TREES
    few = fit(*noise, NAMES, parameters={"rounds": 9, "num_leaves": 7})
    assert few.count("\nTree=") == 9


@pytest.mark.system
def test_the_trees_are_those_with_the_best_log_loss():
    parameters = {"rounds": 160, "num_leaves": 4, "learning_rate": 0.12, "min_data_in_leaf": 10, "patience": 50}
    learn, check = draw_rows(1500, 1), draw_rows(3000, 2)
    best = fit(learn, check, NAMES, parameters=parameters).count("\nTree=")
    whole = lgb.Booster(model_str=fit(learn, learn, NAMES, parameters=parameters))
    losses = {
        trees: log_loss(check.y, whole.predict(check.X, num_iteration=trees), sample_weight=check.weight)
        for trees in range(1, whole.num_trees() + 1)
    }
    assert MINIMUM_TREES < best < whole.num_trees()
    assert losses[best] == min(losses.values())


def test_progress_is_reported_from_the_first_tree_to_the_last():
    steps = []
    fit_model(progress=lambda done, most: steps.append((done, most)))
    assert steps == [(i + 1, 60) for i in range(60)]


def members(side, part):
    """Fits the ensemble members separately: each trains on three folds and stops by the other two."""
    pairs = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4))
    for member, (first, second) in enumerate(pairs):
        missed = (part == first) | (part == second)
        inside, outside = (FitRows(side.X[rows], side.y[rows], side.weight[rows]) for rows in (~missed, missed))
        yield fit(inside, outside, NAMES, categorical=("kind",), seed=3 + member, threads=1, parameters=QUICK)


def mean_of_members(rows, fold, names, **options):
    """Returns the text of the mean of the ensemble members."""
    return mean_model([member.text for member in fit_members(rows, fold, names, **options)])


def test_a_mean_model_gives_the_mean_score_of_its_members():
    texts = [fit_model(seed=seed) for seed in (1, 2, 3)]
    values = draw_rows(500, 9).X
    by_member = [lgb.Booster(model_str=text).predict(values, raw_score=True) for text in texts]
    whole = mean_model(texts)
    np.testing.assert_allclose(read_forest(whole).predict_raw(values), np.mean(by_member, axis=0), rtol=0, atol=1e-12)
    assert whole.count("\nTree=") == sum(text.count("\nTree=") for text in texts)
    single = lgb.Booster(model_str=mean_model(texts[:1])).predict(values, raw_score=True)
    np.testing.assert_array_equal(single, by_member[0])


@pytest.mark.system
def test_each_member_trains_on_the_folds_that_do_not_stop_it():
    side, group = draw_rows(3000, 1), np.arange(3000) % 200
    side.X[:, [0, 1, 3]] = np.clip(np.round(side.X[:, [0, 1, 3]]), -2, 2)  # any choice of rows gives the same bins
    part = cv_folds(group, side.y, 3)
    options = {"categorical": ("kind",), "seed": 3, "parameters": QUICK}
    text = mean_of_members(side, part, NAMES, threads=1, **options)
    assert text == mean_of_members(side, part, NAMES, threads=2, **options)
    alone = [lgb.Booster(model_str=member).predict(side.X, raw_score=True) for member in members(side, part)]
    np.testing.assert_allclose(read_forest(text).predict_raw(side.X), np.mean(alone, axis=0), rtol=0, atol=1e-9)


def test_folds_keep_groups_whole_and_spread_both_labels_evenly():
    rng = np.random.default_rng(5)
    group = rng.integers(0, 400, 6000)
    y = (group % 10 == 0).astype(int)
    part = cv_folds(group, y, 1)
    assert all(len(set(part[group == number])) == 1 for number in range(400))
    for label in (0, 1):
        folds = [part[group == number][0] for number in range(400) if (number % 10 == 0) == label]
        counts = np.bincount(folds, minlength=CV_FOLDS)
        assert np.ptp(counts) <= 3 and len(counts) == CV_FOLDS


@pytest.mark.parametrize("groups", [1, 2, 3, 7])
def test_no_member_trains_on_one_label_alone(groups):
    group = np.repeat(np.arange(40), 5)
    y = (group < groups).astype(int)
    for seed in range(60):
        part = cv_folds(group, y, seed)
        if groups == 1:
            assert set(part) == {0}
        else:
            assert all(len(set(y[part != fold])) == 2 for fold in set(part) if len(set(part)) > 1)


def test_a_model_of_one_nuisance_group_has_the_minimum_of_trees():
    side = draw_rows(45, 1)
    parameters = {"rounds": 200, "num_leaves": 4, "min_data_in_leaf": 5}
    (member,) = fit_members(side, np.zeros(45, dtype=int), NAMES, parameters=parameters)
    assert member.text.count("\nTree=") == MINIMUM_TREES


def scores(rows, seed):
    """Raw scores, and labels whose log-odds are a straight line in them."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(-2.0, 2.5, rows)
    return raw, (rng.random(rows) < expit(0.7 * raw - 0.4)).astype(int)


def test_logistic_is_chosen_where_it_is_right_and_is_near_the_truth():
    raw, y = scores(40_000, 1)
    calibration, method = calibrate(raw, y, np.arange(len(raw)) // 10)
    assert method == "logistic"
    new, outcome = scores(100_000, 2)
    probability = calibration.probabilities(new)
    assert np.abs(probability - expit(0.7 * new - 0.4)).max() < 0.02
    assert calibration_table(probability, outcome)["ece"] < 0.005


def test_isotonic_is_chosen_where_logistic_is_wrong():
    rng = np.random.default_rng(3)
    raw = rng.normal(size=40_000)
    truth = np.where(raw < 0.5, 0.05, np.where(raw < 1.0, 0.5, 0.6))
    y = (rng.random(len(raw)) < truth).astype(int)
    calibration, method = calibrate(raw, y, np.arange(len(raw)) // 10)
    assert method == "isotonic"
    assert len(calibration.x) <= 200
    assert np.abs(calibration.probabilities(raw) - truth).mean() < 0.02


@pytest.mark.parametrize("seed", range(4))
def test_probability_never_falls_as_the_score_grows(seed):
    rng = np.random.default_rng(seed)
    raw = np.round(rng.normal(size=400), 1)
    y = rng.integers(0, 2, 400)  # unrelated: the fit may point either way
    calibration, _ = calibrate(raw, y, np.arange(400) // 4)
    probability = calibration.probabilities(np.linspace(-9, 9, 1001))
    assert (np.diff(probability) >= 0).all()
    assert probability.min() >= 0
    assert probability.max() <= 1


def test_a_group_is_never_in_both_parts_of_a_comparison():
    """Each group has its own score and its own label: memorising helps only within a group."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(60), 50)
    raw = rng.normal(size=60)[group]
    y = rng.integers(0, 2, 60)[group]
    assert calibrate(raw, y, group)[1] == "logistic"
    # With the groups split, isotonic regression would win.
    assert calibrate(raw, y, rng.permutation(group))[1] == "isotonic"


def test_logistic_is_chosen_with_too_few_groups_to_compare():
    raw, y = scores(500, 5)
    assert calibrate(raw, y, np.arange(500) % 4)[1] == "logistic"
    lonely = (np.arange(500) < 100).astype(int)  # all nuisance in one group of five
    assert calibrate(raw, lonely, np.arange(500) // 100)[1] == "logistic"


@pytest.mark.parametrize("kind", [0, 1])
def test_labels_of_one_kind_leave_the_log_odds_unchanged(kind):
    raw, _ = scores(300, 6)
    calibration, method = calibrate(raw, np.full(300, kind), np.arange(300))
    assert method == "none"
    np.testing.assert_allclose(calibration.probabilities(raw), expit(raw), atol=1e-3)


def test_a_constant_score_is_calibrated_to_the_nuisance_share():
    y = (np.arange(1000) % 4 == 0).astype(int)
    calibration, _ = calibrate(np.zeros(1000), y, np.arange(1000) // 2)
    assert len(calibration.x) >= 2
    assert calibration.probability(0.0) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(("names", "constrained"), [(LITE, True), (LITE[::-1], True), (LITE[:-1], False)])
@pytest.mark.parametrize("name", ["out_gap_variation_7d", "out_hung_up_share_7d"])
def test_a_model_of_exactly_the_ten_features_is_constrained_to_their_signs(names, constrained, name):
    """The nuisance rate rises and falls as one feature grows; an unconstrained score follows it."""
    rng = np.random.default_rng(4)
    values, column = rng.normal(size=(3000, len(names))), names.index(name)
    label = (rng.random(3000) < expit(3 * np.sin(2 * values[:, column]))).astype(int)
    learn, check = FitRows(values[:2000], label[:2000]), FitRows(values[2000:], label[2000:])
    member = mean_of_members(learn, np.zeros(2000, dtype=np.int64), names, parameters=QUICK, seed=3, threads=1)
    for text in (member, fit(learn, check, names, parameters=QUICK, seed=3, threads=1)):
        rows = np.repeat(rng.normal(size=(20, 1, len(names))), 50, axis=1)
        rows[:, :, column] = np.linspace(-3, 3, 50)
        raw = read_forest(text).predict_raw(rows.reshape(1000, -1)).reshape(20, 50)
        steps = MONOTONE_SIGNS[name] * np.diff(raw, axis=1)
        assert (steps > 0).any()
        assert (steps < 0).any() != constrained


def test_other_parameters_of_lightgbm_are_passed_through():
    noise = draw_rows(600, 1), draw_rows(600, 2)
    shallow = QUICK | checked({"max_depth": 1, "path_smooth": 2.0, "extra_trees": True}, "here")
    trees = lgb.Booster(model_str=fit(*noise, NAMES, parameters=shallow)).dump_model()["tree_info"]
    assert {tree["num_leaves"] for tree in trees} <= {1, 2}
    with pytest.raises(ValueError, match=r"^LightGBM: .*max_depth.*$"):
        fit(*noise, NAMES, parameters=QUICK | {"max_depth": "deep"})
    with pytest.raises(ValueError, match="here: max_depth: expected a number, a word, true or false"):
        checked({"max_depth": [3]}, "here")
    for name in ("boosting", "linear_tree", "objective", "seed", "num_threads", "eta"):
        with pytest.raises(ValueError, match=f"here: expected parameters among .*, got '{name}'"):
            checked({name: 1}, "here")


def test_every_parameter_that_is_passed_through_is_one_of_lightgbm():
    known = lgb.basic._ConfigAliases._get_all_param_aliases()  # the library's own list
    assert known.keys() >= PASSED | (RANGES.keys() - {"rounds", "patience"})
    assert not RANGES.keys() & PASSED


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


def test_each_parameter_is_read_from_a_file(tmp_path):
    parameters = {name: low if isinstance(low, int) else low + 0.1 for name, (low, _) in RANGES.items()}
    (tmp_path / "p.toml").write_text("".join(f"{name} = {value}\n" for name, value in parameters.items()))
    assert read_parameters(tmp_path / "p.toml") == parameters
    assert set(PARAMETERS) <= set(RANGES)
    assert read_parameters(None) == {}
