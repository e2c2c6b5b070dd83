"""The intake: one call and a table give the same facts, and no digits leave."""

import dataclasses
import math
import pickle
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.features.intake.call_values import CATEGORIES
from callsieve.features.intake.intake import Intake
from callsieve.features.keys.tokens import Key, is_token
from callsieve.features.offline.table import vectors
from callsieve.features.records import CALL_COLUMNS, KEYED_COLUMNS, NUMBER_CLASSES, STEPS, UNKNOWN, Call, KeyedCall
from tests.support.errors import refused

KEY = Key("e1", bytes(range(32)))
TOKEN = KEY.token("number", "something kept")
START = datetime(2026, 3, 2, 4, 0, tzinfo=UTC).timestamp()
MS = pa.timestamp("ms", tz="UTC")
TYPES = {"start": MS, "recorded": MS, "ring": pa.float64(), "talk": pa.float64()}
WORDS = CATEGORIES | {"step": STEPS}


def as_table(calls, encoded=True, chunk=None):
    columns = {}
    for name in CALL_COLUMNS:
        values = [getattr(call, name) for call in calls]
        if TYPES.get(name) == MS:
            values = [None if value is None else round(value * 1000) for value in values]
        parts = [values[i : i + chunk] for i in range(0, len(values), chunk)] if chunk else [values]
        arrays = [pa.array(part, TYPES.get(name, pa.string())) for part in parts]
        if encoded and name not in TYPES:
            arrays = [array.dictionary_encode() for array in arrays]
        columns[name] = pa.chunked_array(arrays) if arrays else pa.array([], TYPES.get(name, pa.string()))
    return pa.table(columns)


def as_calls(table):
    def call(row):
        facts = dict.fromkeys(("same_region", "shared_prefix", "step", "presented_differs"), UNKNOWN)
        facts |= {name: value for name, value in row.items() if value is not None or name not in facts}
        return KeyedCall(**{n: WORDS[n].index(v) if n in WORDS and isinstance(v, str) else v for n, v in facts.items()})

    return [call(row) for row in table.to_pylist()]


def milliseconds(seconds):
    return math.floor(seconds * 1000 + 0.5)


def known_at(call):
    """Returns when a call became known: at its start, or when its record came if that was after its end."""
    start, recorded = milliseconds(call.start), call.recorded and milliseconds(call.recorded)
    is_over = call.ring is not None and call.talk is not None
    end = start + milliseconds(call.ring) + milliseconds(call.talk) if is_over else start
    return recorded if recorded is not None and recorded > end else start


def one_by_one(intake, calls):
    """Keys calls in the order in which they became known, ties in the given order; returns them in the given order."""
    order = sorted(range(len(calls)), key=lambda i: known_at(calls[i]))
    keyed = {i: intake(calls[i]) for i in order}
    return [keyed[i] for i in range(len(calls))]


def without_repeats(batches, intake):
    """Returns the batches without calls that have the start and both numbers of an earlier one."""
    seen = set()
    identity = lambda call: (
        milliseconds(call.start),
        *(intake.token("number", text) for text in (call.caller, call.callee)),
    )
    is_new = lambda call: identity(call) not in seen and not seen.add(identity(call))
    return [([call for call in batch if is_new(call)], at_once) for batch, at_once in batches]


spellings = st.sampled_from(
    [
        *(f"1380013800{n}" for n in range(4)),
        *("+8613800138000", "8613800138011", "13800139999", "13800140000", "010-88888888", "01088888889"),
        *("021 6666 6666", "88888888", "95588", "95013123", "02812345", "+14155552671", "+14155552672"),
        *("19212345678", "+85291234567", "anonymous", "", "nonsense", "ext-4242", "12", "13"),
        *("950131", "950130131"),  # different lengths in the same block, with the same last digits
        "1" + "9" * 14,
        "1" + "4" * 14,  # with the one before: every bit after the first digit differs
        "9" * 40,
        TOKEN,
    ]
)
callers = st.sampled_from(["13800138000", "+8613800138000", "010-88888888", "1" + "4" * 14, "anonymous", "19212345678"])
seconds = st.integers(0, 4_000_000).map(lambda n: n / 1000)
starts = st.one_of(
    st.integers(0, 20).map(lambda n: START + n),  # ties
    # 2019 to 2027: over a change of the number plan and many of summer time
    st.integers(1_546_300_800_000, 1_800_000_000_000).map(lambda n: n / 1000),
)
calls = st.lists(
    st.builds(
        Call, start=starts, caller=callers | callers | spellings, callee=spellings, ring=st.none() | seconds,
        talk=st.none() | seconds | st.floats(0, 1e6), recorded=st.none() | starts, network_caller=st.none() | spellings,
        trunk=st.sampled_from([None, "", "t1", "t2", TOKEN]), place=st.sampled_from([None, "p1"]),
        **{name: st.sampled_from(words) for name, words in CATEGORIES.items()},
    ),
    max_size=40,
)  # fmt: skip


