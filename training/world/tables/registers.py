"""Registers of a simulated world: incomplete, late and partly wrong, as a system would see them beside the calls.

Every row has a validity (`valid_from`, `valid_to`) and the time since which the register has it (`known_at`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from callsieve.features.arrays import Bools, Int64s
from callsieve.training.world.basis.draws import lognormal, stream
from callsieve.training.world.basis.numbering import NEVER, Directory
from callsieve.training.world.basis.plans import ANSWERED, Plan
from callsieve.training.world.basis.scenario import Scenario, Spread
from callsieve.training.world.basis.timing import DAY, Calendar
from callsieve.training.world.callers.people import Society
from callsieve.training.world.callers.relay import SLICE as RELAY

from .arrow_tables import TIMESTAMP, dictionary_column

INDUSTRIES = ("loans", "insurance", "property", "education", "securities", "health", "recruitment", "travel")
REGISTERS = (
    "campaigns",
    "trunks",
    "number_resources",
    "subscribers",
    "consents",
    "refusals",
    "preferences",
    "protected",
    "recycled",
    "risk_regions",
)
USES = ("customer service", "call centre", "own use", "number relay")
PUBLIC = ("government", "hospital")  # slices with numbers that must not be blocked


def draw_registers(
    scenario: Scenario, seed: int, society: Society, numbers: Directory, plan: Plan, strings: pa.Array, days: Calendar
) -> dict[str, pa.Table]:
    """Draws the tables REGISTERS; table `registers` of the scenario holds their error rates and lags."""
    table = scenario.table("registers")
    rng = {name: stream(seed, f"register {name}") for name in REGISTERS}
    firms = np.flatnonzero((numbers["outfit"] >= 0) & (numbers["trunk"] >= 0))
    hours = {name: outfit["hours"] for name, outfit in scenario.table("outfits").items()}
    outbound = _campaigns(rng["campaigns"], table, hours, stream(seed, "register hours"), numbers, strings, days)
    relays = _relays(stream(seed, "register relays"), table, numbers, strings, days, outbound.schema)
    return {
        "campaigns": pa.concat_tables([outbound, relays]).unify_dictionaries(),
        "trunks": _trunks(rng["trunks"], table, numbers, strings, days),
        "number_resources": _resources(rng["number_resources"], table, numbers, firms, strings, days),
        "subscribers": _contracts(rng["subscribers"], table, tuple(scenario.table("work")), numbers, strings, days),
        "consents": _consents(rng["consents"], table, numbers, plan, strings, days),
        "refusals": _refusals(rng["refusals"], table, society, strings, days),
        "preferences": _preferences(rng["preferences"], table, society, strings, days),
        "protected": _protected(rng["protected"], table, numbers, strings, days),
        "recycled": _recycled(rng["recycled"], table, society, numbers, strings, days),
        "risk_regions": _risk_regions(rng["risk_regions"], numbers, strings, days),
    }


def _known_at(rng: np.random.Generator, table: dict[str, Any], since: Int64s) -> Int64s:
    lag: Int64s = (DAY * lognormal(rng, Spread(**table["lag_days"]), len(since))).astype(np.int64)
    return since + lag


def _timestamps(values: Int64s) -> pa.Array:
    return pa.array(values, TIMESTAMP, mask=values == NEVER)


def _validity(numbers: Directory, ids: Int64s, days: Calendar) -> dict[str, pa.Array]:
    """Returns columns with the validity of numbers: from allocation to the end of their use."""
    born = np.where(numbers["born"][ids] > 0, numbers["born"][ids], days.start - 365 * DAY)
    return {"valid_from": _timestamps(born), "valid_to": _timestamps(numbers["died"][ids])}


def _with_known_at(rng: np.random.Generator, table: dict[str, Any], columns: dict[str, pa.Array]) -> pa.Table:
    since = columns["valid_from"].cast(pa.int64()).to_numpy(zero_copy_only=False)
    return pa.table({**columns, "known_at": _timestamps(_known_at(rng, table, since))})


def _with_errors(rng: np.random.Generator, table: dict[str, Any], ids: Int64s, numbers: Directory) -> Int64s:
    """Returns ids as the register has them: a share is replaced by a random number."""
    wrong = rng.random(len(ids)) < table["wrong_number_share"]
    return np.where(wrong, rng.integers(0, len(numbers), len(ids)), ids)


def _campaigns(
    rng: np.random.Generator,
    table: dict[str, Any],
    work_hours: dict[str, list[float]],
    rng_hours: np.random.Generator,
    numbers: Directory,
    strings: pa.Array,
    days: Calendar,
) -> pa.Table:
    """Returns the outbound register: business, principal and hours of a number's calls. Some nuisance callers register
    falsely.

    Its rows decide how a study is split (`dataset.campaigns_of`), so hours have a random stream of their own.
    """
    nuisance = numbers["campaign"] >= 0
    share = np.where(nuisance, table["nuisance_registered_share"], table["registered_share"])
    ids = np.flatnonzero((numbers["outfit"] >= 0) & (rng.random(len(numbers)) < share))
    names = [*numbers.slices, *INDUSTRIES]
    first = len(numbers.slices)
    false = first + rng.integers(0, len(INDUSTRIES), len(ids))
    business = np.where(nuisance[ids], false, numbers["slice"][ids])
    columns = {
        "number": dictionary_column(_with_errors(rng, table, ids, numbers), strings),
        "business": dictionary_column(business, names),
        "principal": pa.array(
            [f"principal-{code}" for code in numbers["outfit"][ids]], pa.string()
        ).dictionary_encode(),
        "outsourced": pa.array(rng.random(len(ids)) < table["outsourced_share"]),
        **_declared_hours(rng_hours, work_hours, numbers, ids),
        **_validity(numbers, ids, days),
    }
    return _with_known_at(rng, table, columns)


def _declared_hours(
    rng: np.random.Generator, work_hours: dict[str, list[float]], numbers: Directory, ids: Int64s
) -> dict[str, pa.Array]:
    """Draws the hours that a firm declares for all of its numbers: its working hours, or office hours for a false
    declaration.
    """
    count = numbers.taken.get("outfit", 0)
    first, last = rng.integers(8, 10, count), rng.integers(17, 22, count)
    wider = rng.integers(0, 2, (2, count))  # some declare an extra hour
    for code, name in enumerate(numbers.slices):
        mine = np.unique(numbers["outfit"][(numbers["slice"] == code) & (numbers["campaign"] < 0)])
        if name in work_hours and (mine := mine[mine >= 0]).size:
            first[mine] = np.floor(work_hours[name][0]) - wider[0, mine]
            last[mine] = np.ceil(work_hours[name][1]) + wider[1, mine]
    outfit = numbers["outfit"][ids]
    return {"hour_from": pa.array(first[outfit].astype(np.int8)), "hour_to": pa.array(last[outfit].astype(np.int8))}


def _relays(
    rng: np.random.Generator,
    table: dict[str, Any],
    numbers: Directory,
    strings: pa.Array,
    days: Calendar,
    like: pa.Schema,
) -> pa.Table:
    """Returns the registrations of relay numbers; their licensed platform registers all of them."""
    ids = np.flatnonzero(numbers["slice"] == numbers.slice(RELAY))
    columns = {
        "number": dictionary_column(ids, strings),  # without errors: a wrong row would join two groups of the split
        "business": pa.array([RELAY] * len(ids), pa.string()),
        "principal": pa.array(["principal-relay"] * len(ids), pa.string()),
        "outsourced": pa.array([False] * len(ids)),
        "hour_from": pa.array([0] * len(ids), pa.int8()),
        "hour_to": pa.array([24] * len(ids), pa.int8()),
        **_validity(numbers, ids, days),
    }
    return _with_known_at(rng, table, columns).cast(like)


def _registered(rng: np.random.Generator, table: dict[str, Any], numbers: Directory) -> Bools:
    """Returns whether each number is registered: a firm registers all of its numbers or none."""
    firm = rng.random(numbers.taken.get("outfit", 0) + 1) < table["registered_share"]
    firm[-1] = False  # numbers without a firm
    registered: Bools = firm[numbers["outfit"]] | (numbers["slice"] == numbers.slice(RELAY))
    return registered


def _uses(rng: np.random.Generator, numbers: Directory) -> Int64s:
    """Draws the declared use of each trunk, an index into USES: that of its benign numbers, or a random one."""
    count = numbers.taken.get("trunk", 0)
    used = rng.integers(0, 3, count)
    benign = np.flatnonzero((numbers["trunk"] >= 0) & (numbers["campaign"] < 0))
    digits, trunk = numbers["digits"][benign], numbers["trunk"][benign]
    number_400, centre = digits // 10**7 == 400, (digits >= 95_000_000) & (digits < 95_300_000)
    office = rng.choice((USES.index("customer service"), USES.index("own use")), count)
    used[trunk] = office[trunk]
    used[trunk[centre]] = USES.index("call centre")
    used[trunk[number_400]] = USES.index("customer service")
    used[trunk[numbers["slice"][benign] == numbers.slice(RELAY)]] = USES.index("number relay")
    return used


def _trunks(
    rng: np.random.Generator, table: dict[str, Any], numbers: Directory, strings: pa.Array, days: Calendar
) -> pa.Table:
    """Returns the numbers that a trunk may present, and its declared use; the register is incomplete."""
    ids = np.flatnonzero((numbers["trunk"] >= 0) & _registered(rng, table, numbers))
    entered = np.where(numbers["slice"][ids] == numbers.slice(RELAY), ids, _with_errors(rng, table, ids, numbers))
    trunks = [f"trunk-{code}" for code in range(numbers.taken.get("trunk", 0))]
    columns = {
        "trunk": dictionary_column(numbers["trunk"][ids], trunks),
        "number": dictionary_column(entered, strings),
        "declared_use": dictionary_column(_uses(rng, numbers)[numbers["trunk"][ids]], USES),
        **_validity(numbers, ids, days),
    }
    return _with_known_at(rng, table, columns)


def _resources(
    rng: np.random.Generator,
    table: dict[str, Any],
    numbers: Directory,
    firms: Int64s,
    strings: pa.Array,
    days: Calendar,
) -> pa.Table:
    """Draws the holders of office, 95 and 400 numbers; a share of the licences is expired."""
    ids = firms[rng.random(len(firms)) < table["registered_share"]]
    lapsed = rng.random(len(ids)) < np.where(numbers["campaign"][ids] >= 0, 0.3, table["lapsed_share"])
    validity = _validity(numbers, ids, days)
    ended = validity["valid_to"].cast(pa.int64()).fill_null(NEVER).to_numpy(zero_copy_only=False)
    started = validity["valid_from"].cast(pa.int64()).to_numpy(zero_copy_only=False)
    validity["valid_to"] = _timestamps(np.where(lapsed, np.maximum(days.start - DAY, started), ended))
    columns = {
        "number": dictionary_column(_with_errors(rng, table, ids, numbers), strings),
        "holder": pa.array([f"holder-{code}" for code in numbers["outfit"][ids]]).dictionary_encode(),
        **validity,
    }
    return _with_known_at(rng, table, columns)


def _contracts(
    rng: np.random.Generator,
    table: dict[str, Any],
    work: tuple[str, ...],
    numbers: Directory,
    strings: pa.Array,
    days: Calendar,
) -> pa.Table:
    """Draws the contracts of the network's own numbers: begin, kind of holder, and permitted calls a day.

    Args:
        work: slices of people who work on their own telephone; some of them have a firm's contract, like firms.
    """
    ids = np.flatnonzero(numbers["ours"])
    ids = ids[rng.random(len(ids)) < table["registered_share"]]
    outfit, card = numbers["outfit"][ids] >= 0, numbers["device"][ids] >= 0
    share = np.where(numbers["campaign"][ids] >= 0, table["nuisance_firm_contract_share"], table["firm_contract_share"])
    worker = np.isin(numbers["slice"][ids], [numbers.slice(name) for name in work if name in numbers.slices])
    relay = numbers["slice"][ids] == numbers.slice(RELAY)
    # Cards have contracts of either kind, lines of a firm have a firm's, and relay numbers have no limit.
    firm = (outfit & ~card) | ((outfit | worker) & (rng.random(len(ids)) < share))
    limits = np.where(firm, table["calls_per_day_firm"], table["calls_per_day_person"])
    born = numbers["born"][ids]
    opened = days.start - (DAY * rng.uniform(30, 3000, len(ids))).astype(np.int64)
    # Without errors: a network knows its own numbers.
    columns = {
        "number": dictionary_column(ids, strings),
        "kind": dictionary_column((firm | relay).astype(np.int64), ("person", "firm")),
        "calls_per_day": pa.array(limits.astype(np.int32), mask=relay),
        "valid_from": _timestamps(np.where(born > 0, born, opened)),
        "valid_to": _timestamps(numbers["died"][ids]),
    }
    return _with_known_at(rng, table, columns)


def _protected(
    rng: np.random.Generator, table: dict[str, Any], numbers: Directory, strings: pa.Array, days: Calendar
) -> pa.Table:
    """Returns the numbers of public services, which must never be blocked."""
    names = [name for name in PUBLIC if name in numbers.slices]
    ids = np.flatnonzero(np.isin(numbers["slice"], [numbers.slice(name) for name in names]))
    ids = ids[rng.random(len(ids)) < table["registered_share"]]
    reasons = np.array([names.index(numbers.slices[code]) for code in numbers["slice"][ids]], dtype=np.int64)
    columns = {
        "number": dictionary_column(_with_errors(rng, table, ids, numbers), strings),
        "reason": dictionary_column(reasons, names),
        **_validity(numbers, ids, days),
    }
    return _with_known_at(rng, table, columns)


def _consents(
    rng: np.random.Generator, table: dict[str, Any], numbers: Directory, plan: Plan, strings: pa.Array, days: Calendar
) -> pa.Table:
    """Draws people's consents to calls of a firm; nuisance callers also obtained some, which people did not read."""
    owner = numbers["outfit"][plan.caller]
    rows = np.flatnonzero((owner >= 0) & (plan.outcome == ANSWERED))
    share = np.where(plan.campaign[rows] >= 0, table["nuisance_consent_share"], table["consent_share"])
    rows = rows[rng.random(len(rows)) < share]
    pairs = np.unique(plan.callee[rows].astype(np.int64) << 32 | owner[rows])
    since = days.start - (DAY * rng.uniform(1, 400, len(pairs))).astype(np.int64)
    columns = {
        "callee": dictionary_column(pairs >> 32, strings),
        "principal": pa.array([f"principal-{code}" for code in (pairs & 0xFFFFFFFF).tolist()]).dictionary_encode(),
        "valid_from": _timestamps(since),
        "valid_to": _timestamps(since + (DAY * rng.uniform(100, 1000, len(pairs))).astype(np.int64)),
    }
    return _with_known_at(rng, table, columns)


