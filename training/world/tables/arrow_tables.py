"""Arrow tables of a planned world: the calls as a switch writes them, and separate tables of the truth."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from callsieve.features.arrays import Array, Int32s
from callsieve.features.intake.text_columns import dictionary_column
from callsieve.features.records import ATTESTATIONS, CALL_COLUMNS, OUTCOMES, RELEASED_BY, ROUTES
from callsieve.training.world.basis.numbering import NEVER, OPERATORS, Directory
from callsieve.training.world.basis.plans import Plan
from callsieve.training.world.basis.timing import DAY, SECOND
from callsieve.training.world.callers.sim import Sim

from .records import Records
from .world_complaints import CHANNELS, Complaints, Findings

ROAMING = ROUTES.index("roaming")
UNKNOWN_RELEASE = RELEASED_BY.index("unknown")
TIMESTAMP = pa.timestamp("ms", tz="UTC")
# Q.850 causes, in the order of OUTCOMES.
CAUSES = ("16", "19", "17", "21", "21", "1", "38", "", "")


def calls_table(sim: Sim, plan: Plan, records: Records, first: int, words: dict[str, pa.Array]) -> pa.Table:
    """Makes records of a part of the calls: the columns of a call record, and `call`, the number of the call."""
    numbers, plan, missing = sim.numbers, plan.take(records.row), records.missing
    seen = plan.carrier
    abroad = (plan.start >= numbers["away_from"][seen]) & (plan.start < numbers["away_to"][seen])
    columns = {
        "start": pa.array(plan.start, TIMESTAMP),
        "caller": dictionary_column(plan.caller, words["number"]),
        "callee": dictionary_column(plan.callee, words["number"]),
        "ring": pa.array(plan.ring / SECOND, mask=missing["ring"]),
        "talk": pa.array(plan.talk / SECOND),
        "outcome": dictionary_column(plan.outcome, OUTCOMES),
        "released_by": dictionary_column(np.where(missing["released_by"], UNKNOWN_RELEASE, plan.released), RELEASED_BY),
        "recorded": pa.array(records.recorded, TIMESTAMP, mask=records.recorded == 0),
        "network_caller": dictionary_column(plan.via, words["number"]),
        "attestation": dictionary_column(records.attestation, ATTESTATIONS),
        "route": dictionary_column(np.where(abroad, ROAMING, numbers["route"][seen]), ROUTES),
        "trunk": dictionary_column(numbers["trunk"][seen], words["trunk"]),
        "operator": dictionary_column(numbers["operator"][seen], OPERATORS),
        "device": dictionary_column(np.where(missing["device"], -1, numbers["device"][seen]), words["device"]),
        "place": dictionary_column(np.where(missing["place"] | abroad, -1, _places(sim, plan)), words["cell"]),
        "cause": dictionary_column(plan.outcome, CAUSES),
        **dict.fromkeys(("caller_class", "callee_class"), pa.nulls(len(plan.start), pa.string())),
    }
    ordered = {name: columns[name] for name in CALL_COLUMNS}
    return pa.table({**ordered, "call": pa.array(first + records.row)})


def call_words(sim: Sim) -> dict[str, pa.Array]:
    """Returns the names of numbers, trunks, devices and cells, which are equal in all parts of the calls."""
    taken = {thing: range(sim.numbers.taken.get(thing, 0)) for thing in ("trunk", "device", "cell")}
    names = {thing: pa.array([f"{thing}-{code}" for code in codes], pa.string()) for thing, codes in taken.items()}
    return {"number": sim.strings, **names}


def _places(sim: Sim, plan: Plan) -> Int32s:
    hour = sim.days.hour(plan.start)
    weekend = sim.days.weekend[(plan.start - sim.days.start) // DAY]
    at_work = (hour >= 9) & (hour < 18) & ~weekend
    seen = plan.carrier
    place: Int32s = np.where(at_work, sim.numbers["work"][seen], sim.numbers["home"][seen])
    return place


def truth_table(numbers: Directory, plan: Plan, records: Records, first: int) -> pa.Table:
    """Returns the truth of each record's call. Every call of a nuisance number is nuisance, for every callee."""
    caller, campaign = plan.caller[records.row], plan.campaign[records.row]
    return pa.table(
        {
            "call": pa.array(first + records.row),
            "nuisance": pa.array(campaign >= 0),
            **_described(numbers, numbers["slice"][caller], campaign),
            "duplicate": pa.array(records.duplicate),
        }
    )


