"""The network's part: which planned calls take place, and which find their callee engaged or absent.

A number's calls, outgoing and answered ones alike, are put in order of start. A call that begins while as many
earlier ones as the number has lines are still in the air does not take place (outgoing) or finds it busy
(incoming). Such a call still counts as in the air for those after it: a little too strict, but every number
is done at once, and what remains never exceeds the lines.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .numbering import Directory
from .plans import ANSWERED, BUSY, INVALID, NETWORK, Plan
from .timing import Calendar

CALLS_AT_ONCE = 4_000_000  # bounds memory
SPAN_BITS = 34  # a world and its longest call fit into 2**34 ms, 198 days


def settle(plan: Plan, numbers: Directory, days: Calendar) -> Plan:
    """The calls that take place, sorted by start. The plan itself is changed."""
    plan.keep(_possible(plan, numbers, days))
    plan.keep(np.argsort(plan.start, kind="stable"))
    absent = _absent(plan, numbers)
    _end_without_talk(plan, absent, INVALID)
    conflict_out, conflict_in = _conflicts(plan, numbers, days)
    _end_without_talk(plan, conflict_in & ~conflict_out, BUSY)
    plan.keep(~conflict_out)
    return plan


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
    out, busy = np.zeros(len(plan), dtype=bool), np.zeros(len(plan), dtype=bool)
    parts, carrier = 1 + len(plan) // CALLS_AT_ONCE, plan.carrier
    for part in range(parts):
        outgoing = np.flatnonzero(carrier % parts == part)
        incoming = np.flatnonzero((plan.callee % parts == part) & (plan.outcome == ANSWERED))
        number = np.concatenate((carrier[outgoing], plan.callee[incoming]))
        calls = np.concatenate((outgoing, incoming))
        start = plan.start[calls] - days.start
        length = np.maximum(plan.ring[calls] + plan.talk[calls], 1)
        conflict = _crowded(number, start, start + length, numbers["lines"])
        out[outgoing] = conflict[: len(outgoing)]
        busy[incoming] = conflict[len(outgoing) :]
    return out, busy


def _crowded(
    number: NDArray[np.int32], start: NDArray[np.int64], end: NDArray[np.int64], lines: NDArray[np.int16]
) -> NDArray[np.bool_]:
    """Calls at whose start as many earlier ones of their number as it has lines are not over."""
    group = number.astype(np.int64) << SPAN_BITS
    begins = group + start
    order = np.argsort(begins, kind="stable")
    over = np.searchsorted(np.sort(group + end), begins[order], side="right")
    crowded = np.empty(len(order), dtype=bool)
    crowded[order] = np.arange(len(order)) - over >= lines[number[order]]
    return crowded
