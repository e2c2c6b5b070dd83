"""The feed of records follows from the records themselves, alike for a table and for a history."""

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given

from callsieve.features import History
from callsieve.features.intake.keyed_table import keyed_calls
from callsieve.features.kernel.windows import DAY_MS
from callsieve.features.online import feeds
from callsieve.features.online.feeds import (
    ANSWERED_ONLY,
    COMPLETE,
    FEEDS,
    LACKS,
    NO_RING_TIME,
    NO_ROUTES,
    OUTGOING_ONLY,
    SPARSE,
    UNKNOWN_FEED,
    feed_of_counts,
    feed_of_shares,
    feed_of_table,
    needs_second_model,
    sampled_attempts,
)
from tests.support.calls.lacks import week_of_calls, without

CALLS = 6_000  # some two days; a few records stand twice
OF_EACH_CALL = LACKS[:4]
PAIRS = [(NO_ROUTES, NO_RING_TIME), (ANSWERED_ONLY, OUTGOING_ONLY), OF_EACH_CALL]


@pytest.fixture(scope="module")
def calls(world):
    return world.calls.slice(world.calls.num_rows - CALLS)


def expected_feed(calls):
    """Finds what none of the calls shows, without shared code."""
    rows = calls.to_pylist()
    callees = {row["callee"] for row in rows}
    shown = {
        "answered only": [row for row in rows if row["outcome"] != "answered"],
        "outgoing only": [row for row in rows if row["caller"] in callees],
        "no routes": [row for row in rows if row["trunk"] or row["device"]],
        "no ring time": [row for row in rows if row["ring"]],
    }
    return ", ".join(lack for lack, places in shown.items() if not places) or "complete"


def history_of(calls):
    history = History(calls=CALLS, numbers=CALLS)
    for call in keyed_calls(calls):
        history.observe(call)
    history.advance(call.start + 60_000)
    return history


@pytest.mark.parametrize("lacks", [(), *((lack,) for lack in OF_EACH_CALL), *PAIRS], ids=str)
def test_a_copy_that_lacks_something_is_recognised_in_a_table_and_in_a_history(calls, lacks):
    poorer = without(calls, lacks)
    assert feed_of_table(poorer) == history_of(poorer).feed == expected_feed(poorer) == (", ".join(lacks) or COMPLETE)


@pytest.mark.parametrize("lack", [NO_ROUTES, NO_RING_TIME])
def test_records_that_lack_something_in_part_are_on_no_feed(calls, lack):
    poorer = without(calls, (lack,), share=0.93)
    assert feed_of_table(poorer) == history_of(poorer).feed == UNKNOWN_FEED


@pytest.mark.parametrize(("rare_of_100", "expected"), [(0, COMPLETE), (9, COMPLETE), (11, SPARSE), (25, UNKNOWN_FEED)])
def test_records_in_which_many_calls_are_of_callers_with_few_are_sparse(calls, rare_of_100, expected):
    """Out of 100 calls, so many are of callers with two a week; the others make ten a week."""
    made = week_of_calls(calls, rare_of_100)
    assert feed_of_table(made) == history_of(made).feed == expected
    first_days = made.filter(pc.less(made["start"], 6 * DAY_MS))
    assert feed_of_table(first_days) == COMPLETE  # no whole week, so no caller is known to make few


@pytest.mark.parametrize(("quiet", "expected"), [(0.05, SPARSE), (0.0, COMPLETE)], ids=["quiet weekends", "gaps"])
def test_long_records_are_sparse_if_their_whole_weeks_are(calls, quiet, expected):
    """A sample has no call of some quiet days; only the records themselves show which weeks are whole."""
    week = week_of_calls(calls, 15, callers=40).to_pylist()
    draws = np.random.default_rng(1)
    moments = draws.integers(7 * DAY_MS, size=(150, len(week)))
    mask = (moments < 5 * DAY_MS) | (draws.random(moments.shape) < quiet)
    rows = [
        week[call] | {"start": 7 * DAY_MS * int(place) + int(moments[place, call])} for place, call in np.argwhere(mask)
    ]
    assert feed_of_table(pa.Table.from_pylist(sorted(rows, key=lambda row: row["start"]), calls.schema)) == expected


def test_few_calls_are_taken_as_complete(calls):
    few = without(calls.slice(0, 999), (NO_RING_TIME,))
    more = without(calls.slice(0, 1_050), (NO_RING_TIME,))
    assert [feed_of_table(table) for table in (few, more)] == [COMPLETE, NO_RING_TIME]
    assert [history_of(table).feed for table in (few, more)] == [COMPLETE, NO_RING_TIME]
    assert feed_of_table(calls.slice(0, 0)) == COMPLETE


