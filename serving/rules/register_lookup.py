"""Register facts: the register entries that apply to a call at ring time, as numbers for rule conditions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from callsieve.features.records import NUMBER_CLASSES, KeyedCall

from .registers import ANY, BETWEEN, INDEXES, ROLES, Registers
from .rule_input import RuleInput

_NAN = math.nan


@dataclass(frozen=True, slots=True)
class Terms:
    """The limits that rule conditions use: choices of the operator, all of them from the policy file.

    Attributes:
        ring_once_share: share of calls dropped after one ring from which rule `ring_once` applies, 0 to 1.
        ring_once_calls: calls in 24 hours from which rule `ring_once` applies.
        bombing_calls: calls to one mobile number in one hour from which rule `call_bombing` applies.
        many_callers: different numbers that called one mobile number in one hour from which rule `many_callers`
            applies. Infinity turns the rule off.
        repeat_calls: calls of the caller to the called number in the hour before from which the guard
            `repeated_caller` applies, below `bombing_calls`. Infinity turns the guard off.
        known_talk_days: days with a long talk from which the guard `long_talks` applies.
        content_share: probability from which the content model counts against a called person's preferences, 0 to 1.
        marketing: businesses that need the called person's consent.
        must_register: number classes that must be registered before they call out.
        uses: the number classes that fit each declared use of a trunk; a use that is not listed allows no conclusion.
    """

    ring_once_share: float = 0.5
    ring_once_calls: float = 20.0
    bombing_calls: float = 30.0
    many_callers: float = math.inf
    repeat_calls: float = math.inf
    known_talk_days: float = 2.0
    content_share: float = 0.8
    marketing: tuple[str, ...] = ()
    must_register: tuple[str, ...] = ()
    uses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def look_up(registers: Registers, call: KeyedCall, terms: Terms, facts: RuleInput | None = None) -> RuleInput:
    """Adds the register facts of a call, as known at the call's start, to its other `facts`; returns them."""
    result, tables = RuleInput() if facts is None else facts, registers.tables
    if "campaigns" in tables:
        _add_campaign(registers, call, terms, result)
    if "trunks" in tables and call.trunk is not None:
        _add_trunk(registers, call, call.trunk, terms, result)
    if "number_resources" in tables:
        row, ended = registers.in_effect("number_resources", call.start, call.caller, call.caller_block)
        known = ended if row is None else row
        if known is not None:
            result.lapsed, result.rows["number_resources"] = float(row is None), known
    if "subscribers" in tables and _find(registers, result, "subscribers", call.start, call.caller):
        limit = registers.columns["subscribers"]["calls_per_day"][result.rows["subscribers"]]
        result.calls_per_day = _NAN if limit is None else float(limit)
    if "protected" in tables:
        result.callee_protected = _find(registers, result, "protected", call.start, call.callee, name="callee")
        result.caller_protected = _find(registers, result, "protected", call.start, call.caller)
    if "trusted" in tables:
        result.caller_trusted = _find(registers, result, "trusted", call.start, call.caller)
    if "risk_regions" in tables:
        result.risk_region = _find(registers, result, "risk_regions", call.start, call.caller, call.caller_block)
    return result


def _find(registers: Registers, result: RuleInput, index: str, at: int, *keys: str, name: str | None = None) -> float:
    """Returns 1 if a row of the first matching key is in effect, and stores the row's index in `result`; else 0.

    `name`: of the row in `result.rows`; by default its table.
    """
    row = registers.in_effect(index, at, *keys).row
    if row is None:
        return 0.0
    result.rows[name or INDEXES[index][0]] = row
    return 1.0


def _add_campaign(registers: Registers, call: KeyedCall, terms: Terms, result: RuleInput) -> None:
    result.campaign = _find(registers, result, "campaigns", call.start, call.caller, call.caller_block)
    if not result.campaign:
        return
    campaigns, row = registers.columns["campaigns"], result.rows["campaigns"]
    business, hours = campaigns["business"][row], (campaigns["hour_from"][row], campaigns["hour_to"][row])
    result.hour_from, result.hour_to = (_NAN if hour is None else float(hour) for hour in hours)
    result.marketing = float(business in terms.marketing)
    business_keys = (call.callee + BETWEEN + business, call.callee + BETWEEN + ANY)
    principal, agent = campaigns["principal"][row], campaigns["agent"][row]
    if "discredited" in registers.tables:
        firms = [
            role + BETWEEN + name for role, name in zip(ROLES, (principal, agent), strict=True) if name is not None
        ]
        result.discredited = _find(registers, result, "discredited", call.start, *firms)
    if "consents" in registers.tables:
        result.consent = _find(registers, result, "consents", call.start, call.callee + BETWEEN + principal)
    if "refusals" in registers.tables:
        result.refused = _find(registers, result, "refusals", call.start, *business_keys)
    if "preferences" in registers.tables:
        has_preference = _find(registers, result, "preferences", call.start, *business_keys)
        accepts = has_preference and bool(registers.columns["preferences"]["accepts"][result.rows["preferences"]])
        result.accepts, result.rejects = float(accepts), float(has_preference and not accepts)


def _add_trunk(registers: Registers, call: KeyedCall, trunk: str, terms: Terms, result: RuleInput) -> None:
    result.trunk_listed = _find(registers, result, "trunks", call.start, trunk)
    if not result.trunk_listed:
        return
    use_row = result.rows["trunks"]
    classes = terms.uses.get(registers.columns["trunks"]["declared_use"][use_row])
    result.use_allows = _NAN if classes is None else float(NUMBER_CLASSES[call.caller_class] in classes)
    keys = (trunk + BETWEEN + call.caller, trunk + BETWEEN + call.caller_block)
    result.on_trunk = _find(registers, result, "trunk_numbers", call.start, *keys)
    # `trunks` and `trunk_numbers` share a table. The fact about the use rests on the row that was read for the use.
    result.rows["trunks"] = use_row
