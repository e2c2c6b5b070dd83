"""Content and mode told of flagged calls, held against the truth."""

import dataclasses
import json
import math

import numpy as np
import pyarrow as pa
import pytest

from callsieve.serving.bundle.booster import Booster
from callsieve.serving.rules.policy import read_policy
from callsieve.training.judging.class_figures import SURE, class_figures
from callsieve.training.model.fit import FitRows, fit
from callsieve.training.model.train import feature_columns


@pytest.fixture(scope="module")
def told(trained):
    """That training with models of content and mode, for which its labels are too few; content lacks a class."""
    some = trained.feed.rows[trained.judged.nuisance[trained.feed.rows]]
    vectors = trained.feed.at(some)[:, feature_columns(trained.settings.features)]
    models, classes = dict(trained.models), {}
    for kind, first in (("content", 1), ("mode", 0)):
        true = np.array(trained.dataset.truth[kind].take(some).to_pylist())
        words = np.unique(true)[first:]
        code = np.searchsorted(words, true).clip(max=len(words) - 1)
        part = FitRows(vectors[::2], code[::2])
        models[kind] = fit(part, part, trained.settings.features, classes=len(words), parameters={"rounds": 5})
        classes[kind] = tuple(words.tolist())
    return dataclasses.replace(trained, models=models, card=dataclasses.replace(trained.card, classes=classes))


def by_hand(t, kind, rows):
    """Whether each call's likeliest class is the true one, and its share: call by call."""
    booster, words = Booster(t.models[kind]), t.card.classes[kind]
    for row in rows:
        (raw,) = booster.predict_few([t.feed.at(np.array([row]))[0, feature_columns(t.settings.features)]])
        shares = [math.exp(value) for value in raw]
        best = shares.index(max(shares))
        yield words[best] == t.dataset.truth[kind][int(row)].as_py(), shares[best] / sum(shares)


def test_they_are_those_of_a_plain_loop(told):
    flagged = np.isin(np.arange(len(told.start)), told.feed.rows[::7])
    found = class_figures(told, flagged)
    assert [one["kind"] for one in found] == ["content", "mode"]
    for one in found:
        rows = np.flatnonzero(flagged & told.judged.nuisance)
        right, shares = map(np.array, zip(*by_hand(told, one["kind"], rows), strict=True))
        words = told.dataset.truth[one["kind"]].take(rows).to_pylist()
        assert (one["calls"], one["callers"]) == (len(rows), len(set(told.caller[rows])))
        assert one["classes"] == len(set(words)) - (one["kind"] == "content")
        assert one["right"] == right.mean() and one["low"] <= one["right"] <= one["high"]
        assert one["commonest"] == max(map(words.count, words)) / len(words)
        assert one["sure"] == (shares >= SURE).mean()
        assert one["right_if_sure"] == (right[shares >= SURE].mean() if (shares >= SURE).any() else None)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_they_are_as_sure_as_the_shipped_policy_asks():
    assert read_policy().terms.content_share == SURE


@pytest.mark.parametrize("gone", ["truth", "columns", "words", "calls"])
def test_without_truth_or_calls_there_is_none(told, gone):
    truth = told.dataset.truth
    blank = pa.nulls(truth.num_rows, pa.string())
    others = {
        "truth": None,
        "columns": truth.drop_columns(["content", "mode"]),
        "words": truth.drop_columns(["content", "mode"]).append_column("content", blank).append_column("mode", blank),
        "calls": truth,
    }
    other = dataclasses.replace(told, dataset=dataclasses.replace(told.dataset, truth=others[gone]))
    flagged = np.isin(np.arange(len(told.start)), told.feed.rows) & (gone != "calls")
    assert class_figures(other, flagged) == []
