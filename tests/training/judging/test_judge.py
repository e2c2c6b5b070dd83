"""Headline figures: the catch rate at thresholds and in hindsight; predicted content and mode against the truth."""

import dataclasses
import json
import math
from types import SimpleNamespace

import lightgbm as lgb
import numpy as np
import pytest
from msgspec import structs

from callsieve.features.records import NUMBER_CLASSES
from callsieve.serving.bundle.metadata import Band
from callsieve.serving.rules.policy import read_policy
from callsieve.training.data.dataset import read_dataset
from callsieve.training.evidence.judging_labels import JudgingLabels
from callsieve.training.judging import judge
from callsieve.training.judging.class_figures import SURE, class_figures
from callsieve.training.judging.headline import JudgedCalls, headline_of
from callsieve.training.judging.judge import hourly_rule, reliability_figures
from callsieve.training.model.certify import certificate
from callsieve.training.model.fit import FitRows, fit
from callsieve.training.model.matrix import feature_columns
from callsieve.training.model.pool import true_words
from callsieve.training.model.trees import read_forest
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
    labels = JudgingLabels(every, nuisance, np.full(len(raw), "any"), "truth", np.full(len(raw), -1), rows * 1)
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
    rows = trained.X[calls.rows][:, feature_columns(trained.settings.features)]
    values = lgb.Booster(model_str=trained.models["model"]).predict(rows, pred_contrib=True)[:, :-1]
    sizes, nuisance = np.abs(values).sum(axis=0), calls.judged.nuisance[calls.rows]
    features = judge.top_features(trained, calls)
    assert [feature["name"] for feature in features] == [names[i] for i in np.argsort(-sizes, kind="stable")[:12]]
    for feature in features:
        column = names.index(feature["name"])
        assert feature["share"] == pytest.approx(sizes[column] / sizes.sum())
        for kind, chosen in (("nuisance", nuisance), ("innocent", ~nuisance)):
            assert feature[kind] == pytest.approx(values[chosen, column].mean())


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


# Content and mode


@pytest.fixture(scope="module")
def with_class_models(trained):
    """The training with added class models, because it has too few labels; the content model lacks one class."""
    rows = np.flatnonzero(trained.pool.judged.nuisance)
    vectors = trained.X[rows][:, feature_columns(trained.settings.features)]
    models, classes = dict(trained.models), {}
    for kind, first in (("content", 1), ("mode", 0)):
        true = np.array(true_classes(trained, kind, rows))
        words = np.unique(true)[first:]
        code = np.searchsorted(words, true).clip(max=len(words) - 1)
        part = FitRows(vectors[::2], code[::2])
        models[kind] = fit(part, part, trained.settings.features, classes=len(words), parameters={"rounds": 5})
        classes[kind] = tuple(words.tolist())
    return dataclasses.replace(trained, models=models, card=structs.replace(trained.card, classes=classes))


def true_classes(t, kind, rows):
    return t.last.dataset.truth[kind].take(t.pool.row[rows]).to_pylist()


def by_hand(t, kind, rows):
    """Yields for each call whether the most probable class is true, and the probability of that class."""
    forest, words = read_forest(t.models[kind]), t.card.classes[kind]
    for row in rows:
        (raw,) = forest.predict_few([t.X[row, feature_columns(t.settings.features)]])
        shares = [math.exp(value) for value in raw]
        best = shares.index(max(shares))
        yield [words[best]] == true_classes(t, kind, [row]), shares[best] / sum(shares)


def test_class_figures_equal_a_plain_loop(with_class_models):
    flagged = np.arange(len(with_class_models.raw)) % 7 == 0
    figures = class_figures(with_class_models, flagged)
    assert [row["kind"] for row in figures] == ["content", "mode"]
    for row in figures:
        rows = np.flatnonzero(flagged & with_class_models.pool.judged.nuisance)
        right, shares = map(np.array, zip(*by_hand(with_class_models, row["kind"], rows), strict=True))
        words = true_classes(with_class_models, row["kind"], rows)
        assert (row["calls"], row["callers"]) == (len(rows), len(set(with_class_models.pool.caller[rows])))
        assert row["classes"] == len(set(words)) - (row["kind"] == "content")
        assert row["right"] == right.mean() and row["low"] <= row["right"] <= row["high"]
        assert row["commonest"] == max(map(words.count, words)) / len(words)
        assert row["sure"] == (shares >= SURE).mean()
        assert row["right_if_sure"] == (right[shares >= SURE].mean() if (shares >= SURE).any() else None)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_sure_is_the_content_share_of_the_shipped_policy():
    assert read_policy().terms.content_share == SURE


@pytest.mark.parametrize("missing", ["words", "calls"])
def test_without_true_words_or_calls_there_are_no_figures(with_class_models, missing):
    pool = with_class_models.pool
    blank = np.full(len(pool.start), None, dtype=object)
    if missing == "words":
        pool = dataclasses.replace(pool, content=blank, mode=blank)
    flagged = np.full(len(pool.start), missing != "calls")
    assert class_figures(dataclasses.replace(with_class_models, pool=pool), flagged) == []


@pytest.mark.parametrize("missing", ["truth", "columns"])
def test_without_a_truth_no_call_has_a_true_class(world_folder, missing):
    dataset = read_dataset(world_folder)
    truth = None if missing == "truth" else dataset.truth.drop_columns(["content", "mode"])
    assert set(true_words(dataclasses.replace(dataset, truth=truth), "content", np.arange(9))) == {None}
