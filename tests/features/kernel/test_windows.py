"""Online = offline = oracle, for every feature, over drawn histories; and never the future."""

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from callsieve.features.catalogue import FEATURES, NAMES, catalogue_hash
from callsieve.features.intake.keyed_table import keyed_calls
from callsieve.features.kernel import number_state, windows
from callsieve.features.offline.table import vectors, vectors_by_caller
from callsieve.features.online.history import History
from callsieve.features.records import OUTCOMES
from tests.support import oracle
from tests.support.strategies import DAY, EXAMPLE_CALL, NUMBERS, as_keyed_call, as_keyed_table, busy_calls, histories

CLOSE = {"rel_tol": 1e-9, "abs_tol": 1e-7}
SMALL = {"calls": 100, "numbers": 10}


def online(told, **options):
    """Vectors of a stream: asked at each start, then observed, in order of start."""
    history = History(**(SMALL | options))
    rows = []
    for call in told:
        rows.append(history.vector(as_keyed_call(call)))
        history.observe(as_keyed_call(call))
    return np.array(rows)


def identity(call):
    return call["start"], call["caller"], call["callee"]


def told_first(calls):
    """Rows that do not repeat an earlier one: a repeat is asked of the keys of the first record."""
    seen = set()
    return [i for i, call in enumerate(calls) if identity(call) not in seen and not seen.add(identity(call))]


def coded(feature, value):
    return float(feature.levels.index(value)) if isinstance(value, str) else value


def check_by_oracle(row, calls, call):
    """A vector against what the oracle says of each feature."""
    for feature, found in zip(FEATURES, row, strict=True):
        expected = coded(feature, oracle.value(calls, call, feature.name))
        both_unknown = math.isnan(found) and math.isnan(expected)
        assert both_unknown or math.isclose(found, expected, **CLOSE), (feature.name, found, expected)


def told_once(calls):
    return [c for c in oracle.unique_calls(calls) if "seen_at_start" not in c]


def same(a, b):
    np.testing.assert_array_equal(a, b)


@pytest.mark.source("L3", "L14", by="features/catalogue/__init__.py")
@given(histories(), st.data())
@settings(max_examples=200)
def test_offline_equals_oracle_for_every_feature(calls, data):
    rows = vectors(as_keyed_table(calls), threads=1)
    i = data.draw(st.sampled_from(told_first(calls)))
    check_by_oracle(rows[i], calls, calls[i])


def test_a_busy_week_equals_the_oracle_in_every_feature():
    """Drawn histories are short: what asks for much to have happened is hardly ever known in them."""
    calls = busy_calls()
    rows, seen = vectors(as_keyed_table(calls), threads=1), set()
    for i in (100, 130, 157, 158, 159):
        check_by_oracle(rows[i], calls, calls[i])
        seen |= {name for name, found in zip(NAMES, rows[i], strict=True) if not math.isnan(found)}
    assert set(NAMES) - seen == set()


