"""Strata: classes of calling numbers. A band has a certificate for each, and a threshold for those with few calls.

A stratum is a number class of `features.records`. Mobile and resale numbers with few calls form strata of their own.
Most innocent calls come from mobile numbers that make few calls. The first calls of a new nuisance number look like
them. Mobile numbers with many calls, such as surveys and services, look more like nuisance. One threshold for all
mobile numbers would be set by these busy numbers, and new nuisance numbers would be caught late. The stratum follows
from what is known when the call rings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from callsieve.features.catalogue import NAMES
from callsieve.features.records import NUMBER_CLASSES

if TYPE_CHECKING:
    from callsieve.features.arrays import Floats, Int64s

FEATURES = ("call_caller_class", "out_calls_count_7d")
"""The features that decide the stratum."""

QUIET = {"mobile": "quiet_mobile", "resale": "quiet_resale"}
# Calls in the last seven days from which a number is busy. Of 10, 15, 20 and 40, tried on simulated worlds outside the
# test set: 10 leaves too few innocent calls to certify a threshold; with 40 fewer numbers are caught within ten calls.
BUSY = 15
STRATA = (*NUMBER_CLASSES, *QUIET.values())

_CLASS, _CALLS = map(NAMES.index, FEATURES)
_UNKNOWN = NUMBER_CLASSES.index("unknown")


def stratum_of(vector: Sequence[float]) -> str:
    """Returns the stratum of a call. `vector`: F values, in the order of the catalogue.

    >>> row = [0.0] * len(NAMES)
    >>> row[NAMES.index("call_caller_class")] = NUMBER_CLASSES.index("mobile")
    >>> row[NAMES.index("out_calls_count_7d")] = 14
    >>> stratum_of(row)
    'quiet_mobile'
    >>> row[NAMES.index("out_calls_count_7d")] = 15
    >>> stratum_of(row)
    'mobile'
    """
    code = vector[_CLASS]
    name = NUMBER_CLASSES[int(code)] if 0 <= code < len(NUMBER_CLASSES) else "unknown"
    return QUIET.get(name, name) if vector[_CALLS] < BUSY else name


def strata_of(vectors: Floats) -> Int64s:
    """Returns the strata of n calls as indexes of STRATA, shape (n,).

    `vectors`: float64 of shape (n, F), in the order of the catalogue; further columns are ignored.
    """
    import numpy as np  # a single call needs no NumPy

    classes, calls = vectors[:, _CLASS], vectors[:, _CALLS]
    code = np.where((classes >= 0) & (classes < len(NUMBER_CLASSES)), classes, _UNKNOWN).astype(np.int64)
    quiet = np.array([STRATA.index(QUIET.get(name, name)) for name in NUMBER_CLASSES])
    return np.where(calls < BUSY, quiet[code], code)
