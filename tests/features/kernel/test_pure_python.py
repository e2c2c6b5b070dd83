"""The interpreted kernel is bit-equal to the C that is made of the same files."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from callsieve.features.catalogue import FEATURES, NAMES, select_features
from callsieve.features.catalogue.lite import LITE
from callsieve.features.codegen.assemble import kernel
from callsieve.features.codegen.compiled_library import table_engine
from callsieve.features.codegen.feature_program import NUMBER
from callsieve.features.kernel import group_state, number_state, windows
from callsieve.features.offline.table import scratch, vectors
from callsieve.features.stream import number_lists
from tests.support.calls.strategies import as_keyed_table, busy_calls, histories
from tests.support.pure_python import interpreted_kernel


@pytest.fixture(scope="module")
def week():
    calls = as_keyed_table(busy_calls(60, gap=20_000_000))
    return calls, vectors(calls, threads=1)


@given(calls=histories(max_calls=40), rng=st.randoms(use_true_random=False))
@settings(max_examples=6)
def test_an_interpreted_table_equals_a_compiled_table(calls, rng):
    rows = np.array(rng.sample(range(len(calls)), rng.randint(0, len(calls))), dtype=int)
    calls = as_keyed_table(calls)
    with interpreted_kernel():
        actual = vectors(calls, threads=1), vectors(calls, rows=rows, threads=1)
    expected = vectors(calls, threads=1)
    np.testing.assert_array_equal(actual[0], expected)
    np.testing.assert_array_equal(actual[1], expected[rows])


@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=12, unique=True))
@example(list(LITE))
@example([feature.name for feature in FEATURES if feature.role == "callee"])
@example([feature.name for feature in FEATURES if feature.role in ("caller", "trunk")])
@settings(max_examples=20)
def test_a_choice_of_features_equals_the_columns_of_the_whole(week, names):
    calls, expected = week
    expected = expected[:, [NAMES.index(name) for name in names]]
    np.testing.assert_array_equal(vectors(calls, features=tuple(names), threads=1), expected)


@given(histories(max_calls=30), st.lists(st.sampled_from(NAMES), min_size=1, max_size=12), st.data())
@settings(max_examples=12)
def test_a_choice_equals_the_columns_of_the_whole_in_any_history(calls, names, data):
    rows = np.array(data.draw(st.lists(st.integers(0, len(calls) - 1), unique=True)), dtype=int)
    calls = as_keyed_table(calls)
    expected = vectors(calls, threads=1)[rows][:, [NAMES.index(name) for name in names]]
    np.testing.assert_array_equal(vectors(calls, rows=rows, features=tuple(names), threads=2), expected)


@pytest.mark.parametrize("names", [LITE[::-1], ("block_members_count_1h", "callee_calls_count_24h")])
def test_an_interpreted_choice_equals_the_columns_of_the_whole(week, names):
    calls, expected = week
    with interpreted_kernel():
        actual = vectors(calls, features=names, threads=1)
    np.testing.assert_array_equal(actual, expected[:, [NAMES.index(name) for name in names]])


def test_a_choice_lays_out_and_reads_only_what_it_needs():
    chosen = table_engine(NUMBER, select_features(("out_calls_count_1h", "out_answered_share_7d")))
    assert (chosen.SLOTS, chosen.READ) == (3, 2)  # calls, answered, ended; no incoming calls
    assert {chosen.GAPS, chosen.CALLEES, chosen.HOURS, chosen.DAY, chosen.RETURNED} == {windows.NONE}


def test_kinds_of_history_replace_the_hooks_of_the_kernel():
    """A misspelt hook would be ignored."""
    hooks = {
        module: {
            name
            for name, value in vars(module).items()
            if name.startswith("hook_") and value.__module__ == module.__name__
        }
        for module in (windows, number_state, group_state, number_lists)
    }
    assert hooks[number_state] == hooks[windows]
    assert hooks[group_state] == {"hook_add"}
    assert hooks[number_lists] == {"hook_add", "hook_event"}


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=40))
@example([i << 20 for i in range(40)])  # all collide in the hash table
def test_each_other_party_gets_one_pair(others):
    layout = kernel(NUMBER, FEATURES)
    arrays = scratch(layout, len(others))
    directions, pairs, pair_of, slots = (arrays[name] for name in ("directions", "pairs", "pair_of", "slots"))
    directions[:], pairs[:] = 0, -1
    layout.index_pairs(len(others), others, directions, slots, pair_of, pairs)
    assigned = pair_of[::2].tolist()
    assert [assigned.index(pair) for pair in assigned] == [others.index(other) for other in others]
    used = len(set(others)) * layout.PAIR
    assert set(assigned) == set(range(0, used, layout.PAIR))
    assert not pairs[:used].any()
