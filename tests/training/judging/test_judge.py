"""Headline figures: the catch rate at a band's thresholds, and in hindsight from the order of scores."""

from types import SimpleNamespace

import lightgbm as lgb
import numpy as np
import pytest
from msgspec import structs

from callsieve.features.records import NUMBER_CLASSES
from callsieve.serving.bundle.metadata import Band
from callsieve.training.data.judging_labels import JudgingLabels
from callsieve.training.judging import judge
from callsieve.training.judging.headline import JudgedCalls, headline_of
from callsieve.training.judging.judge import hourly_rule, reliability_figures
from callsieve.training.model.certify import certificate
from callsieve.training.model.matrix import feature_columns
from callsieve.training.reports.wording import rule_in_words

MOBILE, FIXED = map(NUMBER_CLASSES.index, ("mobile", "fixed"))
BENIGN, NUISANCE = 1000, 4
TARGET = 0.002  # two innocent calls


def test_the_catch_in_hindsight_depends_only_on_the_order_of_raw_scores():
    innocent = np.arange(BENIGN) / BENIGN  # the two highest scores are 0.998 and 0.999
    raw = np.concatenate([innocent, [0.9975, 0.9985, 5.0, 5.0], [99.0]])
    kind = np.full(len(raw), MOBILE)
    kind[BENIGN + 3] = FIXED
    nuisance = np.arange(len(raw)) >= BENIGN
    rows = np.arange(len(raw)) < BENIGN + NUISANCE  # the last call is not judged
    every, none = np.ones(len(raw), dtype=bool), np.zeros(len(raw), dtype=bool)
    labels = JudgingLabels(every, nuisance, np.full(len(raw), "any"), "truth", np.full(len(raw), -1))
    caller = np.arange(len(raw))
    people = {"caller": caller, "callee": caller, "start": caller, "group": caller, "nth": np.ones(len(raw))}
    judged = JudgedCalls(rule=raw, raw=raw, stratum=kind, judged=labels, rows=rows, lives=none, seed=0, **people)
    proof = certificate("certify", innocent, 2.0, TARGET)
    band = Band("certified", 2.0, proof, {}, (), {"fixed": 7.0})
    head = headline_of(judged, raw, band)
    assert head["catch"]["call"]["rate"] == 1 / NUISANCE  # the fixed line needs a score of 7
    # Two innocent calls may be flagged, so every call above 0.997, the third highest, is flagged.
    assert head["in_hindsight"] == 1.0
    assert headline_of(judged, np.where(raw == 0.9975, 0.5, raw), band)["in_hindsight"] == 3 / NUISANCE


def test_calls_without_a_score_have_no_reliability():
    unscored = SimpleNamespace(rows=np.ones(3, dtype=bool), raw=np.full(3, np.nan))
    assert reliability_figures(unscored, None) == {"bins": [], "ece": None, "log_loss": None}


def test_the_rule_in_words_says_that_limits_differ_by_number_class():
    proof = certificate("certify", np.zeros(9), 2.0, TARGET)
    plain = Band("certified", np.nextafter(8.0, np.inf), proof)
    assert rule_in_words(hourly_rule(plain)) == "more than 8 calls in the last hour"
    raised = hourly_rule(structs.replace(plain, raised={"mobile": 30.0}))
    assert rule_in_words(raised) == "more than 8 calls in the last hour; a higher limit for some number classes"


def test_the_most_important_features_have_the_shapley_values_of_lightgbm(trained, monkeypatch):
    monkeypatch.setattr(judge, "EXPLAINED_CALLS", 1_000_000)  # all judged calls
    calls, names = judge.judged_calls(trained), trained.card.features
    rows = trained.X[:, feature_columns(trained.settings.features)]
    values = lgb.Booster(model_str=trained.models["model"]).predict(rows, pred_contrib=True)[:, :-1]
    sizes = np.abs(values[calls.rows]).sum(axis=0)
    features = judge.top_features(trained, calls)
    assert [feature["name"] for feature in features] == [names[i] for i in np.argsort(-sizes, kind="stable")[:12]]
    for feature in features:
        column = names.index(feature["name"])
        assert feature["share"] == pytest.approx(sizes[column] / sizes.sum())
        for kind, chosen in (("nuisance", calls.judged.nuisance), ("innocent", ~calls.judged.nuisance)):
            assert feature[kind] == pytest.approx(values[calls.rows & chosen, column].mean())


def test_verdicts_by_truth_and_the_histogram_agree_with_the_headline(training_run):
    figures = training_run[1]
    head, counts, bins = figures["headline"]["model"], figures["outcomes"], figures["histogram"]
    nuisance = counts["nuisance_flagged"] + counts["nuisance_passed"]
    assert nuisance == figures["ranking"]["nuisance"]
    assert counts["nuisance_flagged"] / nuisance == head["catch"]["call"]["rate"]
    assert counts["innocent_flagged"] == head["false_calls"]
    assert nuisance + counts["innocent_flagged"] + counts["innocent_passed"] == figures["rows"]["certify"]
    edges = np.array(bins["edges"])
    for kind in ("nuisance", "innocent"):
        surely, perhaps = (np.array(bins[kind])[ends].sum() for ends in (edges[:-1] >= 0, edges[1:] >= 0))
        assert surely <= counts[f"{kind}_flagged"] <= perhaps
