"""People and machines that dial one call after another: working time, pace and redials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from callsieve.features.arrays import Floats, Int32s, Int64s

from .draws import group_positions, lognormal, running_sum
from .plans import ANSWERED, Ends, draw_outcomes
from .scenario import Manner, Spread
from .timing import DAY, HOUR, SECOND, Calendar

MIN_GAP = 2 * SECOND
# Factors on the share of redials, after an answered and a missed call.
# Sources: TouchPal, 1.29 calls a callee; Sichuan, 1.53 answered calls.
ANSWERED_AGAIN, MISSED_AGAIN = 2.4, 0.4
# Distance in calls to the redialled call; tuned to Sichuan, 39 answered calls to 20 people on the busiest day.
CALLS_AGO = Spread(4.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Dialler:
    """How a trade or an outfit dials; `benign.toml` explains the values.

    `hours` are local: from, to, lunch from, lunch to. `after_shock_share` is a factor on the chance of working on a day
    after the day on which the rules change.
    """

    rate: Spread
    rate_day_sigma: float
    pace_sigma: float
    hours: list[float]
    attend_share: float
    weekend_share: float
    after_shock_share: float = 1.0
    outside_share: float
    again_share: float
    callback_share: float
    callback_answer_share: float
    manner: Manner

    @property
    def working_hours(self) -> float:
        """Working hours in a day."""
        begin, finish, lunch_begin, lunch_end = self.hours
        return finish - begin - (lunch_end - lunch_begin)


def _sessions(rng: np.random.Generator, days: Calendar, by: Dialler, born: Int64s, died: Int64s) -> tuple[Int64s, ...]:
    weekend = np.minimum(by.weekend_share * days.work, 1.0)
    chance = np.where(days.weekend, by.attend_share * weekend, by.attend_share)
    chance = np.where(days.shock, chance * by.after_shock_share, chance)
    working = rng.random((len(born), days.days)) < chance
    who, day = np.nonzero(working)
    midnight = days.start + day * DAY
    begin = midnight + (HOUR * (by.hours[0] + rng.normal(0.1, 0.35, len(who)))).astype(np.int64)
    finish = midnight + (HOUR * (by.hours[1] + rng.normal(-0.1, 0.5, len(who)))).astype(np.int64)
    begin, finish = np.maximum(begin, born[who]), np.minimum(finish, died[who])
    open_ = finish > begin
    return who[open_], begin[open_], finish[open_]


@dataclass(frozen=True)
class DialledCalls:
    """Calls without their callees: index of the number, start, and (ring, talk, outcome, released)."""

    who: Int64s
    start: Int64s
    ends: Ends


def dial(
    rng: np.random.Generator,
    days: Calendar,
    by: Dialler,
    rate_of: Floats,
    lives: tuple[Int64s, Int64s],
    parallel: bool = False,
) -> DialledCalls:
    """Draws calls one after another until each working day ends.

    A person starts a call only after the previous one ended; with `parallel` lines, only the pace counts.

    `rate_of`: calls per working hour of each number.
    """
    who, begin, finish = _sessions(rng, days, by, *lives)
    rate = rate_of[who] * np.exp(by.rate_day_sigma * rng.standard_normal(len(who)))
    counts = np.minimum(rng.poisson((finish - begin) / HOUR * rate * 1.25) + 2, 20_000)
    total = int(counts.sum())
    ends = draw_outcomes(rng, by.manner, total)
    step = np.repeat(HOUR / np.maximum(rate, 0.05), counts)
    # A log-normal gap with the step as its mean; the mean duration of a call is subtracted from it.
    sigma = by.pace_sigma
    gap = step * np.exp(sigma * rng.standard_normal(total) - sigma * sigma / 2)
    duration = ends[0].astype(np.int64) + ends[1]
    waiting = duration + np.maximum(gap - _mean_call(by.manner), MIN_GAP)
    advance = np.maximum(gap, SECOND) if parallel else waiting
    # The first call comes after a random part of a step, not exactly at the beginning.
    first = np.repeat(rng.random(len(counts)), counts) * np.minimum(step, HOUR)
    since = running_sum(advance.astype(np.int64), counts) + first.astype(np.int64)
    start = _after_lunch(np.repeat(begin, counts) + since, days, by.hours)
    done = start + duration < np.repeat(finish, counts)
    ring, talk, outcome, released = (column[done] for column in ends)
    return DialledCalls(np.repeat(who, counts)[done], start[done], (ring, talk, outcome, released))


def _mean_call(manner: Manner) -> float:
    answered = manner.ring.median + 1.5 * manner.talk.median
    return SECOND * (manner.answer_share * answered + (1 - manner.answer_share) * manner.patience.median)


def _after_lunch(times: Int64s, days: Calendar, hours: list[float]) -> Int64s:
    _, _, lunch_begin, lunch_end = hours
    since = (times - days.start) % DAY
    return times + np.where(since >= lunch_begin * HOUR, int((lunch_end - lunch_begin) * HOUR), 0)


def with_redials(rng: np.random.Generator, calls: DialledCalls, callee: Int32s, share: float) -> Int32s:
    """Replaces some callees by an earlier callee of the same number; calls must be sorted by number.

    A call to a person who picked up before is more likely to be answered: most redials are follow-ups.
    """
    who, outcome = calls.who, calls.ends[2]
    counts = np.bincount(who, minlength=int(who.max()) + 1) if len(who) else np.zeros(0, dtype=np.int64)
    place, answered = group_positions(counts), outcome == ANSWERED
    back = np.ceil(lognormal(rng, CALLS_AGO, len(who))).astype(np.int64)
    earlier = np.arange(len(who)) - np.minimum(back, place)
    # The last answered call up to that one, if it is of the same number.
    last_answered = np.maximum.accumulate(np.where(answered, np.arange(len(who)), -1))[earlier]
    follows = answered & (last_answered >= np.arange(len(who)) - place)
    chance = share * np.where(answered, ANSWERED_AGAIN, MISSED_AGAIN)
    redial = (rng.random(len(who)) < chance) & (place > 0)
    source = np.where(redial, np.where(follows, last_answered, earlier), np.arange(len(who)))
    redialled: Int32s = callee[source]
    return redialled
