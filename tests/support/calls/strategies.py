"""Hypothesis strategies for histories of keyed calls: few numbers, many ties, late and repeated records."""

import random

import pyarrow as pa
from hypothesis import strategies as st

from callsieve.features.records import (
    ATTESTATIONS,
    KEYED_CATEGORIES,
    KEYED_COLUMNS,
    NUMBER_CLASSES,
    OUTCOMES,
    RELEASED_BY,
    ROUTES,
    STEPS,
    UNKNOWN,
    KeyedCall,
)

SECOND = 1000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
EXAMPLE_CALL = {
    "start": 1_700_000_000_000, "caller": "a", "callee": "b", "ring": 5_000, "talk": 20_000, "recorded": None,
    "outcome": "answered", "released_by": "callee", "hour": 6, "day": 19_676, "caller_class": "mobile",
    "callee_class": "mobile", "same_region": None, "shared_prefix": 3, "step": None, "presented_differs": 0,
    "attestation": "A", "route": "domestic", "caller_block": "x", "trunk": None, "operator": None,
    "device": None, "place": None,
}  # fmt: skip
NUMBERS = "abcd"
BLOCKS = {"a": "x", "b": "x", "c": "x", "d": "y"}

# Gaps at, just below and just above the edge of every window, and many ties.
GAPS = st.sampled_from(
    [0, 0, 1, SECOND, 9_999, 10_000, HOUR - 1, HOUR, HOUR + 1, DAY - HOUR, DAY, 3 * DAY, 7 * DAY, 30 * DAY]
)
RINGS = st.sampled_from([0, 1, 3_999, 4_000, 4_001, 20_000])
TALKS = st.sampled_from([0, 99, 100, 9_999, 10_000, 29_999, 30_000, 59_999, 60_000, 3_600_001, DAY])


@st.composite
def keyed_call(draw, start):
    """Draws one call that starts at `start` (Unix ms)."""
    is_over = draw(st.booleans() | st.just(True))
    ring = draw(RINGS) if is_over else None
    talk = draw(TALKS) if is_over else None
    recorded = None
    if draw(st.booleans()):
        delay = draw(st.sampled_from([-5, 0, 1, SECOND, HOUR, DAY, 7 * DAY, 8 * DAY]))
        recorded = start + (ring + talk if is_over else 0) + delay
    hour, day = divmod(start + 8 * HOUR, HOUR)[0] % 24, (start + 8 * HOUR) // DAY
    pick = lambda words: draw(st.sampled_from(words))
    caller = pick(NUMBERS)
    return {
        "start": start, "caller": caller, "callee": pick(NUMBERS), "ring": ring, "talk": talk, "recorded": recorded,
        "outcome": pick(OUTCOMES), "released_by": pick(RELEASED_BY), "hour": hour, "day": day,
        "caller_class": pick(NUMBER_CLASSES), "callee_class": pick(NUMBER_CLASSES), "same_region": pick([None, 0, 1]),
        "shared_prefix": pick([None, 0, 3, 11]), "step": pick([None, *STEPS]), "presented_differs": pick([None, 0, 1]),
        "attestation": pick(ATTESTATIONS), "route": pick(ROUTES), "caller_block": BLOCKS[caller],
        "trunk": pick([None, "t1", "t2"]), "operator": None, "device": pick([None, "d1", "d2"]), "place": None,
    }  # fmt: skip


@st.composite
def histories(draw, max_calls=14):
    """Draws calls in order of start, Unix ms; a tenth have a record at their start, a tenth a late or prompt copy.

    The records of a call come in any order.
    """
    start = draw(st.sampled_from([-(10**13), 0, 1_700_000_000_000, 253_402_000_000_000]))
    calls, identities = [], set()
    for _ in range(draw(st.integers(1, max_calls))):
        start += draw(GAPS)
        call = draw(keyed_call(start))
        if (start, call["caller"], call["callee"]) in identities:
            continue
        identities.add((start, call["caller"], call["callee"]))
        records = [call]
        if call["ring"] is not None and draw(st.integers(0, 9)) == 0:
            # The record of the start can differ from the record of the end.
            differences = {"step": draw(st.sampled_from(STEPS)), "trunk": draw(st.sampled_from([None, "t1", "t2"]))}
            records.insert(0, call | {"ring": None, "talk": None, "recorded": None} | differences)
        if draw(st.integers(0, 9)) == 0:
            end = start + (call["ring"] or 0) + (call["talk"] or 0)
            records.append(call | {"recorded": draw(st.sampled_from([call["recorded"], None, end + 1, end + HOUR]))})
        calls += draw(st.permutations(records))
    return calls


def busy_calls(n=160, seed=3, gap=9_000_000):
    """Returns a week, or longer with wider gaps, in which every feature becomes known."""
    rng, calls, start = random.Random(seed), [], 1_700_000_000_000
    for i in range(n):
        start += rng.randrange(gap) if i < 100 else rng.randrange(60_000)  # the last hour is the busiest
        hour, day = (start // 3_600_000 + 8) % 24, (start + 8 * 3_600_000) // DAY
        outcome = rng.choice(("answered", "answered", "no_answer", "busy", "rejected", "unwanted", "invalid_number"))
        caller, callee = rng.sample(NUMBERS, 2)
        calls.append(EXAMPLE_CALL | {
            "start": start, "caller": caller, "callee": callee, "hour": hour, "day": day, "outcome": outcome,
            "ring": rng.choice((1_000, 3_999, 9_000)), "talk": rng.randrange(90_000) if outcome == "answered" else 0,
            "released_by": rng.choice(("caller", "callee", "network")), "same_region": rng.choice((0, 1, None)),
            "step": rng.choice(("near", "block", "other")), "trunk": "t", "device": "d", "caller_block": "x",
        })  # fmt: skip
        if rng.random() < 0.2:  # a late record
            end = start + calls[-1]["ring"] + calls[-1]["talk"]
            calls[-1]["recorded"] = end + rng.choice((1_000, 600_000, 9_000_000))
    return calls


def as_keyed_call(call):
    """Returns a drawn call in the form of the online engine."""
    fields = dict(call)
    for column, words in KEYED_CATEGORIES.items():
        fields[column] = UNKNOWN if call[column] is None else words.index(call[column])
    for column in ("same_region", "shared_prefix", "presented_differs"):
        fields[column] = UNKNOWN if call[column] is None else call[column]
    return KeyedCall(**fields)


INTEGERS = dict.fromkeys(("start", "ring", "talk", "recorded"), pa.int64()) | {"day": pa.int32()}
INTEGERS |= dict.fromkeys(("hour", "same_region", "shared_prefix", "presented_differs"), pa.int8())


def as_keyed_table(calls):
    """Returns drawn calls in the form of the offline engine."""
    columns = {name: pa.array([c[name] for c in calls], INTEGERS.get(name, pa.string())) for name in KEYED_COLUMNS}
    return pa.table({n: c if n in INTEGERS else c.dictionary_encode() for n, c in columns.items()})