def test_a_table_in_parts_has_the_feed_of_the_whole(calls):
    """Callers of one part may be called in another; dictionaries of the parts may differ."""
    texts = [name for name in calls.column_names if pa.types.is_dictionary(calls[name].type)]
    parts = []
    for begin in range(0, CALLS, 1_000):
        part = calls.slice(begin, 1_000)
        for name in texts:
            encoded = part[name].cast(pa.string()).dictionary_encode().cast(part[name].type)
            part = part.set_column(part.schema.get_field_index(name), name, encoded)
        parts.append(part)
    for lacks in ((), (OUTGOING_ONLY,)):
        copies = [without(part, lacks) for part in parts]
        feed = feeds.feed_of_batches(lambda copies=copies: copies, CALLS)
        assert feed == feed_of_table(pa.concat_tables(copies)) == (", ".join(lacks) or COMPLETE)


def test_a_history_measures_its_feed_once_a_day_and_forgets_calls_older_than_a_week(calls):
    history = history_of(calls)
    last = calls["start"][-1].as_py()
    assert history.feed == COMPLETE
    shift = 9 * DAY_MS
    later = without(calls, (NO_ROUTES,))
    starts = pa.chunked_array([pa.array(later["start"].to_numpy() + shift)])
    later = later.set_column(later.schema.get_field_index("start"), "start", starts)
    for call in keyed_calls(later.slice(0, 100)):
        history.observe(call)
    history.advance(last + 60_001)
    assert history.feed == COMPLETE  # measured today
    for call in keyed_calls(later.slice(100)):
        history.observe(call)
    history.advance(last + shift + 60_000)
    assert history.feed == NO_ROUTES


def test_a_restored_history_is_on_the_same_feed(calls, tmp_path):
    history = history_of(without(calls, (OUTGOING_ONLY,)))
    history.save(tmp_path / "history")
    assert History.load(tmp_path / "history").feed == history.feed == OUTGOING_ONLY


def test_the_sample_is_spread_evenly_over_the_attempts_of_the_week(calls):
    history = history_of(calls)
    places = list(sampled_attempts(history._memory))
    assert len(set(places)) == len(places) == -(-history.calls // 3)  # 6,000 calls, at most 2,000 of them
    rows = calls.select(["start", "caller", "callee"]).to_pylist()
    starts = sorted(start for start, *_ in {tuple(row.values()) for row in rows})
    sampled = [int(history._calls[6 * place]) & 0xFFFFFFFF for place in places]
    assert sampled == [start & 0xFFFFFFFF for start in starts[::3]]


SHARES = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.010001, 0.05, 0.2, 0.199999, 1.0]))


@given(st.tuples(SHARES, SHARES, SHARES, SHARES))
@example((0.05, 0.2, 0.2, 0.2))
@example((0.0499, 0.2, 0.2, 0.2))
def test_a_feed_follows_from_its_shares(shares):
    feed = feed_of_shares(*shares)
    limits = (0.05, 0.2, 0.2, 0.2)
    if any(0.01 < share < limit for share, limit in zip(shares, limits, strict=True)):
        assert feed == UNKNOWN_FEED
    else:
        assert feed in FEEDS
        assert [lack in feed.split(", ") for lack in OF_EACH_CALL] == [share <= 0.01 for share in shares]
    assert feed_of_counts(10_000, 0, 0, 10_000, 10_000, 0) == f"{ANSWERED_ONLY}, {NO_RING_TIME}"  # no call ever ends


@given(st.sampled_from((*FEEDS, UNKNOWN_FEED)), st.sampled_from((*FEEDS, UNKNOWN_FEED)))
@example(f"{OUTGOING_ONLY}, {NO_ROUTES}", NO_ROUTES)
@example(ANSWERED_ONLY, ANSWERED_ONLY)
def test_the_second_model_scores_records_without_calls_on_other_feeds_than_the_own(feed, own):
    lacks_calls = ANSWERED_ONLY in feed or OUTGOING_ONLY in feed
    assert needs_second_model(feed, own) == (lacks_calls and feed != own)


def test_the_names_of_feeds_are_closed():
    assert FEEDS[:6] == (COMPLETE, *LACKS)
    assert len(set(FEEDS)) == len(FEEDS) == 32 and UNKNOWN_FEED not in FEEDS
