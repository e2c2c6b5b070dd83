"""Calls between an outfit's numbers and people who know them: friends of agents, customers who call in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from callsieve.features.arrays import Int32s, Int64s
from callsieve.training.world.basis.draws import lognormal
from callsieve.training.world.basis.plans import ANSWERED, Plan, draw_outcomes, join, planned_calls
from callsieve.training.world.basis.scenario import Spread
from callsieve.training.world.basis.timing import DAY, MINUTE, clock

from .pools import Outfit
from .sim import Sim

ANSWERING_SHARE = 0.9  # of a line for incoming calls
BOT_ANSWER_SHARE = 0.97
INTEREST_ANSWER = 0.8  # factor on the chance that an agent answers
LATER_MINUTES = Spread(600.0, 1.6)
RETURN_MINUTES = Spread(90.0, 1.2)


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
