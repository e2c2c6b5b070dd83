"""Outfits: firms, gangs and robots that dial from a pool of numbers, and gangs that dial from lent cards; and the calls
between their numbers and people who know them, such as friends of agents and customers who call in.

Benign outfits (customer service, alerts) and nuisance outfits use the same code with different parameters: only their
behaviour distinguishes them, not the way in which they are simulated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from callsieve.features.arrays import Array, Floats, Int8s, Int32s, Int64s
from callsieve.features.records import ROUTES
from callsieve.training.world.basis.dialling import DialledCalls, Dialler, dial, with_redials
from callsieve.training.world.basis.draws import choose, lognormal
from callsieve.training.world.basis.numbering import (
    AREAS,
    OPERATORS,
    TRUNK_KINDS,
    Campaign,
    attestations,
    hunt_group,
    in_blocks,
    lead_code,
    mobile_blocks,
    operators,
)
from callsieve.training.world.basis.plans import ANSWERED, CALLER, Plan, draw_outcomes, join, planned_calls
from callsieve.training.world.basis.scenario import Manner, Spread
from callsieve.training.world.basis.timing import DAY, MINUTE, SECOND, Calendar, clock

from .sim import Sim
from .ties import stranger_callbacks
from .tricks import TRICKS

MAX_OUTFITS = 20_000
OUTFIT_VARIATION = Spread(1.0, 0.32)  # of an outfit's answer rate and talk time around its population's
CARDS = 5  # per gang that dials from lent cards; assumed
ANSWERING_SHARE = 0.9  # of a line for incoming calls
BOT_ANSWER_SHARE = 0.97
INTEREST_ANSWER = 0.8  # factor on the chance that an agent answers
LATER_MINUTES = Spread(600.0, 1.6)
RETURN_MINUTES = Spread(90.0, 1.2)
ABROAD = ("foreign", "foreign_86")  # the second presents a mobile number of this country
MOBILE = ("mobile", "resale", "foreign_86")
MIN_LIFETIME = DAY // 6
MAX_CHAIN = 64
SAME_KIND_SHARE = 0.8  # chance that a new block is of the same kind as the previous one


@dataclass(frozen=True)
class Aim:
    """How an outfit chooses its callees."""

    outside_share: float
    dead_share: float
    sequential: bool


def trade_lists(sim: Sim) -> list[Int64s]:
    """Draws dialling lists of subscribers, weighted by exposure, so that lists overlap."""
    rng, table, society = sim.stream("lists"), sim.table("lists"), sim.society
    count = society.subscribers
    lists = max(table["least"], count // table["subscribers_per_list"])
    chance = np.cumsum(society.exposure / society.exposure.sum())
    size = min(table["people_per_list"], count // 2)
    drawn = [np.searchsorted(chance, rng.random(size) * chance[-1], side="right") for _ in range(lists)]
    return [np.unique(members) for members in drawn]


def outfit_calls(sim: Sim, name: str, ordinary: int) -> Plan:
    """Draws all calls of a population: adds outfits until they make their share of calls per `ordinary` calls."""
    rng = sim.stream(name)
    outfit = sim.scenario.read(Outfit, f"outfits.{name}")
    if outfit.attack == "lent_card":
        return _lent_calls(rng, sim, outfit, name) if outfit.calls_per_1000 > 0 else join([])
    budget = outfit.calls_per_1000 * ordinary / 1000
    plans: list[Plan] = []
    planned, founded = 0.0, 0
    while outfit.calls_per_1000 > 0 and (founded < outfit.least or planned < budget):
        if founded >= MAX_OUTFITS:
            raise ValueError(f"outfits.{name}: calls_per_1000 needs more than {MAX_OUTFITS} outfits")
        part, calls = _one_outfit_calls(rng, sim, outfit, (name, f"{name}-{founded:03d}"), budget)
        plans.append(part)
        planned += calls
        founded += 1
    return join(plans)


def _one_outfit_calls(
    rng: np.random.Generator, sim: Sim, population: Outfit, names: tuple[str, str], budget: float
) -> tuple[Plan, float]:
    """Draws one outfit; returns its calls and the count of calls it dialled."""
    born, died = lifetimes(rng, population, sim.days)
    rate = lognormal(rng, population.rate, len(born))
    expected = _expected(population, rate, born, died, sim.days)
    few = _limited(rng, expected, min(population.most_calls, budget / population.least))
    born, died, rate = born[few], died[few], rate[few]
    ids = add_numbers(rng, sim, population, *names, (born, died))
    outfit = replace(population, manner=_varied(rng, population.manner))
    warmed = born + int(outfit.warm_up_days * DAY)
    lives = np.maximum(warmed, sim.days.start), np.minimum(died, sim.days.end)
    parallel = bool(sim.numbers["lines"][ids[0]] > 1 and outfit.mode != "human")
    calls = _with_recording(rng, outfit, dial(rng, sim.days, outfit, rate, lives, parallel))
    people = sim.lists[int(rng.integers(0, len(sim.lists)))]
    dead = _dead_share(rng, outfit)
    aim = Aim(outfit.outside_share, dead, bool(rng.random() < outfit.sequential_share))
    near = _nearby(rng, outfit.area, sim.society.subscribers) if outfit.area > 0 else people
    plan = _with_callees(rng, sim, outfit, aim, near, calls, ids)
    if outfit.attack in TRICKS:
        plan = TRICKS[outfit.attack](rng, sim, plan, ids)
    bots = padding_calls(rng, sim, outfit, ids)
    interested = interested_callbacks(rng, sim, plan, outfit.interest_share)
    back = stranger_callbacks(rng, sim, outfit, plan)
    friends = friendly_calls(rng, sim, outfit, ids)
    inbound = inbound_calls(rng, sim, outfit, ids, people)
    return join([plan, back, interested, bots, friends, inbound]), float(len(calls.start))


def _lent_calls(rng: np.random.Generator, sim: Sim, outfit: Outfit, name: str) -> Plan:
    """Draws the calls of gangs from cards that subscribers lend, with an honest history, until they are cut off."""
    numbers, members = sim.numbers, sim.society.members("lender")
    members = members[numbers["lent_from"][members] < sim.days.end]
    plans = []
    for number, first in enumerate(range(0, len(members), CARDS)):
        ids = members[first : first + CARDS]
        numbers.slice(name)
        numbers["campaign"][ids] = numbers.campaign(outfit.drawn_campaign(rng, f"{name}-{number:03d}", name))
        rate = lognormal(rng, outfit.rate, len(ids))
        lives = np.maximum(numbers["lent_from"][ids], sim.days.start), np.minimum(numbers["died"][ids], sim.days.end)
        calls = dial(rng, sim.days, outfit, rate, lives)
        people = sim.lists[int(rng.integers(0, len(sim.lists)))]
        aim = Aim(outfit.outside_share, _dead_share(rng, outfit), sequential=False)
        plans.append(_with_callees(rng, sim, outfit, aim, people, calls, ids))
    plan = join(plans)
    return join([plan, stranger_callbacks(rng, sim, outfit, plan)])


def _expected(outfit: Outfit, rate: Floats, born: Int64s, died: Int64s, days: Calendar) -> Floats:
    alive = (np.minimum(died, days.end) - np.maximum(born, days.start)) / DAY
    attending = outfit.attend_share * (5 + 2 * outfit.weekend_share) / 7
    return alive * attending * outfit.working_hours * rate


def _limited(rng: np.random.Generator, expected: Floats, most: float) -> Int64s:
    """Draws which numbers an outfit keeps so that it makes at most `most` calls.

    In a small world an outfit has fewer numbers, but each behaves as in a large world.
    """
    order = rng.permutation(len(expected))
    # The number that crosses the limit is included: otherwise long lifetimes would be too rare.
    included = np.cumsum(expected[order]) - expected[order] < most
    return np.sort(order[included])


def _varied(rng: np.random.Generator, manner: Manner) -> Manner:
    answer, talk, reject, release = lognormal(rng, OUTFIT_VARIATION, 4)
    return replace(
        manner,
        answer_share=float(min(0.95, manner.answer_share * answer)),
        reject_share=float(min(0.6, manner.reject_share * reject)),
        callee_release_share=float(manner.callee_release_share ** (1 / release)),
        talk=replace(manner.talk, median=float(manner.talk.median * talk)),
    )


def _with_recording(rng: np.random.Generator, outfit: Outfit, calls: DialledCalls) -> DialledCalls:
    if outfit.recording_s.median <= 0:
        return calls
    ring, talk, outcome, released = calls.ends
    length = SECOND * lognormal(rng, outfit.recording_s, 1)[0]
    answered = outcome == ANSWERED
    heard = answered & (rng.random(len(talk)) < outfit.heard_share)
    end = length + SECOND * rng.normal(0.0, 0.35, len(talk))
    talk = np.where(answered, np.maximum(np.where(heard, end, np.minimum(talk, end)), SECOND), 0)
    released = np.where(heard, CALLER, released).astype(np.int8)
    return replace(calls, ends=(ring, talk.astype(np.int32), outcome, released))


def _dead_share(rng: np.random.Generator, outfit: Outfit) -> float:
    return float(min(0.5, lognormal(rng, outfit.dead, 1)[0]))


def _with_callees(
    rng: np.random.Generator, sim: Sim, outfit: Outfit, aim: Aim, people: Int64s, calls: DialledCalls, ids: Array
) -> Plan:
    drawn = _callees(rng, sim, aim, people, len(calls.start))
    callee = with_redials(rng, calls, drawn, outfit.again_share)
    caller = ids[calls.who]
    return planned_calls(calls.start, caller, callee, calls.ends, sim.numbers["campaign"][caller])


def _nearby(rng: np.random.Generator, area: int, subscribers: int) -> Int64s:
    first = int(rng.integers(0, subscribers))
    return (first + np.arange(min(area, subscribers))) % subscribers


def _callees(rng: np.random.Generator, sim: Sim, aim: Aim, people: Int64s, count: int) -> Int32s:
    if aim.sequential:
        return _sequential(rng, sim, aim, count)
    rounds = -(-count // max(len(people), 1))
    picked = np.concatenate([rng.permutation(people) for _ in range(rounds)] or [people])[:count]
    luck = rng.random(count)
    outside = luck < aim.outside_share
    picked[outside] = sim.society.draw_outsiders(rng, int(outside.sum()))
    dead = luck > 1 - aim.dead_share
    picked[dead] = _unallocated(rng, sim, aim, rng.integers(0, sim.society.subscribers, int(dead.sum())))
    return picked.astype(np.int32)


def _sequential(rng: np.random.Generator, sim: Sim, aim: Aim, count: int) -> Int32s:
    subscribers = sim.society.subscribers
    first = int(rng.integers(0, subscribers))
    gaps = rng.random(count) < min(0.5, 3 * aim.dead_share)
    picked = sim.society.by_digits[(first + np.cumsum(~gaps)) % subscribers]
    picked[gaps] = _unallocated(rng, sim, aim, picked[gaps])
    chosen: Int32s = picked.astype(np.int32)
    return chosen


def _unallocated(rng: np.random.Generator, sim: Sim, aim: Aim, neighbours: Int64s) -> Int32s:
    digits = sim.numbers["digits"][neighbours] + rng.integers(1, 10, len(neighbours))
    return sim.numbers.add(digits, ours=rng.random(len(digits)) >= aim.outside_share)


def friendly_calls(rng: np.random.Generator, sim: Sim, outfit: Outfit, ids: Int32s) -> Plan:
    """Draws calls in both directions between each number and a few people; outgoing ones belong to its campaign."""
    if outfit.friends == 0 or outfit.friend_calls_per_day <= 0:
        return join([])
    born, died = sim.lifetime(ids)
    who = np.repeat(np.arange(len(ids)), outfit.friends)
    people = rng.integers(0, sim.society.people, len(who))
    calls = rng.poisson(outfit.friend_calls_per_day * np.exp(rng.standard_normal(len(who))) * (died - born)[who] / DAY)
    who, people = np.repeat(who, calls), np.repeat(people, calls)
    start = clock(sim.days, sim.table("clocks.family")).draw(rng, born[who], died[who])
    outward = rng.random(len(who)) < 0.5
    caller = np.where(outward, ids[who], people)
    callee = np.where(outward, people, ids[who])
    campaign = np.where(outward, sim.numbers["campaign"][ids[who]], -1)
    return planned_calls(start, caller, callee, draw_outcomes(rng, sim.manner, len(start)), campaign)


def padding_calls(rng: np.random.Generator, sim: Sim, outfit: Outfit, ids: Int32s) -> Plan:
    """Draws calls to the outfit's own lines, which answer and talk long to improve its averages."""
    if outfit.bots == 0 or outfit.bot_calls_per_day <= 0:
        return join([])
    born, died = sim.lifetime(ids)
    who = np.repeat(np.arange(len(ids)), rng.poisson(outfit.bot_calls_per_day * np.maximum(died - born, 0) / DAY))
    lines = sim.society.draw_outsiders(rng, outfit.bots)
    start = clock(sim.days, sim.table("clocks.office")).draw(rng, born[who], died[who])
    manner = replace(sim.manner, answer_share=BOT_ANSWER_SHARE)
    callee, campaign = lines[rng.integers(0, outfit.bots, len(who))], sim.numbers["campaign"][ids[who]]
    ends = draw_outcomes(rng, manner, len(start), talk=outfit.bot_talk_s / manner.talk.median)
    return planned_calls(start, ids[who], callee, ends, campaign)