@pytest.mark.system
@settings(max_examples=300)
@given(
    st.lists(st.tuples(calls, st.booleans()), max_size=4),
    st.sampled_from(["Asia/Shanghai", "America/New_York", "Asia/Kathmandu"]),
    st.sampled_from(["written", "codes"]),
    st.sampled_from([1, 3, 12, 30, 1000]),
    st.booleans(),
    st.sampled_from([None, 7]),
)
def test_a_table_equals_its_calls_one_by_one(batches, zone, numbers, remember, encoded, chunk):
    whole, single = (Intake(KEY, zone, numbers, remember) for _ in range(2))
    for batch, at_once in without_repeats(
        batches, Intake(KEY, numbers=numbers)
    ):  # the last dialled numbers carry over to the next batch
        actual = as_calls(whole.table(as_table(batch, encoded, chunk))) if at_once else one_by_one(whole, batch)
        assert actual == one_by_one(single, batch)


def keyed(intake=None, **fields):
    return (intake or Intake(KEY))(Call(**{"start": START, "caller": "13800138000", "callee": "13900000000"} | fields))


@pytest.mark.source("P3", "L30", by="features/intake/intake.py")
def test_a_call_has_the_expected_facts():
    call = keyed(
        caller="+86 10 8888 8888", callee="010-88881234", ring=2.0625, talk=0.0, outcome="busy",
        network_caller="13800138000", trunk="t1", device="imei 35", place="cell 7", attestation="B",
    )  # fmt: skip
    assert dataclasses.asdict(call) == {
        "start": int(START * 1000), "caller": KEY.token("number", "+861088888888"),
        "callee": KEY.token("number", "+861088881234"), "ring": 2063, "talk": 0, "recorded": None,
        "outcome": CATEGORIES["outcome"].index("busy"), "released_by": CATEGORIES["released_by"].index("unknown"),
        "hour": 12, "day": int(START) // 86400, "caller_class": NUMBER_CLASSES.index("fixed"),
        "callee_class": NUMBER_CLASSES.index("fixed"), "same_region": 1, "shared_prefix": 6, "step": UNKNOWN,
        "presented_differs": 1, "attestation": CATEGORIES["attestation"].index("B"),
        "route": CATEGORIES["route"].index("unknown"), "caller_block": KEY.token("block", "0108888"),
        "trunk": KEY.token("trunk", "t1"), "operator": None, "device": KEY.token("device", "imei 35"),
        "place": KEY.token("place", "cell 7"),
    }  # fmt: skip


def test_all_spellings_of_a_number_give_one_token():
    writings = ("13800138000", "+8613800138000", "008613800138000", "013800138000", "138-0013-8000")
    assert len({keyed(caller=text).caller for text in writings}) == 1
    table = Intake(KEY).table(as_table([Call(START, text, text) for text in writings]))
    assert len(table["caller"].combine_chunks().dictionary) == 1
    assert set(Intake(KEY).keyed("number", pa.array(writings)).to_pylist()) == {keyed().caller}


def test_a_token_outlives_the_assignment_of_its_range():
    before, after = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (2019, 2021))
    old, new = (keyed(start=start, caller="19212345678") for start in (before, after))
    assert old.caller == new.caller
    assert [NUMBER_CLASSES[call.caller_class] for call in (old, new)] == ["irregular", "mobile"]


