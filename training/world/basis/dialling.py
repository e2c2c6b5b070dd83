"""People and machines that dial one call after another: their working time and their pace."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .draws import group_positions, lognormal, running_sum
from .plans import ANSWERED, draw_outcomes
from .scenario import Manner, Spread
from .timing import DAY, HOUR, SECOND, Calendar

LEAST_GAP = 2 * SECOND
# Factors on the share of redials. Sources: TouchPal, 1.29 calls a callee; Sichuan, 1.53 answered ones.
ANSWERED_AGAIN, MISSED_AGAIN = 2.4, 0.4
# How many calls ago the redialled one was; tuned to Sichuan, 39 answered calls to 20 people on the busiest day.
CALLS_AGO = Spread(4.0, 1.0)


@dataclass(frozen=True)
class Hours:
    """When a dialler works: local hours from, to, lunch from and to; chances of working on a day, and after a shock."""

    hours: list[float]
    attend_share: float
    weekend_share: float
    after_shock_share: float = 1.0

    @property
    def working(self) -> float:
        """Hours of work in a day."""
        begin, finish, lunch, back = self.hours
        return finish - begin - (back - lunch)


@dataclass(frozen=True)
class Pace:
    """Calls per working hour (of each number), their change from day to day, and how irregular the gaps are."""

    rate: NDArray[np.float64]
    rate_day_sigma: float
    pace_sigma: float


@dataclass(frozen=True)
class Sessions:
    """Days of work: the dialler's position, and begin and finish in Unix ms."""

    who: NDArray[np.int64]
    begin: NDArray[np.int64]
    finish: NDArray[np.int64]


def sessions(
    rng: np.random.Generator, days: Calendar, hours: Hours, born: NDArray[np.int64], died: NDArray[np.int64]
) -> Sessions:
    """Days on which each dialler works, cut to its life."""
    weekend = np.minimum(hours.weekend_share * days.work, 1.0)
    chance = np.where(days.weekend, hours.attend_share * weekend, hours.attend_share)
    chance = np.where(days.shock, chance * hours.after_shock_share, chance)
    working = rng.random((len(born), days.days)) < chance
    who, day = np.nonzero(working)
    midnight = days.start + day * DAY
    begin = midnight + (HOUR * (hours.hours[0] + rng.normal(0.1, 0.35, len(who)))).astype(np.int64)
    finish = midnight + (HOUR * (hours.hours[1] + rng.normal(-0.1, 0.5, len(who)))).astype(np.int64)
    begin, finish = np.maximum(begin, born[who]), np.minimum(finish, died[who])
    open_ = finish > begin
    return Sessions(who[open_], begin[open_], finish[open_])


@dataclass(frozen=True)
class DialledCalls:
    """Calls of sessions, without their callees: whose, when, and how they ended."""

    who: NDArray[np.int64]
    start: NDArray[np.int64]
    ends: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int8], NDArray[np.int8]]


def dial(
    rng: np.random.Generator,
    work: Sessions,
    hours: Hours,
    pace: Pace,
    manner: Manner,
    days: Calendar,
    parallel: bool = False,
) -> DialledCalls:
    """One call after another until each session is over.

    A person's next call waits for the end of the last one; with `parallel` lines only the pace counts.
    """
    rate = pace.rate[work.who] * np.exp(pace.rate_day_sigma * rng.standard_normal(len(work.who)))
    length = work.finish - work.begin
    counts = np.minimum(rng.poisson(length / HOUR * rate * 1.25) + 2, 20_000)
    total = int(counts.sum())
    ends = draw_outcomes(rng, manner, total)
    step = np.repeat(HOUR / np.maximum(rate, 0.05), counts)
    # A log-normal gap whose mean is the step: what a call itself takes comes off it.
    sigma = pace.pace_sigma
    gap = step * np.exp(sigma * rng.standard_normal(total) - sigma * sigma / 2)
    taken = ends[0].astype(np.int64) + ends[1]
    waiting = taken + np.maximum(gap - _mean_call(manner), LEAST_GAP)
    advance = np.maximum(gap, SECOND) if parallel else waiting
    # Nobody starts on the dot: the first call comes after a part of a step.
    first = np.repeat(rng.random(len(counts)), counts) * np.minimum(step, HOUR)
    since = running_sum(advance.astype(np.int64), counts) + first.astype(np.int64)
    start = _after_lunch(np.repeat(work.begin, counts) + since, days, hours)
    done = start + taken < np.repeat(work.finish, counts)
    ring, talk, outcome, released = (each[done] for each in ends)
    return DialledCalls(np.repeat(work.who, counts)[done], start[done], (ring, talk, outcome, released))


def _mean_call(manner: Manner) -> float:
    answered = manner.ring.median + 1.5 * manner.talk.median
    return SECOND * (manner.answer_share * answered + (1 - manner.answer_share) * manner.patience.median)


def _after_lunch(moments: NDArray[np.int64], days: Calendar, hours: Hours) -> NDArray[np.int64]:
    """Working time to wall clock: what falls after lunch began moves on by the length of lunch."""
    _, _, lunch, back = hours.hours
    since = (moments - days.start) % DAY
    return moments + np.where(since >= lunch * HOUR, int((back - lunch) * HOUR), 0)


def with_redials(
    rng: np.random.Generator,
    who: NDArray[np.int64],
    callee: NDArray[np.int32],
    share: float,
    outcome: NDArray[np.int8],
) -> NDArray[np.int32]:
    """Callees, some of them replaced by one whom the same dialler has called before; `who` must be sorted.

    A call to somebody who has picked up before is likelier to be answered: most redials are follow-ups.
    """
    counts = np.bincount(who, minlength=int(who.max()) + 1) if len(who) else np.zeros(0, dtype=np.int64)
    place, answered = group_positions(counts), outcome == ANSWERED
    back = np.ceil(lognormal(rng, CALLS_AGO, len(who))).astype(np.int64)
    earlier = np.arange(len(who)) - np.minimum(back, place)
    # The last answered call up to there, if it is the same dialler's.
    spoken = np.maximum.accumulate(np.where(answered, np.arange(len(who)), -1))[earlier]
    follows = answered & (spoken >= np.arange(len(who)) - place)
    chance = share * np.where(answered, ANSWERED_AGAIN, MISSED_AGAIN)
    redial = (rng.random(len(who)) < chance) & (place > 0)
    source = np.where(redial, np.where(follows, spoken, earlier), np.arange(len(who)))
    redialled: NDArray[np.int32] = callee[source]
    return redialled
