"""Online = offline = oracle for every feature, over drawn histories; and no vector depends on the future."""

import itertools
import math
import random
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from callsieve.features.catalogue import FEATURES, NAMES, catalogue_hash
from callsieve.features.intake.keyed_table import keyed_calls
from callsieve.features.kernel import number_state, windows
from callsieve.features.offline.table import vectors
from callsieve.features.online.history import History
from callsieve.features.records import OUTCOMES
from tests.support import oracle
from tests.support.calls.strategies import DAY, EXAMPLE_CALL, as_keyed_call, as_keyed_table, busy_calls, histories
from tests.support.errors import refused

CLOSE = {"rel_tol": 1e-9, "abs_tol": 1e-7}
SMALL = {"calls": 100, "numbers": 10}
# Days and decayed sums reach beyond the windows: they still count calls that are no longer stored.
BEYOND = {"out_calls_decayed", "out_surge", "out_active_days", "number_active_days", "number_days_known",
          "out_days_since_last"}  # fmt: skip


def online(stream, **options):
    """Returns the vectors of a stream by a new history."""
    return play(History(**(SMALL | options)), *stream)


def play(history, *calls, clock=False):
    """Computes the vector of each call and then observes it; returns the vectors.

    With a clock, each call moves the windows, like those of a host that knows the time.
    """
    rows = []
    for call in map(as_keyed_call, calls):
        if clock:
            history.advance(call.start)
        rows.append(history.vector(call))
        history.observe(call)
    return np.array(rows)


def identity(call):
    return call["start"], call["caller"], call["callee"]


def first_records(calls):
    """Returns the row of each call's first known record: other records take its keys."""
    rows = {}
    for i, call in enumerate(calls):
        rows.setdefault(identity(call), []).append(i)
    known = lambda i: (oracle.attempt_known(calls[i]), oracle.is_over(calls[i]))
    return sorted(min(of_call, key=known) for of_call in rows.values())


def as_number(feature, value):
    return float(feature.levels.index(value)) if isinstance(value, str) else value


def check_by_oracle(row, calls, call, names=frozenset(NAMES)):
    """Compares a vector with the oracle, feature by feature."""
    views = oracle.views_before(calls, call)
    for feature, actual in zip(FEATURES, row, strict=True):
        if feature.name not in names:
            continue
        expected = as_number(feature, oracle.value(views, call, feature.name))
        both_unknown = math.isnan(actual) and math.isnan(expected)
        assert both_unknown or math.isclose(actual, expected, **CLOSE), (feature.name, actual, expected)


def complete_calls(calls):
    """Returns the calls of which all records are equal."""
    others = {
        identity(call) for call in calls for other in calls if identity(call) == identity(other) and call != other
    }
    unique = {identity(call): call for call in calls if identity(call) not in others}
    return list(unique.values())


def assert_equal(a, b):
    np.testing.assert_array_equal(a, b)


@pytest.mark.source("L3", "L14", by="features/catalogue/declarations.py")
@pytest.mark.source("L3", "L14", by="features/offline/packing.py")
def test_a_new_number_has_the_history_of_its_block_trunk_and_device():
    """Two other numbers of its block, trunk and device made five calls, two of them dropped after one ring."""
    shared = {"caller_block": "x", "trunk": "t", "device": "d"}
    one_ring = {"ring": 1_000, "talk": 0, "outcome": "no_answer", "released_by": "caller"}
    known = EXAMPLE_CALL | shared | {"caller": "a", "talk": 2_000}
    calls = [known | {"start": known["start"] + n * 60_000, "callee": f"callee {n}"} for n in range(5)]
    calls[3:] = [call | one_ring | {"caller": "b"} for call in calls[3:]]
    calls.append(known | {"start": known["start"] + 30 * 60_000, "caller": "new", "callee": "victim"})
    history = dict(zip(NAMES, vectors(as_keyed_table(calls), threads=1)[-1], strict=True))
    assert history["out_calls_count_1h"] == 0
    for group in ("block", "trunk", "device"):
        assert (history[f"{group}_calls_count_1h"], history[f"{group}_members_count_24h"]) == (5, 2)
        for measure, part in (("answered", 3), ("one_rings", 2), ("invalid_number", 0)):
            assert history[f"{group}_{measure}_share_24h"] == pytest.approx((part + 0.5) / 6)
        assert history[f"{group}_talk_under_10s_share_7d"] == pytest.approx(3.5 / 4)
    alone = [call | {"caller_block": "y", "trunk": None, "device": None} for call in calls[-1:]]
    history = dict(zip(NAMES, vectors(as_keyed_table([*calls[:-1], *alone]), threads=1)[-1], strict=True))
    assert history["block_calls_count_1h"] == 0 and math.isnan(history["trunk_calls_count_1h"])


