"""The work cut into buckets gives the vectors of the whole table, wherever each key goes."""

import random
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.features.catalogue import NAMES
from callsieve.features.offline import buckets
from callsieve.features.offline.table import vectors
from callsieve.features.records import KEYED_COLUMNS
from tests.support.pure_python import interpreted_kernel
from tests.support.strategies import EXAMPLE_CALL, as_keyed_table, busy_calls, histories


def opened(parcels, rng):
    """Bodies by bucket and kind, in whatever order they come."""
    parcels = list(parcels)
    rng.shuffle(parcels)
    found = defaultdict(lambda: defaultdict(list))
    for parcel in parcels:
        found[parcel.bucket][parcel.kind].append(pa.py_buffer(parcel.body))
    return found.values()


def bucketed(calls, count, rng, names=NAMES, pieces=1):
    """Vectors by way of `count` buckets; each key is in a bucket drawn for it."""
    calls = calls.select(KEYED_COLUMNS).append_column("call", pa.array(np.arange(calls.num_rows)))
    drawn = defaultdict(lambda: rng.randrange(count))
    for name in buckets.KEYS:
        number = "number" if name in ("caller", "callee") else name
        where = [drawn[number, key] for key in calls[name].to_pylist()]
        calls = calls.append_column(f"{name}_bucket", pa.array(where, pa.int32()))
    told = [parcel for i in range(pieces) for parcel in buckets.told(calls.take(np.arange(i, calls.num_rows, pieces)))]
    settled = [parcel for found in opened(told, rng) for parcel in buckets.settled(found, names, count)]
    computed = [parcel for found in opened(settled, rng) for parcel in buckets.computed(found, names, count)]
    out = np.full((calls.num_rows, len(names)), -np.inf)
    for found in opened(computed, rng):
        identity, rows = buckets.assembled(found, names)
        for name in ("start", "caller", "callee"):
            assert identity[name].to_pylist() == calls[name].take(identity["call"]).to_pylist()
        out[identity["call"].to_numpy()] = rows
    return out


@given(histories(max_calls=40), st.integers(1, 4), st.integers(1, 3), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_buckets_do_not_show(calls, count, pieces, rng):
    calls = as_keyed_table(calls)
    np.testing.assert_array_equal(bucketed(calls, count, rng, pieces=pieces), vectors(calls, threads=1))


def test_the_work_in_buckets_as_it_stands_is_that_by_c():
    """Here every role writes its own part, and nothing is noted."""
    alone = EXAMPLE_CALL | {"caller_block": "y", "trunk": "u"}
    calls = as_keyed_table([alone, *busy_calls(60, gap=20_000_000)])
    with interpreted_kernel():
        found = bucketed(calls, 2, random.Random(1))
    np.testing.assert_array_equal(found, vectors(calls, threads=1))


@pytest.mark.parametrize("role", ["callee", "block", "device"])
def test_some_features_need_only_some_kinds(world, role):
    names = tuple(name for name in NAMES if name.startswith(role))
    calls = world.calls.slice(0, 500)
    assert names
    found = bucketed(calls, 3, random.Random(1), names)
    np.testing.assert_array_equal(found, vectors(calls, features=names, threads=1))


def test_parcels_are_of_bounded_size(world, monkeypatch):
    monkeypatch.setattr(buckets, "PIECE", 7)
    calls = world.calls.slice(0, 200)
    np.testing.assert_array_equal(bucketed(calls, 2, random.Random(1)), vectors(calls, threads=1))


def test_a_part_that_got_nothing_gives_nothing():
    assert list(buckets.settled(defaultdict(list), NAMES, 2)) == []


def test_the_same_id_twice_is_refused(world):
    two = world.calls.slice(0, 2).select(KEYED_COLUMNS).append_column("call", pa.array([7, 7]))
    for name in buckets.BUCKETS:
        two = two.append_column(name, pa.array([0, 0], pa.int32()))
    (settled,) = opened(buckets.told(two), random.Random(1))
    (computed,) = opened(buckets.settled(settled, NAMES, 1), random.Random(1))
    (found,) = opened(buckets.computed(computed, NAMES, 1), random.Random(1))
    with pytest.raises(ValueError, match="expected another id"):
        buckets.assembled(found, NAMES)