@pytest.mark.source("L16", by="features/intake/intake.py")
def test_presented_differs_compares_the_canonical_numbers():
    expected = {
        "13800138000": 0, "+8613800138000": 0, "13800138001": 1, "": UNKNOWN, "anonymous": UNKNOWN, TOKEN: UNKNOWN,
    }  # fmt: skip
    assert {text: keyed(network_caller=text).presented_differs for text in expected} == expected
    # A withheld number is not a false number.
    assert keyed(caller="anonymous", network_caller="13800138000").presented_differs == UNKNOWN


def test_steps_compare_the_callees_of_a_caller():
    intake, words = Intake(KEY), []
    callees = ("13900000000", "13900000009", "13900000500", "13700000000", "anonymous", "13900000000")
    for n, callee in enumerate(("13900000000", *callees)):
        step = keyed(intake, start=START + n, callee=callee).step
        keyed(intake, start=START + n, caller="13800138001", callee="95588")  # another caller does not disturb
        words.append(None if step == UNKNOWN else STEPS[step])
    assert words == [None, "same", "near", "block", "other", None, None]


DIALS = ("13900139000", "13900139001", "13900135555", "13700000000")
moments = st.integers(0, 12)
drawn_dials = st.builds(
    lambda start, callee, late: (start, callee, start + late), moments, st.sampled_from(DIALS), moments | st.just(0)
)
histories_of_dials = st.lists(drawn_dials, max_size=8, unique_by=lambda dial: dial[:2])


def step_by_definition(dials, start, callee):
    """Returns the word of the step to the latest call that started, and was known, before a moment."""
    before = [dial for dial in dials if max(dial[0], dial[2]) < start]
    if not before:
        return None
    tie = lambda dial: (dial[0], Intake(KEY).token("number", dial[1]))
    last = max(before, key=tie)[1]
    return (
        "same"
        if last == callee
        else "near"
        if {last, callee} <= set(DIALS[:2])
        else "block"
        if last[:7] == callee[:7]
        else "other"
    )


def call_of(start, callee, known=None):
    return Call(START + start, "13800138000", callee, recorded=None if known is None else START + known)


@settings(max_examples=200)
@given(histories_of_dials, st.integers(0, 26), st.sampled_from(DIALS), st.randoms(use_true_random=False))
def test_a_step_depends_on_calls_that_were_known_before_alone(dials, start, callee, rng):
    """Offline in any order, online in the order of becoming known; calls that became known later do not matter."""
    if (start, callee) in [dial[:2] for dial in dials]:
        return
    expected = step_by_definition(dials, start, callee)
    rows = [call_of(start, callee), *(call_of(*dial) for dial in dials)]
    order = rng.sample(range(len(rows)), len(rows))
    steps = Intake(KEY).table(as_table([rows[i] for i in order]))["step"].to_pylist()
    assert steps[order.index(0)] == expected
    intake = Intake(KEY)
    for dial in sorted(dials, key=lambda dial: dial[2]):
        if dial[2] < start:
            intake(call_of(*dial))
    step = intake(call_of(start, callee)).step
    assert (None if step == UNKNOWN else STEPS[step]) == expected


@settings(max_examples=100)
@given(histories_of_dials, st.booleans())
def test_a_call_that_is_keyed_twice_is_keyed_once(dials, interleaved):
    """Again at once, or after one more call of the caller; the end of a call may have what its start had not."""
    once, twice = Intake(KEY), Intake(KEY)
    dials = sorted(dials, key=lambda dial: dial[2])
    first = [once(call_of(*dial)) for dial in dials]
    again = []
    for i, dial in enumerate(dials):
        assert twice(call_of(*dial)).step == first[i].step
        other = i - 1 if interleaved and i else i
        again.append((other, twice(dataclasses.replace(call_of(*dials[other]), ring=1.0, talk=0.0, outcome="busy"))))
    if all(start == known for start, _, known in dials) and len({start for start, _, _ in dials}) == len(dials):
        assert [call.step for _, call in again] == [first[i].step for i, _ in again]
    table = Intake(KEY).table(as_table([call_of(*dial) for dial in dials for _ in range(2)]))["step"].to_pylist()
    assert table[::2] == table[1::2] == [None if call.step == UNKNOWN else STEPS[call.step] for call in first]


