"""The network's part: which planned calls take place, and which find their callee engaged, absent or a voicemail.

A number's calls, outgoing and answered ones alike, are put in order of start. A call that begins while as many
earlier ones as the number has lines are still in the air does not take place (outgoing) or finds it busy
(incoming). Such a call still counts as in the air for those after it: a little too strict, but every number
is done at once, and what remains never exceeds the lines.

The order of start is a sort of one packed integer, the moment above and the row below: numpy sorts those several times
faster than it finds a stable order. For a stable order of integers of 16 bits it counts, and that is faster still: so
calls are put in order of their number for 65,536 numbers at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from callsieve.training.world.basis.draws import lognormal, stream
from callsieve.training.world.basis.numbering import Directory
from callsieve.training.world.basis.plans import ANSWERED, BUSY, CALLER, INVALID, NETWORK, NO_ANSWER, Plan
from callsieve.training.world.basis.scenario import Scenario, Spread
from callsieve.training.world.basis.timing import SECOND, Calendar

NUMBER_BITS = 16
SPAN_BITS = 34  # a world and its longest call fit into 2**34 ms, 198 days
ROW_BITS = 29  # beside them: 536 million calls, or a call of six days


def resolve_lines(scenario: Scenario, seed: int, plan: Plan, numbers: Directory, days: Calendar) -> Plan:
    """The calls that take place, sorted by start. The plan itself is changed."""
    _end_without_talk(plan, numbers["silent"][plan.callee], NO_ANSWER)
    _voicemail(stream(seed, "voicemail"), scenario.table("people.voicemail"), plan, numbers)
    possible = np.flatnonzero(_possible(plan, numbers, days))
    plan.keep(possible[_in_order(plan.start[possible] - days.start)])
    absent = _absent(plan, numbers)
    _end_without_talk(plan, absent, INVALID)
    conflict_out, conflict_in = _conflicts(plan, numbers, days)
    _end_without_talk(plan, conflict_in & ~conflict_out, BUSY)
    plan.keep(~conflict_out)
    return plan


def _voicemail(rng: np.random.Generator, table: dict[str, Any], plan: Plan, numbers: Directory) -> None:
    """Calls that would ring on are answered by a machine where their callee has one: most callers say little to it."""
    after = int(SECOND * table["after_s"])
    rows = np.flatnonzero((plan.outcome == NO_ANSWER) & (plan.ring > after) & numbers["voicemail"][plan.callee])
    plan.ring[rows], plan.outcome[rows], plan.released[rows] = after, ANSWERED, CALLER
    plan.talk[rows] = np.maximum(SECOND * lognormal(rng, Spread(**table["talk_s"]), len(rows)), SECOND)


def _in_order(start: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows in order of start, those of one moment as they come."""
    packed = np.sort(start << ROW_BITS | np.arange(len(start)))
    return packed & ((1 << ROW_BITS) - 1)


def _possible(plan: Plan, numbers: Directory, days: Calendar) -> NDArray[np.bool_]:
    """Within the world and the caller's life, and seen by this network at one end at least."""
    ours, born, died = numbers["ours"], numbers["born"], numbers["died"]
    within = (plan.start >= days.start) & (plan.start < days.end) & (plan.caller != plan.callee)
    carrier = plan.carrier
    lives = (plan.start >= born[carrier]) & (plan.end <= died[carrier])
    possible: NDArray[np.bool_] = within & lives & (ours[carrier] | ours[plan.callee])
    return possible


def _absent(plan: Plan, numbers: Directory) -> NDArray[np.bool_]:
    """The callee does not exist, or not at that time."""
    born, died = numbers["born"][plan.callee], numbers["died"][plan.callee]
    unallocated = numbers["slice"][plan.callee] == 0
    absent: NDArray[np.bool_] = unallocated | (plan.start < born) | (plan.end > died)
    return absent


def _end_without_talk(plan: Plan, rows: NDArray[np.bool_], outcome: int) -> None:
    plan.ring[rows] = 0
    plan.talk[rows] = 0
    plan.outcome[rows] = outcome
    plan.released[rows] = NETWORK


def _conflicts(plan: Plan, numbers: Directory, days: Calendar) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Calls whose caller has no free line, and calls whose callee has none; some of the numbers at a time."""
    # Two places a call, for its caller and its callee, in order of start, so that a number's are in order, too.
    who = np.column_stack((plan.carrier, np.where(plan.outcome == ANSWERED, plan.callee, -1))).ravel()
    times = (plan.start - days.start) << ROW_BITS | np.maximum(plan.ring + plan.talk, 1)
    crowded = np.zeros(len(who), dtype=bool)
    for part in range(1 + (len(numbers) >> NUMBER_BITS)):
        places = np.flatnonzero(who >> NUMBER_BITS == part)
        number = who[places]
        order = np.argsort(number.astype(np.uint16), kind="stable")
        places, number = places[order], number[order].astype(np.int64)
        start = times[places >> 1]  # packed, for one column is found in another order sooner than two
        length = start & ((1 << ROW_BITS) - 1)
        start >>= ROW_BITS
        crowded[places] = _crowded(number, start, start + length, numbers["lines"])
    return crowded[::2], crowded[1::2]


def _crowded(
    number: NDArray[np.int64], start: NDArray[np.int64], end: NDArray[np.int64], lines: NDArray[np.int16]
) -> NDArray[np.bool_]:
    """Calls at whose start as many earlier ones of their number as it has lines are not over; sorted by both."""
    group = number << SPAN_BITS
    begins, ends = group + start, group + end
    crowded = np.zeros(len(number), dtype=bool)
    # One line is free unless the latest end so far lies ahead; more lines need a count.
    crowded[1:] = np.maximum.accumulate(ends)[:-1] > begins[1:]
    several = np.flatnonzero(lines[number] > 1)
    over = np.searchsorted(np.sort(ends[several]), begins[several], side="right")
    crowded[several] = np.arange(len(several)) - over >= lines[number[several]]
    return crowded
