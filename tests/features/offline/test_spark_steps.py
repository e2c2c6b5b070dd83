"""Vectors computed in buckets equal those of the whole table, wherever each key is sent.

The steps that run in Spark's workers run here in one process, without Spark.
"""

import random
from collections import defaultdict
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.features.catalogue import NAMES
from callsieve.features.offline import spark
from callsieve.features.offline.table import vectors
from callsieve.features.records import KEYED_COLUMNS
from tests.support.calls.repeats import hostile_history
from tests.support.calls.strategies import EXAMPLE_CALL, as_keyed_table, busy_calls, histories
from tests.support.pure_python import interpreted_kernel


def by_bucket(batches, rng):
    """Returns the parcels of each bucket as batches, in random order."""
    parcels = [row for batch in batches for row in batch.to_pylist()]
    rng.shuffle(parcels)
    rows = defaultdict(list)
    for parcel in parcels:
        rows[parcel["bucket"]].append(parcel)
    schema = pa.schema({"bucket": pa.int32(), "stage": pa.string(), "body": pa.binary()})
    return [[pa.RecordBatch.from_pylist(parcels, schema)] for parcels in rows.values()]


def with_buckets(calls, bucket_of):
    """Returns calls with the columns that Spark adds: an id, and the bucket of each key."""
    calls = calls.select(KEYED_COLUMNS).append_column("call", pa.array(np.arange(calls.num_rows)))
    text = {field.name: pa.string() for field in calls.schema if pa.types.is_dictionary(field.type)}
    calls = calls.cast(pa.schema([(field.name, text.get(field.name, field.type)) for field in calls.schema]))
    for name in spark.KEYS:
        number = "number" if name in ("caller", "callee") else name
        places = [bucket_of[number, key] for key in calls[name].to_pylist()]
        calls = calls.append_column(f"{name}_bucket", pa.array(places, pa.int32()))
    return calls


def exchanged(batches, step, names, count, rng):
    """Returns what a step sends from each bucket."""
    return [sent for rows in by_bucket(batches, rng) for sent in spark._step(step, names, count, iter(rows))]


def vectors_by_buckets(calls, count, rng, names=NAMES, pieces=1):
    """Returns vectors computed in `count` buckets; each key goes to a random bucket."""
    calls = with_buckets(calls, defaultdict(lambda: rng.randrange(count)))
    batches = []
    for i in range(pieces):
        piece = calls.take(np.arange(i, calls.num_rows, pieces)).combine_chunks()
        batches += spark._pack_batches(count, iter(piece.to_batches()))
    for step in (spark._send, spark._compute):
        batches = exchanged(batches, step, names, count, rng)
    out = np.full((calls.num_rows, len(names)), -np.inf)
    work = partial(spark._vector_columns, names)
    for rows in by_bucket(batches, rng):
        for batch in spark._finish(names, work, iter(rows)):
            table = pa.Table.from_batches([batch])
            for name in ("start", "caller", "callee"):
                assert table[name].to_pylist() == calls[name].take(table["call"]).to_pylist()
            out[table["call"].to_numpy()] = np.column_stack([table[name].to_numpy() for name in names])
    return out


@pytest.mark.system
@given(histories(max_calls=40), st.integers(1, 4), st.integers(1, 3), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_vectors_do_not_depend_on_buckets(calls, count, pieces, rng):
    calls = as_keyed_table(calls)
    np.testing.assert_array_equal(vectors_by_buckets(calls, count, rng, pieces=pieces), vectors(calls, threads=1))


@pytest.mark.parametrize("seed", range(6))
def test_calls_with_conflicting_records_have_the_same_values_in_buckets(seed):
    rng = random.Random(seed)
    calls = as_keyed_table(hostile_history(rng, 25)[0])
    np.testing.assert_array_equal(vectors_by_buckets(calls, 3, rng, pieces=2), vectors(calls, threads=1))


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
    monkeypatch.setattr(spark, "PIECE", 7)
    calls = world.calls.slice(0, 200)
    np.testing.assert_array_equal(vectors_by_buckets(calls, 2, random.Random(1)), vectors(calls, threads=1))


def test_an_empty_bucket_sends_nothing():
    for step in (spark._send, spark._compute):
        assert list(spark._step(step, NAMES, 2, iter(()))) == []
    assert list(spark._finish(NAMES, lambda identity, _: identity, iter(()))) == []


def test_a_repeated_id_is_refused(world):
    two = with_buckets(world.calls.slice(0, 2), defaultdict(int))
    two = two.set_column(two.column_names.index("call"), "call", pa.array([7, 7])).combine_chunks()
    batches = list(spark._pack_batches(1, iter(two.to_batches())))
    for step in (spark._send, spark._compute):
        batches = exchanged(batches, step, NAMES, 1, random.Random(1))
    (rows,) = by_bucket(batches, random.Random(1))
    with pytest.raises(ValueError, match="expected another id"):
        list(spark._finish(NAMES, lambda identity, _: identity, iter(rows)))
