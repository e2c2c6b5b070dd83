"""What rules look at: facts of a call and of its history, and what registers say of it, by names.

All are numbers, NaN where unknown: of one call floats, of a table of calls arrays, so that a condition is written once
for both.
"""

from __future__ import annotations

import math
from operator import itemgetter
from typing import Any

from callsieve.features.catalogue import NAMES
from callsieve.features.dataclass import dataclass

from .register_lookup import RegisterFacts

# From vectors: the first fields of a situation, in their order by the names of the catalogue.
VECTOR_FEATURES = {
    "attestation": "call_attestation",
    "route": "call_route",
    "caller_class": "call_caller_class",
    "callee_class": "call_callee_class",
    "presented_differs": "call_presented_differs",
    "hour": "call_hour",
    "calls_24h": "out_calls_count_24h",
    "one_rings_24h": "out_one_rings_share_24h",
    "callee_calls_1h": "callee_calls_count_1h",
}


@dataclass(slots=True)
class RuleInput(RegisterFacts):
    """A call at ring time.

    `attestation`, `route`, `caller_class`, `callee_class` are places in the tuples of `features.records`;
    `presented_differs` and `own_number` (it calls itself) 1 or 0; `calls_24h` and `one_rings_24h` (a share) are of the
    caller, `callee_calls_1h` of the called number; `unwanted` is 1 where a model is sure that the call is of a kind
    that the called person rejects (`wishes.py`), and is looked up apart from all else.
    """

    attestation: Any = math.nan
    route: Any = math.nan
    caller_class: Any = math.nan
    callee_class: Any = math.nan
    presented_differs: Any = math.nan
    hour: Any = math.nan
    calls_24h: Any = math.nan
    one_rings_24h: Any = math.nan
    callee_calls_1h: Any = math.nan
    own_number: Any = math.nan
    unwanted: Any = math.nan


VECTOR_COLUMNS = tuple((name, NAMES.index(feature)) for name, feature in VECTOR_FEATURES.items())
_picked = itemgetter(*(place for _, place in VECTOR_COLUMNS))
_REGISTERED = RegisterFacts.__slots__


def rule_input(columns: Any, registered: RegisterFacts | None = None, own_number: Any = math.nan) -> RuleInput:
    """A situation from a vector, or from the columns of a matrix of vectors, as the catalogue orders them."""
    found = RuleInput(*_picked(columns))
    found.own_number = own_number
    if registered is not None:
        for name in _REGISTERED:
            setattr(found, name, getattr(registered, name))
    return found
