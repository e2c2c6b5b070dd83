"""Outfits: firms, gangs and robots that dial from a pool of numbers.

Benign outfits (customer service, alerts) and nuisance outfits use the same code with different parameters: only their
behaviour distinguishes them, not the way in which they are simulated.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from callsieve.features.arrays import Floats, Int32s, Int64s
from callsieve.training.world.basis.dialling import DialledCalls, Hours, Pace, dial, sessions, with_redials
from callsieve.training.world.basis.draws import choose, lognormal, stream
from callsieve.training.world.basis.numbering import Campaign
from callsieve.training.world.basis.plans import ANSWERED, CALLER, Plan, join, planned_calls
from callsieve.training.world.basis.scenario import Manner, Spread
from callsieve.training.world.basis.timing import DAY, SECOND, Calendar

from .dialling_lists import Aim, callees, nearby
from .lent import lent_calls
from .outfit import Outfit, WorldContext
from .pools import Pool, add_numbers, lifetimes
from .relations import Relations, friendly_calls, inbound_calls, interested_callbacks, padding_calls
from .ties import stranger_callbacks
from .tricks import TRICKS, TrickContext

MAX_OUTFITS = 20_000
OUTFIT_VARIATION = Spread(1.0, 0.32)  # of an outfit's answer rate and talk time around its population's


def outfit_calls(name: str, seed: int, ordinary: int, world: WorldContext) -> Plan:
    """Draws all calls of a population: adds outfits until they make their share of calls per `ordinary` calls."""
    rng = stream(seed, name)
    outfit = world.scenario.read(Outfit, f"outfits.{name}")
    if outfit.attack == "lent_card":
        return lent_calls(name, outfit, seed, world) if outfit.calls_per_1000 > 0 else join([])
    budget = outfit.calls_per_1000 * ordinary / 1000
    plans: list[Plan] = []
    planned, founded = 0.0, 0
    while outfit.calls_per_1000 > 0 and (founded < outfit.least or planned < budget):
        if founded >= MAX_OUTFITS:
            raise ValueError(f"outfits.{name}: calls_per_1000 needs more than {MAX_OUTFITS} outfits")
        part, calls = _one_outfit_calls(rng, f"{name}-{founded:03d}", name, outfit, budget, world)
        plans.append(part)
        planned += calls
        founded += 1
    return join(plans)


def _one_outfit_calls(
    rng: np.random.Generator, title: str, slice_name: str, outfit: Outfit, budget: float, world: WorldContext
) -> tuple[Plan, float]:
    """Draws one outfit; returns its calls and the count of calls it dialled."""
    days, numbers = world.days, world.numbers
    hours = Hours(outfit.hours, outfit.attend_share, outfit.weekend_share, outfit.after_shock_share)
    born, died = _lifetimes(rng, outfit, days)
    rate = lognormal(rng, outfit.rate, len(born))
    few = _limited(rng, _expected(hours, rate, born, died, days), min(outfit.most_calls, budget / outfit.least))
    born, died, rate = born[few], died[few], rate[few]
    ids = _numbers(rng, title, slice_name, outfit, born, died, world)
    manner = _varied(rng, outfit.manner)
    pace = Pace(rate, outfit.rate_day_sigma, outfit.pace_sigma)
    warmed = born + int(outfit.warm_up_days * DAY)
    shifts = sessions(rng, days, hours, np.maximum(warmed, days.start), np.minimum(died, days.end))
    parallel = bool(numbers["lines"][ids[0]] > 1 and outfit.mode != "human")
    calls = dial(rng, shifts, hours, pace, manner, days, parallel)
    calls = _with_recording(rng, outfit, calls)
    people = world.lists[int(rng.integers(0, len(world.lists)))]
    plan = _with_callees(rng, outfit, calls, ids, people, world)
    if outfit.attack in TRICKS:
        stage = TrickContext(world.society, days, numbers, world.relays, ids)
        plan = TRICKS[outfit.attack](rng, plan, stage)
    relations = Relations(world.scenario, world.society, days, numbers)
    bots = padding_calls(rng, relations, ids, outfit.bots, outfit.bot_calls_per_day, outfit.bot_talk_s)
    interested = interested_callbacks(rng, relations, plan, outfit.interest_share)
    back = stranger_callbacks(
        world.scenario, rng, world.society, plan, days, outfit.callback_share, outfit.callback_answer_share
    )
    friends = friendly_calls(rng, relations, ids, outfit.friends, outfit.friend_calls_per_day)
    inbound = inbound_calls(rng, relations, ids, people, outfit.inbound_per_day, outfit.inbound_callback_share, manner)
    return join([plan, back, interested, bots, friends, inbound]), float(len(calls.start))


def _lifetimes(rng: np.random.Generator, outfit: Outfit, days: Calendar) -> tuple[Int64s, Int64s]:
    """Draws the lifetimes of an outfit's numbers; repeats until a number is alive in the world.

    An outfit can start at any time, even before the world or near its end.
    """
    while True:
        length = int(max(DAY / 2, DAY * lognormal(rng, outfit.run_days, 1)[0]))
        begin = int(rng.integers(days.start - length, days.end - DAY // 4))
        agents = max(1, round(lognormal(rng, outfit.agents, 1)[0]))
        born, died = lifetimes(rng, days, begin, begin + length, agents, outfit.number_days)
        if len(born):
            return born, died


def _expected(hours: Hours, rate: Floats, born: Int64s, died: Int64s, days: Calendar) -> Floats:
    """Returns the expected count of calls of each number in the world."""
    alive = (np.minimum(died, days.end) - np.maximum(born, days.start)) / DAY
    attending = hours.attend_share * (5 + 2 * hours.weekend_share) / 7
    return alive * attending * hours.working * rate


def _limited(rng: np.random.Generator, expected: Floats, most: float) -> Int64s:
    """Draws which numbers an outfit keeps so that it makes at most `most` calls.

    In a small world an outfit has fewer numbers, but each behaves as in a large world.
    """
    order = rng.permutation(len(expected))
    # The number that crosses the limit is included: otherwise long lifetimes would be too rare.
    included = np.cumsum(expected[order]) - expected[order] < most
    return np.sort(order[included])


def _numbers(
    rng: np.random.Generator,
    title: str,
    slice_name: str,
    outfit: Outfit,
    born: Int64s,
    died: Int64s,
    world: WorldContext,
) -> Int32s:
    campaign = -1
    if outfit.nuisance:
        content = list(outfit.content)[int(choose(rng, outfit.content, 1)[0])]
        campaign = world.numbers.campaign(Campaign(title, slice_name, content, outfit.mode, outfit.attack or None))
    pool = Pool(
        weights=outfit.pool,
        mixed_block_share=outfit.mixed_block_share,
        new_block_share=outfit.new_block_share,
        numbers_per_device=outfit.numbers_per_device,
        own_network_share=outfit.own_network_share,
        lines=outfit.lines,
        local_share=outfit.local_share,
        shared_trunk_share=outfit.shared_trunk_share,
        agent_sim_share=outfit.agent_sim_share,
    )
    numbering = world.scenario.table("numbering")
    ids = add_numbers(
        rng,
        pool,
        numbering["attestation"],
        numbering["area_code"],
        world.society.blocks,
        world.society.subscribers,
        numbering["trunks"]["most_tenants"],
        born,
        died,
        world.numbers,
        world.numbers.slice(slice_name),
        campaign,
    )
    world.numbers["silent"][ids] = rng.random() < outfit.silent_share
    world.numbers["outfit"][ids] = world.numbers.new("outfit", 1)
    return ids


def _varied(rng: np.random.Generator, manner: Manner) -> Manner:
    """Draws an outfit's own distribution of outcomes around that of its population: it has its own lists and agents."""
    answer, talk, reject, release = lognormal(rng, OUTFIT_VARIATION, 4)
    return replace(
        manner,
        answer_share=float(min(0.95, manner.answer_share * answer)),
        reject_share=float(min(0.6, manner.reject_share * reject)),
        callee_release_share=float(manner.callee_release_share ** (1 / release)),
        talk=replace(manner.talk, median=float(manner.talk.median * talk)),
    )


def _with_recording(rng: np.random.Generator, outfit: Outfit, calls: DialledCalls) -> DialledCalls:
    """Cuts talk times at the length of the recording, if the outfit plays one; a share of callees hears all of it."""
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


def _with_callees(
    rng: np.random.Generator,
    outfit: Outfit,
    calls: DialledCalls,
    ids: Int32s,
    people: Int64s,
    world: WorldContext,
) -> Plan:
    """Draws the callees of an outfit's calls."""
    dead = float(min(0.5, lognormal(rng, outfit.dead, 1)[0]))
    aim = Aim(outfit.outside_share, dead, bool(rng.random() < outfit.sequential_share))
    if outfit.area > 0:
        people = nearby(rng, outfit.area, world.society)
    drawn = callees(rng, aim, people, len(calls.start), world.society, world.numbers)
    callee = with_redials(rng, calls.who, drawn, outfit.again_share, calls.ends[2])
    caller = ids[calls.who]
    return planned_calls(calls.start, caller, callee, calls.ends, world.numbers["campaign"][caller])
