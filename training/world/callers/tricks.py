"""Calls that show another number than the caller's, or come from many numbers at once: relays, spoofing, bombing.

A relay number belongs to a platform. It connects caller and callee, and many people's calls share it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from callsieve.features.arrays import Int32s, Int64s
from callsieve.training.world.basis.draws import choose, group_positions
from callsieve.training.world.basis.numbering import (
    TRUNK_KINDS,
    attestations,
    hunt_group,
    in_blocks,
    lead_code,
    mobile_blocks,
    operators,
)
from callsieve.training.world.basis.plans import ANSWERED, CALLEE, Plan, join
from callsieve.training.world.basis.timing import MINUTE, SECOND

from .sim import Sim

RELAY = "relay"  # slice of the relay numbers
BRIDGE = 2 * SECOND  # from the first leg to the second
BOMBING_MINUTES = 20.0
BOMBING_PER_MINUTE = 38.0  # source: one victim's complaint about calls from neighbours of one fixed number


def relay_numbers(sim: Sim) -> Int32s:
    """Adds the relay numbers of platforms to the directory, and returns their ids."""
    rng, numbers = sim.stream(RELAY), sim.numbers
    table, numbering = sim.table("relay"), sim.table("numbering")
    count = max(table["least"], sim.society.subscribers // table["subscribers_per_number"])
    kinds = choose(rng, table["pool"], count)
    trunk = int(numbers.new("trunk", 1)[0])
    ids = []
    for code, kind in enumerate(table["pool"]):
        some = int((kinds == code).sum())
        if kind in TRUNK_KINDS:
            digits, operator = hunt_group(rng, kind, some, numbering["area_code"]), np.full(some, 0)
        else:
            digits = in_blocks(rng, mobile_blocks(rng, 1, kind), some)
            operator = operators(digits)
        ids.append(
            numbers.add(
                digits,
                lead=lead_code(kind),
                slice=numbers.slice(RELAY),
                lines=table["lines"],
                ours=True,
                trunk=trunk,
                operator=operator,
                attestation=attestations(rng, numbering["attestation"]["trunk"], some),
            )
        )
    return np.concatenate(ids)


def two_legs(rng: np.random.Generator, sim: Sim, plan: Plan) -> Plan:
    """Splits each call into two legs, to the relay number and from it to the callee; a pair keeps its relay number."""
    relay = _relays_of(rng, sim, plan)
    first, second = plan.take(slice(None)), plan.take(slice(None))
    first.callee, second.caller = relay, relay
    second.start = plan.start + BRIDGE
    first.ring = np.where(plan.ring > 0, plan.ring + BRIDGE, 0).astype(np.int32)
    return join([first, second])


def _relays_of(rng: np.random.Generator, sim: Sim, plan: Plan) -> Int32s:
    pair = plan.caller.astype(np.int64) << 32 | plan.callee
    _, which = np.unique(pair, return_inverse=True)
    chosen: Int32s = sim.relays[rng.integers(0, len(sim.relays), int(which.max(initial=-1)) + 1)][which]
    return chosen


def relay_callback(rng: np.random.Generator, sim: Sim, plan: Plan, _: Int32s) -> Plan:
    """Turns each call into two incoming calls of a platform: first to the agent, who answers, then to the callee.

    So the agent makes no call, and the victim sees a relay number.
    """
    relay = _relays_of(rng, sim, plan)
    first, second = plan.take(slice(None)), plan.take(slice(None))
    first.caller, first.callee, second.caller = relay, plan.caller, relay
    second.start = plan.start + BRIDGE
    first.talk, first.ring = np.maximum(plan.ring + plan.talk, SECOND), np.full_like(plan.ring, BRIDGE)
    first.outcome, first.released = np.full_like(plan.outcome, ANSWERED), np.full_like(plan.released, CALLEE)
    first.campaign = np.full_like(plan.campaign, -1)  # the agent is no victim
    return join([first, second])


def spoofed_service(rng: np.random.Generator, sim: Sim, plan: Plan, ids: Int32s) -> Plan:
    """Replaces the number that the victim sees by the number of a bank."""
    banks = np.flatnonzero(sim.numbers["slice"] == sim.numbers.slice("bank_risk"))
    return _spoofed(plan, banks[rng.integers(0, len(banks), 1)], ids) if len(banks) else plan


def spoofed_subscriber(rng: np.random.Generator, sim: Sim, plan: Plan, ids: Int32s) -> Plan:
    """Replaces the number that the victim sees by an uninvolved subscriber's; the outfit uses a few such numbers."""
    return _spoofed(plan, rng.integers(0, sim.society.subscribers, len(ids)), ids)


def _spoofed(plan: Plan, masks: Int64s, ids: Int32s) -> Plan:
    position = np.searchsorted(ids, plan.caller)
    spoofed = plan.take(slice(None))
    spoofed.via = plan.caller
    spoofed.caller = masks[position % len(masks)].astype(np.int32)
    return spoofed


def bombing(rng: np.random.Generator, sim: Sim, plan: Plan, ids: Int32s) -> Plan:
    """Makes all numbers call the same victim for minutes, one victim after another."""
    if not len(plan):
        return plan
    size = round(BOMBING_MINUTES * BOMBING_PER_MINUTE)
    rounds = max(1, len(plan) // size)
    counts = np.full(rounds, size)[: len(plan)]
    calls = plan.take(np.arange(min(rounds * size, len(plan))))
    born, died = int(sim.numbers["born"][ids].max()), int(sim.numbers["died"][ids].min())
    first = np.clip(rng.choice(plan.start, rounds), max(born, sim.days.start), max(died, born + 1))
    pace = MINUTE / BOMBING_PER_MINUTE
    which = np.repeat(np.arange(rounds), counts)[: len(calls)]
    calls.start = first[which] + (group_positions(counts)[: len(calls)] * pace).astype(np.int64)
    calls.callee = rng.integers(0, sim.society.subscribers, rounds)[which].astype(np.int32)
    calls.caller = ids[rng.integers(0, len(ids), len(calls))]
    return calls


TRICKS: dict[str, Callable[[np.random.Generator, Sim, Plan, Int32s], Plan]] = {
    "relay_callback": relay_callback,
    "spoofed_service": spoofed_service,
    "spoofed_subscriber": spoofed_subscriber,
    "bombing": bombing,
}
"""Evasion tricks that change the calls of an outfit with some numbers, beyond the outfit's parameters."""
