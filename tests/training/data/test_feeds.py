"""A feed records what its name says, and has the vectors of some calls."""

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest

from callsieve.features.catalogue import NAMES
from callsieve.features.kernel.windows import WEEK
from callsieve.features.offline.table import vectors
from callsieve.features.online.feeds import COMPLETE, NO_ORGANISATIONS, ONE_SITE, SPARSE, UNKNOWN_FEED, feed_of_table
from callsieve.features.records import KEYED_COLUMNS
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
OF_NETWORKS = {SPARSE, ONE_SITE, NO_ORGANISATIONS}


@pytest.mark.parametrize("name", [name for name in (COMPLETE, *POORER_FEEDS) if name not in OF_NETWORKS])
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


def test_no_call_to_a_busy_caller_is_recorded_without_calls_to_organisations(dataset):
    recorded, calls = recorded_calls(dataset.calls, NO_ORGANISATIONS)
    rows = dataset.calls.select(["start", "caller", "callee"]).to_pylist()
    weekly = Counter((row["caller"], (row["start"] - rows[0]["start"]) // WEEK) for row in rows)
    busy = {caller for (caller, _), count in weekly.items() if count >= 100}
    assert recorded.tolist() == [place for place, row in enumerate(rows) if row["callee"] not in busy]
    assert 0.5 < calls.num_rows / len(rows) < 1 and not busy.isdisjoint(calls["caller"].to_pylist())


@pytest.fixture(scope="module")
def sites(dataset):
    """The recorded calls of the sites of a world, and the name of each call's site."""
    recorded, calls = recorded_calls(dataset.calls, ONE_SITE)
    return recorded, calls, np.array([caller.partition(".")[0] for caller in calls["caller"].to_pylist()])


def test_sites_are_apart_and_each_has_the_vectors_of_its_own_records(dataset, sites):
    """Each site again, alone and with the tokens of the network: nothing of another site is in its histories."""
    recorded, calls, site = sites
    every = vectors(calls.select(KEYED_COLUMNS))
    assert len(set(site.tolist())) >= 5 and 0.1 < len(recorded) / dataset.calls.num_rows < 0.5
    for name in sorted(set(site.tolist())):
        rows = np.flatnonzero(site == name)
        alone = dataset.calls.take(pa.array(recorded[rows])).select(KEYED_COLUMNS)
        for column in ("trunk", "device", "step"):
            place = alone.column_names.index(column)
            alone = alone.set_column(place, column, calls[column].take(pa.array(rows)))
        np.testing.assert_array_equal(every[rows], vectors(alone))
        assert set(calls["trunk"].take(pa.array(rows)).to_pylist()) == {name}


def test_a_site_records_all_calls_to_its_lines_and_each_call_has_a_line(dataset, sites):
    recorded, _, site = sites
    rows = dataset.calls.select(["caller", "callee"]).to_pylist()
    received = Counter(row["callee"] for row in rows)
    of_callee = defaultdict(set)
    for place, name in zip(recorded.tolist(), site.tolist(), strict=True):
        of_callee[rows[place]["callee"]].add(name)
    seen = Counter(rows[place]["callee"] for place in recorded.tolist())
    lines = {number for number, names in of_callee.items() if len(names) == 1 and seen[number] == received[number]}
    assert all({rows[place]["caller"], rows[place]["callee"]} & lines for place in recorded.tolist())


def test_the_site_with_most_calls_is_recognised(sites):
    _, calls, site = sites
    largest = Counter(site.tolist()).most_common(1)[0][0]
    assert feed_of_table(calls.filter(pa.array(site == largest))) == "one site"


def test_another_key_gives_the_same_sites(dataset, sites):
    turned = dataset.calls
    for name in ("caller", "callee"):
        words = pa.array([token[::-1] for token in turned[name].to_pylist()])
        turned = turned.set_column(turned.column_names.index(name), name, words.dictionary_encode())
    assert recorded_calls(turned, ONE_SITE)[0].tolist() == sites[0].tolist()
