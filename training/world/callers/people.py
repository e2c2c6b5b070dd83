"""The people of a world: subscribers with numbers and devices, and the outsiders whom they know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from callsieve.features.arrays import Int8s, Int32s, Int64s
from callsieve.features.records import ROUTES
from callsieve.training.world.basis.draws import choose, lognormal
from callsieve.training.world.basis.numbering import (
    AREAS,
    MOBILE_BLOCK,
    NEVER,
    OPERATORS,
    attestations,
    in_blocks,
    lead_code,
    mobile_blocks,
    operators,
    scattered,
)
from callsieve.training.world.basis.scenario import Spread
from callsieve.training.world.basis.timing import DAY, HOUR

from .sim import Kinds, Sim, Society


@dataclass(frozen=True)
class Kind:
    """A kind of subscriber; `people.kinds` in `default.toml` explains the values."""

    share: float
    least: int
    activity: float
    shift_h: float
    outward: float
    exposure: float


def create_society(sim: Sim, count: int) -> Society:
    """Draws `count` subscribers and their outsiders, and adds their numbers to the directory."""
    rng, numbers, table = sim.stream("people"), sim.numbers, sim.table("people")
    specs = {name: sim.scenario.read(Kind, f"people.kinds.{name}") for name in table["kinds"]}
    outsiders = int(count * table["outsiders_per_subscriber"])
    everybody = count + outsiders
    kinds = _kinds(rng, specs, count)
    activity = np.exp(table["sociability_sigma"] * rng.standard_normal(everybody))
    activity = np.minimum(activity, table["most_activity"])
    shift = table["chronotype_h"] * rng.standard_normal(everybody)
    outward = table["outward_sigma"] * rng.standard_normal(everybody)
    # Only the part of outsiders' habits that concerns people of this network.
    outward[count:] *= table["outsiders_outward_share"]
    exposure = np.exp(table["exposure_sigma"] * rng.standard_normal(count))
    for name, spec in specs.items():
        members = kinds.any_of(name)
        activity[:count][members] *= spec.activity
        shift[:count][members] += spec.shift_h
        outward[:count][members] += spec.outward
        exposure[members] *= spec.exposure
    blocks = _subscribers(rng, sim, kinds)
    habits = sim.stream("habits")
    numbers["voicemail"][:count] = habits.random(count) < table["voicemail"]["share"]
    numbers["silent"][:count] = kinds.any_of("second_card") & (habits.random(count) < table["silent_share"])
    _outsiders(rng, sim, outsiders)
    return Society(
        subscribers=count,
        outsiders=outsiders,
        kinds=kinds,
        activity=activity,
        talk=np.exp(table["talk_sigma"] * habits.standard_normal(everybody)),
        reach=np.clip(np.exp(table["reach_sigma"] * rng.standard_normal(everybody)), 0.2, 1.8),
        # People who call and shop more are on more lists.
        exposure=np.sqrt(activity[:count]) * exposure,
        outward=outward,
        shift=(shift * HOUR).astype(np.int64),
        blocks=blocks,
        by_digits=np.argsort(numbers["digits"][:count], kind="stable"),
    )


def _kinds(rng: np.random.Generator, specs: dict[str, Kind], count: int) -> Kinds:
    row = rng.permutation(count)
    kind = np.full(count, -1, dtype=np.int8)
    first = 0
    for code, spec in enumerate(specs.values()):
        members = max(spec.least, round(spec.share * count))
        kind[row[first : first + members]] = code
        first += members
    if first > count:
        raise ValueError(f"people.kinds need {first} subscribers, the size has {count}")
    return Kinds(tuple(specs), kind)


def _subscribers(rng: np.random.Generator, sim: Sim, kinds: Kinds) -> Int64s:
    """Adds the numbers of subscribers, and returns their blocks."""
    table, numbers, count = sim.table("numbering"), sim.numbers, len(kinds.code)
    blocks = mobile_blocks(rng, max(8, count // table["subscribers_per_block"]))
    digits, leads, operator = _personal(rng, sim, "subscriber_pool", count, blocks)
    ported = rng.random(count) < table["ported_share"]
    operator[ported] = rng.integers(0, OPERATORS.index("foreign"), int(ported.sum()))
    codes = np.array([numbers.slice(name) for name in ("ordinary", *kinds.names)])
    cells = numbers.new("cell", max(4, count // table["cell_people"]))
    numbers.add(
        digits,
        lead=leads,
        slice=codes[kinds.code + 1],
        ours=True,
        operator=operator,
        device=_devices(rng, digits, numbers.new("device", count), table["shared_device_share"]),
        area=_areas(rng, count, table["area_code"], table["from_here_share"]),
        home=cells[np.arange(count) * len(cells) // count],
        work=cells[rng.integers(0, len(cells), count)],
        attestation=attestations(rng, table["attestation"]["own_network"], count),
        **_lives(rng, sim, kinds),
    )
    return blocks


def _devices(rng: np.random.Generator, digits: Int64s, devices: Int32s, share: float) -> Int32s:
    order = np.argsort(digits, kind="stable")
    block = digits[order] // MOBILE_BLOCK
    beside = np.concatenate(([False], block[1:] == block[:-1])) & (rng.random(len(order)) < share)
    shared = devices.copy()
    shared[order[1:][beside[1:]]] = devices[order[:-1][beside[1:]]]
    return shared


def _areas(rng: np.random.Generator, count: int, here: int, share: float) -> Int64s:
    return np.where(rng.random(count) < share, here, rng.choice(AREAS, count))


def _lives(rng: np.random.Generator, sim: Sim, kinds: Kinds) -> dict[str, Int64s]:
    """Draws the lifetime of each number, the time from which it is lent, and the time abroad."""
    table, count, days = sim.table("people"), len(kinds.code), sim.days
    length = days.end - days.start

    def at(low: float, high: float) -> Int64s:
        return days.start + (rng.uniform(low, high, count) * length).astype(np.int64)

    new = kinds.any_of("new_number", "recycled")
    born = np.where(new, at(0.05, 0.9), 0)
    leaves = (rng.random(count) < table["leave_share"]) & ~new
    died = np.where(leaves, at(0.1, 1.0), NEVER)
    lender, lent_days = kinds.any_of("lender"), lognormal(rng, Spread(**table["lent_days"]), count)
    lent_from = at(-0.1, 0.95)
    cut_off = lent_from + (DAY * lent_days).astype(np.int64)
    lender &= cut_off > days.start + DAY
    roamer, away = kinds.any_of("roamer"), at(0.0, 0.8)
    trip = (DAY * lognormal(rng, Spread(**table["trip_days"]), count)).astype(np.int64)
    return {
        "born": born,
        "died": np.where(lender, cut_off, died),
        "lent_from": np.where(lender, lent_from, NEVER),
        "away_from": np.where(roamer, away, NEVER),
        "away_to": np.where(roamer, away + trip, NEVER),
    }


def _outsiders(rng: np.random.Generator, sim: Sim, count: int) -> None:
    table = sim.table("numbering")
    blocks = mobile_blocks(rng, max(8, count // table["outsiders_per_block"]))
    digits, leads, operator = _personal(rng, sim, "outsider_pool", count, blocks)
    foreign = leads == lead_code("foreign")
    attested = np.where(
        foreign,
        attestations(rng, table["attestation"]["foreign"], count),
        attestations(rng, table["attestation"]["other_network"], count),
    )
    route = np.where(foreign, ROUTES.index("international"), ROUTES.index("domestic"))
    # A shop's or an office's fixed number has several lines.
    lines = np.where(leads == lead_code("fixed"), 6, 1)
    sim.numbers.add(
        digits,
        lead=leads,
        slice=sim.numbers.slice("elsewhere"),
        lines=lines,
        operator=operator,
        attestation=attested,
        route=route,
        area=np.where(foreign, 0, _areas(rng, count, table["area_code"], table["outsider_from_here_share"])),
    )


def _personal(rng: np.random.Generator, sim: Sim, pool: str, count: int, blocks: Int64s) -> tuple[Int64s, Int8s, Int8s]:
    """Draws digits, prefix code and operator of people's numbers."""
    table = sim.table("numbering")
    names = list(table[pool])
    kind = choose(rng, table[pool], count)
    digits = in_blocks(rng, blocks, count)
    leads = np.zeros(count, dtype=np.int8)
    for code, name in enumerate(names):
        rows = np.flatnonzero(kind == code)
        leads[rows] = lead_code(name)
        if name == "resale":
            resale = mobile_blocks(rng, max(4, len(rows) // 8), "resale")
            digits[rows] = in_blocks(rng, resale, len(rows))
        elif name != "mobile":
            digits[rows] = scattered(rng, name, len(rows), table["area_code"])
    operator = operators(digits)
    operator[leads == lead_code("foreign")] = OPERATORS.index("foreign")
    return digits, leads, operator
