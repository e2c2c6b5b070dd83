"""The interpreted kernel is bit-equal to the kernels that Numba and the C compiler made of the same files."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from callsieve.features.catalogue import FEATURES, NAMES
from callsieve.features.codegen.assemble import kernel
from callsieve.features.codegen.feature_program import NUMBER
from callsieve.features.offline.table import scratch, vectors
from tests.support.pure_python import interpreted_kernel
from tests.support.strategies import as_keyed_table, busy_calls, histories


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


@pytest.mark.system
@pytest.mark.parametrize("name", NAMES)
def test_a_single_feature_equals_its_column(week, name):
    """The kernel of a single feature has neither state nor code for other features."""
    calls, expected = week
    with interpreted_kernel():
        actual = vectors(calls, features=(name,), threads=1)
    np.testing.assert_array_equal(actual[:, 0], expected[:, NAMES.index(name)])


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=40))
@example([i << 20 for i in range(40)])  # all collide in the hash table
def test_each_other_party_gets_one_pair(others):
    layout = kernel(NUMBER, FEATURES, compiled=False)
    _, _, _, _, directions, _, pairs, pair_of, _, slots, _, _ = scratch(layout, len(others))
    directions[:], pairs[:] = 0, -1
    layout.index_pairs(len(others), others, directions, slots, pair_of, pairs)
    assigned = pair_of[::2].tolist()
    assert [assigned.index(pair) for pair in assigned] == [others.index(other) for other in others]
    used = len(set(others)) * layout.PAIR
    assert set(assigned) == set(range(0, used, layout.PAIR))
    assert not pairs[:used].any()
