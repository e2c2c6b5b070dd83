"""Registers of a simulated world: incomplete, late and partly wrong, as a system would see them beside the calls.

Every row has a validity (`valid_from`, `valid_to`) and the time since which the register has it (`known_at`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from callsieve.features.arrays import Array, Bools, Floats, Int64s
from callsieve.features.intake.text_columns import dictionary_column, unified
from callsieve.training.world.basis.draws import lognormal
from callsieve.training.world.basis.numbering import NEVER, Directory
from callsieve.training.world.basis.plans import ANSWERED, Plan
from callsieve.training.world.basis.scenario import Spread
from callsieve.training.world.basis.timing import DAY
from callsieve.training.world.callers.sim import Sim
from callsieve.training.world.callers.tricks import RELAY

from .arrow_tables import TIMESTAMP

INDUSTRIES = ("loans", "insurance", "property", "education", "securities", "health", "recruitment", "travel")
USES = ("customer service", "call centre", "own use", "number relay")
PUBLIC = ("government", "hospital")  # slices with numbers that must not be blocked
Columns = dict[str, pa.Array]


def draw_registers(sim: Sim, plan: Plan) -> dict[str, pa.Table]:
    """Draws the tables REGISTERS; table `registers` of the scenario holds their error rates and lags."""
    tables = {}
    for name, columns_of in _COLUMNS.items():
        rng = sim.stream(f"register {name}")
        tables[name] = _table(rng, sim, columns_of(rng, sim, plan))
    rng = sim.stream("register relays")
    relays = _table(rng, sim, _relays(sim)).cast(tables["campaigns"].schema)
    tables["campaigns"] = unified(pa.concat_tables([tables["campaigns"], relays]))
    return tables


def _table(rng: np.random.Generator, sim: Sim, columns: Columns) -> pa.Table:
    if "known_at" not in columns:
        since = columns["valid_from"].cast(pa.int64()).to_numpy(zero_copy_only=False)
        lag = DAY * lognormal(rng, Spread(**sim.table("registers")["lag_days"]), len(since))
        columns["known_at"] = _timestamps(since + lag.astype(np.int64))
    return pa.table(columns)


def _timestamps(values: Int64s) -> pa.Array:
    return pa.array(values, TIMESTAMP, mask=values == NEVER)


def _valid(since: Int64s, until: Int64s | None = None) -> Columns:
    until = np.full_like(since, NEVER) if until is None else until
    return {"valid_from": _timestamps(since), "valid_to": _timestamps(until)}


def _validity(sim: Sim, ids: Int64s) -> Columns:
    born = sim.numbers["born"][ids]
    return _valid(np.where(born > 0, born, sim.days.start - 365 * DAY), sim.numbers["died"][ids])


def _with_errors(rng: np.random.Generator, sim: Sim, ids: Int64s) -> Int64s:
    wrong = rng.random(len(ids)) < sim.table("registers")["wrong_number_share"]
    return np.where(wrong, rng.integers(0, len(sim.numbers), len(ids)), ids)


def _is_relay(numbers: Directory, ids: Array | slice) -> Bools:
    relay: Bools = numbers["slice"][ids] == numbers.slice(RELAY)
    return relay


def _campaigns(rng: np.random.Generator, sim: Sim, _: Plan) -> Columns:
    """Returns the outbound register: business, principal and hours of a number's calls. Some nuisance callers register
    falsely.

    Its rows decide how a study is split (`dataset.campaigns_of`), so hours have a random stream of their own.
    """
    numbers, table = sim.numbers, sim.table("registers")
    nuisance = numbers["campaign"] >= 0
    share = np.where(nuisance, table["nuisance_registered_share"], table["registered_share"])
    ids = np.flatnonzero((numbers["outfit"] >= 0) & (rng.random(len(numbers)) < share))
    false = len(numbers.slices) + rng.integers(0, len(INDUSTRIES), len(ids))
    business = np.where(nuisance[ids], false, numbers["slice"][ids])
    principals = pa.array([f"principal-{code}" for code in numbers["outfit"][ids]], pa.string())
    return {
        "number": dictionary_column(_with_errors(rng, sim, ids), sim.strings),
        "business": dictionary_column(business, [*numbers.slices, *INDUSTRIES]),
        "principal": principals.dictionary_encode(),
        "outsourced": pa.array(rng.random(len(ids)) < table["outsourced_share"]),
        **_declared_hours(sim.stream("register hours"), sim, ids),
        **_validity(sim, ids),
    }


def _declared_hours(rng: np.random.Generator, sim: Sim, ids: Int64s) -> Columns:
    """Draws the hours that a firm declares for all of its numbers: its working hours, or office hours for a false
    declaration.
    """
    numbers, outfits = sim.numbers, sim.table("outfits")
    count = numbers.taken.get("outfit", 0)
    first, last = rng.integers(8, 10, count), rng.integers(17, 22, count)
    wider = rng.integers(0, 2, (2, count))  # some declare an extra hour
    for code, name in enumerate(numbers.slices):
        mine = np.unique(numbers["outfit"][(numbers["slice"] == code) & (numbers["campaign"] < 0)])
        if name in outfits and (mine := mine[mine >= 0]).size:
            begin, finish, *_ = outfits[name]["hours"]
            first[mine] = np.floor(begin) - wider[0, mine]
            last[mine] = np.ceil(finish) + wider[1, mine]
    outfit = numbers["outfit"][ids]
    return {"hour_from": pa.array(first[outfit].astype(np.int8)), "hour_to": pa.array(last[outfit].astype(np.int8))}


def _relays(sim: Sim) -> Columns:
    ids = np.flatnonzero(_is_relay(sim.numbers, slice(None)))
    return {
        "number": dictionary_column(ids, sim.strings),  # without errors: a wrong row would join two groups of the split
        "business": pa.array([RELAY] * len(ids), pa.string()),
        "principal": pa.array(["principal-relay"] * len(ids), pa.string()),
        "outsourced": pa.array([False] * len(ids)),
        "hour_from": pa.array([0] * len(ids), pa.int8()),
        "hour_to": pa.array([24] * len(ids), pa.int8()),
        **_validity(sim, ids),
    }


def _trunks(rng: np.random.Generator, sim: Sim, _: Plan) -> Columns:
    numbers = sim.numbers
    ids = np.flatnonzero((numbers["trunk"] >= 0) & _registered(rng, sim))
    entered = np.where(_is_relay(numbers, ids), ids, _with_errors(rng, sim, ids))
    trunks = [f"trunk-{code}" for code in range(numbers.taken.get("trunk", 0))]
    return {
        "trunk": dictionary_column(numbers["trunk"][ids], trunks),
        "number": dictionary_column(entered, sim.strings),
        "declared_use": dictionary_column(_uses(rng, numbers)[numbers["trunk"][ids]], USES),
        **_validity(sim, ids),
    }


def _registered(rng: np.random.Generator, sim: Sim) -> Bools:
    firm = rng.random(sim.numbers.taken.get("outfit", 0) + 1) < sim.table("registers")["registered_share"]
    firm[-1] = False  # numbers without a firm
    registered: Bools = firm[sim.numbers["outfit"]] | _is_relay(sim.numbers, slice(None))
    return registered


def _uses(rng: np.random.Generator, numbers: Directory) -> Int64s:
    count = numbers.taken.get("trunk", 0)
    used = rng.integers(0, 3, count)
    benign = np.flatnonzero((numbers["trunk"] >= 0) & (numbers["campaign"] < 0))
    digits, trunk = numbers["digits"][benign], numbers["trunk"][benign]
    number_400, centre = digits // 10**7 == 400, (digits >= 95_000_000) & (digits < 95_300_000)
    office = rng.choice((USES.index("customer service"), USES.index("own use")), count)
    used[trunk] = office[trunk]
    used[trunk[centre]] = USES.index("call centre")
    used[trunk[number_400]] = USES.index("customer service")
    used[trunk[_is_relay(numbers, benign)]] = USES.index("number relay")
    return used


def _resources(rng: np.random.Generator, sim: Sim, _: Plan) -> Columns:
    numbers, table = sim.numbers, sim.table("registers")
    firms = np.flatnonzero((numbers["outfit"] >= 0) & (numbers["trunk"] >= 0))
    ids = firms[rng.random(len(firms)) < table["registered_share"]]
    lapsed = rng.random(len(ids)) < np.where(numbers["campaign"][ids] >= 0, 0.3, table["lapsed_share"])
    validity = _validity(sim, ids)
    started = validity["valid_from"].cast(pa.int64()).to_numpy(zero_copy_only=False)
    ended = np.where(lapsed, np.maximum(sim.days.start - DAY, started), numbers["died"][ids])
    return {
        "number": dictionary_column(_with_errors(rng, sim, ids), sim.strings),
        "holder": pa.array([f"holder-{code}" for code in numbers["outfit"][ids]]).dictionary_encode(),
        **_valid(started, ended),
    }


def _contracts(rng: np.random.Generator, sim: Sim, _: Plan) -> Columns:
    """Draws the contracts of the network's own numbers: begin, kind of holder, and permitted calls a day."""
    numbers, table = sim.numbers, sim.table("registers")
    ids = np.flatnonzero(numbers["ours"])
    ids = ids[rng.random(len(ids)) < table["registered_share"]]
    outfit, card = numbers["outfit"][ids] >= 0, numbers["device"][ids] >= 0
    share = np.where(numbers["campaign"][ids] >= 0, table["nuisance_firm_contract_share"], table["firm_contract_share"])
    # Some people who work on their own telephone have a firm's contract.
    trades = [numbers.slice(name) for name in sim.table("work") if name in numbers.slices]
    worker = np.isin(numbers["slice"][ids], trades)
    relay = _is_relay(numbers, ids)
    # Cards have contracts of either kind, lines of a firm have a firm's, and relay numbers have no limit.
    firm = (outfit & ~card) | ((outfit | worker) & (rng.random(len(ids)) < share))
    limits = np.where(firm, np.int32(table["calls_per_day_firm"]), np.int32(table["calls_per_day_person"]))
    born = numbers["born"][ids]
    opened = sim.days.start - (DAY * rng.uniform(30, 3000, len(ids))).astype(np.int64)
    return {
        "number": dictionary_column(ids, sim.strings),  # without errors: a network knows its own numbers
        "kind": dictionary_column((firm | relay).astype(np.int64), ("person", "firm")),
        "calls_per_day": pa.array(limits, mask=relay),
        **_valid(np.where(born > 0, born, opened), numbers["died"][ids]),
    }


