"""Lent cards: numbers with an honest history that a gang uses until they are cut off."""

from __future__ import annotations

import numpy as np

from callsieve.training.world.basis.dialling import Hours, Pace, dial, sessions, with_redials
from callsieve.training.world.basis.draws import choose, lognormal, stream
from callsieve.training.world.basis.numbering import Campaign
from callsieve.training.world.basis.plans import Plan, join, planned_calls

from .dialling_lists import Aim, callees
from .outfit import Outfit, WorldContext
from .ties import stranger_callbacks

CARDS = 5  # per gang; assumed


def lent_calls(name: str, outfit: Outfit, seed: int, world: WorldContext) -> Plan:
    """Draws the calls of gangs from the numbers of subscribers who lend theirs."""
    rng = stream(seed, name)
    days, numbers, society = world.days, world.numbers, world.society
    members = society.members("lender")
    members = members[numbers["lent_from"][members] < days.end]
    plans = []
    for number, first in enumerate(range(0, len(members), CARDS)):
        ids = members[first : first + CARDS]
        content = list(outfit.content)[int(choose(rng, outfit.content, 1)[0])]
        numbers.slice(name)
        campaign = Campaign(f"{name}-{number:03d}", name, content, outfit.mode, outfit.attack)
        numbers["campaign"][ids] = numbers.campaign(campaign)
        hours = Hours(outfit.hours, outfit.attend_share, outfit.weekend_share, outfit.after_shock_share)
        pace = Pace(lognormal(rng, outfit.rate, len(ids)), outfit.rate_day_sigma, outfit.pace_sigma)
        begin = np.maximum(numbers["lent_from"][ids], days.start)
        shifts = sessions(rng, days, hours, begin, np.minimum(numbers["died"][ids], days.end))
        calls = dial(rng, shifts, hours, pace, outfit.manner, days)
        people = world.lists[int(rng.integers(0, len(world.lists)))]
        aim = Aim(outfit.outside_share, float(min(0.5, lognormal(rng, outfit.dead, 1)[0])), False)
        drawn = callees(rng, aim, people, len(calls.start), society, numbers)
        callee = with_redials(rng, calls.who, drawn, outfit.again_share, calls.ends[2])
        caller = ids[calls.who]
        plans.append(planned_calls(calls.start, caller, callee, calls.ends, numbers["campaign"][caller]))
    plan = join(plans)
    share, answer = outfit.callback_share, outfit.callback_answer_share
    return join([plan, stranger_callbacks(world.scenario, rng, society, plan, days, share, answer)])
