"""Arrow tables of a settled world: the calls as a switch writes them, and apart from them the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...features.records import ATTESTATIONS, CALL_COLUMNS, OUTCOMES, RELEASED_BY, ROUTES
from .draws import lognormal, stream
from .numbering import NEVER, OPERATORS, Directory
from .plans import Plan
from .reports import Findings, Reports
from .scenario import Scenario, Spread
from .timing import MINUTE, SECOND, Calendar

TIMESTAMP = pa.timestamp("ms", tz="UTC")
# Q.850 causes, in the order of OUTCOMES.
CAUSES = ("16", "19", "17", "21", "21", "1", "38", "", "")


def coded(codes: NDArray[Any], names: Any) -> pa.DictionaryArray:
    """A dictionary column of codes; a negative code is null."""
    missing = codes < 0
    indices = pa.array(codes.astype(np.int32), mask=missing if missing.any() else None)
    values = names if isinstance(names, pa.Array) else pa.array(list(names), pa.string())
    return pa.DictionaryArray.from_arrays(indices, values)


def calls_table(
    scenario: Scenario, seed: int, plan: Plan, numbers: Directory, strings: pa.Array, days: Calendar
) -> pa.Table:
    """The calls with the columns of a call record, and `call`, the row's number."""
    rng = stream(seed, "records")
    caller, count = plan.caller, len(plan)
    nothing = pa.DictionaryArray.from_arrays(pa.nulls(count, pa.int32()), pa.array([], pa.string()))
    columns = {
        "start": pa.array(plan.start, TIMESTAMP),
        "caller": coded(caller, strings),
        "callee": coded(plan.callee, strings),
        "ring": pa.array(plan.ring / SECOND),
        "talk": pa.array(plan.talk / SECOND),
        "outcome": coded(plan.outcome, OUTCOMES),
        "released_by": coded(plan.released, RELEASED_BY),
        "recorded": _recorded(scenario, rng, plan),
        "network_caller": nothing,
        "attestation": coded(numbers["attestation"][caller], ATTESTATIONS),
        "route": coded(numbers["route"][caller], ROUTES),
        "trunk": coded(numbers["trunk"][caller], _names("trunk", numbers)),
        "operator": coded(numbers["operator"][caller], OPERATORS),
        "device": coded(numbers["device"][caller], _names("device", numbers)),
        "place": coded(_places(scenario, rng, plan, numbers, days), _names("cell", numbers)),
        "cause": coded(plan.outcome, CAUSES),
    }
    ordered = {name: columns[name] for name in CALL_COLUMNS}
    return pa.table({**ordered, "call": pa.array(np.arange(count))})


def _names(thing: str, numbers: Directory) -> list[str]:
    return [f"{thing}-{code}" for code in range(numbers.taken.get(thing, 0))]


def _recorded(scenario: Scenario, rng: np.random.Generator, plan: Plan) -> pa.Array:
    table = scenario.table("records")
    late = np.flatnonzero(rng.random(len(plan)) < table["late_share"])
    delay = MINUTE * lognormal(rng, Spread(**table["late_minutes"]), len(late))
    recorded = np.zeros(len(plan), dtype=np.int64)
    recorded[late] = plan.end[late] + np.maximum(delay, SECOND).astype(np.int64)
    return pa.array(recorded, TIMESTAMP, mask=recorded == 0)


def _places(
    scenario: Scenario, rng: np.random.Generator, plan: Plan, numbers: Directory, days: Calendar
) -> NDArray[np.int32]:
    hour = days.hour(plan.start)
    weekend = days.weekend[(plan.start - days.start) // (24 * 60 * MINUTE)]
    at_work = (hour >= 9) & (hour < 18) & ~weekend
    place = np.where(at_work, numbers["work"][plan.caller], numbers["home"][plan.caller])
    missing = rng.random(len(plan), dtype=np.float32) < scenario.table("numbering")["place_missing_share"]
    return np.where(missing, -1, place)


def truth_table(plan: Plan, numbers: Directory) -> pa.Table:
    """What each call was. A call that a nuisance number makes is nuisance, whomever it calls."""
    campaign = plan.campaign
    return pa.table(
        {
            "call": pa.array(np.arange(len(plan))),
            "nuisance": pa.array(campaign >= 0),
            **_described(numbers, numbers["slice"][plan.caller], campaign),
        }
    )


def numbers_table(plan: Plan, numbers: Directory, strings: pa.Array, days: Calendar) -> pa.Table:
    """Every existing number that took part in a call."""
    used = np.zeros(len(numbers), dtype=bool)
    used[plan.caller] = True
    used[plan.callee] = True
    ids = np.flatnonzero(used & (numbers["slice"] != 0))
    born, died = numbers["born"][ids], numbers["died"][ids]
    return pa.table(
        {
            "number": coded(ids, strings),
            "nuisance": pa.array(numbers["campaign"][ids] >= 0),
            **_described(numbers, numbers["slice"][ids], numbers["campaign"][ids]),
            "active_from": pa.array(np.maximum(born, days.start), TIMESTAMP),
            "active_to": pa.array(np.where(died == NEVER, days.end, np.minimum(died, days.end)), TIMESTAMP),
        }
    )


def _described(numbers: Directory, slices: NDArray[Any], campaign: NDArray[Any]) -> dict[str, pa.DictionaryArray]:
    known = numbers.campaigns
    attacks = sorted({each.attack for each in known if each.attack})
    attack = np.array([attacks.index(each.attack) if each.attack else -1 for each in known] + [-1])
    of_campaign = np.array([numbers.slices.index(each.slice) for each in known] + [0])
    return {
        "slice": coded(np.where(campaign >= 0, of_campaign[campaign], slices), numbers.slices),
        **{name: _of_campaign([getattr(each, name) for each in known], campaign) for name in ("content", "mode")},
        "campaign": coded(campaign, [each.name for each in known]),
        "attack": coded(attack[campaign], attacks),
    }


def _of_campaign(values: list[str], campaign: NDArray[Any]) -> pa.DictionaryArray:
    names = sorted(set(values))
    codes = np.array([names.index(value) for value in values] + [-1])
    return coded(codes[campaign], names)


def reports_table(known: Reports, plan: Plan, strings: pa.Array) -> pa.Table:
    """Reports and marks: who said what about which number, when, and when it became known."""
    return pa.table(
        {
            "reporter": coded(plan.callee[known.call], strings),
            "number": coded(plan.caller[known.call], strings),
            "at": pa.array(known.at, TIMESTAMP),
            "known_at": pa.array(known.known_at, TIMESTAMP),
            "category": pa.array(known.category, pa.string()).dictionary_encode(),
            "mode": pa.array(known.mode, pa.string()).dictionary_encode(),
            "call": pa.array(known.call),
        }
    )


def findings_table(found: Findings, numbers: Directory, strings: pa.Array) -> pa.Table:
    """Numbers whose truth was established by a call back."""
    return pa.table(
        {
            "number": coded(found.number, strings),
            "nuisance": pa.array(numbers["campaign"][found.number] >= 0),
            "known_at": pa.array(found.known_at, TIMESTAMP),
        }
    )