def interested_callbacks(rng: np.random.Generator, sim: Sim, plan: Plan, share: float) -> Plan:
    """Draws calls back of people who talked to the outfit, hours or days later."""
    people = plan.callee < sim.society.people
    talked = plan.take(people & (plan.outcome == ANSWERED) & (rng.random(len(plan)) < share))
    start = talked.end + (MINUTE * lognormal(rng, LATER_MINUTES, len(talked))).astype(np.int64)
    day = (sim.days.hour(start) >= 8) & (sim.days.hour(start) < 21)
    ends = draw_outcomes(rng, sim.manner, int(day.sum()), answer=INTEREST_ANSWER)
    return planned_calls(start[day], talked.callee[day], talked.caller[day], ends)


def inbound_calls(rng: np.random.Generator, sim: Sim, outfit: Outfit, ids: Int32s, customers: Int64s) -> Plan:
    """Draws calls of customers, and calls back to some of them; each line has its own rate."""
    if outfit.inbound_per_day <= 0:
        return join([])
    born, died = sim.lifetime(ids)
    calls = rng.poisson(outfit.inbound_per_day * np.exp(rng.standard_normal(len(ids))) * (died - born) / DAY)
    who = np.repeat(np.arange(len(ids)), calls)
    customer = customers[rng.integers(0, len(customers), len(who))]
    start = clock(sim.days, sim.table("clocks.office")).draw(rng, born[who], died[who])
    answering = replace(outfit.manner, answer_share=ANSWERING_SHARE)
    inward = planned_calls(start, customer, ids[who], draw_outcomes(rng, answering, len(start), talk=2.0))
    back = inward.take((inward.outcome == ANSWERED) & (rng.random(len(inward)) < outfit.inbound_callback_share))
    later = back.end + (MINUTE * lognormal(rng, RETURN_MINUTES, len(back))).astype(np.int64)
    office = (sim.days.hour(later) >= 8) & (sim.days.hour(later) < 20)
    campaign = sim.numbers["campaign"][back.callee[office]]
    ends = draw_outcomes(rng, outfit.manner, int(office.sum()), answer=1.4)
    outward = planned_calls(later[office], back.callee[office], back.caller[office], ends, campaign)
    return join([inward, outward])


