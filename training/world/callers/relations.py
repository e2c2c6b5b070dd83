"""Calls between an outfit's numbers and people who know them: friends of agents, customers who call in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from callsieve.features.arrays import Int32s, Int64s
from callsieve.training.world.basis.draws import lognormal
from callsieve.training.world.basis.numbering import Directory
from callsieve.training.world.basis.plans import ANSWERED, Plan, draw_calls, join
from callsieve.training.world.basis.scenario import Manner, Scenario, Spread
from callsieve.training.world.basis.timing import DAY, MINUTE, Calendar, clock

from .people import Society

ANSWERING_SHARE = 0.9  # of a line for incoming calls
BOT_ANSWER_SHARE = 0.97
INTEREST_ANSWER = 0.8  # factor on the chance that an agent answers
LATER_MINUTES = Spread(600.0, 1.6)
RETURN_MINUTES = Spread(90.0, 1.2)


@dataclass(frozen=True)
class Relations:
    """The parts of the world that calls between acquaintances depend on."""

    scenario: Scenario
    society: Society
    days: Calendar
    numbers: Directory

    def lifetime(self, ids: Int32s) -> tuple[Int64s, Int64s]:
        """Returns begin and end of each number's life within the world."""
        born = np.maximum(self.numbers["born"][ids], self.days.start)
        return born, np.minimum(self.numbers["died"][ids], self.days.end)


def friendly_calls(rng: np.random.Generator, world: Relations, ids: Int32s, friends: int, per_day: float) -> Plan:
    """Draws calls in both directions between each number and a few people; outgoing ones belong to its campaign."""
    if friends == 0 or per_day <= 0:
        return join([])
    born, died = world.lifetime(ids)
    who = np.repeat(np.arange(len(ids)), friends)
    people = rng.integers(0, world.society.subscribers + world.society.outsiders, len(who))
    calls = rng.poisson(per_day * np.exp(rng.standard_normal(len(who))) * (died - born)[who] / DAY)
    who, people = np.repeat(who, calls), np.repeat(people, calls)
    ticking = clock(world.days, world.scenario.table("clocks.family"))
    start = ticking.draw(rng, born[who], died[who])
    outward = rng.random(len(who)) < 0.5
    caller = np.where(outward, ids[who], people)
    callee = np.where(outward, people, ids[who])
    campaign = np.where(outward, world.numbers["campaign"][ids[who]], -1)
    return draw_calls(rng, start, caller, callee, world.scenario.read(Manner, "people.manner"), campaign)


def padding_calls(
    rng: np.random.Generator, world: Relations, ids: Int32s, bots: int, per_day: float, talk_s: float
) -> Plan:
    """Draws calls to the outfit's own lines, which answer and talk long to improve its averages."""
    if bots == 0 or per_day <= 0:
        return join([])
    born, died = world.lifetime(ids)
    who = np.repeat(np.arange(len(ids)), rng.poisson(per_day * np.maximum(died - born, 0) / DAY))
    lines = rng.integers(world.society.subscribers, world.society.subscribers + world.society.outsiders, bots)
    start = clock(world.days, world.scenario.table("clocks.office")).draw(rng, born[who], died[who])
    manner = replace(world.scenario.read(Manner, "people.manner"), answer_share=BOT_ANSWER_SHARE)
    longer = talk_s / manner.talk.median
    callee, campaign = lines[rng.integers(0, bots, len(who))], world.numbers["campaign"][ids[who]]
    return draw_calls(rng, start, ids[who], callee, manner, campaign, talk=longer)


def interested_callbacks(rng: np.random.Generator, world: Relations, plan: Plan, share: float) -> Plan:
    """Draws calls back of people who talked to the outfit, hours or days later."""
    people = plan.callee < world.society.subscribers + world.society.outsiders
    talked = plan.take(people & (plan.outcome == ANSWERED) & (rng.random(len(plan)) < share))
    start = talked.end + (MINUTE * lognormal(rng, LATER_MINUTES, len(talked))).astype(np.int64)
    day = (world.days.hour(start) >= 8) & (world.days.hour(start) < 21)
    manner = world.scenario.read(Manner, "people.manner")
    return draw_calls(rng, start[day], talked.callee[day], talked.caller[day], manner, answer=INTEREST_ANSWER)


def inbound_calls(
    rng: np.random.Generator,
    world: Relations,
    ids: Int32s,
    customers: Int64s,
    per_day: float,
    callback_share: float,
    manner: Manner,
) -> Plan:
    """Draws calls of customers, and calls back to some of them; each line has its own rate."""
    if per_day <= 0:
        return join([])
    born, died = world.lifetime(ids)
    calls = rng.poisson(per_day * np.exp(rng.standard_normal(len(ids))) * (died - born) / DAY)
    who = np.repeat(np.arange(len(ids)), calls)
    customer = customers[rng.integers(0, len(customers), len(who))]
    ticking = clock(world.days, world.scenario.table("clocks.office"))
    start = ticking.draw(rng, born[who], died[who])
    answering = replace(manner, answer_share=ANSWERING_SHARE)
    inward = draw_calls(rng, start, customer, ids[who], answering, talk=2.0)
    back = inward.take((inward.outcome == ANSWERED) & (rng.random(len(inward)) < callback_share))
    later = back.end + (MINUTE * lognormal(rng, RETURN_MINUTES, len(back))).astype(np.int64)
    office = (world.days.hour(later) >= 8) & (world.days.hour(later) < 20)
    campaign = world.numbers["campaign"][back.callee[office]]
    outward = draw_calls(rng, later[office], back.callee[office], back.caller[office], manner, campaign, answer=1.4)
    return join([inward, outward])