def numbers_table(sim: Sim, plan: Plan) -> pa.Table:
    """Returns every allocated number with a call."""
    numbers, days = sim.numbers, sim.days
    used = np.zeros(len(numbers), dtype=bool)
    used[plan.caller] = True
    used[plan.via[plan.via >= 0]] = True
    used[plan.callee] = True
    ids = np.flatnonzero(used & (numbers["slice"] != 0))
    born, died = numbers["born"][ids], numbers["died"][ids]
    return pa.table(
        {
            "number": dictionary_column(ids, sim.strings),
            "nuisance": pa.array(numbers["campaign"][ids] >= 0),
            **_described(numbers, numbers["slice"][ids], numbers["campaign"][ids]),
            "own": pa.array(numbers["ours"][ids]),
            "own_mobile": pa.array(numbers["ours"][ids] & (numbers["device"][ids] >= 0)),
            "area": pa.array(numbers["area"][ids]),
            "active_from": pa.array(np.maximum(born, days.start), TIMESTAMP),
            "active_to": pa.array(np.where(died == NEVER, days.end, np.minimum(died, days.end)), TIMESTAMP),
        }
    )


def _described(numbers: Directory, slices: Array, campaign: Array) -> dict[str, pa.DictionaryArray]:
    campaigns = numbers.campaigns
    attacks = sorted({item.attack for item in campaigns if item.attack})
    attack = np.array([attacks.index(item.attack) if item.attack else -1 for item in campaigns] + [-1])
    of_campaign = np.array([numbers.slices.index(item.slice) for item in campaigns] + [0])
    return {
        "slice": dictionary_column(np.where(campaign >= 0, of_campaign[campaign], slices), numbers.slices),
        **{name: _of_campaign([getattr(item, name) for item in campaigns], campaign) for name in ("content", "mode")},
        "campaign": dictionary_column(campaign, [item.name for item in campaigns]),
        "attack": dictionary_column(attack[campaign], attacks),
    }


def _of_campaign(values: list[str], campaign: Array) -> pa.DictionaryArray:
    names = sorted(set(values))
    codes = np.array([names.index(value) for value in values] + [-1])
    return dictionary_column(codes[campaign], names)


def complaints_table(strings: pa.Array, complaints: Complaints) -> pa.Table:
    """Returns the complaints: reporter, number, time, and when each became known; `call` is null without a call."""
    return pa.table(
        {
            "reporter": dictionary_column(complaints.reporter, strings),
            "number": dictionary_column(complaints.number, strings),
            "at": pa.array(complaints.at, TIMESTAMP),
            "known_at": pa.array(complaints.known_at, TIMESTAMP),
            "category": pa.array(complaints.category, pa.string()).dictionary_encode(),
            "mode": pa.array(complaints.mode, pa.string()).dictionary_encode(),
            "channel": dictionary_column(complaints.channel, CHANNELS),
            "call": pa.array(complaints.call, mask=complaints.call < 0),
        }
    )


def findings_table(sim: Sim, findings: Findings) -> pa.Table:
    """Returns the checked numbers with their truth, and the time at which it became known."""
    return pa.table(
        {
            "number": dictionary_column(findings.number, sim.strings),
            "nuisance": pa.array(sim.numbers["campaign"][findings.number] >= 0),
            "known_at": pa.array(findings.known_at, TIMESTAMP),
        }
    )
