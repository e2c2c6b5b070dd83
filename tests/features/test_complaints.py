"""Complaint features: online, offline and a direct computation agree, in any order of arrival."""

import math
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.features.catalogue import NAMES
from callsieve.features.complaints import (
    COMPLAINT_COLUMNS,
    COMPLAINT_FEATURES,
    COMPLAINT_NAMES,
    Complaint,
    Complaints,
)
from callsieve.features.offline.complaint_vectors import complaint_vectors
from callsieve.features.online.history import History
from tests.support.calls.strategies import DAY, EXAMPLE_CALL, as_keyed_call, as_keyed_table

STEPS = st.sampled_from([0, 0, 1, DAY, 7 * DAY - 1, 7 * DAY, 28 * DAY - 1, 28 * DAY, 28 * DAY + 1])
GROUPS = {"block": "caller_block", "trunk": "trunk", "device": "device"}


@st.composite
def complaints(draw):
    """Complaints in order of time; one person can repeat a complaint about a number at the same time."""
    moment, complaints, groups = EXAMPLE_CALL["start"], [], None
    pick = lambda words: draw(st.sampled_from(words))
    for _ in range(draw(st.integers(0, 12))):
        step = draw(STEPS)
        moment += step
        groups = (
            groups
            if groups and not step
            else {"block": pick(["x", None]), "trunk": pick(["t1", "t2", None]), "device": pick(["d1", "d2", None])}
        )
        complaints.append(Complaint(moment, pick("rs"), pick("abc"), **groups))
    return complaints


@st.composite
def calls_between(draw):
    at = EXAMPLE_CALL["start"] + sum(draw(st.lists(STEPS, max_size=6)))
    tokens = {"trunk": ["t1", "t2"], "device": ["d1"]}
    keys = {name: draw(st.sampled_from([None, *choices])) for name, choices in tokens.items()}
    return (
        EXAMPLE_CALL
        | {"start": at, "caller": draw(st.sampled_from("abcd")), "caller_block": draw(st.sampled_from("xy"))}
        | keys
    )


def as_table(complaints):
    types = {"known": pa.int64()}
    values = {name: [getattr(complaint, name) for complaint in complaints] for name in COMPLAINT_COLUMNS}
    return pa.table({name: pa.array(column, types.get(name, pa.string())) for name, column in values.items()})


def by_hand(complaints, call):
    """Values computed directly from the definitions."""
    counted = []
    for i, complaint in enumerate(complaints):
        same = [r for r in complaints[:i] if (r.reporter, r.number) == (complaint.reporter, complaint.number)]
        if not any(complaint.known - r.known <= 28 * DAY for r in same):
            counted.append(complaint)
    at = call["start"]
    window = lambda days: [r for r in counted if at - days * DAY <= r.known < at]
    own = [r for r in window(28) if r.number == call["caller"]]
    row = [
        sum(r.number == call["caller"] for r in window(7)),
        len(own),
        (at - max(r.known for r in own)) / 1000 if own else math.nan,
    ]
    for group, column in GROUPS.items():
        others = [r for r in window(28) if getattr(r, group) == call[column] and r.number != call["caller"]]
        row.append(len(others) if call[column] is not None else math.nan)
    return row


@pytest.mark.system
@given(complaints(), st.lists(calls_between(), min_size=1, max_size=5), st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_online_and_offline_equal_the_definitions(complaints, calls, rng):
    expected = np.array([by_hand(complaints, call) for call in calls], dtype=float)
    shuffled = rng.sample(complaints, len(complaints))
    vectors = complaint_vectors(as_keyed_table(calls), as_table(shuffled))
    np.testing.assert_array_equal(vectors, expected)
    assert vectors.shape[1] == len(COMPLAINT_FEATURES)
    online = Complaints()
    in_order = sorted(calls, key=lambda call: call["start"])
    waiting = list(complaints)
    for call in in_order:
        while waiting and waiting[0].known < call["start"]:
            online.observe(waiting.pop(0))
        np.testing.assert_array_equal(online.vector(as_keyed_call(call)), by_hand(complaints, call))


@given(complaints(), calls_between())
@settings(max_examples=100)
def test_later_complaints_and_the_order_of_arrival_change_nothing(complaints, call):
    near = [complaint for complaint in complaints if abs(complaint.known - call["start"]) <= 28 * DAY]
    online, shuffled = Complaints(), Complaints()
    for complaint in near:
        online.observe(complaint)
    for complaint in random.Random(1).sample(near, len(near)):
        shuffled.observe(complaint)
    earlier = [complaint for complaint in near if complaint.known < call["start"]]
    expected = by_hand(earlier, call)
    np.testing.assert_array_equal(online.vector(as_keyed_call(call)), expected)
    np.testing.assert_array_equal(shuffled.vector(as_keyed_call(call)), expected)


def test_memory_is_bounded_and_dropped_complaints_are_counted():
    memory = Complaints(limit=10)
    for i in range(25):
        memory.observe(Complaint(i, f"r{i}", "a", block="x"))
    assert (len(memory.stored), memory.dropped) == (10, 15)
    assert memory.vector(as_keyed_call(EXAMPLE_CALL | {"start": 100}))[1] == 10
    memory.observe(Complaint(57 * DAY, "r", "a"))
    assert (len(memory.stored), memory.dropped) == (1, 15)
    assert sum(len(times) for times in memory._times.values()) == 1


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match="known, reporter, number, block, trunk, device, trunk missing"):
        complaint_vectors(as_keyed_table([EXAMPLE_CALL]), as_table([]).drop_columns("trunk"))


def test_definitions_are_complete_and_unique():
    names = [feature.definition["name"] for feature in COMPLAINT_FEATURES]
    assert tuple(names) == COMPLAINT_NAMES
    assert len(set(names)) == len(names)
    assert all(feature.en and feature.zh and feature.unit for feature in COMPLAINT_FEATURES)


def test_a_history_with_complaint_features_fills_them():
    call = as_keyed_call(EXAMPLE_CALL | {"start": EXAMPLE_CALL["start"] + DAY})
    history = History(("reported_count_7d", *NAMES, "reported_age"), calls=10, numbers=10)
    plain = History(calls=10, numbers=10)
    for target in (history, plain):
        target.observe_complaint(Complaint(EXAMPLE_CALL["start"], "r", "a"))
    first, *rest, last = history.vector(call)
    assert (first, last) == (1, DAY / 1000)
    np.testing.assert_array_equal(rest, plain.vector(call))
