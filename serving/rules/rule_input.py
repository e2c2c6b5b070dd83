"""The input of rule conditions: facts of a call, of its history and of the registers, as numbers with names.

A value is a float for one call and an array for a table of calls, so each condition is written once for both. NaN
stands for "unknown".
"""

from __future__ import annotations

import math
from operator import itemgetter
from typing import Any

from callsieve.features.catalogue import NAMES
from callsieve.features.dataclass import dataclass

from .register_lookup import RegisterFacts

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
    "called_first": "pair_called_first",
    "long_talk_days": "pair_long_talk_days",
}
"""The feature behind each of the first fields of `RuleInput`, in the order of the fields."""


@dataclass(slots=True)
class RuleInput(RegisterFacts):
    """The values of a call that the conditions of rules read at ring time.

    Attributes:
        attestation, route, caller_class, callee_class: indexes of the tuples in `features.records`.
        presented_differs: 1 if the network knows the caller by another number than the one shown, else 0.
        hour: local hour of the call.
        calls_24h: calls of the caller in 24 hours.
        one_rings_24h: share of those calls that the caller dropped after one ring, 0 to 1.
        callee_calls_1h: calls to the called number in one hour.
        called_first: 1 if the called number called the caller before the caller called it, else 0.
        long_talk_days: days on which the two talked at length.
        own_number: 1 if the caller shows the called number itself, else 0.
        unwanted: 1 if the content model is sure that the called person rejects this kind of call
            (`preferences.py`). It is set later than the other fields, after a call has reached a band.
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
    called_first: Any = math.nan
    long_talk_days: Any = math.nan
    own_number: Any = math.nan
    unwanted: Any = math.nan


VECTOR_COLUMNS = tuple((name, NAMES.index(feature)) for name, feature in VECTOR_FEATURES.items())
_pick = itemgetter(*(column for _, column in VECTOR_COLUMNS))
_REGISTER_FIELDS = RegisterFacts.__slots__


def rule_input(columns: Any, registered: RegisterFacts | None = None, own_number: Any = math.nan) -> RuleInput:
    """Builds the input of rule conditions.

    Args:
        columns: a vector, or columns of vectors by their index in the catalogue.
        registered: register facts; None without registers.
        own_number: see `RuleInput`.
    """
    result = RuleInput(*_pick(columns))
    result.own_number = own_number
    if registered is not None:
        for name in _REGISTER_FIELDS:
            setattr(result, name, getattr(registered, name))
    return result
