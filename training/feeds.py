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

from ..features.catalogue import NAMES, columns_for
from ..features.reports import report_vectors
from ..features.table import vectors
from .evidence import Evidence
from .reported import report_table

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Feed:
    """Some of the calls (`rows`), and their vectors as if there were no others."""

    name: str
    rows: Array
    calls: pa.Table
    X: Array


def complete(evidence: Evidence, features: tuple[str, ...], threads: int) -> Feed:
    """All calls; vectors with `catalogue.columns_for` these features."""
    calls = evidence.calls
    return Feed("complete", np.arange(calls.num_rows), calls, rows_for(calls, evidence, features, threads))


def answered_only(evidence: Evidence, features: tuple[str, ...], threads: int) -> Feed:
    """The answered calls alone."""
    calls = evidence.calls
    answered = pc.equal(pc.dictionary_decode(calls["outcome"].combine_chunks()), "answered")
    rows = np.flatnonzero(np.asarray(answered.fill_null(False)))
    kept = calls.take(rows)
    return Feed("answered only", rows, kept, rows_for(kept, evidence, features, threads))


def rows_for(calls: pa.Table, evidence: Evidence, features: tuple[str, ...], threads: int) -> Array:
    """Vectors of some of the calls, with the columns that hold these features."""
    rows = vectors(calls, threads=threads or None)
    if columns_for(features) == NAMES:
        return rows
    return np.hstack([rows, report_vectors(calls, report_table(evidence.calls, evidence.reports))])
