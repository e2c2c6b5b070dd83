"""What registers say of a call at ring time, as numbers: what a rule can compare."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from callsieve.features.dataclass import dataclass, field
from callsieve.features.records import NUMBER_CLASSES, KeyedCall

from .registers import ANY, BETWEEN, INDEXES, Registers
from .timeline import NO_ROW

_NAN = math.nan


@dataclass(frozen=True, slots=True)
class Terms:
    """What rules go by that is no fact but a choice; all of it stands in the policy file.

    `content_share`: how sure a model of contents must be before a called person's wish counts by its guess.
    `ring_once_share` of at least `ring_once_calls` calls in 24 hours; `bombing_calls` to one mobile number in an hour;
    the `marketing` businesses that need a consent; the classes of numbers that `must_register` before they call; for
    each declared use of a trunk the classes of numbers that fit it (a use that is not there says nothing).
    """

    ring_once_share: float = 0.5
    ring_once_calls: float = 20.0
    bombing_calls: float = 30.0
    content_share: float = 0.8
    marketing: tuple[str, ...] = ()
    must_register: tuple[str, ...] = ()
    uses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class RegisterFacts:
    """1 for yes, 0 for no, or a value; NaN where nothing is known, which is never a "no". Of a table: arrays of them.

    `campaign`: the number is in the outbound register; `marketing`, `hour_from`, `hour_to`: of that campaign;
    `consent`, `refused`, `rejects`, `accepts`: what the callee said of its principal or its business.
    `trunk_listed`: there is a list of the trunk's numbers, and `on_trunk`: the caller is on it; `use_allows`: its class
    fits the trunk's declared use. `lapsed`: its registration has ended. `calls_per_day`: what its contract allows.
    `risk_region`: the caller's number is of a region that is listed as one.
    `rows`: the places of the rows behind it, by table ("callee": of a protected called number); of single calls only.
    """

    campaign: Any = _NAN
    hour_from: Any = _NAN
    hour_to: Any = _NAN
    marketing: Any = _NAN
    consent: Any = _NAN
    refused: Any = _NAN
    rejects: Any = _NAN
    accepts: Any = _NAN
    trunk_listed: Any = _NAN
    on_trunk: Any = _NAN
    use_allows: Any = _NAN
    lapsed: Any = _NAN
    calls_per_day: Any = _NAN
    caller_protected: Any = _NAN
    callee_protected: Any = _NAN
    risk_region: Any = _NAN
    rows: dict[str, int] = field(default_factory=dict)


def look_up(registers: Registers, call: KeyedCall, terms: Terms) -> RegisterFacts:
    """What is registered of a call, as of its start."""
    found, tables = RegisterFacts(), registers.tables
    if "campaigns" in tables:
        _campaign(registers, call, terms, found)
    if "trunks" in tables and call.trunk is not None:
        _trunk(registers, call, terms, found)
    if "number_resources" in tables:
        place = registers.in_effect("number_resources", call.start, call.caller, call.caller_block)
        found.lapsed = _NAN if place == NO_ROW else float(place < 0)
        if place != NO_ROW:
            found.rows["number_resources"] = place if place >= 0 else ~place
    if "subscribers" in tables and _has(registers, found, "subscribers", call.start, call.caller):
        limit = registers.columns["subscribers"]["calls_per_day"][found.rows["subscribers"]]
        found.calls_per_day = _NAN if limit is None else float(limit)
    if "protected" in tables:
        found.callee_protected = _has(registers, found, "protected", call.start, call.callee)
        if found.callee_protected:
            found.rows["callee"] = found.rows.pop("protected")
        found.caller_protected = _has(registers, found, "protected", call.start, call.caller)
    if "risk_regions" in tables:
        found.risk_region = _has(registers, found, "risk_regions", call.start, call.caller, call.caller_block)
    return found


def _has(registers: Registers, found: RegisterFacts, index: str, at: int, *keys: str) -> float:
    """1 if a row is in effect, which is noted, else 0."""
    place = registers.in_effect(index, at, *keys)
    if place < 0:
        return 0.0
    found.rows[INDEXES[index][0]] = place
    return 1.0


def _campaign(registers: Registers, call: KeyedCall, terms: Terms, found: RegisterFacts) -> None:
    found.campaign = _has(registers, found, "campaigns", call.start, call.caller, call.caller_block)
    if not found.campaign:
        return
    campaigns, place = registers.columns["campaigns"], found.rows["campaigns"]
    business, hours = campaigns["business"][place], (campaigns["hour_from"][place], campaigns["hour_to"][place])
    found.hour_from, found.hour_to = (_NAN if hour is None else float(hour) for hour in hours)
    found.marketing = float(business in terms.marketing)
    about = (call.callee + BETWEEN + business, call.callee + BETWEEN + ANY)
    if "consents" in registers.tables:
        principal = campaigns["principal"][place]
        found.consent = _has(registers, found, "consents", call.start, call.callee + BETWEEN + principal)
    if "refusals" in registers.tables:
        found.refused = _has(registers, found, "refusals", call.start, *about)
    if "preferences" in registers.tables:
        said = _has(registers, found, "preferences", call.start, *about)
        accepts = said and bool(registers.columns["preferences"]["accepts"][found.rows["preferences"]])
        found.accepts, found.rejects = float(accepts), float(said and not accepts)


def _trunk(registers: Registers, call: KeyedCall, terms: Terms, found: RegisterFacts) -> None:
    assert call.trunk is not None  # noqa: S101 - whoever calls has looked
    found.trunk_listed = _has(registers, found, "trunks", call.start, call.trunk)
    if not found.trunk_listed:
        return
    of_trunk = found.rows["trunks"]
    classes = terms.uses.get(registers.columns["trunks"]["declared_use"][of_trunk])
    found.use_allows = _NAN if classes is None else float(NUMBER_CLASSES[call.caller_class] in classes)
    keys = (call.trunk + BETWEEN + call.caller, call.trunk + BETWEEN + call.caller_block)
    found.on_trunk = _has(registers, found, "trunk_numbers", call.start, *keys)
    # The use is the trunk's, whichever of its rows says so: the evidence is the row that was read.
    found.rows["trunks"] = of_trunk
