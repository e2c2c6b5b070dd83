"""What checks by call-back find out: whom they concern, and when the truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from callsieve.training.world.basis.draws import lognormal, stream
from callsieve.training.world.basis.numbering import Directory
from callsieve.training.world.basis.plans import Plan
from callsieve.training.world.basis.scenario import Scenario, Spread
from callsieve.training.world.basis.timing import DAY, Calendar

from .complaints import Reports


@dataclass(frozen=True)
class Findings:
    """Numbers whose truth was established, in the order in which it became known."""

    number: NDArray[np.int64]
    known_at: NDArray[np.int64]


def findings(scenario: Scenario, seed: int, numbers: Directory, plan: Plan, known: Reports, days: Calendar) -> Findings:
    """A random sample of the callers, some of the reported and of the busy ones, each checked some days later."""
    rng = stream(seed, "findings")
    table = scenario.table("findings")
    calling = np.bincount(plan.caller, minlength=len(numbers)) > 0
    luck = rng.random(len(numbers))
    born = np.maximum(numbers["born"], days.start)
    length = np.minimum(numbers["died"], days.end) - born
    asked = born + (rng.random(len(numbers)) * np.maximum(length, 0)).astype(np.int64)
    # A check of before the world concerned a number's last owner.
    recent = np.flatnonzero(known.known_at >= days.start)
    reported, first = np.unique(known.number[recent], return_index=True)
    checked = rng.random(len(reported)) < table["reported_share"]
    asked[reported[checked]] = known.known_at[recent[first[checked]]]
    chosen = calling & (luck < table["audit_share"])
    chosen[reported[checked]] = True
    for busy, since in _busy(plan, days, table["busy_calls"]).items():
        if luck[busy] < table["busy_share"] and not chosen[busy]:
            asked[busy] = since
            chosen[busy] = True
    number = np.flatnonzero(chosen)
    delay = DAY * lognormal(rng, Spread(**table["delay_days"]), len(number))
    moment = asked[number] + delay.astype(np.int64)
    order = np.lexsort((number, moment))
    return Findings(number[order], moment[order])


def _busy(plan: Plan, days: Calendar, most: int) -> dict[int, int]:
    """Callers with at least `most` calls in a day, and the end of the first such day."""
    many = np.bincount(plan.caller) >= most
    rows = np.flatnonzero(many[plan.caller])
    day = (plan.start[rows] - days.start) // DAY
    keys, counts = np.unique(plan.caller[rows] * np.int64(1 << 16) + day, return_counts=True)
    busy = keys[counts >= most]
    callers, first = np.unique(busy >> 16, return_index=True)
    ends = days.start + ((busy[first] & 0xFFFF) + 1) * DAY
    return dict(zip(callers.tolist(), ends.tolist(), strict=True))