def _refusals(
    rng: np.random.Generator, table: dict[str, Any], society: Society, strings: pa.Array, days: Calendar
) -> pa.Table:
    """Draws people's refusals of calls of an industry; more exposed people refuse more often."""
    weight = society.exposure / society.exposure.mean()
    people = np.flatnonzero(rng.random(society.subscribers) < table["refusal_share"] * weight)
    since = days.start + (rng.uniform(-400, 20, len(people)) * DAY).astype(np.int64)
    columns = {
        "callee": dictionary_column(people, strings),
        "industry": dictionary_column(rng.integers(0, len(INDUSTRIES), len(people)), INDUSTRIES),
        "valid_from": _timestamps(since),
        "valid_to": _timestamps(np.full(len(people), NEVER)),
    }
    return _with_known_at(rng, table, columns)


def _preferences(
    rng: np.random.Generator, table: dict[str, Any], society: Society, strings: pa.Array, days: Calendar
) -> pa.Table:
    """Draws people's preferences about categories of calls, as set with their operator."""
    people = np.flatnonzero(rng.random(society.subscribers) < table["preference_share"])
    since = days.start + (rng.uniform(-400, 20, len(people)) * DAY).astype(np.int64)
    columns = {
        "callee": dictionary_column(people, strings),
        "category": dictionary_column(rng.integers(0, len(INDUSTRIES), len(people)), INDUSTRIES),
        "accepts": pa.array(rng.random(len(people)) < table["accepts_share"]),
        "valid_from": _timestamps(since),
        "valid_to": _timestamps(np.full(len(people), NEVER)),
    }
    return _with_known_at(rng, table, columns)


def _recycled(
    rng: np.random.Generator,
    table: dict[str, Any],
    society: Society,
    numbers: Directory,
    strings: pa.Array,
    days: Calendar,
) -> pa.Table:
    """Returns the numbers with a new owner; the register is incomplete."""
    ids = society.members("recycled")
    ids = ids[rng.random(len(ids)) < table["registered_share"]]
    columns = {"number": dictionary_column(ids, strings), **_validity(numbers, ids, days)}
    return _with_known_at(rng, table, columns)


def _risk_regions(rng: np.random.Generator, numbers: Directory, strings: pa.Array, days: Calendar) -> pa.Table:
    """Returns the numbers of one other area with stricter rules; its people behave like all others."""
    areas = np.unique(numbers["area"][numbers["area"] > 0])
    ids = np.flatnonzero(numbers["area"] == rng.choice(areas[1:]))
    count = len(ids)
    columns = {
        "number": dictionary_column(ids, strings),
        "region": pa.array(["listed area"] * count).dictionary_encode(),
        "valid_from": _timestamps(np.full(count, days.start - 90 * DAY)),
        "valid_to": _timestamps(np.full(count, NEVER)),
    }
    return pa.table({**columns, "known_at": _timestamps(np.full(count, days.start - 80 * DAY))})
