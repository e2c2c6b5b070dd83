"""Evasion tricks that change an outfit's calls, beyond its parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from callsieve.features.arrays import Int32s, Int64s
from callsieve.training.world.basis.draws import group_positions
from callsieve.training.world.basis.numbering import Directory
from callsieve.training.world.basis.plans import Plan
from callsieve.training.world.basis.timing import MINUTE, Calendar

from .people import Society
from .relay import both_incoming

BOMBING_MINUTES = 20.0
BOMBING_PER_MINUTE = 38.0  # source: one victim's complaint about calls from neighbours of one fixed number


@dataclass(frozen=True)
class TrickContext:
    """The parts of the world that a trick uses; `ids` are the outfit's numbers, `relays` the relay numbers."""

    society: Society
    days: Calendar
    numbers: Directory
    relays: Int32s
    ids: Int32s


def relay_callback(rng: np.random.Generator, plan: Plan, context: TrickContext) -> Plan:
    """Replaces each call by two calls of a platform: the agent makes no call, and the victim sees a relay number."""
    return both_incoming(rng, plan, context.relays)


def spoofed_service(rng: np.random.Generator, plan: Plan, context: TrickContext) -> Plan:
    """Replaces the number that the victim sees by the number of a bank."""
    banks = np.flatnonzero(context.numbers["slice"] == context.numbers.slice("bank_risk"))
    return _spoofed(plan, banks[rng.integers(0, len(banks), 1)], context) if len(banks) else plan


def spoofed_subscriber(rng: np.random.Generator, plan: Plan, context: TrickContext) -> Plan:
    """Replaces the number that the victim sees by an uninvolved subscriber's; the outfit uses a few such numbers."""
    return _spoofed(plan, rng.integers(0, context.society.subscribers, len(context.ids)), context)


def _spoofed(plan: Plan, masks: Int64s, context: TrickContext) -> Plan:
    position = np.searchsorted(context.ids, plan.caller)
    spoofed = plan.take(slice(None))
    spoofed.via = plan.caller
    spoofed.caller = masks[position % len(masks)].astype(np.int32)
    return spoofed


def bombing(rng: np.random.Generator, plan: Plan, context: TrickContext) -> Plan:
    """Makes all numbers call the same victim for minutes, one victim after another."""
    if not len(plan):
        return plan
    size = round(BOMBING_MINUTES * BOMBING_PER_MINUTE)
    rounds = max(1, len(plan) // size)
    counts = np.full(rounds, size)[: len(plan)]
    calls = plan.take(np.arange(min(rounds * size, len(plan))))
    born = int(context.numbers["born"][context.ids].max())
    died = int(context.numbers["died"][context.ids].min())
    first = np.clip(rng.choice(plan.start, rounds), max(born, context.days.start), max(died, born + 1))
    pace = MINUTE / BOMBING_PER_MINUTE
    which = np.repeat(np.arange(rounds), counts)[: len(calls)]
    calls.start = first[which] + (group_positions(counts)[: len(calls)] * pace).astype(np.int64)
    calls.callee = rng.integers(0, context.society.subscribers, rounds)[which].astype(np.int32)
    calls.caller = context.ids[rng.integers(0, len(context.ids), len(calls))]
    return calls


Trick = Callable[[np.random.Generator, Plan, TrickContext], Plan]
TRICKS: dict[str, Trick] = {
    "relay_callback": relay_callback,
    "spoofed_service": spoofed_service,
    "spoofed_subscriber": spoofed_subscriber,
    "bombing": bombing,
}