@pytest.mark.parametrize("compiled", [False, True])
def test_an_hour_of_more_calls_than_logarithms_are_kept_for(compiled):
    """They are worked out then, and must give back exactly what they added: a week on, half of the calls are gone."""
    calls = [
        EXAMPLE_CALL | {"start": EXAMPLE_CALL["start"] + i * 1000} for i in range(number_state.LOG_TABLE_SIZE + 10)
    ]
    week = calls[number_state.LOG_TABLE_SIZE // 2]["start"] + 7 * DAY
    next_hour = EXAMPLE_CALL["start"] + 3_600_000
    calls += [EXAMPLE_CALL | {"start": next_hour + i * 1000, "hour": 7} for i in range(60)]
    calls += [EXAMPLE_CALL | {"start": week + i, "day": EXAMPLE_CALL["day"] + 7} for i in range(2)]
    rows = online(calls, compiled=compiled, calls=1000)
    for i in (number_state.LOG_TABLE_SIZE + 20, number_state.LOG_TABLE_SIZE + 69, -1):
        check_by_oracle(rows[i], calls, calls[i])


@pytest.mark.parametrize("compiled", [False, True])
def test_a_call_from_a_number_of_no_block_is_told_nothing_of_blocks(compiled):
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


def test_busy_weeks_equal_the_oracle_when_much_was_forgotten_and_records_came_late():
    """Of a list something leaves at one end while a late record comes in somewhere within."""
    calls = busy_calls(220, seed=4, gap=40_000_000)
    for i in range(0, 100, 3):  # after others that began later: a call of the same two an hour on, told in time
        over = calls[i]["start"] + calls[i]["ring"] + calls[i]["talk"]
        calls[i]["recorded"] = over + 8 * 3_600_000
        calls.append(calls[i + 1] | {"start": calls[i]["start"] + 3_600_000, "recorded": None})
    calls.sort(key=lambda call: call["start"])
    rows = vectors(as_keyed_table(calls), threads=1)
    for i in (60, 90, 110, 125, 133, 150, 200, len(calls) - 1):
        check_by_oracle(rows[i], calls, calls[i])


def test_what_an_end_told_later_changes_of_a_call_and_what_not():
    """The outcome, one ring, who hung up and whether that is known; a fact of the attempt stands in bits of its own."""
    attempts = itertools.product((0, 7, 8, 20, 21, 23), (0, 19_000, 20_000), (0, 1, 2, 3), (-1, 0, 1))
    ends = tuple(itertools.product(range(len(OUTCOMES)), (-1, 0, 1, 2), (0, 4_000, 4_001)))
    known_before, known_after = set(), set()
    for attempt in attempts:
        hour, day, step, same_region = attempt
        told = {end: windows.pack(end[0], end[1], hour, day, step, same_region, end[2]) for end in ends}
        (before,) = {facts & windows.ATTEMPT_FACTS for facts in told.values()}
        known_before.add(before)
        known_after.add(frozenset((end, facts & ~windows.ATTEMPT_FACTS) for end, facts in told.items()))
        assert before == sum((
            hour << windows.HOUR_SHIFT, (hour < 8 or hour >= 21) << windows.NIGHT, (step in (1, 2)) << windows.NEAR,
            (same_region == 1) << windows.LOCAL, (same_region >= 0) << windows.LOCAL_KNOWN, day << windows.DAY_SHIFT,
        ))  # fmt: skip
        for (outcome, released_by, ring), facts in told.items():
            one_ring = outcome != windows.ANSWERED and released_by == 0 and ring <= 4_000
            assert facts - before == sum((
                outcome, one_ring << windows.ONE_RING, (released_by == 0) << windows.HUNG_UP,
                (released_by in (0, 1)) << windows.HUNG_KNOWN,
            ))  # fmt: skip
    assert len(known_after) == 1 < len(known_before)
    assert all(windows.ATTEMPT_FACTS >> bit & 1 for bit in (windows.BEGUN, windows.OVER, windows.RETURNED_BIT))


@pytest.mark.parametrize("compiled", [False, True])
@given(calls=histories(max_calls=40))
@settings(max_examples=100)
def test_online_equals_offline_bit_for_bit(calls, compiled):
    # A stream sees one call after the other: of two at the same moment neither knows the other.
    first = told_first(calls)
    same(online(calls, compiled=compiled)[first], vectors(as_keyed_table(calls), threads=1)[first])


def test_many_late_records_are_let_in_among_those_that_were_told_in_time():
    """More events than stand in one run of those in order."""
    calls = crowd(3000)
    same(online(calls, calls=4000, numbers=100), vectors(as_keyed_table(calls), threads=1))


def test_with_less_room_both_ways_forget_the_same_calls():
    calls = crowd(3000)
    same(*(online(calls, calls=700, numbers=100, compiled=compiled) for compiled in (True, False)))


def crowd(n, seed=5):
    """Ten days of calls of 60 numbers, from now one trunk or device and now another; half of the records come late."""
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
def test_an_end_may_be_told_when_its_start_has_left_the_windows(compiled):
    """The call is held for a day more, as one that has not ended: then it has, and its end is in the windows."""
    begun = EXAMPLE_CALL | {"ring": None, "talk": None}
    at = [EXAMPLE_CALL["start"] + hours * 3_600_000 for hours in (174, 180, 184, 186, 200)]
    others = [EXAMPLE_CALL | {"start": start, "callee": f"n{start}", "day": start // DAY} for start in at]
    ended = EXAMPLE_CALL | {"talk": 17 * 3_600_000, "recorded": at[0] + 60_000}
    history, rows = History(**SMALL, compiled=compiled), []
    for call in (begun, others[0], ended, *others[1:]):
        rows.append(history.vector(as_keyed_call(call)))
        history.observe(as_keyed_call(call))
    expected = vectors(as_keyed_table([begun, ended, *others]), threads=1)
    same(np.array(rows)[[0, 1, 3, 4, 5, 6]], expected[[0, 2, 3, 4, 5, 6]])
    assert history.calls == len(others)


def test_a_call_that_is_too_long_to_be_one_is_refused():
    history = History(**SMALL)
    for talk in (2**31 - 5_001, 2**31 - 5_000):
        history.observe(as_keyed_call(EXAMPLE_CALL | {"callee": f"n{talk}", "talk": talk}))
    assert (history.calls, history.refused) == (1, 1)


@given(histories())
@settings(max_examples=20)
def test_rows_of_a_table_are_the_calls_of_a_stream(calls):
    assert list(keyed_calls(as_keyed_table(calls))) == [as_keyed_call(call) for call in calls]


@given(histories(max_calls=30))
@settings(max_examples=50)
def test_a_stream_that_nobody_asks_until_the_end_says_the_same(calls):
    """Gaps of months between calls of numbers whose windows were never moved on."""
    calls = [call | {"start": call["start"] + i * 90 * DAY} for i, call in enumerate(calls)] + calls[-1:]
    history = History(**SMALL)
    for call in calls[:-1]:
        history.observe(as_keyed_call(call))
    last = calls[-1] | {"start": calls[-2]["start"] + DAY}
    expected = vectors(as_keyed_table([*calls[:-1], last]), threads=1)[-1]
    same(history.vector(as_keyed_call(last)), expected)


@given(histories(max_calls=30))
@settings(max_examples=20)
def test_what_is_let_in_before_anybody_asks_changes_nothing(calls):
    history = History(**SMALL)
    rows = []
    for call in calls:
        history.advance(call["start"])
        rows.append(history.vector(as_keyed_call(call)))
        history.observe(as_keyed_call(call))
    same(np.array(rows), online(calls))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_number_that_calls_again_after_a_silence_begins_anew(compiled):
    """Its next call is held where the one of before it was: what was its last event must be its last no more."""
    back = EXAMPLE_CALL["start"] + 30 * DAY
    calls = [
        EXAMPLE_CALL,
        *(EXAMPLE_CALL | {"start": back + i * 60_000, "day": EXAMPLE_CALL["day"] + 30} for i in range(4)),
    ]
    check_by_oracle(online(calls, compiled=compiled)[-1], calls, calls[-1])


@given(histories(), st.sets(st.sampled_from(NAMES), min_size=1, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=12)
def test_a_choice_of_features_is_those_columns_of_all(calls, names, rng):
    names = tuple(rng.sample(sorted(names), len(names)))
    columns = [NAMES.index(name) for name in names]
    first = told_first(calls)
    expected = vectors(as_keyed_table(calls), threads=1)[first][:, columns]
    same(online(calls, features=names)[first], expected)


@given(histories(), st.data())
@settings(max_examples=60)
def test_nothing_later_changes_a_vector(calls, data):
    i = data.draw(st.sampled_from(told_first(calls)))
    at = calls[i]["start"]
    known = [c for c in calls if oracle.attempt_known(c) < at]
    for j, call in enumerate(known):
        if oracle.is_over(call) and oracle.outcome_known(call) >= at:
            known[j] = call | {"ring": None, "talk": None, "recorded": None}
    found = vectors(as_keyed_table([*known, calls[i]]), threads=1)[-1]
    same(vectors(as_keyed_table(calls), threads=1)[i], found)


@given(histories(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_order_of_rows_and_of_arrival_does_not_show(calls, rng):
    calls = told_once(calls)
    assume(calls)
    last = calls[-1] | {"start": calls[-1]["start"] + 1}
    shuffled = random.Random(rng.random()).sample(calls, len(calls))
    expected = vectors(as_keyed_table([*calls, last]), threads=1)[-1]
    same(vectors(as_keyed_table([last, *shuffled]), threads=1)[0], expected)
    history = History(**SMALL)
    for call in shuffled:
        history.observe(as_keyed_call(call))
        history.vector(as_keyed_call(call))
    same(history.vector(as_keyed_call(last)), expected)


@given(histories(), st.permutations(NUMBERS))
@settings(max_examples=30)
def test_renaming_all_numbers_changes_nothing(calls, names):
    rename = dict(zip(NUMBERS, names, strict=True))
    renamed = [c | {"caller": rename[c["caller"]], "callee": rename[c["callee"]]} for c in calls]
    same(vectors(as_keyed_table(calls), threads=1), vectors(as_keyed_table(renamed), threads=1))


@given(histories())
@settings(max_examples=30)
def test_repeats_are_harmless(calls):
    calls = told_once(calls)
    history, twice = History(**SMALL), History(**SMALL)
    for call in calls:
        same(history.vector(as_keyed_call(call)), twice.vector(as_keyed_call(call)))
        history.observe(as_keyed_call(call))
        twice.observe(as_keyed_call(call))
        twice.observe(as_keyed_call(call))
    assert twice.calls == history.calls


@given(histories())
@settings(max_examples=30)
def test_a_call_observed_at_its_start_and_at_its_end_is_one_call(calls):
    calls = told_once(calls)
    whole, parts = History(**SMALL), History(**SMALL)
    for call in calls:
        if oracle.is_late(call):
            continue
        same(whole.vector(as_keyed_call(call)), parts.vector(as_keyed_call(call)))
        whole.observe(as_keyed_call(call))
        # At its start it cannot have been recorded later.
        parts.observe(as_keyed_call(call | {"ring": None, "talk": None, "outcome": "unknown", "recorded": None}))
        parts.observe(as_keyed_call(call))
    assert whole.calls == parts.calls


def test_empty_history_knows_only_the_call_itself():
    row = dict(zip(NAMES, History(**SMALL).vector(as_keyed_call(EXAMPLE_CALL)), strict=True))
    assert row["out_calls_count_7d"] == 0
    assert math.isnan(row["out_answered_share_7d"])
    assert math.isnan(row["number_age"])
    assert row["block_calls_count_7d"] == 0
    assert math.isnan(row["trunk_calls_count_7d"])  # the call has no trunk
    assert row["call_hour"] == EXAMPLE_CALL["hour"]


def test_one_number_with_many_calls_keeps_memory_bounded():
    rng = random.Random(7)
    calls, start = [], 1_700_000_000_000
    for _ in range(30_000):
        start += rng.randrange(66_000)
        callee = f"n{rng.randrange(3000)}"
        calls.append(EXAMPLE_CALL | {"start": start, "caller": "a", "callee": callee, "talk": rng.randrange(90_000)})
    calls += [EXAMPLE_CALL | {"start": start + 15 * 86_400_000 + i, "caller": "b"} for i in range(2)]
    rows = vectors(as_keyed_table(calls))
    history = History(calls=30_000, numbers=4000)
    for call, row in zip(calls, rows, strict=True):
        same(history.vector(as_keyed_call(call)), row)
        history.observe(as_keyed_call(call))
    assert history.calls == 2
    assert history.dropped == history.evicted == history.refused == 0


@given(histories(max_calls=40), st.integers(1, 6), st.integers(2, 5))
@settings(max_examples=60)
def test_memory_stays_within_its_bounds_and_every_loss_is_counted(drawn, calls, numbers):
    history = History(calls=calls, numbers=numbers)
    for call in drawn:
        assert not any(value < 0 for value in history.vector(as_keyed_call(call))[: NAMES.index("call_caller_class")])
        history.observe(as_keyed_call(call))
        assert history.calls <= calls
        assert history.numbers <= numbers
    if not history.dropped + history.evicted + history.refused:
        ample = History(**SMALL)
        for call in drawn:
            ample.vector(as_keyed_call(call))
            ample.observe(as_keyed_call(call))
        same(history.vector(as_keyed_call(drawn[-1])), ample.vector(as_keyed_call(drawn[-1])))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("turned", [1, 2, 5, 60])
def test_a_call_dropped_for_want_of_room_leaves_the_history_of_those_that_stay(turned, compiled):
    """The oldest is the one that began first: with `turned` calls told in turned order, it was not told first."""
    calls = [EXAMPLE_CALL | {"start": EXAMPLE_CALL["start"] + 60_000 * i, "callee": f"n{i % 7}"} for i in range(60)]
    last = EXAMPLE_CALL | {"start": calls[-1]["start"] + 3_600_000}
    told = [call for i in range(0, len(calls), turned) for call in reversed(calls[i : i + turned])]
    history = History(calls=20, numbers=20, compiled=compiled)
    for call in told:
        history.advance(last["start"])
        history.observe(as_keyed_call(call))
    stay = []
    for call in told:
        stay = sorted([*stay[-19:], call], key=lambda held: held["start"])
    check_by_those_that_stay(history, stay, last)
    assert history.dropped == 40


@pytest.mark.parametrize("compiled", [True, False])
def test_a_call_may_be_dropped_when_its_start_has_left_the_windows_and_its_end_has_not(compiled):
    history = History(calls=2, numbers=20, compiled=compiled)
    later = EXAMPLE_CALL["start"] + 7 * DAY + DAY // 2
    stay = [EXAMPLE_CALL | {"start": later + i, "day": EXAMPLE_CALL["day"] + 7, "callee": f"n{i}"} for i in range(2)]
    for call in (EXAMPLE_CALL | {"talk": DAY}, *stay):
        history.vector(as_keyed_call(call))
        history.observe(as_keyed_call(call))
    assert history.dropped == 1
    check_by_those_that_stay(history, stay, stay[-1] | {"start": later + 60_000})


def check_by_those_that_stay(history, calls, last):
    """The vector of one more call, when others than these were dropped."""
    kept = vectors(as_keyed_table([*calls, last]), threads=1)[-1]
    found = history.vector(as_keyed_call(last))
    # What reaches beyond the windows, days and decayed sums, still counts the calls that went.
    beyond = {"out_calls_decayed", "out_surge", "out_active_days", "number_active_days", "number_days_known",
              "out_days_since_last"}  # fmt: skip
    same(*([value for name, value in zip(NAMES, row, strict=True) if name not in beyond] for row in (found, kept)))


@pytest.mark.parametrize("compiled", [True, False])
def test_the_number_longest_without_a_call_goes_first(compiled):
    day = 86_400_000
    history = History(calls=100, numbers=4, compiled=compiled)
    at = lambda n, caller: as_keyed_call(
        EXAMPLE_CALL | {"start": n * day, "day": n, "caller": caller, "callee": caller + "'"}
    )
    for n, caller in ((0, "a"), (10, "b")):
        history.vector(at(n, caller))
        history.observe(at(n, caller))
    history.vector(at(19, "a"))  # every call is past now: both are idle, a and a' for longer
    history.observe(at(20, "c"))
    assert history.evicted == 2
    known = {n: dict(zip(NAMES, history.vector(at(21, n)), strict=True))["number_days_known"] for n in "ab"}
    assert math.isnan(known["a"])
    assert known["b"] == 11


def test_a_trunk_longest_without_a_call_goes_and_no_number_with_it():
    """Numbers that go are counted; a trunk that went is known as one that never was."""
    week = 7 * 86_400_000
    history, trunks = History(calls=100, numbers=2), [f"t{n}" for n in range(6)]
    at = lambda n, trunk: as_keyed_call(EXAMPLE_CALL | {"start": n * 2 * week, "day": 14 * n, "trunk": trunk})
    for n, trunk in enumerate(trunks):
        history.vector(at(n, trunk))
        history.observe(at(n, trunk))
    assert (history.evicted, history.refused, history.numbers) == (0, 0, 2)
    known = history._keys["trunk"]
    assert [bool(known.key(trunk)) for trunk in trunks] == [False] * 4 + [True] * 2


def test_a_call_that_is_refused_twice_takes_one_place_of_a_number():
    """Nothing can go while a call's end lies ahead: its caller finds a place, and whom it calls does not."""
    history = History(calls=100, numbers=3)
    history.observe(as_keyed_call(EXAMPLE_CALL | {"ring": 1000, "talk": 100_000}))
    other = as_keyed_call(EXAMPLE_CALL | {"caller": "c", "callee": "d"})
    for refused in (1, 2):
        history.observe(other)
        assert (history.refused, history.numbers, history.calls, history.evicted) == (refused, 3, 1, 0)


def test_threads_do_not_show():
    rng = random.Random(11)
    calls = [
        EXAMPLE_CALL
        | {
            "start": rng.randrange(10**9),
            "caller": f"n{rng.randrange(50)}",
            "callee": f"n{rng.randrange(50)}",
        }
        for _ in range(3000)
    ]
    same(vectors(as_keyed_table(calls), threads=1), vectors(as_keyed_table(calls), threads=2))


@given(histories())
@settings(max_examples=30)
def test_vectors_by_caller_are_the_same_vectors(calls):
    rows, found = vectors_by_caller(as_keyed_table(calls), threads=1)
    same(found, vectors(as_keyed_table(calls), threads=1)[rows])
    callers = [calls[row]["caller"] for row in rows]
    assert len(list(itertools.groupby(callers))) == len(set(callers))


@given(histories(), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_vectors_of_some_calls_are_those_rows_of_all(calls, rng):
    """In any order, and whatever calls were not asked for."""
    rows = np.array(rng.sample(range(len(calls)), rng.randint(0, len(calls))), dtype=int)
    same(vectors(as_keyed_table(calls), rows=rows, threads=1), vectors(as_keyed_table(calls), threads=1)[rows])


def test_names_are_unique_and_the_hash_is_of_the_definitions():
    assert len(set(NAMES)) == len(NAMES) >= 60
    assert len(catalogue_hash()) == 64
    for feature in FEATURES:
        assert feature.unit and feature.en and feature.zh and feature.source, feature.name
        assert "formula" in feature.definition


def test_a_table_that_is_none_is_refused_in_one_line():
    calls = as_keyed_table([EXAMPLE_CALL])
    hour = calls.column_names.index("hour")
    for spoilt, says in (
        (calls.drop_columns("trunk"), "expected the columns of a keyed table, trunk missing"),
        (calls.set_column(hour, "hour", [[300]]), "expected integers from -128 to 127"),
    ):
        with pytest.raises(ValueError, match=says) as told:
            vectors(spoilt, threads=1)
        assert "\n" not in str(told.value)
