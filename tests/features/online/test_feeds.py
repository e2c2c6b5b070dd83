"""The feed of records follows from the records themselves, alike for a table and for a history."""

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given

from callsieve.features import History
from callsieve.features.intake.keyed_table import keyed_calls
from callsieve.features.kernel.windows import DAY_MS, WEEK
from callsieve.features.online import feeds
from callsieve.features.online.feeds import (
    ANSWERED_ONLY,
    COMPLETE,
    FEEDS,
    LACKS,
    NO_ORGANISATIONS,
    NO_RING_TIME,
    NO_ROUTES,
    ONE_SITE,
    OUTGOING_ONLY,
    SPARSE,
    UNKNOWN_FEED,
    FeedShares,
    SampledCall,
    feed_lacking,
    feed_of_sample,
    feed_of_table,
    needs_second_model,
    shares_of_sample,
    with_lacks,
)
from callsieve.features.online.memory_feed import sampled_attempts
from callsieve.features.stream.call_store import FIELDS
from tests.support.calls.lacks import (
    forged_calls,
    week_of_a_site,
    week_of_an_operator,
    week_of_busy_callers,
    week_of_calls,
    without,
)

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


@pytest.mark.parametrize(("lack", "feed"), [(NO_ROUTES, NO_ROUTES), (NO_RING_TIME, UNKNOWN_FEED)])
def test_records_that_lack_something_in_part_are_on_no_feed_unless_calls_can_be_scored_without_it(calls, lack, feed):
    poorer = without(calls, (lack,), share=0.93)
    assert feed_of_table(poorer) == history_of(poorer).feed == feed


@pytest.mark.parametrize(("rare_of_100", "expected"), [(0, COMPLETE), (9, COMPLETE), (11, SPARSE), (25, UNKNOWN_FEED)])
def test_records_in_which_many_calls_are_of_callers_with_few_are_sparse(calls, rare_of_100, expected):
    """Out of 100 calls, so many are of callers with two a week; the others make ten a week."""
    made = week_of_calls(calls, rare_of_100)
    assert feed_of_table(made) == history_of(made).feed == expected
    first_days = made.filter(pc.less(made["start"], 6 * DAY_MS))
    assert feed_of_table(first_days) == COMPLETE  # no whole week, so no caller is known to make few


@pytest.mark.parametrize("lines", [20, 300])
@pytest.mark.parametrize("lacks", [(), (NO_RING_TIME,)], ids=str)
def test_the_records_of_one_site_are_recognised(calls, lines, lacks):
    """20 lines have 360 calls a week, which are too few for any other feed."""
    week = without(week_of_a_site(calls, lines), lacks)
    expected = ", ".join((*lacks, ONE_SITE))
    assert feed_of_table(week) == history_of(week).feed == expected
    shown = [row["caller"] for row in week.to_pylist()] + [row["callee"] for row in week.to_pylist()]
    assert sum(name.startswith("line") for name in set(shown)) == lines < len(set(shown)) / 8
    first_days = week.filter(pc.less(week["start"], 6 * DAY_MS))
    assert ONE_SITE not in feed_of_table(first_days)  # without a whole week no number is known to have one partner


def test_five_lines_have_too_few_calls_to_be_recognised(calls):
    week = week_of_a_site(calls, 5)
    assert feed_of_table(week) == history_of(week).feed == COMPLETE


def test_the_calls_of_few_lines_are_one_site_and_all_calls_are_none(world):
    """The lines are people who call and are called; a site records the calls that one of them takes part in."""
    rows = world.calls.select(["caller", "callee"]).to_pylist()
    callers, callees = ({row[name] for row in rows} for name in ("caller", "callee"))
    lines = set(sorted(callers & callees)[:12])
    own = world.calls.filter(pa.array([not lines.isdisjoint((row["caller"], row["callee"])) for row in rows]))
    assert ONE_SITE in feed_of_table(own) and ONE_SITE not in feed_of_table(world.calls)


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_forged_numbers_that_call_a_site_once_change_no_feed(calls, share):
    week = week_of_a_site(calls, 100)
    forged = forged_calls(week, share, to="line")
    assert feed_of_table(forged) == history_of(forged).feed == ONE_SITE


