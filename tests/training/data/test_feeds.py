"""A feed records what its name says, and has the vectors of some calls."""

import numpy as np
import pytest

from callsieve.features.catalogue import NAMES
from callsieve.features.offline.table import vectors
from callsieve.features.online.feeds import COMPLETE, SPARSE, UNKNOWN_FEED, feed_of_table
from callsieve.training.data.feeds import POORER_FEEDS, Feed, recorded_calls, vectors_on
from tests.support.calls.lacks import without

ROWS = np.array([2, 5, 9])
FEED = Feed("complete", np.arange(12), ROWS, np.column_stack([ROWS * 1.0, ROWS * 10.0]))


def test_vectors_belong_to_the_requested_calls():
    assert FEED.at(np.array([9, 2])).tolist() == [[9.0, 90.0], [2.0, 20.0]]
    assert FEED.values(np.array([5]), 1).tolist() == [50.0]
    assert FEED.at(np.array([], dtype=int)).shape == (0, 2)


@pytest.mark.parametrize("row", [0, 3, 10])
def test_a_call_without_a_vector_is_refused(row):
    with pytest.raises(ValueError, match="expected calls whose vectors are held"):
        FEED.at(np.array([2, row]))


def test_a_column_is_missing_for_calls_without_a_vector():
    column = FEED.column(1, 12)
    assert column[ROWS].tolist() == [20.0, 50.0, 90.0]
    assert np.isnan(np.delete(column, ROWS)).all()


# The subscribers of a tiny world are few beside its organisations, so few of its calls are rare.
@pytest.mark.parametrize("name", [name for name in (COMPLETE, *POORER_FEEDS) if name != SPARSE])
def test_a_scorer_recognises_the_feeds_that_a_training_makes(dataset, name):
    recorded, calls = recorded_calls(dataset.calls, name)
    assert feed_of_table(calls) == name != UNKNOWN_FEED
    assert len(recorded) == calls.num_rows
    lacks = [] if name == COMPLETE else name.split(", ")
    np.testing.assert_array_equal(vectors(calls), vectors(without(dataset.calls, lacks)))


def test_vectors_of_answered_calls_count_no_other_call(dataset):
    feed = vectors_on("answered only", dataset, NAMES, 1)
    outcome = np.array(dataset.calls["outcome"].to_pylist())
    np.testing.assert_array_equal(feed.rows, np.flatnonzero(outcome == "answered"))
    share = feed.X[:, NAMES.index("out_answered_share_7d")]
    measured = ~np.isnan(share)
    assert measured.any() and (share[measured] >= 0.5).all()


def test_vectors_of_outgoing_calls_know_no_incoming_call(dataset):
    feed = vectors_on("outgoing only", dataset, NAMES, 1)
    incoming = [column for column, name in enumerate(NAMES) if name.startswith("in_calls_count")]
    assert (feed.X[:, incoming] == 0).all()
    calls = NAMES.index("out_calls_count_7d")
    np.testing.assert_array_equal(feed.X[:, calls], vectors_on(COMPLETE, dataset, NAMES, 1).X[:, calls])


def test_the_sparse_feed_has_the_calls_between_the_numbers_of_one_operator(dataset):
    recorded, calls = recorded_calls(dataset.calls, SPARSE)
    callers, callees = (set(calls[name].to_pylist()) for name in ("caller", "callee"))
    own = callers | callees
    rows = dataset.calls.select(["caller", "callee"]).to_pylist()
    inside = [place for place, row in enumerate(rows) if row["caller"] in own and row["callee"] in own]
    assert recorded.tolist() == inside and 0.05 < len(recorded) / len(rows) < 0.2
