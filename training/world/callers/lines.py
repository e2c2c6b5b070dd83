"""The network: decides which planned calls take place, and which find the callee busy, absent or a voicemail.

The calls of a number, outgoing and answered incoming ones, are sorted by start. A number has a limited count of lines.
A call that starts while this many earlier calls are in progress does not take place (outgoing) or finds the number busy
(incoming). Such a call still counts as in progress for later ones. This is slightly too strict, but it allows all
numbers to be computed at once, and the remaining calls never exceed the lines.

The order of start is a sort of one packed integer, time above row: NumPy sorts packed integers several times faster
than it computes a stable order. For 16-bit integers, NumPy's stable order is a radix sort, which is faster still. So
calls are ordered by number for 65,536 numbers at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from callsieve.features.arrays import Bools, Int64s
from callsieve.training.world.basis.draws import lognormal
from callsieve.training.world.basis.numbering import Directory
from callsieve.training.world.basis.plans import ANSWERED, BUSY, CALLER, INVALID, NETWORK, NO_ANSWER, Plan
from callsieve.training.world.basis.scenario import Spread
from callsieve.training.world.basis.timing import SECOND

from .sim import Sim

NUMBER_BITS = 16
SPAN_BITS = 34  # a world and its longest call fit into 2**34 ms, 198 days
ROW_BITS = 29  # beside them: 536 million calls, or a call of six days


def resolve_lines(sim: Sim, plan: Plan) -> Plan:
    """Returns the calls that take place, sorted by start. Changes the plan in place."""
    _end_without_talk(plan, sim.numbers["silent"][plan.callee], NO_ANSWER)
    _voicemail(sim.stream("voicemail"), sim.table("people.voicemail"), plan, sim.numbers)
    possible = np.flatnonzero(_possible(sim, plan))
    plan.keep(possible[_in_order(plan.start[possible] - sim.days.start)])
    _end_without_talk(plan, _absent(plan, sim.numbers), INVALID)
    conflict_out, conflict_in = _conflicts(sim, plan)
    _end_without_talk(plan, conflict_in & ~conflict_out, BUSY)
    plan.keep(~conflict_out)
    return plan


def _voicemail(rng: np.random.Generator, table: dict[str, Any], plan: Plan, numbers: Directory) -> None:
    after = int(SECOND * table["after_s"])
    rows = np.flatnonzero((plan.outcome == NO_ANSWER) & (plan.ring > after) & numbers["voicemail"][plan.callee])
    plan.ring[rows], plan.outcome[rows], plan.released[rows] = after, ANSWERED, CALLER
    plan.talk[rows] = np.maximum(SECOND * lognormal(rng, Spread(**table["talk_s"]), len(rows)), SECOND)


def _in_order(start: Int64s) -> Int64s:
    packed = np.sort(start << ROW_BITS | np.arange(len(start)))
    return packed & ((1 << ROW_BITS) - 1)


def _possible(sim: Sim, plan: Plan) -> Bools:
    ours, born, died = (sim.numbers[name] for name in ("ours", "born", "died"))
    within = (plan.start >= sim.days.start) & (plan.start < sim.days.end) & (plan.caller != plan.callee)
    carrier = plan.carrier
    lives = (plan.start >= born[carrier]) & (plan.end <= died[carrier])
    possible: Bools = within & lives & (ours[carrier] | ours[plan.callee])
    return possible


def _absent(plan: Plan, numbers: Directory) -> Bools:
    born, died = numbers["born"][plan.callee], numbers["died"][plan.callee]
    unallocated = numbers["slice"][plan.callee] == 0
    absent: Bools = unallocated | (plan.start < born) | (plan.end > died)
    return absent


def _end_without_talk(plan: Plan, rows: Bools, outcome: int) -> None:
    plan.ring[rows] = 0
    plan.talk[rows] = 0
    plan.outcome[rows] = outcome
    plan.released[rows] = NETWORK


def _conflicts(sim: Sim, plan: Plan) -> tuple[Bools, Bools]:
    """Returns calls whose caller has no free line, and calls whose callee has none."""
    # Two entries per call, for caller and callee, in order of start, so that the entries of a number are in order.
    who = np.column_stack((plan.carrier, np.where(plan.outcome == ANSWERED, plan.callee, -1))).ravel()
    times = (plan.start - sim.days.start) << ROW_BITS | np.maximum(plan.ring + plan.talk, 1)
    crowded = np.zeros(len(who), dtype=bool)
    for part in range(1 + (len(sim.numbers) >> NUMBER_BITS)):
        places = np.flatnonzero(who >> NUMBER_BITS == part)
        number = who[places]
        order = np.argsort(number.astype(np.uint16), kind="stable")
        places, number = places[order], number[order].astype(np.int64)
        start = times[places >> 1]  # packed: reordering one column is faster than two
        length = start & ((1 << ROW_BITS) - 1)
        start >>= ROW_BITS
        crowded[places] = _crowded(number, start, start + length, sim.numbers["lines"])
    return crowded[::2], crowded[1::2]


def _crowded(number: Int64s, start: Int64s, end: Int64s, lines: NDArray[np.int16]) -> Bools:
    group = number << SPAN_BITS
    begins, ends = group + start, group + end
    crowded = np.zeros(len(number), dtype=bool)
    # A single line is in use if the latest end so far is later; several lines need a count.
    crowded[1:] = np.maximum.accumulate(ends)[:-1] > begins[1:]
    several = np.flatnonzero(lines[number] > 1)
    ended = np.searchsorted(np.sort(ends[several]), begins[several], side="right")
    crowded[several] = np.arange(len(several)) - ended >= lines[number[several]]
    return crowded
