"""Functions that the feature formulas of `catalogue/feature.py` call.

A part of the kernel, see `windows.py`. Shares are smoothed as (part + 1/2) / (whole + 1), the mean of the Jeffreys
posterior of a proportion. A share of zero events is NaN, not zero.
"""

from __future__ import annotations

import math

from .number_state import FORTNIGHT, LOG_UNIT, PAIR_DAYS_KEPT, later_days
from .windows import END_PLACES, ENDS, FIELDS, TAIL, WEEK, Ints, read_wide, start_of

UNITS = tuple(2.0 ** -(32 + day / FORTNIGHT) for day in range(FORTNIGHT))


def peak(state: Ints, first: int, bins: int) -> int:
    """Returns the largest bin of a histogram."""
    most = 0
    for i in range(first, first + bins):
        most = max(most, state[i])
    return most


def used(state: Ints, first: int, bins: int) -> int:
    """Returns the number of bins that are not empty."""
    count = 0
    for i in range(first, first + bins):
        if state[i] > 0:
            count += 1
    return count


def entropy(log_sum: int, n: int) -> float:
    """Returns the Shannon entropy in bits of a histogram with `n` entries, from its sum of k * log2(k)."""
    return max(math.log2(n) - float(log_sum) / LOG_UNIT / float(n), 0.0)


def median(state: Ints, first: int, n: int) -> float:
    """Returns where the bin of the lower median begins, in seconds (see `number_state.log_bin`); NaN if `n` is 0."""
    if n < 1:
        return math.nan
    left = (n + 1) // 2
    width = 1
    place = first
    while left > state[place]:
        left -= state[place]
        place += 1
        width *= 2
    return float(width - 1)


def variation(squares: int, gaps: int, total: int) -> float:
    """Returns standard deviation / mean of `gaps` gaps, from their sum and their sum of squares."""
    if gaps < 2 or total == 0:
        return math.nan
    return math.sqrt(max(float(gaps) * float(squares) / (float(total) * float(total)) - 1.0, 0.0))


def spread(squares: int, n: int, total: int) -> float:
    """Returns the standard deviation in seconds of `n` values in tenths of a second."""
    if n == 0:
        return math.nan
    return math.sqrt(max(float(n) * float(squares) - float(total) * float(total), 0.0)) / float(n) / 10.0


def age(at: int, state: Ints, base: int, calls: Ints) -> float:
    """Returns the seconds since the first attempt, outgoing or incoming, in the widest window; NaN without one."""
    first = at + 1
    node = state[base + ENDS + 2]
    if node >= 0:
        first = start_of((node >> 2) * FIELDS, calls)
    node = state[base + ENDS + END_PLACES * 2 + 2]
    if node >= 0:
        first = min(first, start_of((node >> 2) * FIELDS, calls))
    return math.nan if first > at else float(at - first) / 1000.0


def since(at: int, state: Ints, base: int, calls: Ints) -> float:
    """Returns the seconds since the last outgoing attempt, within the widest window; NaN without one."""
    node = state[base + ENDS + TAIL]
    if node < 0:
        return math.nan
    then = start_of((node >> 2) * FIELDS, calls)
    return math.nan if at - then > WEEK else float(at - then) / 1000.0


def day_count(days: int) -> int:
    """Returns how many of at most 32 days are marked: a population count without a loop."""
    days = days - (days >> 1 & 0x55555555)
    days = (days & 0x33333333) + (days >> 2 & 0x33333333)
    return ((days + (days >> 4) & 0x0F0F0F0F) * 0x01010101 >> 24) & 0x3F


def first_day(days: int) -> float:
    """Returns how many days ago the first marked day was; NaN if no day is marked."""
    return float(math.frexp(float(days))[1] - 1) if days else math.nan


def last_day(days: int) -> float:
    """Returns how many days ago the last marked day before today was; NaN if there is none."""
    days &= -2
    return float(math.frexp(float(days & -days))[1] - 1) if days else math.nan


def decayed(state: Ints, ring: int, day: int) -> float:
    """Returns a sum with a half-life of 14 whole local days, over this fortnight and the three before."""
    now = day // FORTNIGHT
    total = 0.0
    weight = UNITS[day % FORTNIGHT]
    for ago in range(4):
        total += float(read_wide(state, ring + 2 * (now - ago & 3))) * weight
        weight *= 0.5
    return total


def called_first(pairs: Ints, out: int, back: int, today: int) -> float:
    """Returns 1 if the other number of a pair called on an earlier day than the number itself, else 0.

    Only the last 6 local days count. Calls of the other number on the first of them do not, because they may return a
    missed call of the day before.
    """
    made = later_days(pairs[out], today - pairs[out + 1]) & (1 << PAIR_DAYS_KEPT) - 1
    received = later_days(pairs[back], today - pairs[back + 1]) & (1 << PAIR_DAYS_KEPT - 1) - 1
    return 1.0 if (received & ~made) > made else 0.0


def long_talk_days(pairs: Ints, out: int, back: int, today: int) -> float:
    """Returns on how many of the last 6 local days the two numbers of a pair had a long talk."""
    made = later_days(pairs[out], today - pairs[out + 1])
    received = later_days(pairs[back], today - pairs[back + 1])
    return float(day_count((made | received) >> PAIR_DAYS_KEPT))
