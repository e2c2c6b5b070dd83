"""Rows that are assumed innocent and resemble reported nuisance callers get no weight; no other row loses its own."""

import dataclasses

import numpy as np
import pytest

from callsieve.training.model.matrix import Matrix
from callsieve.training.model.train import without_look_alikes

ROWS, PER_CALLER = 12_000, 200


@pytest.fixture(scope="module")
def matrix():
    """Half of the callers behave like nuisance; of these, a quarter is assumed innocent, and a tenth cleared."""
    rng = np.random.default_rng(1)
    caller = np.arange(ROWS) // PER_CALLER
    behaves, drawn = caller % 2 == 0, rng.random(ROWS // PER_CALLER)[caller]
    assumed, cleared = behaves & (drawn < 0.25), behaves & (drawn > 0.9)
    y = (behaves & ~assumed & ~cleared).astype(np.int8)
    vectors = np.column_stack([behaves + rng.normal(0, 0.2, ROWS), rng.random(ROWS)])
    absent = np.full(ROWS, None)
    zeros, whole = np.zeros(ROWS, dtype=int), np.ones(ROWS, dtype=bool)
    return Matrix(
        vectors, y, np.full(ROWS, 0.7), zeros, caller, caller, zeros, whole, assumed | ~behaves, absent, absent
    )


def test_only_assumed_rows_that_resemble_nuisance_lose_their_weight(matrix):
    changed = without_look_alikes(matrix, [0, 1], 0.3, seed=1, threads=1)
    resembles = matrix.assumed & (matrix.caller % 2 == 0)
    assert resembles.sum() > 200
    assert (changed.weight[resembles] == 0).mean() > 0.95
    assert (changed.weight[~resembles] == 0.7).mean() > 0.99
    assert (changed.weight[~matrix.assumed] == 0.7).all()
    assert (changed.y == matrix.y).all()


def test_a_probability_of_1_and_labels_without_assumptions_change_nothing(matrix):
    assert (without_look_alikes(matrix, [0, 1], 1.0, seed=1, threads=1).weight == matrix.weight).all()
    checked = dataclasses.replace(matrix, assumed=np.zeros(ROWS, dtype=bool))
    assert without_look_alikes(checked, [0, 1], 0.3, seed=1, threads=1) is checked


def test_a_row_is_judged_by_a_model_of_other_groups(matrix):
    """Each group has a value of its own, by which a model of the group itself would know that it is innocent."""
    own = np.random.default_rng(2).permutation(ROWS // PER_CALLER)[matrix.group]
    vectors = np.column_stack([*[matrix.X[:, 0]] * 5, own])
    changed = without_look_alikes(dataclasses.replace(matrix, X=vectors), [*range(6)], 0.3, seed=1, threads=1)
    assert (changed.weight[matrix.assumed & (matrix.caller % 2 == 0)] == 0).mean() > 0.3  # 0 by a model of all groups


def test_threads_change_nothing(matrix):
    alone, threaded = (without_look_alikes(matrix, [0, 1], 0.3, seed=1, threads=threads).weight for threads in (1, 2))
    assert (alone == threaded).all()