@pytest.mark.parametrize(
    ("called", "feed"), [(40, COMPLETE), (30, COMPLETE), (29, NO_ORGANISATIONS), (0, NO_ORGANISATIONS)]
)
def test_records_lack_calls_to_organisations_if_few_busy_callers_are_called(calls, called, feed):
    week = week_of_busy_callers(calls, called)
    assert feed_of_table(week) == history_of(week).feed == feed
    forged = forged_calls(week, 0.05, made=100, to="person")  # two more callers as busy that get no call
    assert feed_of_table(forged) == (COMPLETE if called == 40 else NO_ORGANISATIONS)


@pytest.mark.parametrize(("numbers", "partners", "feed"), [(60, 10, COMPLETE), (60, 12, SPARSE), (12, 62, COMPLETE)])
def test_records_with_all_calls_of_few_numbers_are_sparse(calls, numbers, partners, feed):
    """People with two partners call numbers with ten, a ratio of 0.2, or with twelve, 0.17; no call is rare.

    Numbers with 62 partners are organisations."""
    week = week_of_an_operator(calls, numbers, partners)
    assert feed_of_table(week) == history_of(week).feed == feed
    assert feed_of_table(without(week, (NO_RING_TIME,))) == with_lacks(feed, NO_RING_TIME)


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_a_missing_caller_is_left_to_the_reader_that_refuses_it(calls, kind):
    callers = pa.array([None, *calls["caller"].to_pylist()[1:]], pa.string()).cast(kind)
    table = calls.set_column(calls.schema.get_field_index("caller"), "caller", callers)
    assert feed_of_table(table) == feed_of_table(calls)


def test_few_busy_callers_show_nothing(calls):
    week = week_of_busy_callers(calls, 0).to_pylist()
    fewer = [row for row in week if row["caller"] not in {f"busy{n}" for n in range(11)}]
    table = pa.Table.from_pylist(fewer, calls.schema)
    assert feed_of_table(table) == history_of(table).feed == COMPLETE


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


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("rare_of_100", [5, 14])
def test_forged_numbers_that_call_once_change_no_feed(calls, rare_of_100, share):
    week = week_of_calls(calls, rare_of_100)
    forged = forged_calls(week, share)
    assert feed_of_table(forged) == history_of(forged).feed == feed_of_table(week) != UNKNOWN_FEED


@pytest.mark.parametrize(("made", "share", "expected"), [(4, 0.2, UNKNOWN_FEED), (4, 0.08, SPARSE), (5, 0.5, COMPLETE)])
def test_forged_numbers_of_two_to_four_calls_change_a_feed(calls, made, share, expected):
    """The limit of the defence, which docs/explanation/threats.md states."""
    forged = forged_calls(week_of_calls(calls, 5), share, made)
    assert feed_of_table(forged) == history_of(forged).feed == expected


@pytest.mark.parametrize("seed", range(5))
def test_a_week_has_the_same_shares_in_a_table_and_in_a_history(calls, seed, monkeypatch):
    draws, samples = np.random.default_rng(seed), []
    template, rows = calls.slice(0, 1).to_pylist()[0] | {"talk": 9_000, "device": None}, []
    for caller, made in enumerate(draws.integers(1, 10, 300).tolist()):
        answered, rang, routed, others = draws.integers(0, (2, 2, 2, 900)).tolist()
        facts = {"outcome": "answered" if answered else "busy", "ring": 5_000 * rang, "trunk": "t" if routed else None}
        rows += [
            template | facts | {"caller": f"a{caller}", "callee": f"a{caller + 1 + call * others}"}
            for call in range(made)
        ]
        rows += [row | {"caller": row["callee"], "callee": row["caller"]} for row in rows[-made:]] * answered
    order = draws.permutation(len(rows)).tolist()
    rows = [rows[place] | {"start": DAY_MS + n * (WEEK // len(rows))} for n, place in enumerate(order)]
    week = pa.Table.from_pylist(rows, calls.schema)
    history = history_of(week)
    monkeypatch.setattr(feeds, "feed_of_sample", samples.append)
    feed_of_table(week)
    expected = shares_of_sample(*samples)
    assert history.feed == expected.feed and 0 < expected.rare < expected.counted < 1 and expected.site > 0
    assert 0 < expected.balance < 1
    assert history.memory_feed.shares == expected


def test_a_change_of_the_feed_is_logged_once_with_its_figures(calls, caplog):
    history, week = History(calls=20_000, numbers=20_000), week_of_calls(calls, 5)
    for number, lacks in enumerate([(), (NO_RING_TIME,), (NO_RING_TIME,), ()]):
        shifted = pa.array(week["start"].to_numpy() + number * WEEK)
        for call in keyed_calls(
            without(week.set_column(week.schema.get_field_index("start"), "start", shifted), lacks)
        ):
            history.observe(call)
        history.advance(call.start + 60_000)
        assert history.feed == history.memory_feed.name == (NO_RING_TIME if lacks else COMPLETE)
        assert history.memory_feed.changes == len(caplog.records) == (0, 1, 1, 2)[number]
    first = caplog.records[0].getMessage()
    assert "from 'complete' (unanswered 0.2" in first and "to 'no ring time' (unanswered 0.2" in first
    assert "ring 0.000" in first and "rare 0.05" in first


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
    sampled = [int(history._calls[FIELDS * place]) & 0xFFFFFFFF for place in places]
    assert sampled == [start & 0xFFFFFFFF for start in starts[::3]]


SHARES = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.010001, 0.05, 0.2, 0.199999, 1.0]))


