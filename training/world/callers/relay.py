"""Relay numbers: a platform's number connects caller and callee, and many people's calls share it."""

from __future__ import annotations

import numpy as np

from callsieve.features.arrays import Int32s
from callsieve.training.world.basis.draws import choose, stream
from callsieve.training.world.basis.numbering import (
    TRUNK_KINDS,
    Directory,
    attestations,
    hunt_group,
    in_blocks,
    lead_code,
    mobile_blocks,
    operators,
)
from callsieve.training.world.basis.plans import ANSWERED, CALLEE, Plan, join
from callsieve.training.world.basis.scenario import Scenario
from callsieve.training.world.basis.timing import SECOND

SLICE = "relay"
BRIDGE = 2 * SECOND  # from the first leg to the second


def relay_numbers(scenario: Scenario, seed: int, subscribers: int, numbers: Directory) -> Int32s:
    """Adds the relay numbers of platforms to the directory, and returns their ids."""
    rng = stream(seed, "relay")
    table, numbering = scenario.table("relay"), scenario.table("numbering")
    count = max(table["least"], subscribers // table["subscribers_per_number"])
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
                slice=numbers.slice(SLICE),
                lines=table["lines"],
                ours=True,
                trunk=trunk,
                operator=operator,
                attestation=attestations(rng, numbering["attestation"]["trunk"], some),
            )
        )
    return np.concatenate(ids)


def two_legs(rng: np.random.Generator, plan: Plan, relays: Int32s) -> Plan:
    """Splits each call into two legs, to the relay number and from it to the callee; a pair keeps its relay number."""
    relay = _relays_of(rng, plan, relays)
    first, second = plan.take(slice(None)), plan.take(slice(None))
    first.callee, second.caller = relay, relay
    second.start = plan.start + BRIDGE
    first.ring = np.where(plan.ring > 0, plan.ring + BRIDGE, 0).astype(np.int32)
    return join([first, second])


def both_incoming(rng: np.random.Generator, plan: Plan, relays: Int32s) -> Plan:
    """Turns each call into two incoming calls of a platform: first to the agent, who answers, then to the callee."""
    relay = _relays_of(rng, plan, relays)
    first, second = plan.take(slice(None)), plan.take(slice(None))
    first.caller, first.callee, second.caller = relay, plan.caller, relay
    second.start = plan.start + BRIDGE
    first.talk, first.ring = np.maximum(plan.ring + plan.talk, SECOND), np.full_like(plan.ring, BRIDGE)
    first.outcome, first.released = np.full_like(plan.outcome, ANSWERED), np.full_like(plan.released, CALLEE)
    first.campaign = np.full_like(plan.campaign, -1)  # the agent is no victim
    return join([first, second])


def _relays_of(rng: np.random.Generator, plan: Plan, relays: Int32s) -> Int32s:
    pair = plan.caller.astype(np.int64) << 32 | plan.callee
    _, which = np.unique(pair, return_inverse=True)
    chosen: Int32s = relays[rng.integers(0, len(relays), int(which.max(initial=-1)) + 1)][which]
    return chosen
