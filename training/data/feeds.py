"""Feeds: the same calls as a complete record and as a poorer record shows them.

Many systems record answered calls only; billing needs nothing else. A model trained without such a feed treats
"every call was answered" as a sign of a benign caller, and catches nothing on it. So every training learns from both
feeds, and every threshold holds on both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from callsieve.features.catalogue import NAMES, vector_columns
from callsieve.features.complaints import complaint_vectors
from callsieve.features.offline.table import vectors
from callsieve.serving.batch.complaint_rows import complaint_table
from callsieve.serving.rules.strata import STRATA, strata_of

from .dataset import Dataset

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Feed:
    """Vectors of some calls, computed from the calls that one feed records.

    recorded: places of the calls that the feed records. rows: places of those whose vectors are in `X`, in its order.
    Both are places in the table of all calls, ascending.
    """

    name: str
    recorded: Array
    rows: Array
    X: Array

    def at(self, rows: Array) -> Array:
        """Returns the vectors of these calls, shape (rows, columns).

        Raises:
            ValueError: if `X` lacks one of them.
        """
        return np.take(self.X, self._places(rows), axis=0)

    def values(self, rows: Array, column: int) -> Array:
        """Returns one column of the vectors of these calls. Raises ValueError if `X` lacks one of them."""
        return np.asarray(self.X[self._places(rows), column])

    def column(self, column: int, count: int) -> Array:
        """Returns one column over all `count` calls; NaN for calls without a vector."""
        values = np.full(count, np.nan)
        values[self.rows] = self.X[:, column]
        return values

    def strata(self, count: int) -> Array:
        """Returns the stratum of all `count` calls, as places among STRATA; "unknown" for calls without a vector."""
        strata = np.full(count, STRATA.index("unknown"))
        strata[self.rows] = strata_of(self.X)
        return strata

    def _places(self, rows: Array) -> Array:
        places = np.minimum(np.searchsorted(self.rows, rows), max(len(self.rows) - 1, 0))
        if len(rows) and not (len(self.rows) and np.array_equal(self.rows[places], rows)):
            raise ValueError(f"feed {self.name!r}: expected calls whose vectors are held")
        return np.asarray(places)


def feed_of_all(X: Array) -> Feed:  # noqa: N803
    """Returns the complete feed of vectors that cover all calls."""
    every = np.arange(len(X))
    return Feed("complete", every, every, X)


def complete(dataset: Dataset, features: tuple[str, ...], threads: int, rows: Array | None = None) -> Feed:
    """Computes the complete feed.

    Args:
        features: the vectors get the columns `catalogue.vector_columns` of these.
        rows: places of the calls that need a vector; all by default.
    """
    recorded = np.arange(dataset.calls.num_rows)
    return feed_of("complete", dataset, recorded, recorded if rows is None else rows, features, threads)


def answered_only(dataset: Dataset, features: tuple[str, ...], threads: int, rows: Array | None = None) -> Feed:
    """Computes the feed of answered calls alone; with `rows`, vectors of the answered calls among them."""
    recorded = answered_rows(dataset.calls)
    chosen = recorded if rows is None else np.intersect1d(rows, recorded, assume_unique=True)
    return feed_of("answered only", dataset, recorded, chosen, features, threads)


def answered_rows(calls: pa.Table) -> Array:
    """Returns the places of the answered calls."""
    answered = pc.equal(pc.dictionary_decode(calls["outcome"].combine_chunks()), "answered")
    return np.flatnonzero(np.asarray(answered.fill_null(False)))


def feed_of(name: str, dataset: Dataset, recorded: Array, rows: Array, features: tuple[str, ...], threads: int) -> Feed:
    """Computes the vectors of `rows` from the recorded calls, with the columns that these features need."""
    calls = dataset.calls if len(recorded) == dataset.calls.num_rows else dataset.calls.take(recorded)
    places = np.searchsorted(recorded, rows)
    X = vectors(calls, rows=places, threads=threads or None)  # noqa: N806
    if vector_columns(features) != NAMES:
        of_complaints = complaint_vectors(calls, complaint_table(dataset.calls, dataset.complaints))
        X = np.hstack([X, of_complaints[places]])  # noqa: N806
    return Feed(name, recorded, rows, X)


FEEDS = {"complete": complete, "answered only": answered_only}
