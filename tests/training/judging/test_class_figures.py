"""Predicted content and mode of flagged calls, compared with the truth."""

import dataclasses
import json
import math

import numpy as np
import pytest
from msgspec import structs

from callsieve.serving.bundle.forest import read_forest
from callsieve.serving.rules.policy import read_policy
from callsieve.training.data.dataset import read_dataset
from callsieve.training.judging.class_figures import SURE, class_figures
from callsieve.training.model.fit import FitRows, fit
from callsieve.training.model.matrix import feature_columns
from callsieve.training.model.pool import true_words


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
