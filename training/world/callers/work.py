"""Work calls from a subscriber's own mobile: couriers, takeaway riders, the organiser of a wedding.

These subscribers also make ordinary private calls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from callsieve.features.arrays import Int32s, Int64s
from callsieve.training.world.basis.dialling import Dialler, dial, with_redials
from callsieve.training.world.basis.draws import lognormal
from callsieve.training.world.basis.plans import Plan, join, planned_calls
from callsieve.training.world.basis.timing import DAY

from .sim import Sim
from .ties import stranger_callbacks
from .tricks import two_legs


@dataclass(frozen=True, kw_only=True)
class Work(Dialler):
    """A trade; `work` in `benign.toml` explains the values."""

    area: int
    relay_share: float


def trade_calls(sim: Sim, name: str) -> Plan:
    """Draws the work calls of a trade's members, and customers' calls back."""
    rng = sim.stream(name)
    work = sim.scenario.read(Work, f"work.{name}")
    members = sim.society.members(name)
    born, died = sim.lifetime(members)
    if name == "organiser":
        born, died = _burst(rng, born, died)
    rate = lognormal(rng, work.rate, len(members))
    calls = dial(rng, sim.days, work, rate, (born, died))
    callee = with_redials(rng, calls, _customers(rng, sim, work, members[calls.who]), work.again_share)
    plan = planned_calls(calls.start, members[calls.who], callee, calls.ends)
    hidden = (rng.random(len(members)) < work.relay_share)[calls.who]
    plan = join([plan.take(~hidden), two_legs(rng, sim, plan.take(hidden))])
    return join([plan, stranger_callbacks(rng, sim, work, plan)])


def _burst(rng: np.random.Generator, born: Int64s, died: Int64s) -> tuple[Int64s, Int64s]:
    length = rng.integers(2, 5, len(born)) * DAY
    first = born + (rng.random(len(born)) * np.maximum(died - born - length, 0)).astype(np.int64)
    return first, np.minimum(first + length, died)


def _customers(rng: np.random.Generator, sim: Sim, work: Work, member: Int64s) -> Int32s:
    either = member + rng.integers(-work.area // 2, work.area // 2 + 1, (2, len(member)))
    either %= sim.society.subscribers
    # More exposed people buy more: the more exposed of two neighbours is the customer.
    exposure = sim.society.exposure
    near = np.where(exposure[either[0]] > exposure[either[1]], either[0], either[1])
    far = sim.society.draw_outsiders(rng, len(member))
    outside = rng.random(len(member)) < work.outside_share
    return np.where(outside, far, near).astype(np.int32)
