"""The strata that bands tell apart: number classes, and mobile numbers that call little.

Most innocent calls are of mobile numbers that make few calls, and so are the first calls of a new nuisance number. Who
makes many, surveys and services among them, looks more like nuisance: were all mobile numbers held to one threshold, it
would be theirs, and a new number would be found late. A stratum is told by what is known as a call rings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from callsieve.features.catalogue import NAMES
from callsieve.features.records import NUMBER_CLASSES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FEATURES = ("call_caller_class", "out_calls_count_7d")
"""What a stratum is told by."""

QUIET = {"mobile": "quiet_mobile", "resale": "quiet_resale"}
# Calls in the last seven days: who makes fewer calls little. Of 10, 15, 20 and 40, on worlds that judge nothing: with
# 10 too few innocent calls are left to hold a threshold to, with 40 fewer numbers are found within ten calls.
BUSY = 15
STRATA = (*NUMBER_CLASSES, *QUIET.values())

_CLASS, _CALLS = map(NAMES.index, FEATURES)
_UNKNOWN = NUMBER_CLASSES.index("unknown")


def stratum_of(vector: Sequence[float]) -> str:
    """The stratum of a call by its vector, in the order of the catalogue.

    >>> row = [0.0] * len(NAMES)
    >>> row[NAMES.index("call_caller_class")] = NUMBER_CLASSES.index("mobile")
    >>> row[NAMES.index("out_calls_count_7d")] = 14
    >>> stratum_of(row)
    'quiet_mobile'
    >>> row[NAMES.index("out_calls_count_7d")] = 15
    >>> stratum_of(row)
    'mobile'
    """
    value = vector[_CLASS]
    name = NUMBER_CLASSES[int(value)] if 0 <= value < len(NUMBER_CLASSES) else "unknown"
    return QUIET.get(name, name) if vector[_CALLS] < BUSY else name


def strata_of(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The strata of calls by their vectors, shape (n, features of the catalogue or more), as places among STRATA."""
    import numpy as np  # for tables alone

    classes, calls = (vectors[:, place] for place in (_CLASS, _CALLS))
    code = np.where((classes >= 0) & (classes < len(NUMBER_CLASSES)), classes, _UNKNOWN).astype(np.int64)
    quiet = np.array([STRATA.index(QUIET.get(name, name)) for name in NUMBER_CLASSES])
    return np.where(calls < BUSY, quiet[code], code)