def test_withheld_callers_and_numbers_without_a_block_are_not_one_caller():
    intake = Intake(KEY)
    assert [keyed(intake, caller="anonymous").step for _ in range(2)] == [UNKNOWN, UNKNOWN]
    assert keyed(caller="12").caller_block != keyed(caller="13").caller_block


def test_the_caller_longest_without_a_call_is_removed_first():
    intake = Intake(KEY, remember=2)
    for n, caller in enumerate(("13800138000", "13800138001", "13800138000", "13800138002")):
        keyed(intake, start=START + n, caller=caller)
    assert keyed(intake, start=START + 9, caller="13800138000").step == STEPS.index("same")
    assert keyed(intake, start=START + 9, caller="13800138001").step == UNKNOWN


def test_a_table_orders_callers_by_their_last_call():
    intake = Intake(KEY, remember=4)
    callers = ("13800138000", "13800138001", "13800138000")
    intake.table(as_table([Call(START + n, caller, "13900000000") for n, caller in enumerate(callers)]))
    for n in range(2, 5):
        keyed(intake, start=START + 3, caller=f"1380013800{n}")
    assert keyed(intake, start=START + 4, caller="13800138000").step == STEPS.index("same")
    assert keyed(intake, start=START + 4, caller="13800138001").step == UNKNOWN


def test_the_shared_prefix_is_exact_for_numbers_that_differ_in_every_bit():
    # 9 and 4 are stored as 1010 and 0101: a float rounds fourteen such differences up to the next power of two.
    table = Intake(KEY).table(as_table([Call(START, "1" + "9" * 14, "1" + "4" * 14)]))
    assert table["shared_prefix"].to_pylist() == [1]


def test_codes_have_no_facts():
    call = keyed(Intake(KEY, numbers="codes"), caller="13800138000", callee="301", network_caller="5")
    assert call.caller == KEY.token("number", "13800138000")
    assert NUMBER_CLASSES[call.caller_class] == NUMBER_CLASSES[call.callee_class] == "unknown"
    assert {call.same_region, call.shared_prefix, call.step, call.presented_differs} == {UNKNOWN}


def test_tokens_pass_unchanged():
    call = keyed(caller=TOKEN, trunk=TOKEN)
    assert call.caller == call.trunk == TOKEN
    assert NUMBER_CLASSES[call.caller_class] == "unknown"


@pytest.mark.parametrize(
    ("numbers", "caller", "expected"),
    [("codes", "c7", "resale"), ("written", TOKEN, "resale"), ("written", "13800138000", "mobile")],
)
def test_a_given_class_counts_for_numbers_without_digits(numbers, caller, expected):
    facts = {"caller": caller, "callee": "c8" if numbers == "codes" else "01062345678", "caller_class": "resale"}
    call = keyed(Intake(KEY, numbers=numbers), **facts)
    assert NUMBER_CLASSES[call.caller_class] == expected
    assert NUMBER_CLASSES[call.callee_class] == ("unknown" if numbers == "codes" else "fixed")
    with pytest.raises(ValueError, match="caller_class must be one of mobile, resale, "):
        keyed(Intake(KEY, numbers=numbers), **facts | {"caller_class": "13800138000"})


@given(starts, st.sampled_from(["Asia/Shanghai", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]))
def test_hour_and_day_are_local_to_the_zone(start, zone):
    call = keyed(Intake(KEY, zone), start=start)
    local = (datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=call.start)).astimezone(ZoneInfo(zone))
    assert (call.hour, call.day) == (local.hour, local.date().toordinal() - datetime(1970, 1, 1).toordinal())


def test_hours_follow_summer_time():
    night = datetime(2026, 3, 8, 6, 59, 59, tzinfo=UTC).timestamp()  # New York goes from 2 to 3 o'clock at 07:00
    intake = Intake(KEY, "America/New_York")
    assert [keyed(intake, start=night + later).hour for later in (0, 1)] == [1, 3]


