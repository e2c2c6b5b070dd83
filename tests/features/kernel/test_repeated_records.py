"""Several records of one call: oracle, table and history agree on every value, in any order of rows and of arrival."""

import math
import random
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.features.catalogue import FEATURES, NAMES
from callsieve.features.offline.table import vectors
from callsieve.features.online.history import History
from tests.support import oracle
from tests.support.calls.repeats import hostile_history, local
from tests.support.calls.strategies import DAY, EXAMPLE_CALL, HOUR, as_keyed_call, as_keyed_table

SMALL = {"calls": 400, "numbers": 20}


def expected_vector(calls, call):
    views = oracle.views_before(calls, call)
    values = (oracle.value(views, call, feature.name) for feature in FEATURES)
    return [
        float(feature.levels.index(value)) if isinstance(value, str) else value
        for feature, value in zip(FEATURES, values, strict=True)
    ]


def differences(actual, expected):
    """Returns the names of the features in which two vectors differ."""
    return {
        name: (a, b)
        for name, a, b in zip(NAMES, actual, expected, strict=True)
        if not (math.isnan(a) and math.isnan(b)) and not math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-7)
    }


def check(rows, last, rng, compiled=True):
    """Compares oracle, table and history, rows and arrivals in a random order."""
    expected = expected_vector([*rows, last], last)
    shuffled = rng.sample(rows, len(rows))
    of_table = vectors(as_keyed_table([last, *shuffled]), threads=1)[0]
    assert differences(of_table, expected) == {}
    history = History(**SMALL, compiled=compiled)
    for row in rng.sample(rows, len(rows)):
        history.observe(as_keyed_call(row))
    np.testing.assert_array_equal(history.vector(as_keyed_call(last)), of_table)


@pytest.mark.parametrize("compiled", [pytest.param(False, marks=pytest.mark.system), True])
@given(seed=st.integers(0, 1 << 32), calls=st.integers(1, 4))
@settings(max_examples=100)
def test_small_hostile_histories_equal_the_oracle(compiled, seed, calls):
    rng = random.Random(seed)
    check(*hostile_history(rng, calls), rng, compiled)


@pytest.mark.system
@pytest.mark.parametrize("part", range(10))
def test_300_hostile_histories_equal_the_oracle(part):
    for seed in range(30 * part, 30 * part + 30):
        rng = random.Random(seed)
        check(*hostile_history(rng, 40), rng)


@pytest.mark.parametrize("compiled", [pytest.param(False, marks=pytest.mark.system), True])
@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=60)
def test_records_in_the_order_in_which_they_become_known_give_the_values_of_the_table(compiled, seed):
    """Each call is known at its start; the windows move on between its records, and other callers ask for vectors."""
    rng = random.Random(seed)
    rows, last = hostile_history(rng, 12)
    starts = {(row["start"], row["caller"], row["callee"]): row for row in rows}
    rows += [row | {"ring": None, "talk": None, "recorded": None} for row in starts.values()]
    history = History(**SMALL, compiled=compiled)
    for row in sorted(
        rows, key=lambda row: oracle.outcome_known(row) if oracle.is_over(row) else oracle.attempt_known(row)
    ):
        known = oracle.outcome_known(row) if oracle.is_over(row) else oracle.attempt_known(row)
        if known < last["start"]:
            history.advance(known)
            history.observe(as_keyed_call(row))
    expected = vectors(as_keyed_table([last, *rows]), threads=1)[0]
    np.testing.assert_array_equal(history.vector(as_keyed_call(last)), expected)


END = EXAMPLE_CALL["start"] + 20_000
ATTEMPT = EXAMPLE_CALL | {"ring": None, "talk": None, "trunk": None}
ANSWERED = EXAMPLE_CALL | {"ring": 5_000, "talk": 15_000}
BUSY = EXAMPLE_CALL | {"ring": 5_000, "talk": 0, "outcome": "busy"}
RINGS = EXAMPLE_CALL | {"ring": 20_000, "talk": 0, "outcome": "no_answer"}


@pytest.mark.source("L32", by="features/offline/repeats.py")
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("records", "name", "expected"),
    [
        ((ANSWERED | {"recorded": END + 10}, BUSY), "out_busy_share_7d", 0.75),  # known first, though it comes later
        ((ANSWERED, BUSY | {"recorded": END - 1}), "out_busy_share_7d", 0.75),
        ((ANSWERED, BUSY | {"recorded": END + 1}), "out_busy_share_7d", 0.25),
        ((ANSWERED, RINGS), "out_no_answer_share_7d", 0.75),  # known together: the shorter talk
        ((ATTEMPT, ATTEMPT | {"trunk": "t", "recorded": END - 1}, ANSWERED), "trunk_calls_count_7d", 0),
        ((ATTEMPT, ANSWERED | {"trunk": "t"}), "trunk_calls_count_7d", 1),
        ((ATTEMPT | {"trunk": "u"}, ATTEMPT | {"trunk": "t"}), "trunk_calls_count_7d", 1),  # the first of the tokens
    ],
)
def test_which_record_counts(records, name, expected, backwards):
    last = EXAMPLE_CALL | {"start": END + HOUR, "trunk": "t"}
    if name.startswith("trunk"):
        last |= {"caller": "c", "callee": "d"}
    rows = list(reversed(records)) if backwards else list(records)
    history = History(**SMALL)
    for row in rows:
        history.observe(as_keyed_call(row))
    column = NAMES.index(name)
    assert vectors(as_keyed_table([*rows, last]), threads=1)[-1][column] == expected
    assert history.vector(as_keyed_call(last))[column] == expected


@pytest.mark.parametrize(("late", "counts"), [(-1, True), (0, False)])
def test_an_outcome_that_becomes_known_a_week_after_the_start_counts_nowhere(late, counts):
    """A stream has forgotten the call by then, and could not tell a further record from a first one."""
    end = EXAMPLE_CALL["start"] + 2 * DAY
    record = EXAMPLE_CALL | {"ring": 0, "talk": 2 * DAY, "recorded": EXAMPLE_CALL["start"] + 7 * DAY + late}
    last = EXAMPLE_CALL | local(end + 6 * DAY)
    history = History(**SMALL)
    history.observe(as_keyed_call(record))
    for row in (vectors(as_keyed_table([record, last]), threads=1)[-1], history.vector(as_keyed_call(last))):
        assert (row[NAMES.index("out_talk_mean_7d")] == 2 * DAY / 1000) == counts


def test_nine_local_days_have_eight_bins():
    """Seven days over the change to summer time touch nine days of Copenhagen; the first and the last share a bin."""
    zone = ZoneInfo("Europe/Copenhagen")
    first, calls = datetime(2026, 3, 22, 23, 30, tzinfo=zone).astimezone(UTC), []
    for hours in (0, *range(12, 168, 24), 168):
        start = first + timedelta(hours=hours, seconds=hours == 168)
        moment = start.astimezone(zone)
        day = {"hour": moment.hour, "day": (moment.date() - date(1970, 1, 1)).days}
        calls.append(EXAMPLE_CALL | day | {"start": int(start.timestamp() * 1000)})
    last = calls[-1] | {"start": calls[0]["start"] + 7 * DAY}
    calls[-1] |= {"start": last["start"] - 1}
    assert len({call["day"] for call in calls}) == 9
    history = History(**SMALL)
    for call in calls:
        history.observe(as_keyed_call(call))
    for row in (vectors(as_keyed_table([*calls, last]), threads=1)[-1], history.vector(as_keyed_call(last))):
        assert row[NAMES.index("out_days_used_7d")] == 8
        assert differences(row, expected_vector(calls, last)) == {}
