"""Feature values from what a key holds: the functions that the formulas of `feature.py` call.

Like the rest of the kernel, compiled or run as it stands. Shares are smoothed as (part + 1/2) / (whole + 1),
the mean of the Jeffreys posterior of a proportion; a share of nothing is NaN, not zero.
"""

from __future__ import annotations

import math

from .number_state import FORTNIGHT, LOG_UNIT
from .windows import END_PLACES, ENDS, FIELDS, TAIL, WEEK, Ints, start_of, wide

UNITS = tuple(2.0 ** -(32 + day / FORTNIGHT) for day in range(FORTNIGHT))


def peak(state: Ints, first: int, bins: int) -> int:
    """The fullest bin."""
    most = 0
    for i in range(first, first + bins):
        most = max(most, state[i])
    return most


def used(state: Ints, first: int, bins: int) -> int:
    """How many bins are not empty."""
    count = 0
    for i in range(first, first + bins):
        if state[i] > 0:
            count += 1
    return count


def entropy(logs: int, n: int) -> float:
    """Shannon entropy in bits of a histogram with `n` entries, from its sum of k * log2(k)."""
    return max(math.log2(n) - float(logs) / LOG_UNIT / float(n), 0.0)


def median(state: Ints, first: int, n: int) -> float:
    """Seconds at which the bin of the lower median begins (see `number.log_bin`); NaN of nothing."""
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
    """Standard deviation over mean of `gaps` times with this sum and sum of squares."""
    if gaps < 2 or total == 0:
        return math.nan
    return math.sqrt(max(float(gaps) * float(squares) / (float(total) * float(total)) - 1.0, 0.0))


def spread(squares: int, n: int, total: int) -> float:
    """Standard deviation in seconds of `n` values in tenths of a second."""
    if n == 0:
        return math.nan
    return math.sqrt(max(float(n) * float(squares) - float(total) * float(total), 0.0)) / float(n) / 10.0


def age(at: int, state: Ints, base: int, calls: Ints) -> float:
    """Seconds since the first attempt, out or in, that the widest window still holds."""
    first = at + 1
    node = state[base + ENDS + 2]
    if node >= 0:
        first = start_of((node >> 2) * FIELDS, calls)
    node = state[base + ENDS + END_PLACES * 2 + 2]
    if node >= 0:
        first = min(first, start_of((node >> 2) * FIELDS, calls))
    return math.nan if first > at else float(at - first) / 1000.0


def since(at: int, state: Ints, base: int, calls: Ints) -> float:
    """Seconds since the last attempt that went out, within the widest window."""
    node = state[base + ENDS + TAIL]
    if node < 0:
        return math.nan
    then = start_of((node >> 2) * FIELDS, calls)
    return math.nan if at - then > WEEK else float(at - then) / 1000.0


def day_count(days: int) -> int:
    """How many days are marked, of 32 at most: counted by twos, fours and eights, for a loop is as long as its days."""
    days = days - (days >> 1 & 0x55555555)
    days = (days & 0x33333333) + (days >> 2 & 0x33333333)
    return ((days + (days >> 4) & 0x0F0F0F0F) * 0x01010101 >> 24) & 0x3F


def first_day(days: int) -> float:
    """How many days ago the first marked day was; NaN if there is none."""
    return float(math.frexp(float(days))[1] - 1) if days else math.nan


def last_day(days: int) -> float:
    """How many days ago the last marked day before today was; NaN if there is none."""
    days &= -2
    return float(math.frexp(float(days & -days))[1] - 1) if days else math.nan


def decayed(state: Ints, ring: int, day: int) -> float:
    """A sum that halves in 14 days, by whole local days; events of the last three to four fortnights count."""
    now = day // FORTNIGHT
    total = 0.0
    weight = UNITS[day % FORTNIGHT]
    for ago in range(4):
        total += float(wide(state, ring + 2 * (now - ago & 3))) * weight
        weight *= 0.5
    return total
