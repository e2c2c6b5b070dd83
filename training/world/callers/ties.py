"""Calls between people who know each other: the social graph, and the calls along its ties.

Neighbours in the row of people know each other (households inside communities). So a group is a range of positions, and
a tie is drawn without a search. Workmates are neighbours in a shuffled row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from callsieve.features.arrays import Floats, Int64s
from callsieve.training.world.basis.dialling import Dialler
from callsieve.training.world.basis.draws import lognormal
from callsieve.training.world.basis.plans import NO_ANSWER, Plan, callbacks, draw_outcomes, join, planned_calls
from callsieve.training.world.basis.scenario import Spread, Table
from callsieve.training.world.basis.timing import DAY, MINUTE, clock

from .sim import Sim, Society

EDGES_PER_PART = 400_000
TIES_POWER = 0.74  # ties grow with this power of a person's activity; tuned to the quartiles of peers
PAIR_BALANCE = 0.4  # sigma of the imbalance within a pair, besides habits (logit)


@dataclass(frozen=True, slots=True)
class PairCalls:
    """Calls without outcomes; `reply` is the chance that the callee calls rather than the caller, within the pair."""

    start: Int64s
    caller: Int64s
    callee: Int64s
    reply: Floats


@dataclass(frozen=True)
class Tie:
    """One layer of the social graph; `people.ties` in `default.toml` explains the values."""

    group: str
    size: int
    ties: float
    per_day: Spread
    follow_up_share: float
    clock: str
    talk: float
    outward: float  # tendency of the first of the pair to call (logit)


def ordinary_calls(sim: Sim) -> Plan:
    """Draws all calls between people who know each other, with follow-ups and calls back."""
    rng, table, society = sim.stream("ties"), sim.table("people"), sim.society
    share, delay = table["callback_share"], Spread(**table["callback_minutes"])
    plans = []
    for name in table["ties"]:
        tie = sim.scenario.read(Tie, f"people.ties.{name}")
        manner = replace(sim.manner, talk=replace(sim.manner.talk, median=sim.manner.talk.median * tie.talk))
        back = replace(manner, answer_share=table["callback_answer_share"])
        for edges in _edges(rng, tie, society):
            calls = _with_follow_ups(rng, table, tie.follow_up_share, _first_calls(rng, sim, tie, edges))
            talk = society.talk[calls.caller] * society.talk[calls.callee]
            ends = draw_outcomes(rng, manner, len(calls.start), society.pick_up(calls.callee), talk)
            plan = planned_calls(calls.start, calls.caller, calls.callee, ends)
            returned = np.minimum(1.0, 2 * share * calls.reply)
            plans += [plan, callbacks(rng, plan, sim.days, back, returned, delay, talk)]
    planned = join(plans)
    planned.keep(planned.start < sim.numbers["lent_from"][planned.caller])
    return planned


def _edges(rng: np.random.Generator, tie: Tie, society: Society) -> Iterator[tuple[Int64s, Int64s]]:
    """Yields the pairs of a layer, for a part of the people at a time, so that memory is bounded."""
    count = society.subscribers
    rows = max(1, int(EDGES_PER_PART / max(tie.ties, 0.1)))
    # Workmates are neighbours in a row that is shuffled once for the layer.
    row = rng.permutation(count) if tie.group == "mixed" else np.arange(count)
    for first in range(0, count, rows):
        people = np.arange(first, min(first + rows, count))
        wish = tie.ties * society.activity[row[people]] ** TIES_POWER
        person = np.repeat(people, rng.poisson(wish))
        other = _partners(rng, tie, person, society)
        if tie.group == "outside":
            yield person, other
            continue
        # A person with few acquaintances is an acquaintance of few.
        mutual = rng.random(len(other)) < society.activity[row[other]] ** TIES_POWER
        person, other = person[mutual], other[mutual]
        low, high = np.minimum(person, other), np.maximum(person, other)
        pairs = np.unique((low * count + high)[low != high])
        yield row[pairs // count], row[pairs % count]


def _partners(rng: np.random.Generator, tie: Tie, person: Int64s, society: Society) -> Int64s:
    if tie.group == "outside":
        return society.draw_outsiders(rng, len(person))
    if tie.group == "anyone":
        return rng.integers(0, society.subscribers, len(person))
    if tie.group not in {"near", "mixed"}:
        raise ValueError(f"people.ties: group must be near, mixed, anyone or outside, got {tie.group!r}")
    first = person // tie.size * tie.size
    size = np.minimum(tie.size, society.subscribers - first)
    return first + (rng.random(len(person)) * size).astype(np.int64)


def _first_calls(rng: np.random.Generator, sim: Sim, tie: Tie, edges: tuple[Int64s, Int64s]) -> PairCalls:
    """Draws the first calls of each pair."""
    (person, other), numbers, society, days = edges, sim.numbers, sim.society, sim.days
    low = np.maximum(np.maximum(numbers["born"][person], numbers["born"][other]), days.start)
    last = np.minimum(numbers["died"], numbers["lent_from"])
    high = np.minimum(np.minimum(last[person], last[other]), days.end)
    # An outsider's own activity concerns people outside this network.
    partner = np.where(other < society.subscribers, society.activity[other], society.activity[person])
    rate = lognormal(rng, tie.per_day, len(person)) * np.sqrt(society.activity[person] * partner)
    calls = rng.poisson(np.minimum(rate, 12.0) * np.maximum(high - low, 0) / DAY)
    pair = np.repeat(np.arange(len(person)), calls)
    habit = (
        tie.outward + society.outward[person] - society.outward[other] + PAIR_BALANCE * rng.standard_normal(len(person))
    )
    first = (1 / (1 + np.exp(-habit)))[pair]
    outward = first > rng.random(len(pair))
    caller = np.where(outward, person[pair], other[pair])
    callee = np.where(outward, other[pair], person[pair])
    times = clock(days, sim.table(f"clocks.{tie.clock}"))
    drawn = times.draw(rng, low[pair], high[pair]) + society.shift[person[pair]]
    reply = np.where(outward, 1 - first, first)
    return PairCalls(np.clip(drawn, low[pair], high[pair] - 1), caller, callee, reply)


def _with_follow_ups(rng: np.random.Generator, table: Table, share: float, calls: PairCalls) -> PairCalls:
    delay = Spread(**table["follow_up_minutes"])
    parts = [calls]
    while len(parts[-1].start) > 0 and len(parts) < 6:
        last = parts[-1]
        rows = np.flatnonzero(rng.random(len(last.start)) < share)
        reply = last.reply[rows]
        turned = rng.random(len(rows)) < 2 * table["follow_up_turned_share"] * reply
        later = last.start[rows] + (2 * MINUTE + MINUTE * lognormal(rng, delay, len(rows))).astype(np.int64)
        caller, callee = last.caller[rows], last.callee[rows]
        caller, callee = np.where(turned, callee, caller), np.where(turned, caller, callee)
        parts.append(PairCalls(later, caller, callee, np.where(turned, 1 - reply, reply)))
    return PairCalls(*(np.concatenate([getattr(part, name) for part in parts]) for name in PairCalls.__slots__))


def stranger_callbacks(rng: np.random.Generator, sim: Sim, by: Dialler, plan: Plan) -> Plan:
    """Draws calls back of subscribers after missed calls of strangers, who answer some of them."""
    manner = replace(sim.manner, answer_share=by.callback_answer_share)
    ours = plan.take((plan.callee < sim.society.subscribers) & (plan.outcome == NO_ANSWER))
    return callbacks(rng, ours, sim.days, manner, by.callback_share, Spread(**sim.table("people")["callback_minutes"]))
