"""The kernel as C: built, of these sources, and bit for bit what Python makes of the same files."""

import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.features.catalogue import FEATURES, NAMES
from callsieve.features.catalogue.feature import SUMS_BY_ROLE
from callsieve.features.codegen import compiled_library, feature_program
from callsieve.features.offline.table import vectors
from callsieve.features.online.history import History
from tests.support.strategies import as_keyed_call, as_keyed_table, histories

LITTLE = {"calls": 12, "numbers": 4}  # little enough to drop and evict
LARGE = {"calls": 100, "numbers": 10}


def bits(row):
    return struct.pack(f"={len(row)}d", *row)


def test_it_was_built_of_these_sources():
    """Without it the service is some twenty times slower. `pip install -e .` builds it, if there is a C compiler."""
    assert History(calls=1, numbers=2).compiled
    assert not History(calls=1, numbers=2, compiled=False).compiled


def test_one_of_other_sources_is_left_alone(monkeypatch):
    compiled_library.library.cache_clear()
    monkeypatch.setattr(compiled_library.assemble, "version", lambda: "another")
    assert compiled_library.library() is None
    compiled_library.library.cache_clear()


def test_without_one_there_is_none(monkeypatch, tmp_path):
    compiled_library.library.cache_clear()
    monkeypatch.setattr(compiled_library, "FOLDER", tmp_path)
    assert compiled_library.library() is None
    compiled_library.library.cache_clear()


@given(calls=histories(max_calls=40), room=st.sampled_from([LITTLE, LARGE]))
@settings(max_examples=40)
def test_both_ways_tell_the_same_bits(calls, room):
    ways = [History(**room), History(**room, compiled=False)]
    for call in calls:
        assert len({bits(history.vector(as_keyed_call(call))) for history in ways}) == 1
        for history in ways:
            history.observe(as_keyed_call(call))
        assert len({(way.calls, way.numbers, way.dropped, way.evicted, way.refused) for way in ways}) == 1


@given(calls=histories(max_calls=20))
@settings(max_examples=20)
def test_a_snapshot_of_one_way_is_one_of_another(tmp_path_factory, calls):
    path = tmp_path_factory.mktemp("snapshot") / "history"
    for way, other in ((True, False), (False, True)):
        history = History(**LARGE, compiled=way)
        for call in calls[:-1]:
            history.vector(as_keyed_call(call))
            history.observe(as_keyed_call(call))
        history.save(path)
        loaded = History.load(path, compiled=other)
        np.testing.assert_array_equal(loaded.vector(as_keyed_call(calls[-1])), history.vector(as_keyed_call(calls[-1])))


@given(calls=histories(max_calls=40))
@settings(max_examples=20)
def test_a_table_by_c_is_that_by_numba(calls):
    of_callers = tuple(feature.name for feature in FEATURES if feature.role == "caller")
    with pytest.MonkeyPatch.context() as patched:
        by_c = [vectors(as_keyed_table(calls), features=names, threads=1).tobytes() for names in (NAMES, of_callers)]
        patched.setattr(compiled_library, "library", lambda: None)
        by_numba = [
            vectors(as_keyed_table(calls), features=names, threads=1).tobytes() for names in (NAMES, of_callers)
        ]
    assert by_c == by_numba


def test_what_others_than_the_caller_tell_fits_into_a_note():
    """Sums that count calls or numbers have room in 32 bits; there would be none for times, or for what is no sum."""
    told = [feature for feature in FEATURES if feature.role != "caller"]
    counted = {SUMS_BY_ROLE[feature.role][name].adds for feature in told for name, _ in feature.sums}
    assert counted == {"1", "distinct caller", "distinct callee"}
    odd = replace(told[0], parts=("day",))
    with pytest.raises(ValueError, match="callee: its features are of sums alone"):
        feature_program.program(feature_program.NUMBER, (*FEATURES, odd))