@dataclass(frozen=True, kw_only=True)
class Outfit(Dialler):
    """Parameters of a population of outfits (firms, gangs and robots); `benign.toml` explains each."""

    nuisance: bool
    calls_per_1000: float
    most_calls: int
    least: int
    mode: str
    attack: str
    content: dict[str, float]
    agents: Spread
    run_days: Spread
    number_days: Spread
    pool: dict[str, float]
    mixed_block_share: float
    new_block_share: float
    numbers_per_device: float
    own_network_share: float
    local_share: float
    shared_trunk_share: float
    agent_sim_share: float
    silent_share: float
    lines: int
    dead: Spread
    sequential_share: float
    recording_s: Spread
    heard_share: float
    interest_share: float
    warm_up_days: float
    bots: int
    bot_calls_per_day: float
    bot_talk_s: float
    friends: int
    friend_calls_per_day: float
    inbound_per_day: float
    inbound_callback_share: float
    area: int

    def drawn_campaign(self, rng: np.random.Generator, title: str, slice_name: str) -> Campaign:
        """Returns a campaign with a content that is drawn by weight."""
        content = list(self.content)[int(choose(rng, self.content, 1)[0])]
        return Campaign(title, slice_name, content, self.mode, self.attack or None)


def lifetimes(rng: np.random.Generator, outfit: Outfit, days: Calendar) -> tuple[Int64s, Int64s]:
    """Draws begin and end of each number that is alive in the world; every agent uses one number after another.

    An outfit can start at any time, even before the world or near its end. Repeats until a number is alive.
    """
    while True:
        run = int(max(DAY / 2, DAY * lognormal(rng, outfit.run_days, 1)[0]))
        begin = int(rng.integers(days.start - run, days.end - DAY // 4))
        agents = max(1, round(lognormal(rng, outfit.agents, 1)[0]))
        length = (DAY * lognormal(rng, outfit.number_days, agents * MAX_CHAIN)).astype(np.int64)
        ends = begin + np.cumsum(np.maximum(length, MIN_LIFETIME).reshape(agents, MAX_CHAIN), axis=1)
        starts = np.column_stack((np.full(agents, begin), ends[:, :-1]))
        ends = np.minimum(ends, begin + run)
        alive = (starts < begin + run) & (ends > days.start) & (starts < days.end)
        alive &= ends - starts >= MIN_LIFETIME // 2
        if alive.any():
            return starts[alive], ends[alive]


def add_numbers(
    rng: np.random.Generator, sim: Sim, outfit: Outfit, slice_name: str, title: str, lives: tuple[Int64s, Int64s]
) -> Int32s:
    """Adds an outfit's numbers to the directory, block by block, and returns their ids."""
    numbers, numbering, (born, died) = sim.numbers, sim.table("numbering"), lives
    campaign = -1
    if outfit.nuisance:
        campaign = numbers.campaign(outfit.drawn_campaign(rng, title, slice_name))
    slice_code, area, count = numbers.slice(slice_name), numbering["area_code"], len(born)
    group = np.cumsum(rng.random(count) < outfit.new_block_share).astype(np.int64)
    group -= group[0]
    ours = bool(rng.random() < outfit.own_network_share)
    trunk = numbers.trunk(rng, outfit.shared_trunk_share, numbering["trunks"]["most_tenants"])
    devices = numbers.new("device", int(np.ceil(count / outfit.numbers_per_device)))
    # A device can also hold an agent's own card, so a device is no certain sign of an outfit.
    private = int(numbers["device"][rng.integers(0, sim.society.subscribers)])
    devices[0] = private if rng.random() < outfit.agent_sim_share else devices[0]
    cells = rng.integers(0, numbers.taken["cell"], 2)
    kind = ""
    ids = []
    for code in range(int(group[-1]) + 1):
        rows = np.flatnonzero(group == code)
        if not kind or rng.random() > SAME_KIND_SHARE:
            kind = list(outfit.pool)[int(choose(rng, outfit.pool, 1)[0])]
        mixed = kind == "mobile" and rng.random() < outfit.mixed_block_share
        here = mixed or rng.random() < outfit.local_share
        place = _area(rng, kind, area, here)
        digits = _digits(rng, kind, len(rows), place, sim.society.blocks if mixed else None)
        handset: dict[str, Any] = {}
        if ours and kind in {"mobile", "resale"}:
            handset = {"device": devices[rows * len(devices) // count], "home": cells[0], "work": cells[1]}
        ids.append(
            numbers.add(
                digits,
                **_of_kind(kind, outfit.lines, ours, trunk),
                **handset,
                slice=slice_code,
                campaign=campaign,
                born=born[rows],
                died=died[rows],
                operator=_operator(rng, kind, digits),
                area=place,
                attestation=attestations(rng, numbering["attestation"][_access(kind, ours)], len(rows)),
            )
        )
    added = np.concatenate(ids)
    numbers["silent"][added] = rng.random() < outfit.silent_share
    numbers["outfit"][added] = numbers.new("outfit", 1)
    return added


def _of_kind(kind: str, lines: int, ours: bool, trunk: int) -> dict[str, int]:
    on_trunk, abroad = kind in TRUNK_KINDS, kind in ABROAD
    return {
        "lead": lead_code(kind),
        "lines": lines if on_trunk else 1,
        "trunk": trunk if on_trunk else -1,
        "ours": ours and not abroad,
        "route": ROUTES.index("international" if abroad else "domestic"),
    }


def _digits(rng: np.random.Generator, kind: str, count: int, area: int, subscriber_blocks: Int64s | None) -> Int64s:
    if kind not in MOBILE:
        return hunt_group(rng, kind, count, area)
    if subscriber_blocks is not None:
        return in_blocks(rng, rng.choice(subscriber_blocks, 1), count)
    return in_blocks(rng, mobile_blocks(rng, 1, "resale" if kind == "resale" else "mobile"), count)


def _area(rng: np.random.Generator, kind: str, here: int, local: bool) -> int:
    if kind not in (*MOBILE, "fixed"):
        return 0
    return here if local else int(rng.choice([area for area in AREAS if area != here]))


def _access(kind: str, ours: bool) -> str:
    if kind in ABROAD:
        return "foreign"
    if kind in TRUNK_KINDS:
        return "trunk"
    return "own_network" if ours else "other_network"


def _operator(rng: np.random.Generator, kind: str, digits: Int64s) -> Int8s:
    if kind in MOBILE:
        return operators(digits)
    code = OPERATORS.index("foreign") if kind == "foreign" else int(rng.integers(0, 3))
    return np.full(len(digits), code, dtype=np.int8)
