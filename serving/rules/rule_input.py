"""The input of rule conditions: facts of a call, of its history and of the registers, as numbers with names.

A value is a float for one call and an array for a table of calls, so each condition is written once for both. NaN
stands for "unknown".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from callsieve.features.catalogue import NAMES

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
    "pair_calls_1h": "pair_calls_before_count_1h",
    "callee_callers_1h": "callee_callers_count_1h",
}
"""The feature behind each of the first fields of `RuleInput`, in the order of the fields."""


@dataclass(slots=True)
class RuleInput:
    """The values of a call that the conditions of rules read at ring time.

    An answer of a register is 1 for yes, 0 for no, or a value. NaN means unknown, which is never "no".

    Attributes:
        attestation, route, caller_class, callee_class: indexes of the tuples in `features.records`.
        presented_differs: 1 if the network knows the caller by another number than the one shown, else 0.
        hour: local hour of the call.
        calls_24h: calls of the caller in 24 hours.
        one_rings_24h: share of those calls that the caller dropped after one ring, 0 to 1.
        callee_calls_1h: calls to the called number in one hour.
        called_first: 1 if the called number called the caller before the caller called it, else 0.
        long_talk_days: days on which the two talked at length.
        pair_calls_1h: calls of the caller to the called number in one hour.
        callee_callers_1h: different numbers that called the called number in one hour.
        own_number: 1 if the caller shows the called number itself, else 0.
        unwanted: 1 if the content model is sure that the called person rejects this kind of call
            (`preferences.py`). It is set later than the other fields, after a call has reached a band.
        flag_events: earlier calls of the caller that flag it (`scorer/flags.py`). It is set after a call has reached
            the threshold of flagged numbers.
        list_issuers: issuers whose lists have the caller's number (`scorer/listed.py`).
        list_bound: the lowest certified error bound of these lists; 1 without a certificate.
        list_hours: hours since the number was last flagged, by the list with the latest call.
        campaign: the caller's number is in the outbound register.
        marketing, hour_from, hour_to: the campaign's business needs consent; the campaign's registered hours.
        consent: the called person consented to calls of the campaign's principal.
        refused, rejects, accepts: the called person refused, rejects or accepts calls of the campaign's business.
        discredited: the campaign's principal or agent is on the list of discredited firms.
        trunk_listed, on_trunk: the register lists the trunk's numbers; the caller is among them.
        use_allows: the caller's number class fits the trunk's declared use.
        lapsed: the registration of the caller's number has ended.
        calls_per_day: calls a day that the caller's contract allows.
        caller_protected, callee_protected: the number is registered as protected.
        caller_trusted: the caller's number is one that the owner of the network trusts.
        risk_region: the caller's number belongs to a listed risk region.
        rows: index of the register row behind a fact, by table; "callee" for a protected called number. Single calls
            only.
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
    pair_calls_1h: Any = math.nan
    callee_callers_1h: Any = math.nan
    own_number: Any = math.nan
    unwanted: Any = math.nan
    flag_events: Any = math.nan
    list_issuers: Any = math.nan
    list_bound: Any = math.nan
    list_hours: Any = math.nan
    campaign: Any = math.nan
    hour_from: Any = math.nan
    hour_to: Any = math.nan
    marketing: Any = math.nan
    consent: Any = math.nan
    refused: Any = math.nan
    rejects: Any = math.nan
    accepts: Any = math.nan
    discredited: Any = math.nan
    trunk_listed: Any = math.nan
    on_trunk: Any = math.nan
    use_allows: Any = math.nan
    lapsed: Any = math.nan
    calls_per_day: Any = math.nan
    caller_protected: Any = math.nan
    callee_protected: Any = math.nan
    caller_trusted: Any = math.nan
    risk_region: Any = math.nan
    rows: dict[str, int] = field(default_factory=dict, kw_only=True)


VECTOR_COLUMNS = tuple((name, NAMES.index(feature)) for name, feature in VECTOR_FEATURES.items())
_pick = itemgetter(*(column for _, column in VECTOR_COLUMNS))


def rule_input(columns: Any, own_number: Any = math.nan) -> RuleInput:
    """Builds the input of rule conditions, without facts of registers."""
    result = RuleInput(*_pick(columns))
    result.own_number = own_number
    return result
