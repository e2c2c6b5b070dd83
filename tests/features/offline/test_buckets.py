"""Vectors computed in buckets equal those of the whole table, wherever each key is sent."""

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


def by_bucket(parcels, rng):
    """Returns the bodies of parcels by bucket and kind, in random order."""
    parcels = list(parcels)
    rng.shuffle(parcels)
    bodies = defaultdict(lambda: defaultdict(list))
    for parcel in parcels:
        bodies[parcel.bucket][parcel.kind].append(pa.py_buffer(parcel.body))
    return bodies.values()


def vectors_by_buckets(calls, count, rng, names=NAMES, pieces=1):
    """Returns vectors computed in `count` buckets; each key goes to a random bucket."""
    calls = calls.select(KEYED_COLUMNS).append_column("call", pa.array(np.arange(calls.num_rows)))
    bucket_of = defaultdict(lambda: rng.randrange(count))
    for name in buckets.KEYS:
        number = "number" if name in ("caller", "callee") else name
        places = [bucket_of[number, key] for key in calls[name].to_pylist()]
        calls = calls.append_column(f"{name}_bucket", pa.array(places, pa.int32()))
    packed = [
        parcel
        for i in range(pieces)
        for parcel in buckets.pack_parcels(calls.take(np.arange(i, calls.num_rows, pieces)))
    ]
    routed = [parcel for bodies in by_bucket(packed, rng) for parcel in buckets.route_calls(bodies, names, count)]
    computed = [parcel for bodies in by_bucket(routed, rng) for parcel in buckets.compute_parts(bodies, names, count)]
    out = np.full((calls.num_rows, len(names)), -np.inf)
    for bodies in by_bucket(computed, rng):
        identity, rows = buckets.assemble_vectors(bodies, names)
        for name in ("start", "caller", "callee"):
            assert identity[name].to_pylist() == calls[name].take(identity["call"]).to_pylist()
        out[identity["call"].to_numpy()] = rows
    return out


@pytest.mark.system
@given(histories(max_calls=40), st.integers(1, 4), st.integers(1, 3), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_vectors_do_not_depend_on_buckets(calls, count, pieces, rng):
    calls = as_keyed_table(calls)
    np.testing.assert_array_equal(vectors_by_buckets(calls, count, rng, pieces=pieces), vectors(calls, threads=1))


def test_interpreted_buckets_equal_compiled_tables():
    """In buckets every role writes its own part, without notes."""
    no_group_mates = EXAMPLE_CALL | {"caller_block": "y", "trunk": "u"}
    calls = as_keyed_table([no_group_mates, *busy_calls(60, gap=20_000_000)])
    with interpreted_kernel():
        rows = vectors_by_buckets(calls, 2, random.Random(1))
    np.testing.assert_array_equal(rows, vectors(calls, threads=1))


@pytest.mark.parametrize("role", ["callee", "block", "device"])
def test_a_choice_of_features_needs_only_some_kinds(world, role):
    names = tuple(name for name in NAMES if name.startswith(role))
    calls = world.calls.slice(0, 500)
    assert names
    rows = vectors_by_buckets(calls, 3, random.Random(1), names)
    np.testing.assert_array_equal(rows, vectors(calls, features=names, threads=1))


def test_parcels_have_a_bounded_size(world, monkeypatch):
    monkeypatch.setattr(buckets, "PIECE", 7)
    calls = world.calls.slice(0, 200)
    np.testing.assert_array_equal(vectors_by_buckets(calls, 2, random.Random(1)), vectors(calls, threads=1))


def test_an_empty_bucket_sends_nothing():
    assert list(buckets.route_calls(defaultdict(list), NAMES, 2)) == []


def test_a_repeated_id_is_refused(world):
    two = world.calls.slice(0, 2).select(KEYED_COLUMNS).append_column("call", pa.array([7, 7]))
    for name in buckets.BUCKETS:
        two = two.append_column(name, pa.array([0, 0], pa.int32()))
    (routed,) = by_bucket(buckets.pack_parcels(two), random.Random(1))
    (computed,) = by_bucket(buckets.route_calls(routed, NAMES, 1), random.Random(1))
    (bodies,) = by_bucket(buckets.compute_parts(computed, NAMES, 1), random.Random(1))
    with pytest.raises(ValueError, match="expected another id"):
        buckets.assemble_vectors(bodies, NAMES)
