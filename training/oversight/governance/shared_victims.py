"""Groups of callers with complaints that share more callees than chance explains.

The chance model is the configuration model: each caller keeps its number of callees, each callee its number of callers.
Two callers are linked if they share at least LEAST callees, FACTOR times the expected number, and DEVIATIONS standard
deviations (Poisson) above it. Groups are connected components. A group suggests that several lines use one list of
people. It does not prove a leak, because couriers of one street share callees as well.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from callsieve.features.arrays import Array

LEAST, FACTOR, DEVIATIONS = 10, 4.0, 6.0
MOST_CALLERS = 5000  # only the callers with the most callees are compared


def groups(caller: Array, callee: Array, suspect: Array) -> tuple[Array, int]:
    """Returns for each call the group of its caller, or -1, and the number of groups; group 0 is the largest.

    Args:
        caller, callee: for each call, the number as an integer from 0.
        suspect: for each call, whether its caller is compared.
    """
    result = np.full(len(caller), -1, dtype=np.int64)
    pairs = np.unique(np.stack([caller[suspect], callee[suspect]]), axis=1)
    callers, place, reach = np.unique(pairs[0], return_inverse=True, return_counts=True)
    if len(callers) < 2:
        return result, 0
    compared = np.zeros(len(callers), dtype=bool)
    compared[np.argsort(-reach, kind="stable")[:MOST_CALLERS]] = True
    victims = np.unique(pairs[1], return_inverse=True)[1]
    calls = sparse.coo_array((np.ones(len(place)), (place, victims))).tocsr() * compared[:, None]
    linked = sparse.csr_array(_linked(sparse.csr_array(calls)))
    count, part = connected_components(linked, directed=False)
    size = np.bincount(part, minlength=count)
    order = np.argsort(-size, kind="stable")[: int((size > 1).sum())]
    rank = np.full(count, -1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    inside = np.flatnonzero(suspect)
    result[inside] = rank[part[np.searchsorted(callers, caller[inside])]]
    return result, len(order)


def _linked(calls: sparse.csr_array) -> sparse.coo_array:
    """Returns the pairs of callers that share more callees than chance explains."""
    reach, called = calls.sum(axis=1), calls.sum(axis=0)
    shared = (calls @ calls.T).tocoo()
    chance = (called * (called - 1)).sum() / max(called.sum(), 1.0) ** 2
    expected = reach[shared.row] * reach[shared.col] * chance
    more = (shared.data >= LEAST) & (shared.data > FACTOR * expected)
    more &= shared.data > expected + DEVIATIONS * np.sqrt(expected)
    return sparse.coo_array((np.ones(more.sum()), (shared.row[more], shared.col[more])), shape=shared.shape)
