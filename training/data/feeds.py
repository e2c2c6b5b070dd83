"""The same calls as a poorer feed tells them.

Many records hold answered calls only (billing keeps nothing else). A model that never saw such a feed takes "every
call was answered" for the mark of a good caller, and catches nothing there. So every training sees both feeds, and
every threshold holds on both.
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
    """The vectors of some calls, as one feed tells of calls.

    `told` are the calls that the feed tells of, and `rows` those of them whose vectors are in `X`, in its order: both
    places in the table of all calls, ascending.
    """

    name: str
    told: Array
    rows: Array
    X: Array

    def at(self, rows: Array) -> Array:
        """The vectors of these calls.

        Raises:
            ValueError: if one of them is not held.
        """
        return np.take(self.X, self._places(rows), axis=0)

    def values(self, rows: Array, column: int) -> Array:
        """One column of the vectors of these calls. Raises: ValueError: as `at`."""
        return np.asarray(self.X[self._places(rows), column])

    def column(self, column: int, count: int) -> Array:
        """One column over all `count` calls; NaN where no vector is held."""
        found = np.full(count, np.nan)
        found[self.rows] = self.X[:, column]
        return found

    def strata(self, count: int) -> Array:
        """Stratum of each of all `count` calls, as a place among STRATA; "unknown" where no vector is held."""
        found = np.full(count, STRATA.index("unknown"))
        found[self.rows] = strata_of(self.X)
        return found

    def _places(self, rows: Array) -> Array:
        places = np.minimum(np.searchsorted(self.rows, rows), max(len(self.rows) - 1, 0))
        if len(rows) and not (len(self.rows) and np.array_equal(self.rows[places], rows)):
            raise ValueError(f"feed {self.name!r}: expected calls whose vectors are held")
        return np.asarray(places)


def feed_of_all(X: Array) -> Feed:  # noqa: N803
    """The vectors of all calls."""
    every = np.arange(len(X))
    return Feed("complete", every, every, X)


def complete(dataset: Dataset, features: tuple[str, ...], threads: int, rows: Array | None = None) -> Feed:
    """All calls; vectors with `catalogue.vector_columns` these features, of `rows` alone if they are given."""
    told = np.arange(dataset.calls.num_rows)
    return feed_of("complete", dataset, told, told if rows is None else rows, features, threads)


def answered_only(dataset: Dataset, features: tuple[str, ...], threads: int, rows: Array | None = None) -> Feed:
    """The answered calls alone; vectors of those among `rows` if they are given."""
    told = answered_rows(dataset.calls)
    held = told if rows is None else np.intersect1d(rows, told, assume_unique=True)
    return feed_of("answered only", dataset, told, held, features, threads)


def answered_rows(calls: pa.Table) -> Array:
    """Places of the answered calls."""
    found = pc.equal(pc.dictionary_decode(calls["outcome"].combine_chunks()), "answered")
    return np.flatnonzero(np.asarray(found.fill_null(False)))


def feed_of(name: str, dataset: Dataset, told: Array, rows: Array, features: tuple[str, ...], threads: int) -> Feed:
    """Vectors of `rows` from the calls that are told of, with the columns that hold these features."""
    calls = dataset.calls if len(told) == dataset.calls.num_rows else dataset.calls.take(told)
    asked = np.searchsorted(told, rows)
    X = vectors(calls, rows=asked, threads=threads or None)  # noqa: N806
    if vector_columns(features) != NAMES:
        reported = complaint_vectors(calls, complaint_table(dataset.calls, dataset.complaints))
        X = np.hstack([X, reported[asked]])  # noqa: N806
    return Feed(name, told, rows, X)


FEEDS = {"complete": complete, "answered only": answered_only}
