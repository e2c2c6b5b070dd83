"""Of which callers a bundle may have learnt, as its card and the calls tell it: never too few of them."""

from dataclasses import replace
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from callsieve.features.files.dates import DAY
from callsieve.serving.bundle.bundle import load
from callsieve.serving.bundle.signing import read_public_key
from callsieve.training.data.dataset import make_dataset as put_together
from callsieve.training.judging.seen_groups import BY_FOLDS, BY_TIME, NOT_KNOWN, seen_groups

SHARED = ("caller", "caller_block", "trunk", "device")


@pytest.fixture(scope="module")
def card(run):
    return load(run[0] / "bundle", [read_public_key(run[0] / "signer.pub")])


def some(whole, rows):
    """The dataset of some of the calls."""
    return put_together(
        whole.calls.filter(rows), whole.complaints, whole.findings, whole.truth.filter(rows), campaigns=whole.campaigns
    )


def named(dataset, rows, name):
    table = dataset.truth if name == "campaign" else dataset.calls
    column = table[name].cast(pa.string()).filter(pa.array(rows))
    return set(pc.unique(column.drop_null()).to_pylist())


def stretch(card, dataset):
    begin, end = (datetime.fromisoformat(moment).timestamp() * 1000 for moment in card.training["folds"]["train"])
    start = dataset.calls["start"].to_numpy()
    return (start >= begin) & (start < end)


def test_of_the_calls_of_its_training_the_folds_are_made_again(dataset, card, run):
    found = seen_groups(dataset, card)
    assert found.basis == BY_FOLDS
    begin, end = (datetime.fromisoformat(moment).timestamp() * 1000 for moment in card.training["folds"]["certify"])
    start = dataset.calls["start"].to_numpy()
    later = ~found.seen & (start >= begin) & (start < end)
    assert later.sum() == run[1]["rows"]["certify"]
    for name in (*SHARED, "campaign"):
        assert not named(dataset, found.seen, name) & named(dataset, ~found.seen, name), name


def test_of_longer_records_those_who_called_then_may_have_been_learnt_from(dataset, card):
    start = dataset.calls["start"]
    other = some(dataset, pc.less(start, start[-1].as_py() - DAY))
    found = seen_groups(other, card)
    assert found.basis == BY_TIME
    then = stretch(card, other)
    assert found.seen[then].all() and (~found.seen).sum() > 0
    for name in (*SHARED, "campaign"):
        assert not named(other, then, name) & named(other, ~found.seen, name), name


def test_without_the_campaigns_the_folds_of_the_training_are_not_these(dataset, card):
    bare = replace(dataset, campaigns=dataset.campaigns.iloc[:0], truth=None)
    assert seen_groups(bare, card).basis == BY_TIME


def test_of_calls_that_begin_later_nothing_is_told(dataset, card):
    start = dataset.calls["start"]
    later = some(dataset, pc.greater(start, start[0].as_py() + 12 * DAY))
    found = seen_groups(later, card)
    assert (found.seen, found.basis) == (None, NOT_KNOWN)
