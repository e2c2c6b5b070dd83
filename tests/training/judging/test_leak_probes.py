"""Leak probes find every kind of planted leak."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from callsieve.features.catalogue import NAMES
from callsieve.features.files.dates import DAY
from callsieve.training.data.feeds import feed_of_all
from callsieve.training.data.labels import label_numbers
from callsieve.training.judging import leak_probes
from callsieve.training.judging.leak_probes import (
    LeakError,
    best_single_feature,
    known_before,
    require_equal_labels,
    require_equal_vectors,
    require_one_fold_each,
)

pytestmark = pytest.mark.system


def test_a_training_without_leaks_passes(trained):
    probes = leak_probes.check_for_leaks(trained)
    assert probes["vectors_again"] > 200
    assert probes["labels_again"] > 20
    assert probes["separated"] == ["caller", "caller_block", "trunk", "device", "campaign 0", "campaign 1"]


def test_a_feature_from_the_future_is_detected(trained):
    """The planted feature also counts the calls of the next day."""
    start, caller, feed = trained.last.folds.start, trained.last.folds.caller, trained.last.feed
    planted = np.array(feed.X)
    column = NAMES.index("out_calls_count_24h")
    begin = trained.last.folds.plan.train[0]
    in_feed = feed.rows
    positions = np.flatnonzero((start[in_feed] >= begin) & (start[in_feed] < begin + DAY))
    rows = in_feed[positions]
    ahead = [int(((caller == caller[row]) & (start > start[row]) & (start < start[row] + DAY)).sum()) for row in rows]
    planted[positions, column] += ahead
    with pytest.raises(LeakError, match=r"feature out_calls_count_24h: .* depend on what became known"):
        leak_probes.check_for_leaks(replace(trained, last=replace(trained.last, feed=replace(feed, X=planted))))


def test_a_single_different_value_is_detected(trained):
    feed = trained.last.feed
    again = leak_probes.vectors_again(trained.last.dataset, trained.settings)
    assert require_equal_vectors(feed, again, NAMES) == len(again[0])
    for wrong in (np.nan, 1e9):
        planted = np.array(feed.X)
        planted[np.searchsorted(feed.rows, again[0][7]), 3] = wrong
        with pytest.raises(LeakError, match=f"feature {NAMES[3]}: 1 of "):
            require_equal_vectors(replace(feed, X=planted), again, NAMES)


def test_a_past_dataset_has_only_what_was_known_before_the_moment(dataset):
    moment = int(np.median(dataset.calls["start"].to_numpy()))
    past = known_before(dataset, moment)
    assert past.calls["start"].to_numpy().max() < moment
    when = pd.Timestamp(moment, unit="ms", tz="UTC")
    for frame in (past.complaints, past.findings, past.recycled):
        assert (frame["known_at"] <= when).all()
    assert 0 < len(past.complaints) < len(dataset.complaints)
    # Only calls in progress at that moment are changed.
    before, after = (table.slice(0, past.calls.num_rows).to_pylist() for table in (dataset.calls, past.calls))
    changed = [i for i in range(len(before)) if before[i] != after[i]]
    for i, call in enumerate(before):
        end = call["start"] + (call["ring"] or 0) + (call["talk"] or 0)
        known_at = end if call["recorded"] is None else call["recorded"]
        assert (known_at >= moment) == (i in changed), i
    assert changed


def test_a_label_from_the_future_is_detected(trained, dataset):
    policy = trained.settings.label_policy
    moments = (trained.last.folds.plan.label_cutoff, trained.last.folds.start.max())
    early, late = (pd.Timestamp(moment, unit="ms", tz="UTC") for moment in moments)
    honest, later = label_numbers(dataset, early, policy), label_numbers(dataset, late, policy)
    require_equal_labels(honest, honest.sample(frac=1, random_state=1), early)
    with pytest.raises(LeakError, match="became known after the cutoff"):
        require_equal_labels(later, honest, early)
    # Later labels with the earlier date.
    leaked = later.set_index("number")["nuisance"].reindex(honest["number"]).fillna(False).to_numpy(dtype=bool)
    peeking = honest.assign(nuisance=leaked)
    assert (leaked != honest["nuisance"].to_numpy()).any()
    with pytest.raises(LeakError, match="differ from those made of what was known"):
        require_equal_labels(peeking, honest, early)
    with pytest.raises(LeakError, match="differ"):
        require_equal_labels(honest.assign(confidence=1.0), honest, early)


@pytest.mark.parametrize("name", ["caller", "caller_block", "trunk"])
def test_a_caller_in_two_folds_is_detected(trained, name):
    column = trained.last.dataset.calls[name]
    fold = trained.last.folds.fold.copy()
    require_one_fold_each(fold, {name: column})
    words = column.to_pylist()
    commonest = max({word for word in words if word is not None}, key=words.count)
    row = words.index(commonest)
    fold[row] = (fold[row] + 1) % 4
    with pytest.raises(LeakError, match=f"values of {name} have calls in two folds"):
        if name == "caller":
            leak_probes.check_for_leaks(
                replace(trained, last=replace(trained.last, folds=replace(trained.last.folds, fold=fold)))
            )
        else:
            require_one_fold_each(fold, {name: column})


def test_missing_values_do_not_connect_folds():
    trunks = pa.chunked_array([pa.array([None, None, "t"], pa.string())])
    require_one_fold_each(np.array([0, 1, 2]), {"trunk": trunks})


def test_a_feature_that_reveals_the_label_is_detected():
    rng = np.random.default_rng(3)
    caller = np.repeat(np.arange(200), 5)
    nuisance = caller % 4 == 0
    values = rng.normal(size=(1000, 3))
    values[:, 1] += nuisance
    rows = np.ones(1000, dtype=bool)
    names = ("noise", "good", "other")
    best = best_single_feature(feed_of_all(values), nuisance, caller, rows, names)
    assert best["name"] == "good"
    for planted in (nuisance.astype(float), -1.0 * nuisance, np.where(nuisance, np.nan, 5.0)):
        with pytest.raises(LeakError, match="feature other: alone it ranks callers with AUC 1"):
            best_single_feature(feed_of_all(np.column_stack([values[:, :2], planted])), nuisance, caller, rows, names)
    assert best_single_feature(feed_of_all(values), nuisance, caller, caller < 20, names) is None  # too few callers
