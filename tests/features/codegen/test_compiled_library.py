"""The kernel as C is built from these sources and is bit-equal to the interpreted kernel."""

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

SMALL = {"calls": 12, "numbers": 4}  # small enough to drop calls and evict numbers
LARGE = {"calls": 100, "numbers": 10}


def bits(row):
    return struct.pack(f"={len(row)}d", *row)


def test_the_library_is_built_from_these_sources():
    """Without it the service is about 20 times slower. `pip install -e .` builds it if there is a C compiler."""
    assert History(calls=1, numbers=2).compiled
    assert not History(calls=1, numbers=2, compiled=False).compiled


def test_a_library_of_other_sources_is_ignored(monkeypatch):
    compiled_library.library.cache_clear()
    monkeypatch.setattr(compiled_library.assemble, "version", lambda: "another")
    assert compiled_library.library() is None
    compiled_library.library.cache_clear()


def test_a_missing_library_is_none(monkeypatch, tmp_path):
    compiled_library.library.cache_clear()
    monkeypatch.setattr(compiled_library, "FOLDER", tmp_path)
    assert compiled_library.library() is None
    compiled_library.library.cache_clear()


@given(calls=histories(max_calls=40), room=st.sampled_from([SMALL, LARGE]))
@settings(max_examples=40)
def test_compiled_and_interpreted_streams_are_bit_equal(calls, room):
    streams = [History(**room), History(**room, compiled=False)]
    for call in calls:
        assert len({bits(history.vector(as_keyed_call(call))) for history in streams}) == 1
        for history in streams:
            history.observe(as_keyed_call(call))
        assert len({(way.calls, way.numbers, way.dropped, way.evicted, way.refused) for way in streams}) == 1


@pytest.mark.system
@given(calls=histories(max_calls=20))
@settings(max_examples=20)
def test_snapshots_are_interchangeable_between_compiled_and_interpreted(tmp_path_factory, calls):
    path = tmp_path_factory.mktemp("snapshot") / "history"
    for way, other in ((True, False), (False, True)):
        history = History(**LARGE, compiled=way)
        for call in calls[:-1]:
            history.vector(as_keyed_call(call))
            history.observe(as_keyed_call(call))
        history.save(path)
        loaded = History.load(path, compiled=other)
        np.testing.assert_array_equal(loaded.vector(as_keyed_call(calls[-1])), history.vector(as_keyed_call(calls[-1])))


@pytest.mark.system
@given(calls=histories(max_calls=40))
@settings(max_examples=20)
def test_a_table_by_c_equals_a_table_by_numba(calls):
    of_callers = tuple(feature.name for feature in FEATURES if feature.role == "caller")
    with pytest.MonkeyPatch.context() as patched:
        by_c = [vectors(as_keyed_table(calls), features=names, threads=1).tobytes() for names in (NAMES, of_callers)]
        patched.setattr(compiled_library, "library", lambda: None)
        by_numba = [
            vectors(as_keyed_table(calls), features=names, threads=1).tobytes() for names in (NAMES, of_callers)
        ]
    assert by_c == by_numba


def test_features_of_other_roles_fit_into_a_note():
    """Notes have 32 bits for a sum: enough for counts of calls or numbers, not for times, and only sums are saved."""
    features_of_others = [feature for feature in FEATURES if feature.role != "caller"]
    counted = {SUMS_BY_ROLE[feature.role][name].adds for feature in features_of_others for name, _ in feature.sums}
    assert counted == {"1", "distinct caller", "distinct callee"}
    invalid = replace(features_of_others[0], parts=("day",))
    with pytest.raises(ValueError, match="callee: its features must read sums only"):
        feature_program.program(feature_program.NUMBER, (*FEATURES, invalid))
