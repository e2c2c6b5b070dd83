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

from ..features.table import vectors

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


def complete(calls: pa.Table, threads: int) -> Feed:
    """All calls."""
    return Feed("complete", np.arange(calls.num_rows), calls, vectors(calls, threads=threads or None))


def answered_only(calls: pa.Table, threads: int) -> Feed:
    """The answered calls alone."""
    answered = pc.equal(pc.dictionary_decode(calls["outcome"].combine_chunks()), "answered")
    rows = np.flatnonzero(np.asarray(answered.fill_null(False)))
    kept = calls.take(rows)
    return Feed("answered only", rows, kept, vectors(kept, threads=threads or None))
