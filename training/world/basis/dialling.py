"""People and machines that dial one call after another: working time, pace and redials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from callsieve.features.arrays import Floats, Int8s, Int32s, Int64s

from .draws import group_positions, lognormal, running_sum
from .plans import ANSWERED, draw_outcomes
from .scenario import Manner, Spread
from .timing import DAY, HOUR, SECOND, Calendar

MIN_GAP = 2 * SECOND
# Factors on the share of redials, after an answered and a missed call.
# Sources: TouchPal, 1.29 calls a callee; Sichuan, 1.53 answered calls.
ANSWERED_AGAIN, MISSED_AGAIN = 2.4, 0.4
# Distance in calls to the redialled call; tuned to Sichuan, 39 answered calls to 20 people on the busiest day.
CALLS_AGO = Spread(4.0, 1.0)


@dataclass(frozen=True)
class Hours:
    """Working time of a dialler: local hours (from, to, lunch from, lunch to) and the chance of working on a day.

    `after_shock_share` is a factor on that chance after the day on which the rules change.
    """

    hours: list[float]
    attend_share: float
    weekend_share: float
    after_shock_share: float = 1.0

    @property
    def working(self) -> float:
        """Working hours in a day."""
        begin, finish, lunch_begin, lunch_end = self.hours
        return finish - begin - (lunch_end - lunch_begin)


@dataclass(frozen=True)
class Pace:
    """Calls per working hour of each number, their variation by day, and the irregularity of the gaps (log sigmas)."""

    rate: Floats
    rate_day_sigma: float
    pace_sigma: float


@dataclass(frozen=True)
class Sessions:
    """Working days: index of the dialler, begin and finish in Unix ms."""

    who: Int64s
    begin: Int64s
    finish: Int64s


def sessions(rng: np.random.Generator, days: Calendar, hours: Hours, born: Int64s, died: Int64s) -> Sessions:
    """Draws the days on which each dialler works, clipped to its lifetime."""
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
    """Calls of sessions without their callees: index of the dialler, start, and (ring, talk, outcome, released)."""

    who: Int64s
    start: Int64s
    ends: tuple[Int32s, Int32s, Int8s, Int8s]


def dial(
    rng: np.random.Generator,
    work: Sessions,
    hours: Hours,
    pace: Pace,
    manner: Manner,
    days: Calendar,
    parallel: bool = False,
) -> DialledCalls:
    """Draws calls one after another until each session ends.

    A person starts a call only after the previous one ended; with `parallel` lines, only the pace counts.
    """
    rate = pace.rate[work.who] * np.exp(pace.rate_day_sigma * rng.standard_normal(len(work.who)))
    length = work.finish - work.begin
    counts = np.minimum(rng.poisson(length / HOUR * rate * 1.25) + 2, 20_000)
    total = int(counts.sum())
    ends = draw_outcomes(rng, manner, total)
    step = np.repeat(HOUR / np.maximum(rate, 0.05), counts)
    # A log-normal gap with the step as its mean; the mean duration of a call is subtracted from it.
    sigma = pace.pace_sigma
    gap = step * np.exp(sigma * rng.standard_normal(total) - sigma * sigma / 2)
    duration = ends[0].astype(np.int64) + ends[1]
    waiting = duration + np.maximum(gap - _mean_call(manner), MIN_GAP)
    advance = np.maximum(gap, SECOND) if parallel else waiting
    # The first call comes after a random part of a step, not exactly at the beginning.
    first = np.repeat(rng.random(len(counts)), counts) * np.minimum(step, HOUR)
    since = running_sum(advance.astype(np.int64), counts) + first.astype(np.int64)
    start = _after_lunch(np.repeat(work.begin, counts) + since, days, hours)
    done = start + duration < np.repeat(work.finish, counts)
    ring, talk, outcome, released = (column[done] for column in ends)
    return DialledCalls(np.repeat(work.who, counts)[done], start[done], (ring, talk, outcome, released))


def _mean_call(manner: Manner) -> float:
    answered = manner.ring.median + 1.5 * manner.talk.median
    return SECOND * (manner.answer_share * answered + (1 - manner.answer_share) * manner.patience.median)


def _after_lunch(times: Int64s, days: Calendar, hours: Hours) -> Int64s:
    """Converts working time to wall clock: times after the begin of lunch shift by its length."""
    _, _, lunch_begin, lunch_end = hours.hours
    since = (times - days.start) % DAY
    return times + np.where(since >= lunch_begin * HOUR, int((lunch_end - lunch_begin) * HOUR), 0)


def with_redials(
    rng: np.random.Generator,
    who: Int64s,
    callee: Int32s,
    share: float,
    outcome: Int8s,
) -> Int32s:
    """Replaces some callees by an earlier callee of the same dialler; `who` must be sorted.

    A call to a person who picked up before is more likely to be answered: most redials are follow-ups.
    """
    counts = np.bincount(who, minlength=int(who.max()) + 1) if len(who) else np.zeros(0, dtype=np.int64)
    place, answered = group_positions(counts), outcome == ANSWERED
    back = np.ceil(lognormal(rng, CALLS_AGO, len(who))).astype(np.int64)
    earlier = np.arange(len(who)) - np.minimum(back, place)
    # The last answered call up to that one, if it is the same dialler's.
    last_answered = np.maximum.accumulate(np.where(answered, np.arange(len(who)), -1))[earlier]
    follows = answered & (last_answered >= np.arange(len(who)) - place)
    chance = share * np.where(answered, ANSWERED_AGAIN, MISSED_AGAIN)
    redial = (rng.random(len(who)) < chance) & (place > 0)
    source = np.where(redial, np.where(follows, last_answered, earlier), np.arange(len(who)))
    redialled: Int32s = callee[source]
    return redialled