def _consents(rng: np.random.Generator, sim: Sim, plan: Plan) -> Columns:
    table, owner = sim.table("registers"), sim.numbers["outfit"][plan.caller]
    rows = np.flatnonzero((owner >= 0) & (plan.outcome == ANSWERED))
    share = np.where(plan.campaign[rows] >= 0, table["nuisance_consent_share"], table["consent_share"])
    rows = rows[rng.random(len(rows)) < share]
    pairs = np.unique(plan.callee[rows].astype(np.int64) << 32 | owner[rows])
    since = sim.days.start - (DAY * rng.uniform(1, 400, len(pairs))).astype(np.int64)
    return {
        "callee": dictionary_column(pairs >> 32, sim.strings),
        "principal": pa.array([f"principal-{code}" for code in (pairs & 0xFFFFFFFF).tolist()]).dictionary_encode(),
        **_valid(since, since + (DAY * rng.uniform(100, 1000, len(pairs))).astype(np.int64)),
    }


def _refusals(rng: np.random.Generator, sim: Sim, _: Plan) -> Columns:
    society = sim.society
    weight = society.exposure / society.exposure.mean()
    people = np.flatnonzero(rng.random(society.subscribers) < sim.table("registers")["refusal_share"] * weight)
    since = _recently(rng, sim, len(people))
    return {
        "callee": dictionary_column(people, sim.strings),
        "industry": dictionary_column(rng.integers(0, len(INDUSTRIES), len(people)), INDUSTRIES),
        **_valid(since),
    }


