"""Groups of callers with complaints that share more callees than chance explains.

The chance model is the configuration model, which keeps each caller's number of callees and each callee's of callers.
Two callers are linked if they share at least LEAST callees, FACTOR times the expected number, and DEVIATIONS standard
deviations (Poisson) above it. Groups are connected components. A group suggests that several lines use one list of
people; it is no proof of a leak, because couriers of one street share callees as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

LEAST, FACTOR, DEVIATIONS = 10, 4.0, 6.0
MOST_CALLERS = 5000  # only the callers with the most callees are compared


def groups(caller: Array, callee: Array, suspect: Array) -> tuple[Array, int]:
    """Returns for each call the group of its caller, or -1, and the number of groups; group 0 is the largest.

    Args:
        caller, callee: for each call, the number as an integer from 0.
        suspect: for each call, whether its caller is compared.
    """
    found = np.full(len(caller), -1, dtype=np.int64)
    pairs = np.unique(np.stack([caller[suspect], callee[suspect]]), axis=1)
    who, place, reach = np.unique(pairs[0], return_inverse=True, return_counts=True)
    if len(who) < 2:
        return found, 0
    kept = np.zeros(len(who), dtype=bool)
    kept[np.argsort(-reach, kind="stable")[:MOST_CALLERS]] = True
    victims = np.unique(pairs[1], return_inverse=True)[1]
    calls = sparse.coo_array((np.ones(len(place)), (place, victims))).tocsr() * kept[:, None]
    linked = sparse.csr_array(_linked(sparse.csr_array(calls)))
    many, part = connected_components(linked, directed=False)
    size = np.bincount(part, minlength=many)
    order = np.argsort(-size, kind="stable")[: int((size > 1).sum())]
    rank = np.full(many, -1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    inside = np.flatnonzero(suspect)
    found[inside] = rank[part[np.searchsorted(who, caller[inside])]]
    return found, len(order)


def _linked(calls: sparse.csr_array) -> sparse.coo_array:
    """Returns the pairs of callers that share more callees than chance explains."""
    reach, called = calls.sum(axis=1), calls.sum(axis=0)
    shared = (calls @ calls.T).tocoo()
    chance = (called * (called - 1)).sum() / max(called.sum(), 1.0) ** 2
    expected = reach[shared.row] * reach[shared.col] * chance
    more = (shared.data >= LEAST) & (shared.data > FACTOR * expected)
    more &= shared.data > expected + DEVIATIONS * np.sqrt(expected)
    return sparse.coo_array((np.ones(more.sum()), (shared.row[more], shared.col[more])), shape=shared.shape)
