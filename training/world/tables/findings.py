"""Findings: numbers whose class (nuisance or not) is established by a check, and when the result is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from callsieve.features.arrays import Int64s
from callsieve.training.world.basis.draws import lognormal, stream
from callsieve.training.world.basis.numbering import Directory
from callsieve.training.world.basis.plans import Plan
from callsieve.training.world.basis.scenario import Scenario, Spread
from callsieve.training.world.basis.timing import DAY, Calendar

from .world_complaints import Complaints


@dataclass(frozen=True)
class Findings:
    """Checked numbers (ids) and the time at which each result is known, in order of time."""

    number: Int64s
    known_at: Int64s


def draw_findings(
    scenario: Scenario, seed: int, numbers: Directory, plan: Plan, complaints: Complaints, days: Calendar
) -> Findings:
    """Draws the checked numbers: a random sample of all callers, some with complaints, and some busy ones."""
    rng = stream(seed, "findings")
    table = scenario.table("findings")
    calling = np.bincount(plan.caller, minlength=len(numbers)) > 0
    luck = rng.random(len(numbers))
    born = np.maximum(numbers["born"], days.start)
    length = np.minimum(numbers["died"], days.end) - born
    requested = born + (rng.random(len(numbers)) * np.maximum(length, 0)).astype(np.int64)
    # A check from before the simulated period concerned the number's previous owner.
    recent = np.flatnonzero(complaints.known_at >= days.start)
    complained, first = np.unique(complaints.number[recent], return_index=True)
    checked = rng.random(len(complained)) < table["reported_share"]
    requested[complained[checked]] = complaints.known_at[recent[first[checked]]]
    chosen = calling & (luck < table["audit_share"])
    chosen[complained[checked]] = True
    for busy, since in _busy(plan, days, table["busy_calls"]).items():
        if luck[busy] < table["busy_share"] and not chosen[busy]:
            requested[busy] = since
            chosen[busy] = True
    number = np.flatnonzero(chosen)
    delay = DAY * lognormal(rng, Spread(**table["delay_days"]), len(number))
    known_at = requested[number] + delay.astype(np.int64)
    order = np.lexsort((number, known_at))
    return Findings(number[order], known_at[order])


def _busy(plan: Plan, days: Calendar, least: int) -> dict[int, int]:
    """Maps each caller with at least `least` calls in a day to the end of its first such day."""
    many = np.bincount(plan.caller) >= least
    rows = np.flatnonzero(many[plan.caller])
    day = (plan.start[rows] - days.start) // DAY
    keys, counts = np.unique(plan.caller[rows] * np.int64(1 << 16) + day, return_counts=True)
    busy = keys[counts >= least]
    callers, first = np.unique(busy >> 16, return_index=True)
    ends = days.start + ((busy[first] & 0xFFFF) + 1) * DAY
    return dict(zip(callers.tolist(), ends.tolist(), strict=True))
