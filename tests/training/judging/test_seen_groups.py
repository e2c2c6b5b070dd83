"""Groups that a bundle may have been trained on are all found from its card and the calls."""

from dataclasses import replace
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from msgspec import structs

from callsieve.features.files.dates import DAY
from callsieve.serving.bundle.bundle import load
from callsieve.serving.bundle.signing import read_public_key
from callsieve.training.data.dataset import make_dataset
from callsieve.training.judging.evaluate import BY_FOLDS, BY_TIME, NOT_KNOWN, seen_groups

SHARED = ("caller", "caller_block", "trunk", "device")


@pytest.fixture(scope="module")
def card(training_run):
    return load(training_run[0] / "bundle", [read_public_key(training_run[0] / "signer.pub")])


def subset(whole, rows):
    """The dataset with the selected calls only."""
    calls, truth = whole.calls.filter(rows), whole.truth.filter(rows)
    return make_dataset(calls, whole.complaints, whole.findings, truth, campaigns=whole.campaigns)


def values_of(dataset, rows, name):
    table = dataset.truth if name == "campaign" else dataset.calls
    column = table[name].cast(pa.string()).filter(pa.array(rows))
    return set(pc.unique(column.drop_null()).to_pylist())


def in_span(card, name, dataset):
    begin, end = (
        datetime.fromisoformat(moment).timestamp() * 1000 for moment in card.training["folders"][0]["folds"][name]
    )
    start = dataset.calls["start"].to_numpy()
    return (start >= begin) & (start < end)


def test_folds_are_recomputed_on_the_training_data(dataset, card, training_run):
    groups = seen_groups(dataset, card)
    assert groups.basis == BY_FOLDS
    later = ~groups.seen & in_span(card, "certify", dataset)
    assert later.sum() == training_run[1]["rows"]["certify"]
    for name in (*SHARED, "campaign"):
        assert not values_of(dataset, groups.seen, name) & values_of(dataset, ~groups.seen, name), name


def test_on_other_records_groups_that_called_in_the_training_span_count_as_seen(dataset, card):
    start = dataset.calls["start"]
    other = subset(dataset, pc.less(start, start[-1].as_py() - DAY))
    groups = seen_groups(other, card)
    assert groups.basis == BY_TIME
    in_training = in_span(card, "train", other)
    assert groups.seen[in_training].all() and (~groups.seen).sum() > 0
    for name in (*SHARED, "campaign"):
        assert not values_of(other, in_training, name) & values_of(other, ~groups.seen, name), name


def test_folds_are_not_recomputed_without_campaigns_or_on_later_calls(dataset, card):
    bare = replace(dataset, campaigns=dataset.campaigns.iloc[:0], truth=None)
    assert seen_groups(bare, card).basis == BY_TIME
    start = dataset.calls["start"]
    groups = seen_groups(subset(dataset, pc.greater(start, start[0].as_py() + 12 * DAY)), card)
    assert (groups.seen, groups.basis) == (None, NOT_KNOWN)


@pytest.mark.parametrize("role", ["learn", "certify"])
def test_a_whole_folder_is_seen_or_unseen_by_its_role(dataset, card, role):
    (folder,) = card.training["folders"]
    other = folder | {"data": "another"}
    pooled = structs.replace(card, training=card.training | {"folders": [other, folder | {"role": role}]})
    groups = seen_groups(dataset, pooled)
    assert groups.basis == BY_FOLDS and (groups.seen == (role == "learn")).all()
    # The tokens of several folders are not comparable by time.
    unrelated = structs.replace(card, training=card.training | {"folders": [other, other]})
    assert seen_groups(dataset, unrelated).basis == NOT_KNOWN