@given(st.tuples(SHARES, SHARES, SHARES, SHARES))
@example((0.05, 0.2, 0.2, 0.2))
@example((0.0499, 0.2, 0.2, 0.2))
def test_a_feed_follows_from_its_shares(shares):
    feed = FeedShares(*shares).feed
    limits, lacking = (0.05, 0.2, 0.0, 0.2), (0.01, 0.01, 0.2, 0.01)
    if any(0.01 < share < limit for share, limit in zip(shares, limits, strict=True)):
        assert feed == UNKNOWN_FEED
    else:
        assert feed in FEEDS
        expected = [share <= limit for share, limit in zip(shares, lacking, strict=True)]
        expected[2] = shares[2] < 0.2  # routes
        assert [lack in feed.split(", ") for lack in OF_EACH_CALL] == expected


def test_calls_that_never_end_show_neither_unanswered_calls_nor_ring_times():
    never = SampledCall(over=False, unanswered=False, called=True, routed=True, rang=False, made=9)
    assert feed_of_sample([never] * 1_000) == f"{ANSWERED_ONLY}, {NO_RING_TIME}"


def test_records_in_which_nearly_every_caller_calls_once_are_on_no_feed():
    single, many = (SampledCall(True, n % 5 == 0, True, True, True, made) for n, made in ((1, 1), (2, 9)))
    missed = many._replace(unanswered=True)
    assert feed_of_sample([single] * 1_780 + [many] * 190 + [missed] * 30) == COMPLETE  # 11 % of the calls count
    assert feed_of_sample([single] * 1_820 + [many] * 150 + [missed] * 30) == UNKNOWN_FEED


@given(st.sampled_from((*FEEDS, UNKNOWN_FEED)), st.sampled_from((*FEEDS, UNKNOWN_FEED)))
@example(f"{OUTGOING_ONLY}, {NO_ROUTES}", NO_ROUTES)
@example(ANSWERED_ONLY, ANSWERED_ONLY)
def test_the_second_model_scores_records_without_calls_on_other_feeds_than_the_own(feed, own):
    lacks_calls = ANSWERED_ONLY in feed or OUTGOING_ONLY in feed
    assert needs_second_model(feed, own) == (lacks_calls and feed != own)


def test_the_names_of_feeds_are_closed():
    assert FEEDS[:8] == (COMPLETE, *LACKS)
    assert len(set(FEEDS)) == len(FEEDS) == 64 and UNKNOWN_FEED not in FEEDS
    assert {feed_lacking(feed.split(", ")) for feed in FEEDS[1:]} == set(FEEDS[1:])


@pytest.mark.parametrize(
    ("lacks", "feed"),
    [
        ((SPARSE, ONE_SITE, NO_RING_TIME), "no ring time, one site"),
        ((ONE_SITE, NO_ORGANISATIONS), ONE_SITE),
        ((OUTGOING_ONLY, NO_ORGANISATIONS), OUTGOING_ONLY),
        ((SPARSE, NO_ORGANISATIONS), "sparse, no calls to organisations"),
    ],
)
def test_a_feed_does_not_name_what_another_lack_implies(lacks, feed):
    assert feed_lacking(lacks) == feed
