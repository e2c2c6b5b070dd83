"""Thresholds are chosen on out-of-fold scores: no member scores a group that it trained on."""

import numpy as np
import pandas as pd
import pytest

from callsieve.training.data.dataset import campaigns_of
from callsieve.training.judging.judge import judged_calls
from callsieve.training.model import folds as call_folds
from callsieve.training.model import models as steps
from callsieve.training.model.fit import NO_CV_FOLD, FitRows, cv_fold_of_calls, fit_members, mean_model
from callsieve.training.model.matrix import feature_columns
from callsieve.training.model.scores import out_of_fold_scores
from callsieve.training.model.settings import Settings
from callsieve.training.model.split import FOLDS, fold_rows, links_of
from callsieve.training.model.train import train
from callsieve.training.model.trees import read_forest

pytestmark = pytest.mark.system


def test_each_call_is_scored_by_members_that_held_out_its_group():
    raw, choose = np.arange(6.0), np.array([1, 1, 1, 1, 0, 0], dtype=bool)
    part = np.array([0, 1, NO_CV_FOLD, 0, 0, 1])
    scores = out_of_fold_scores(raw, [np.full(6, 10.0), np.full(6, 20.0)], [(0,), (1,)], part, choose)
    assert scores.tolist() == [10.0, 20.0, 2.0, 10.0, 4.0, 5.0]
    assert raw.tolist() == [0, 1, 2, 3, 4, 5]
    assert out_of_fold_scores(raw, [np.full(6, 10.0)], [(0,)], part, choose).tolist() == raw.tolist()


def test_several_members_that_held_out_a_group_are_averaged():
    part, every = np.array([0, 1, 2]), np.ones(3, dtype=bool)
    by_member = [np.full(3, 1.0), np.full(3, 2.0), np.full(3, 6.0)]
    scores = out_of_fold_scores(np.zeros(3), by_member, [(0, 1), (0, 2), (1, 2)], part, every)
    assert scores.tolist() == [1.5, 3.5, 4.0]


def test_a_group_has_one_fold_and_an_unseen_group_has_none():
    group = np.array([3, 0, 3, 1, 5])
    assert cv_fold_of_calls(np.array([3, 1]), np.array([2, 0]), group).tolist() == [2, NO_CV_FOLD, 2, 0, NO_CV_FOLD]


@pytest.fixture(scope="module")
def fitted_training(dataset):
    """A training with its ensemble members and its training matrix."""
    seen = {}

    def members(learn, part, names, **options):
        seen["learn"], seen["part"] = learn, part
        seen["members"] = fit_members(learn, part, names, **options)
        return seen["members"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "fit_members", members)
        return train(dataset, Settings(threads=1, parameters={"rounds": 20})), seen


def test_thresholds_are_chosen_on_out_of_fold_scores_and_certified_on_scores_of_all_members(fitted_training):
    trained, seen = fitted_training
    vectors = trained.X[:, feature_columns(trained.settings.features)]
    folds = trained.last.folds
    choose = fold_rows("train", folds.plan.choose, folds.fold, folds.start)[trained.pool.row]
    pairs = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4))
    for part in range(5):
        own = np.flatnonzero(choose & (trained.cv_fold == part))
        assert len(own)
        unseen = [text for (text, _), missed in zip(seen["members"], pairs, strict=True) if part in missed]
        expected = np.mean([read_forest(text).predict_raw(vectors[own]) for text in unseen], axis=0)
        np.testing.assert_allclose(trained.raw[own], expected, rtol=0, atol=1e-12)
    certify = np.flatnonzero(fold_rows("certify", folds.plan.certify, folds.fold, folds.start)[trained.pool.row])
    whole = read_forest(trained.models["model"]).predict_raw(vectors[certify])
    np.testing.assert_array_equal(trained.raw[certify], whole)


