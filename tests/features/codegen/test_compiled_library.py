"""The kernel as C is built from these sources and is bit-equal to the interpreted kernel."""

import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.features import FEATURES, History
from callsieve.features.catalogue.feature import SUMS_BY_ROLE
from callsieve.features.codegen import compiled_library, feature_program
from callsieve.features.codegen.compiled_library import shared_functions
from callsieve.serving.bundle import forest_library
from tests.support.calls.strategies import as_keyed_call, histories

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
    monkeypatch.setattr(compiled_library, "fingerprint", lambda: "another")
    assert compiled_library.library() is None
    compiled_library.library.cache_clear()


def test_missing_libraries_are_reported_in_one_line(monkeypatch, tmp_path, caplog):
    cached = (compiled_library.library, compiled_library.warn_of_slow_python, forest_library.library)
    for function in cached:
        function.cache_clear()
    for module in (compiled_library, forest_library):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
        assert module.library() is None
    (line,) = caplog.messages
    assert "interpreted Python, many times slower" in line
    assert "pip install --force-reinstall" in line
    for function in cached:
        function.cache_clear()


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


@pytest.mark.parametrize(
    "array", [np.zeros(4, np.int32), np.zeros(8, np.int64)[::2], np.zeros((2, 2), np.int64), np.zeros(4)]
)
def test_an_array_of_another_type_never_reaches_c(array):
    good = {"order": np.arange(4), "owners": np.zeros(4, np.int32), "offsets": np.zeros(2, np.int64)}
    group_views = shared_functions()["group_views"]
    group_views(1, **good, views=np.empty(4, np.int64))
    with pytest.raises(ValueError, match="expected contiguous i8"):
        group_views(1, **good | {"order": array}, views=np.empty(4, np.int64))


def test_features_of_other_roles_fit_into_a_note():
    """Notes have 32 bits for a sum: enough for counts of calls or numbers, not for times, and only sums are saved."""
    features_of_others = [feature for feature in FEATURES if feature.role != "caller"]
    counted = {SUMS_BY_ROLE[feature.role][name].adds for feature in features_of_others for name, _ in feature.sums}
    assert counted == {"1", "distinct caller", "distinct callee"}
    invalid = replace(features_of_others[0], parts=("day",))
    with pytest.raises(ValueError, match="callee: its features must read sums only"):
        feature_program.noting(feature_program.NUMBER, [invalid])
