"""Tricks that need more than other parameters: what becomes of an outfit's calls when it plays one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from callsieve.training.world.basis.draws import group_positions
from callsieve.training.world.basis.numbering import Directory
from callsieve.training.world.basis.plans import Plan
from callsieve.training.world.basis.timing import MINUTE, Calendar

from .people import Society
from .relay import both_incoming

BOMBING_MINUTES = 20.0
BOMBING_PER_MINUTE = 38.0  # source: one victim's report of calls from neighbours of one fixed number


@dataclass(frozen=True)
class TrickContext:
    """What a trick finds: the outfit's numbers, other people's numbers, and the numbers that banks call from."""

    society: Society
    days: Calendar
    numbers: Directory
    relays: NDArray[np.int32]
    ids: NDArray[np.int32]


def relay_callback(rng: np.random.Generator, plan: Plan, stage: TrickContext) -> Plan:
    """A platform calls both sides: the agent's number makes no call, the victim sees a number that many share."""
    return both_incoming(rng, plan, stage.relays)


def spoofed_service(rng: np.random.Generator, plan: Plan, stage: TrickContext) -> Plan:
    """The victim sees the number of a bank."""
    banks = np.flatnonzero(stage.numbers["slice"] == stage.numbers.slice("bank_risk"))
    return _spoofed(plan, banks[rng.integers(0, len(banks), 1)], stage) if len(banks) else plan


def spoofed_subscriber(rng: np.random.Generator, plan: Plan, stage: TrickContext) -> Plan:
    """The victim sees the number of somebody who knows nothing of it; a few such numbers, one after the other."""
    return _spoofed(plan, rng.integers(0, stage.society.subscribers, len(stage.ids)), stage)


def _spoofed(plan: Plan, masks: NDArray[np.int64], stage: TrickContext) -> Plan:
    place = np.searchsorted(stage.ids, plan.caller)
    shown = plan.take(slice(None))
    shown.via = plan.caller
    shown.caller = masks[place % len(masks)].astype(np.int32)
    return shown


def bombing(rng: np.random.Generator, plan: Plan, stage: TrickContext) -> Plan:
    """All numbers at once call one victim after the other, for minutes on end."""
    if not len(plan):
        return plan
    size = round(BOMBING_MINUTES * BOMBING_PER_MINUTE)
    rounds = max(1, len(plan) // size)
    counts = np.full(rounds, size)[: len(plan)]
    calls = plan.take(np.arange(min(rounds * size, len(plan))))
    born = int(stage.numbers["born"][stage.ids].max())
    died = int(stage.numbers["died"][stage.ids].min())
    first = np.clip(rng.choice(plan.start, rounds), max(born, stage.days.start), max(died, born + 1))
    pace = MINUTE / BOMBING_PER_MINUTE
    which = np.repeat(np.arange(rounds), counts)[: len(calls)]
    calls.start = first[which] + (group_positions(counts)[: len(calls)] * pace).astype(np.int64)
    calls.callee = rng.integers(0, stage.society.subscribers, rounds)[which].astype(np.int32)
    calls.caller = stage.ids[rng.integers(0, len(stage.ids), len(calls))]
    return calls


Trick = Callable[[np.random.Generator, Plan, TrickContext], Plan]
TRICKS: dict[str, Trick] = {
    "relay_callback": relay_callback,
    "spoofed_service": spoofed_service,
    "spoofed_subscriber": spoofed_subscriber,
    "bombing": bombing,
}