@given(histories(), st.data())
@settings(max_examples=200)
def test_offline_equals_oracle_for_every_feature(calls, data):
    rows = vectors(as_keyed_table(calls), threads=1)
    i = data.draw(st.sampled_from(first_records(calls)))
    check_by_oracle(rows[i], calls, calls[i])


def test_a_busy_week_equals_the_oracle_in_every_feature():
    """Drawn histories are too short for features that need many events."""
    calls = busy_calls()
    rows, seen = vectors(as_keyed_table(calls), threads=1), set()
    for i in (100, 130, 157, 158, 159):
        check_by_oracle(rows[i], calls, calls[i])
        seen |= {name for name, value in zip(NAMES, rows[i], strict=True) if not math.isnan(value)}
    assert set(NAMES) - seen == set()


@pytest.mark.parametrize("compiled", [False, True])
def test_an_hour_with_more_calls_than_the_logarithm_table(compiled):
    """Terms beyond the table are computed, and must remove exactly what they added when half of the calls expire."""
    start, size = EXAMPLE_CALL["start"], number_state.LOG_TABLE_SIZE
    calls = [EXAMPLE_CALL | {"start": start + i * 1000} for i in range(size + 10)]
    week = calls[size // 2]["start"] + 7 * DAY
    next_hour = start + 3_600_000
    calls += [EXAMPLE_CALL | {"start": next_hour + i * 1000, "hour": 7} for i in range(60)]
    calls += [EXAMPLE_CALL | {"start": week + i, "day": EXAMPLE_CALL["day"] + 7} for i in range(2)]
    rows = online(calls, compiled=compiled, calls=1000)
    for i in (size + 20, size + 69, -1):
        check_by_oracle(rows[i], calls, calls[i])


@pytest.mark.parametrize("compiled", [False, True])
def test_a_caller_without_a_block_has_no_block_features(compiled):
    calls = [
        EXAMPLE_CALL | {"start": EXAMPLE_CALL["start"] + i * 60_000, "caller": caller}
        for i, caller in enumerate("abca")
    ]
    calls[2]["caller_block"] = None
    for row, call in zip(online(calls, compiled=compiled), calls, strict=True):
        check_by_oracle(row, calls, call)


def test_windows_end_to_the_millisecond():
    for window in oracle.WINDOW.values():
        for late in (-1, 0, 1):
            start = EXAMPLE_CALL["start"] + window + late
            calls = [
                EXAMPLE_CALL,
                EXAMPLE_CALL | {"start": start, "hour": 23, "day": EXAMPLE_CALL["day"] + window // oracle.DAY},
            ]
            check_by_oracle(vectors(as_keyed_table(calls), threads=1)[1], calls, calls[1])


def test_busy_weeks_with_late_records_equal_the_oracle():
    """Events expire at one end of a list while late records are inserted in the middle."""
    calls = busy_calls(220, seed=4, gap=40_000_000)
    for i in range(0, 100, 3):  # a late record, and an hour later a call of the same two numbers that is in time
        over = calls[i]["start"] + calls[i]["ring"] + calls[i]["talk"]
        calls[i]["recorded"] = over + 8 * 3_600_000
        calls.append(calls[i + 1] | {"start": calls[i]["start"] + 3_600_000, "recorded": None})
    calls.sort(key=lambda call: call["start"])
    rows = vectors(as_keyed_table(calls), threads=1)
    for i in (60, 90, 110, 125, 133, 150, 200, len(calls) - 1):
        check_by_oracle(rows[i], calls, calls[i])


calls_of_a_pair = st.tuples(
    st.sampled_from(["ab", "ba"]), st.integers(1, 60), st.sampled_from([59_999, 60_000]), st.sampled_from([None, 20])
)


@pytest.mark.parametrize("compiled", [False, True])
@given(st.lists(calls_of_a_pair, min_size=2, max_size=14), st.sampled_from(["Asia/Shanghai", "Europe/Copenhagen"]))
@settings(max_examples=60)
def test_who_called_first_and_days_of_long_talk_equal_the_oracle(compiled, steps, zone):
    """Two numbers call each other, hours or days apart. In Copenhagen, one of these days has 25 hours."""
    calls, start = [], datetime(2026, 10, 20, 9, tzinfo=UTC)
    for (caller, callee), hours, talk, late in steps:
        start += timedelta(hours=hours)
        local, ms = start.astimezone(ZoneInfo(zone)), int(start.timestamp() * 1000)
        known = None if late is None else ms + talk + late * 3_600_000
        day = (local.date() - date(1970, 1, 1)).days
        parties = {"caller": caller, "callee": callee, "hour": local.hour, "day": day}
        calls.append(EXAMPLE_CALL | parties | {"start": ms, "ring": 0, "talk": talk, "recorded": known})
    rows = vectors(as_keyed_table(calls), threads=1)
    for row, call in zip(rows, calls, strict=True):
        check_by_oracle(row, calls, call)
    assert_equal(online(calls, compiled=compiled), rows)


def test_an_end_record_changes_only_the_facts_of_the_outcome():
    """The outcome, one ring, and which party hung up; facts of the attempt have separate bits."""
    attempts = itertools.product((0, 7, 8, 20, 21, 23), (0, 19_000, 20_000), (0, 1, 2, 3), (-1, 0, 1))
    ends = tuple(itertools.product(range(len(OUTCOMES)), (-1, 0, 1, 2), (0, 4_000, 4_001)))
    known_before, known_after = set(), set()
    for attempt in attempts:
        hour, day, step, same_region = attempt
        facts_by_end = {end: windows.pack(end[0], end[1], hour, day, step, same_region, end[2]) for end in ends}
        (before,) = {facts & windows.ATTEMPT_FACTS for facts in facts_by_end.values()}
        known_before.add(before)
        known_after.add(frozenset((end, facts & ~windows.ATTEMPT_FACTS) for end, facts in facts_by_end.items()))
        assert before == sum((
            hour << windows.HOUR_SHIFT, (hour < 8 or hour >= 21) << windows.NIGHT, (step in (1, 2)) << windows.NEAR,
            (same_region == 1) << windows.LOCAL, (same_region >= 0) << windows.LOCAL_KNOWN, day << windows.DAY_SHIFT,
        ))  # fmt: skip
        for (outcome, released_by, ring), facts in facts_by_end.items():
            one_ring = outcome != windows.ANSWERED and released_by == 0 and ring <= 4_000
            assert facts - before == sum((
                outcome, one_ring << windows.ONE_RING, (released_by == 0) << windows.HUNG_UP,
                (released_by in (0, 1)) << windows.HUNG_KNOWN,
            ))  # fmt: skip
    assert len(known_after) == 1 < len(known_before)
    assert all(windows.ATTEMPT_FACTS >> bit & 1 for bit in (windows.STARTED, windows.OVER, windows.RETURNED_BIT))


@pytest.mark.parametrize("compiled", [pytest.param(False, marks=pytest.mark.system), True])
@given(calls=histories(max_calls=40))
@settings(max_examples=100)
def test_online_equals_offline_bit_for_bit(calls, compiled):
    # A stream sees one call after the other; two calls at the same moment do not know each other.
    first = first_records(calls)
    assert_equal(online(calls, compiled=compiled)[first], vectors(as_keyed_table(calls), threads=1)[first])


def test_many_late_records_are_inserted_among_records_in_time():
    """More events than one run of the time order contains."""
    calls = busy_crowd(3000)
    assert_equal(online(calls, calls=4000, numbers=100), vectors(as_keyed_table(calls), threads=1))


@pytest.mark.system
def test_a_small_history_drops_the_same_calls_compiled_and_interpreted():
    calls = busy_crowd(3000)
    assert_equal(*(online(calls, calls=700, numbers=100, compiled=compiled) for compiled in (True, False)))


def busy_crowd(n, seed=5):
    """Ten days of calls of 60 numbers over changing trunks and devices; half of the records are late."""
    rng, start, calls = random.Random(seed), EXAMPLE_CALL["start"], []
    for _ in range(n):
        start += rng.randrange(600_000)
        caller, callee = (f"n{min(rng.randrange(60), rng.randrange(60))}" for _ in range(2))
        call = {"start": start, "caller": caller, "callee": callee, "day": start // DAY, "caller_block": caller[:2]}
        ends = {"talk": rng.randrange(90_000), "outcome": rng.choice(OUTCOMES)}
        if rng.random() < 0.5:
            ends["recorded"] = start + EXAMPLE_CALL["ring"] + ends["talk"] + rng.randrange(2 * DAY)
        if rng.random() < 0.05:
            ends = {"ring": None, "talk": None}
        calls.append(
            EXAMPLE_CALL | call | ends | {"trunk": rng.choice("tu"), "device": rng.choice((caller, "d", None))}
        )
    return calls


@pytest.mark.parametrize("compiled", [True, False])
def test_an_end_that_arrives_when_its_start_has_left_the_windows_counts_nowhere(compiled):
    """The history has forgotten the call by then."""
    attempt = EXAMPLE_CALL | {"ring": None, "talk": None}
    at = [EXAMPLE_CALL["start"] + hours * 3_600_000 for hours in (174, 180, 184, 186, 200)]
    others = [EXAMPLE_CALL | {"start": start, "callee": f"n{start}", "day": start // DAY} for start in at]
    record = EXAMPLE_CALL | {"talk": 17 * 3_600_000, "recorded": at[0] + 60_000}
    history = History(**SMALL, compiled=compiled)
    rows = play(history, attempt, others[0], record, *others[1:])
    expected = vectors(as_keyed_table([attempt, record, *others]), threads=1)
    assert_equal(rows[[0, 1, 3, 4, 5, 6]], expected[[0, 2, 3, 4, 5, 6]])
    assert all(math.isnan(row[NAMES.index("out_talk_mean_7d")]) for row in rows[:2])
    check_by_oracle(rows[-1], [attempt, record, *others], others[-1])
    history.advance(at[-1])
    assert history.calls == len(others)


def test_a_call_of_more_than_24_days_is_refused():
    history = History(**SMALL)
    for talk in (2**31 - 5_001, 2**31 - 5_000):
        history.observe(as_keyed_call(EXAMPLE_CALL | {"callee": f"n{talk}", "talk": talk}))
    assert (history.calls, history.refused) == (1, 1)


@given(histories())
@settings(max_examples=20)
def test_rows_of_a_table_equal_the_calls_of_a_stream(calls):
    assert list(keyed_calls(as_keyed_table(calls))) == [as_keyed_call(call) for call in calls]


@pytest.mark.system
@given(histories(max_calls=30))
@settings(max_examples=50)
def test_a_stream_without_requests_until_the_end_is_equal(calls):
    """Months pass between calls of numbers whose windows were never advanced."""
    calls = [call | {"start": call["start"] + i * 90 * DAY} for i, call in enumerate(calls)] + calls[-1:]
    history = History(**SMALL)
    for call in calls[:-1]:
        history.observe(as_keyed_call(call))
    last = calls[-1] | {"start": calls[-2]["start"] + DAY}
    expected = vectors(as_keyed_table([*calls[:-1], last]), threads=1)[-1]
    assert_equal(history.vector(as_keyed_call(last)), expected)


@given(histories(max_calls=30))
@settings(max_examples=20)
def test_advance_before_a_request_changes_nothing(calls):
    history, rows = History(**SMALL), []
    for call in calls:
        history.advance(call["start"])
        rows.extend(play(history, call))
    assert_equal(np.array(rows), online(calls))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_number_that_calls_again_after_a_silence_starts_anew(compiled):
    """Its next call reuses the place of the previous one, which must no longer be the last event of its list."""
    back = EXAMPLE_CALL["start"] + 30 * DAY
    calls = [
        EXAMPLE_CALL,
        *(EXAMPLE_CALL | {"start": back + i * 60_000, "day": EXAMPLE_CALL["day"] + 30} for i in range(4)),
    ]
    check_by_oracle(online(calls, compiled=compiled)[-1], calls, calls[-1])


@given(histories(), st.sets(st.sampled_from(NAMES), min_size=1, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=12)
def test_a_choice_of_features_equals_those_columns(calls, names, rng):
    names = tuple(rng.sample(sorted(names), len(names)))
    columns = [NAMES.index(name) for name in names]
    first = first_records(calls)
    expected = vectors(as_keyed_table(calls), threads=1)[first][:, columns]
    assert_equal(online(calls, features=names)[first], expected)


@pytest.mark.system
@given(histories(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_vectors_do_not_depend_on_the_order_of_rows_or_arrival(calls, rng):
    calls = complete_calls(calls)
    assume(calls)
    last = calls[-1] | {"start": calls[-1]["start"] + 1}
    shuffled = random.Random(rng.random()).sample(calls, len(calls))
    expected = vectors(as_keyed_table([*calls, last]), threads=1)[-1]
    assert_equal(vectors(as_keyed_table([last, *shuffled]), threads=1)[0], expected)
    history = History(**SMALL)
    for call in shuffled:
        history.observe(as_keyed_call(call))
        history.vector(as_keyed_call(call))
    starts = [call["start"] for call in shuffled]
    behind = any(max(starts[:i]) - starts[i] >= 7 * DAY for i in range(1, len(starts)))
    columns = [i for i, name in enumerate(NAMES) if not (behind and name in BEYOND)]
    assert_equal(np.array(history.vector(as_keyed_call(last)))[columns], expected[columns])


@given(histories(max_calls=20), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_late_and_prompt_copies_give_equal_values_in_any_order(calls, rng):
    """Conflicting facts of one call come from the record that was known first."""
    start = calls[-1]["start"] + rng.choice((1, 30_000, 3_700_000, DAY))
    day = (start + 8 * 3_600_000) // DAY
    last = EXAMPLE_CALL | {"start": start, "day": day, "trunk": "t1", "device": "d1"}
    expected = vectors(as_keyed_table([*calls, last]), threads=1)[-1]
    shuffled = random.Random(rng.random()).sample(calls, len(calls))
    history = History(**SMALL)
    for call in shuffled:
        history.observe(as_keyed_call(call))
    assert_equal(np.array(history.vector(as_keyed_call(last))), expected)
    assert_equal(vectors(as_keyed_table([last, *shuffled]), threads=1)[0], expected)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("column", ["caller_block", "trunk", "device"])
@pytest.mark.parametrize("delay", [None, 3_600_000])
def test_a_group_that_comes_with_the_end_counts_from_then_on(column, delay, compiled):
    """The caller has other calls with and without the group; another caller's calls see the group's features."""
    start, end = EXAMPLE_CALL["start"], EXAMPLE_CALL["start"] + 25_000
    attempt = EXAMPLE_CALL | {"caller_block": None, "ring": None, "talk": None}
    ended = EXAMPLE_CALL | {"caller_block": None, "recorded": delay and end + delay, column: "g"}
    seen = lambda at, **more: EXAMPLE_CALL | {"start": at, "caller": "c", "caller_block": None, column: "g"} | more
    known = end + (delay or 0)
    others = [
        seen(start - 60_000, caller="a", callee="d"),
        seen(start - 50_000, caller="a", callee="d", **{column: None}),
        *(
            seen(at)
            for at in (start + 1, known, known + 1, start + DAY, start + DAY + 1, start + 7 * DAY, end + 7 * DAY + 1)
        ),
    ]
    for records in ([attempt, ended], [ended, attempt]):
        calls = sorted([*records, *others], key=lambda call: call["start"])
        table, live = vectors(as_keyed_table(calls), threads=1), online(calls, compiled=compiled)
        for i, call in enumerate(calls):
            if call in others:
                check_by_oracle(table[i], calls, call)
                assert_equal(live[i], table[i])
    name = NAMES.index({"caller_block": "block"}.get(column, column) + "_calls_count_24h")
    assert [row[name] for row, call in zip(table, calls, strict=True) if call["caller"] == "c"][:3] == [1, 1, 2]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("days", [6, 8, 10, 40])
def test_a_call_that_is_observed_again_after_days_counts_once(days, compiled):
    """Its place in memory may have been freed: 7 days after its start or its end."""
    attempt = EXAMPLE_CALL | {"ring": None, "talk": None}
    ended = EXAMPLE_CALL | {"callee": "c", "start": EXAMPLE_CALL["start"] + 1}
    later = [
        EXAMPLE_CALL | {"start": EXAMPLE_CALL["start"] + n * DAY, "day": EXAMPLE_CALL["day"] + n, "callee": "d"}
        for n in (days, days + 1)
    ]
    history = History(**SMALL, compiled=compiled)
    play(history, attempt, ended, later[0])
    for again in (ended, EXAMPLE_CALL | {"recorded": later[0]["start"] + 1}, attempt):
        history.observe(as_keyed_call(again))
    check_by_oracle(history.vector(as_keyed_call(later[1])), [attempt, ended, later[0]], later[1], BEYOND)


@pytest.mark.parametrize("first", [{}, {"ring": None, "talk": None, "outcome": "unknown", "recorded": None}])
@given(histories())
@settings(max_examples=30)
def test_a_call_observed_twice_or_at_its_start_and_at_its_end_is_one_call(first, calls):
    once, twice = History(**SMALL), History(**SMALL)
    for call in complete_calls(calls):
        if first and oracle.is_late(call):  # at its start it cannot have been recorded later
            continue
        assert_equal(once.vector(as_keyed_call(call)), twice.vector(as_keyed_call(call)))
        for history, records in ((once, (call,)), (twice, (call | first, call))):
            for record in records:
                history.observe(as_keyed_call(record))
    assert twice.calls == once.calls


@pytest.mark.system
def test_a_number_with_many_calls_keeps_memory_bounded():
    rng = random.Random(7)
    calls, start = [], 1_700_000_000_000
    for _ in range(30_000):
        start += rng.randrange(66_000)
        callee = f"n{rng.randrange(3000)}"
        day, talk = start // 86_400_000, rng.randrange(90_000)
        calls.append(EXAMPLE_CALL | {"start": start, "day": day, "caller": "a", "callee": callee, "talk": talk})
    later = EXAMPLE_CALL | {"day": day + 15, "caller": "b"}
    calls += [later | {"start": start + 15 * 86_400_000 + i} for i in range(4)]
    rows = vectors(as_keyed_table(calls))
    history = History(calls=30_000, numbers=4000)
    assert_equal(play(history, *calls), rows)
    assert history.calls == 4  # four calls after a silence move the windows
    assert history.dropped == history.evicted == history.refused == 0


@pytest.mark.system
@given(histories(max_calls=40), st.integers(1, 6), st.integers(2, 5))
@settings(max_examples=60)
def test_memory_stays_bounded_and_every_loss_is_counted(stream, calls, numbers):
    history = History(calls=calls, numbers=numbers)
    for call in stream:
        assert not any(value < 0 for value in history.vector(as_keyed_call(call))[: NAMES.index("call_caller_class")])
        history.observe(as_keyed_call(call))
        assert history.calls <= calls
        assert history.numbers <= numbers
    if not history.dropped + history.evicted + history.refused:
        ample = History(**SMALL)
        play(ample, *stream)
        assert_equal(history.vector(as_keyed_call(stream[-1])), ample.vector(as_keyed_call(stream[-1])))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("run", [1, 2, 5, 60])
def test_a_dropped_call_leaves_the_history_of_the_remaining_calls(run, compiled):
    """The oldest call is the one that started first; of `turned` calls in reverse order it was not observed first."""
    calls = [EXAMPLE_CALL | {"start": EXAMPLE_CALL["start"] + 60_000 * i, "callee": f"n{i % 7}"} for i in range(60)]
    last = EXAMPLE_CALL | {"start": calls[-1]["start"] + 3_600_000}
    arrivals = [call for i in range(0, len(calls), run) for call in reversed(calls[i : i + run])]
    history = History(calls=20, numbers=20, compiled=compiled)
    for call in arrivals:
        history.advance(last["start"])
        history.observe(as_keyed_call(call))
    remaining_calls = []
    for call in arrivals:
        remaining_calls = sorted([*remaining_calls[-19:], call], key=lambda remaining: remaining["start"])
    check_against_remaining_calls(history, remaining_calls, last)
    assert history.dropped == 40


@pytest.mark.parametrize("compiled", [True, False])
def test_a_call_may_be_dropped_when_only_its_end_is_in_the_windows(compiled):
    history = History(calls=2, numbers=20, compiled=compiled)
    later = EXAMPLE_CALL["start"] + 7 * DAY + DAY // 2
    remaining_calls = [
        EXAMPLE_CALL | {"start": later + i, "day": EXAMPLE_CALL["day"] + 7, "callee": f"n{i}"} for i in range(2)
    ]
    play(history, EXAMPLE_CALL | {"talk": DAY}, *remaining_calls, clock=True)
    assert history.dropped == 1
    check_against_remaining_calls(history, remaining_calls, remaining_calls[-1] | {"start": later + 60_000})


def check_against_remaining_calls(history, calls, last):
    """Compares the vector of one more call with a history that never had the dropped calls."""
    expected = vectors(as_keyed_table([*calls, last]), threads=1)[-1]
    actual = history.vector(as_keyed_call(last))
    assert_equal(
        *([value for name, value in zip(NAMES, row, strict=True) if name not in BEYOND] for row in (actual, expected))
    )


@pytest.mark.parametrize("compiled", [True, False])
def test_the_number_longest_without_a_call_is_evicted_first(compiled):
    history = History(calls=100, numbers=4, compiled=compiled)
    parties = lambda caller: {"caller": caller, "callee": caller + "'"}
    at = lambda n, caller: EXAMPLE_CALL | {"start": n * DAY, "day": n} | parties(caller)
    play(history, at(0, "a"), at(10, "b"), clock=True)
    history.advance(19 * DAY)  # every call is past now: both are idle, a and a' for longer
    history.observe(as_keyed_call(at(20, "c")))
    assert history.evicted == 2
    place = NAMES.index("number_days_known")
    days_known = {n: history.vector(as_keyed_call(at(21, n)))[place] for n in "ab"}
    assert math.isnan(days_known["a"])
    assert days_known["b"] == 11


def test_an_idle_trunk_is_evicted_without_a_number():
    """Only evicted numbers are counted; an evicted trunk is like an unknown trunk."""
    history, trunks = History(calls=100, numbers=2), [f"t{n}" for n in range(6)]
    at = lambda n, trunk: EXAMPLE_CALL | {"start": n * 14 * DAY, "day": 14 * n, "trunk": trunk}
    play(history, *(at(n, trunk) for n, trunk in enumerate(trunks)), clock=True)
    assert (history.evicted, history.refused, history.numbers) == (0, 0, 2)
    book = history._keys["trunk"]
    assert [bool(book.key(trunk)) for trunk in trunks] == [False] * 5 + [True]


def test_a_call_refused_twice_takes_one_place_of_a_number():
    """Nothing can be dropped while the end of a call is in the future: the caller gets a place, the callee does not."""
    history = History(calls=100, numbers=3)
    history.observe(as_keyed_call(EXAMPLE_CALL | {"ring": 1000, "talk": 100_000}))
    other = as_keyed_call(EXAMPLE_CALL | {"caller": "c", "callee": "d"})
    for times in (1, 2):
        history.observe(other)
        assert (history.refused, history.numbers, history.calls, history.evicted) == (times, 3, 1, 0)


def test_vectors_do_not_depend_on_threads():
    rng = random.Random(11)
    number = lambda: f"n{rng.randrange(50)}"
    facts = lambda: {"start": rng.randrange(10**9), "caller": number(), "callee": number()}
    calls = as_keyed_table([EXAMPLE_CALL | facts() for _ in range(3000)])
    assert_equal(vectors(calls, threads=1), vectors(calls, threads=2))


@given(histories(), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_vectors_of_some_calls_equal_those_rows(calls, rng):
    """The chosen rows may have any order."""
    rows = np.array(rng.sample(range(len(calls)), rng.randint(0, len(calls))), dtype=int)
    assert_equal(vectors(as_keyed_table(calls), rows=rows, threads=1), vectors(as_keyed_table(calls), threads=1)[rows])


def test_names_are_unique_and_the_hash_covers_the_definitions():
    assert len(set(NAMES)) == len(NAMES) >= 60
    assert len(catalogue_hash()) == 64
    for feature in FEATURES:
        assert feature.unit and feature.en and feature.zh and feature.source, feature.name
        assert "formula" in feature.definition


def test_an_invalid_table_is_refused_in_one_line():
    calls = as_keyed_table([EXAMPLE_CALL])
    hour = calls.column_names.index("hour")
    for spoilt, message in (
        (calls.drop_columns("trunk"), "expected the columns of a keyed table, trunk missing"),
        (calls.set_column(hour, "hour", [[300]]), "expected integers from -128 to 127"),
    ):
        with refused(message):
            vectors(spoilt, threads=1)