def test_held_out_labels_change_only_where_a_member_stops(fitted_training):
    """Labels inverted in one fold change every member except those that held it out."""
    _, seen = fitted_training
    learn, part = seen["learn"], seen["part"]
    turned = FitRows(learn.X, np.where(part == 0, 1 - learn.y, learn.y).astype(np.int8), learn.weight)
    names = [f"f{i}" for i in range(learn.X.shape[1])]
    quick = {"rounds": 10, "patience": 10}
    first, second = (fit_members(side, part, names, threads=1, parameters=quick) for side in (learn, turned))
    starts = [[member.text.partition("\nTree=1\n")[0] for member in side] for side in (first, second)]
    assert starts[0][:4] == starts[1][:4]
    assert all(mean_model([a.text]) != mean_model([b.text]) for a, b in zip(first[4:], second[4:], strict=True))


def test_thresholds_are_chosen_on_a_sample_of_many_calls(fitted_training, monkeypatch):
    trained, _ = fitted_training
    folds = trained.last.folds
    assert folds.judged.known.all()
    every = folds.choose(0)
    assert (every == fold_rows("train", folds.plan.choose, folds.fold, folds.start)).all()
    monkeypatch.setattr(call_folds, "MAX_CHOSEN_ON", 500)
    drawn = [folds.choose(seed) for seed in (0, 0, 1)]
    assert all(sample.sum() == 500 and (sample <= every).all() for sample in drawn)
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()


def test_certificates_cover_all_calls_of_random_callers(fitted_training, monkeypatch):
    """A number is flagged by its earlier calls, so a certificate of flags needs all of them."""
    folds = fitted_training[0].last.folds
    every = np.flatnonzero(fold_rows("certify", folds.plan.certify, folds.fold, folds.start))
    monkeypatch.setattr(call_folds, "MAX_CERTIFIED_ON", 500)
    monkeypatch.setattr(call_folds, "POORER_IN_ALL", 500)
    for sample in (np.flatnonzero(folds.certify(0)), folds.poorer(every, 0, 1)):
        assert 500 <= len(sample) < len(every)
        assert set(sample) == set(every[np.isin(folds.caller[every], folds.caller[sample])])


def test_lifetime_calls_come_from_callers_unconnected_to_training(fitted_training):
    """A walk from training callers over blocks, trunks, devices and campaigns reaches none of these callers."""
    trained, _ = fitted_training
    judged = judged_calls(trained)
    folds, pool = trained.last.folds, trained.pool
    callers = pd.Series(folds.caller)
    links = [link.to_pandas() for link in links_of(trained.last.dataset.calls).values()]
    links += [campaign.to_pandas() for campaign in campaigns_of(trained.last.dataset)]
    reached = set(pool.caller[pool.trained])
    while True:
        inside = callers.isin(reached)
        touched = np.logical_or.reduce([link.isin(set(link[inside].dropna())).to_numpy() for link in links])
        grown = reached | set(folds.caller[touched])
        if grown == reached:
            break
        reached = grown
    lives = set(pool.caller[judged.lives])
    assert lives and not lives & reached
    # All calls of such a caller are judged, and the first came after the label cutoff.
    for caller in lives:
        own = pool.caller == caller
        assert judged.lives[own].all() and own.sum() == (folds.caller == caller).sum()
        assert pool.start[own].min() >= folds.plan.label_cutoff
        assert not np.isnan(trained.raw[own]).any()
    # Callers of known groups are scored by the whole model, not by the members that held out their group.
    assert judged.known_lives.any() and not (judged.lives & judged.known_lives).any()
    assert set(pool.caller[judged.known_lives]) <= reached
    later = feature_columns(trained.settings.features)
    alone = read_forest(trained.models["model"]).predict_raw(trained.X[judged.known_lives][:, later])
    assert (judged.raw[judged.known_lives] == alone).all()
    assert (trained.raw[judged.known_lives] != alone).any()
    # Some callers are in the training fold, but came too late to train on.
    assert any((folds.fold[folds.caller == caller] == FOLDS.index("train")).all() for caller in lives)