@given(st.floats(0, 1e5))
def test_durations_are_rounded_to_milliseconds(talk):
    call = keyed(talk=talk)
    assert abs(call.talk / 1000 - talk) <= 0.0005 + 1e-9
    assert keyed(talk=2.0625).talk == 2063


def test_the_keyed_table_has_the_expected_columns_and_types():
    table = as_table([Call(START, "13800138000", "95588", network_caller="13800138000")])
    keyed = Intake(KEY).table(table.append_column("call", pa.array([7])))
    assert keyed.column_names == [*KEYED_COLUMNS, "call"]
    assert keyed["call"].to_pylist() == [7]
    word, token = pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.string())
    types = dict.fromkeys(("start", "ring", "talk", "recorded"), pa.int64())
    types |= dict.fromkeys(("same_region", "shared_prefix", "presented_differs", "hour"), pa.int8())
    types |= {"day": pa.int32(), "call": pa.int64()} | dict.fromkeys(WORDS, word)
    assert {field.name: field.type for field in keyed.schema} == {n: types.get(n, token) for n in keyed.column_names}


def test_optional_columns_may_be_missing_and_codes_may_be_integers():
    calls = [Call(START, "13800138000", "95588"), Call(START + 1, "13800138000", "95588")]
    few = as_table(calls).select(["start", "caller", "callee"])
    assert as_calls(Intake(KEY).table(few)) == one_by_one(Intake(KEY), calls)
    codes = pa.table({"start": pa.array([0], MS), "caller": [300], "callee": [301]})
    assert Intake(KEY, numbers="codes").table(codes)["caller"].to_pylist() == [KEY.token("number", "300")]


def test_a_slice_of_a_table_reads_only_its_own_numbers():
    calls = [Call(START + n, f"138001380{n:02}", "95588") for n in range(50)]
    intake = Intake(KEY)
    part = intake.table(as_table(calls).slice(10, 5))
    assert as_calls(part) == one_by_one(Intake(KEY), calls[10:15])
    assert len(part["caller"].combine_chunks().dictionary) == 5


def test_numbers_of_tables_are_cached_up_to_a_size(monkeypatch):
    calls, more = ([Call(START + n, f"1380013{n:04}", "95588") for n in part] for part in (range(20), range(10, 30)))
    intake, single = Intake(KEY), Intake(KEY)
    hashed, tokens = [], Key.tokens
    monkeypatch.setattr(
        Key, "tokens", lambda key, use, texts: hashed.append((use, len(texts))) or tokens(key, use, texts)
    )
    parts = [intake.table(as_table(part)) for part in (calls, more)]
    assert sum(count for use, count in hashed if use == "number") == 31 + 1  # and none
    first_cache = intake._memory.tables()
    monkeypatch.setattr("callsieve.features.intake.number_memory.TABLE_CACHE_SIZE", 30)
    parts.append(intake.table(as_table(more)))
    assert intake._memory.tables() is not first_cache
    assert len(intake._memory.tables()) == 21 + 1
    assert [as_calls(part) for part in parts] == [one_by_one(single, part) for part in (calls, more, more)]


def test_columns_of_other_tables_are_keyed():
    intake = Intake(KEY)
    numbers = pa.chunked_array(
        [pa.array(["13800138000", None, ""]).dictionary_encode(), pa.array(["+8613800138000"]).dictionary_encode()]
    )
    token = KEY.token("number", "+8613800138000")
    assert intake.keyed("number", numbers).to_pylist() == [token, None, None, token]
    assert intake.keyed("block", numbers)[0].as_py() == KEY.token("block", "1380013")
    assert intake.keyed("trunk", pa.array(["t1", TOKEN, None])).to_pylist() == [KEY.token("trunk", "t1"), TOKEN, None]


@pytest.mark.system
@pytest.mark.source("P3", "L30", by="features/intake/intake_table.py")
@given(calls)
def test_a_keyed_table_has_no_digits(batch):
    table = Intake(KEY).table(as_table(batch))
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_dictionary(column.type):
            assert all(is_token(text) or text in WORDS.get(name, ()) for text in column.dictionary.to_pylist())


