"""Work calls from a subscriber's own mobile: couriers, takeaway riders, the organiser of a wedding.

These subscribers also make ordinary private calls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from callsieve.features.arrays import Int32s, Int64s
from callsieve.training.world.basis.dialling import Hours, Pace, dial, sessions, with_redials
from callsieve.training.world.basis.draws import lognormal, stream
from callsieve.training.world.basis.numbering import Directory
from callsieve.training.world.basis.plans import Plan, join, planned_calls
from callsieve.training.world.basis.scenario import Manner, Scenario, Spread
from callsieve.training.world.basis.timing import DAY, Calendar

from .people import Society
from .relay import two_legs
from .ties import stranger_callbacks


@dataclass(frozen=True)
class Work:
    """A trade; `work` in `benign.toml` explains the values."""

    rate: Spread
    rate_day_sigma: float
    pace_sigma: float
    hours: list[float]
    attend_share: float
    weekend_share: float
    area: int
    outside_share: float
    again_share: float
    callback_share: float
    callback_answer_share: float
    relay_share: float
    manner: Manner


def trade_calls(
    scenario: Scenario,
    seed: int,
    name: str,
    society: Society,
    days: Calendar,
    numbers: Directory,
    relays: Int32s,
) -> Plan:
    """Draws the work calls of a trade's members, and customers' calls back."""
    rng = stream(seed, name)
    work = scenario.read(Work, f"work.{name}")
    members = society.members(name)
    born = np.maximum(numbers["born"][members], days.start)
    died = np.minimum(numbers["died"][members], days.end)
    if name == "organiser":
        born, died = _burst(rng, born, died)
    hours = Hours(work.hours, work.attend_share, work.weekend_share)
    pace = Pace(lognormal(rng, work.rate, len(members)), work.rate_day_sigma, work.pace_sigma)
    shifts = sessions(rng, days, hours, born, died)
    calls = dial(rng, shifts, hours, pace, work.manner, days)
    customers = _customers(rng, work, calls.who, members, society)
    callee = with_redials(rng, calls.who, customers, work.again_share, calls.ends[2])
    plan = planned_calls(calls.start, members[calls.who], callee, calls.ends)
    hidden = (rng.random(len(members)) < work.relay_share)[calls.who]
    plan = join([plan.take(~hidden), two_legs(rng, plan.take(hidden), relays)])
    back = stranger_callbacks(scenario, rng, society, plan, days, work.callback_share, work.callback_answer_share)
    return join([plan, back])


def _burst(rng: np.random.Generator, born: Int64s, died: Int64s) -> tuple[Int64s, Int64s]:
    """Draws two to four days within each lifetime."""
    length = rng.integers(2, 5, len(born)) * DAY
    first = born + (rng.random(len(born)) * np.maximum(died - born - length, 0)).astype(np.int64)
    return first, np.minimum(first + length, died)


def _customers(
    rng: np.random.Generator,
    work: Work,
    who: Int64s,
    members: Int64s,
    society: Society,
) -> Int32s:
    """Draws customers: strangers near the member, or outsiders."""
    either = members[who] + rng.integers(-work.area // 2, work.area // 2 + 1, (2, len(who)))
    either %= society.subscribers
    # More exposed people buy more: the more exposed of two neighbours is the customer.
    near = np.where(society.exposure[either[0]] > society.exposure[either[1]], either[0], either[1])
    far = society.subscribers + rng.integers(0, society.outsiders, len(who))
    outside = rng.random(len(who)) < work.outside_share
    return np.where(outside, far, near).astype(np.int32)