def _preferences(rng: np.random.Generator, sim: Sim, _: Plan) -> Columns:
    table = sim.table("registers")
    people = np.flatnonzero(rng.random(sim.society.subscribers) < table["preference_share"])
    since = _recently(rng, sim, len(people))
    return {
        "callee": dictionary_column(people, sim.strings),
        "category": dictionary_column(rng.integers(0, len(INDUSTRIES), len(people)), INDUSTRIES),
        "accepts": pa.array(rng.random(len(people)) < table["accepts_share"]),
        **_valid(since),
    }


def _recently(rng: np.random.Generator, sim: Sim, count: int) -> Int64s:
    days: Floats = rng.uniform(-400, 20, count)
    return sim.days.start + (DAY * days).astype(np.int64)


def _protected(rng: np.random.Generator, sim: Sim, _: Plan) -> Columns:
    numbers = sim.numbers
    names = [name for name in PUBLIC if name in numbers.slices]
    ids = np.flatnonzero(np.isin(numbers["slice"], [numbers.slice(name) for name in names]))
    ids = ids[rng.random(len(ids)) < sim.table("registers")["registered_share"]]
    reasons = np.array([names.index(numbers.slices[code]) for code in numbers["slice"][ids]], dtype=np.int64)
    return {
        "number": dictionary_column(_with_errors(rng, sim, ids), sim.strings),
        "reason": dictionary_column(reasons, names),
        **_validity(sim, ids),
    }


def _recycled(rng: np.random.Generator, sim: Sim, _: Plan) -> Columns:
    ids = sim.society.members("recycled")
    ids = ids[rng.random(len(ids)) < sim.table("registers")["registered_share"]]
    return {"number": dictionary_column(ids, sim.strings), **_validity(sim, ids)}


def _risk_regions(rng: np.random.Generator, sim: Sim, _: Plan) -> Columns:
    area = sim.numbers["area"]
    ids = np.flatnonzero(area == rng.choice(np.unique(area[area > 0])[1:]))
    return {
        "number": dictionary_column(ids, sim.strings),
        "region": pa.array(["listed area"] * len(ids)).dictionary_encode(),
        **_valid(np.full(len(ids), sim.days.start - 90 * DAY)),
        "known_at": _timestamps(np.full(len(ids), sim.days.start - 80 * DAY)),
    }


_COLUMNS: dict[str, Callable[[np.random.Generator, Sim, Plan], Columns]] = {
    "campaigns": _campaigns,
    "trunks": _trunks,
    "number_resources": _resources,
    "subscribers": _contracts,
    "consents": _consents,
    "refusals": _refusals,
    "preferences": _preferences,
    "protected": _protected,
    "recycled": _recycled,
    "risk_regions": _risk_regions,
}
REGISTERS = tuple(_COLUMNS)