def test_something_else_than_a_call_or_a_table_is_named():
    for call in (None, "13800138000", {"start": 1.0}):
        with pytest.raises(TypeError, match=f"^call: expected a Call, got {type(call).__name__}$"):
            Intake(KEY)(call)
    frame = pd.DataFrame({"start": [START], "caller": ["a"], "callee": ["b"]})
    for take in (Intake(KEY).table, vectors):
        with pytest.raises(TypeError, match=r"^calls must be a pyarrow\.Table, got DataFrame$"):
            take(frame)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Intake(KEY))
    with pytest.raises(TypeError, match=r"^key must be a Key, from read_key or Key.generate, got str$"):
        Intake("secret")


NO_ZONE = r"^unknown time zone '.*', expected one such as 'Asia/Shanghai'$"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(({"zone": zone}, NO_ZONE) for zone in ("Nowhere/City", "Mars/Olympus", "", "/etc", "/etc/passwd", "../x")),
        ({"numbers": "tokens"}, "numbers must be 'written' or 'codes', got 'tokens'"),
        ({"remember": 0}, "remember must be 1 or more, got 0"),
        ({"cached": 0}, "cached must be 1 or more, got 0"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Intake(KEY, **settings)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"outcome": "13800138000"}, ValueError, "outcome must be one of answered, "),
        ({"start": float("nan")}, ValueError, "start must be a finite number"),
        ({"talk": float("inf")}, ValueError, "talk must be a finite number"),
        ({"start": 8613800138000.0}, ValueError, "start must be a finite number of seconds, of a year"),
        ({"start": -1e30}, ValueError, "start must be a finite number of seconds, of a year"),
        ({"talk": -5.0, "ring": 1.0}, ValueError, "^talk must be 0 seconds or more$"),
        ({"talk": 5.0, "ring": -0.0001}, ValueError, "^ring must be 0 seconds or more$"),
        ({"ring": 1e300}, ValueError, "ring must be a finite number of seconds, of a year"),
        ({"start": "2026-03-01"}, TypeError, "^call: start must be a number of seconds, got str$"),
        ({"start": None}, TypeError, "^call: start must be a number of seconds, got NoneType$"),
        ({"ring": "3"}, TypeError, "^call: ring must be a number of seconds or None, got str$"),
        ({"talk": [5]}, TypeError, "^call: talk must be a number of seconds or None, got list$"),
        ({"recorded": "now"}, TypeError, "^call: recorded must be a number of seconds or None, got str$"),
        ({"caller": 13800138000}, TypeError, "^call: caller must be a text or None, got int$"),
        ({"callee": b"13800138000"}, TypeError, "^call: callee must be a text or None, got bytes$"),
        ({"network_caller": 13800138000}, TypeError, "^call: network_caller must be a text or None, got int$"),
        ({"trunk": 7}, TypeError, "^call: trunk must be a text or None, got int$"),
        ({"device": 1.5}, TypeError, "^call: device must be a text or None, got float$"),
        ({"outcome": ["busy"]}, TypeError, "^call: outcome must be a text or None, got list$"),
    ],
)
def test_an_invalid_call_is_refused_without_its_value(fields, error, message):
    with refused(message, error):
        keyed(**fields)


def with_column(name, values):
    table = as_table([Call(START, "13800138000", "95588")] * 2)
    return table.drop_columns([name] if name in table.column_names else []).append_column(name, values)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (with_column("contact", pa.array(["a", "b"])), r"unknown columns \['contact'\]"),
        (with_column("caller", pa.array(["a", "b"])).drop_columns(["start"]), r"missing columns \['start'\]"),
        (with_column("start", pa.array([0, None], MS)), "row 1: start must be a time"),
        (with_column("start", pa.array([0.0, 1.0])), "start must be timestamp"),
        (with_column("recorded", pa.array([0, 0], pa.timestamp("ms"))), "recorded must be timestamp"),
        (with_column("talk", pa.array([0.0, float("nan")])), "row 1: talk must be a finite number"),
        (with_column("ring", pa.array([None, -1.0])), "^row 1: ring must be 0 seconds or more$"),
        (with_column("outcome", pa.array(["busy", "13800138000"])), "row 1: outcome must be one of answered, "),
    ],
)
def test_an_invalid_table_is_refused(table, message):
    with refused(message):
        Intake(KEY).table(table)
