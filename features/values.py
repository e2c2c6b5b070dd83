"""Feature values from the sums of a window: the second half of the kernel.

A program is a flat row of integers, STRIDE a feature: how, a, b, c, column. `a`, `b`, `c` are places in a number's
state (see `windows.py`), counted from its base. `catalogue.py` writes the programs; no name of a feature stands here.
Like `windows.py`, this file is compiled by `table.py` and run as it stands by `history.py`.

Shares are smoothed as (part + 1/2) / (whole + 1), the mean of the Jeffreys posterior of a proportion; a share of
nothing is NaN, not zero.
"""

from __future__ import annotations

import math
from typing import Any

from .windows import NEVER, WEEK, Ints

STRIDE = 5

# How a value is made. The families stand in this order, so that `emit` finds each by a comparison.
FACT, EARLIER = range(2)
AGE, SINCE = range(2, 4)
PEAK_SHARE, ENTROPY, BINS = range(4, 7)
GAP_MEAN, GAP_SPREAD, GAP_SHARE = range(7, 10)
COUNT, SHARE, REST_SHARE, BALANCE, RATIO, MEAN_SECONDS, SPREAD_SECONDS, CONCENTRATION = range(10, 18)


def time_value(how: int, at: int, then: int) -> float:
    """Seconds since a moment. An age stops growing after 7 days; a pause longer than that is unknown."""
    if then == NEVER or (how == SINCE and at - then > WEEK):
        return math.nan
    return min(float(at - then), float(WEEK)) / 1000.0


def histogram_value(how: int, state: Ints, first: int, bins: int, n: int) -> float:
    """Of a histogram with `n` entries: the fullest bin's share, the entropy in bits, or how many bins are used."""
    peak = 0
    used = 0
    entropy = 0.0
    for i in range(first, first + bins):
        if state[i] > 0:
            used += 1
            peak = max(peak, state[i])
            p = float(state[i]) / n
            entropy -= p * math.log2(p)
    if how == BINS:
        return float(used)
    if n == 0:
        return math.nan
    if how == ENTROPY:
        return entropy
    return (peak + 0.5) / (n + 1.0)


def gap_value(how: int, part: int, calls: int, total: int) -> float:
    """Of the gaps between `calls` neighbouring calls: mean seconds, coefficient of variation, or a share."""
    gaps = calls - 1
    if gaps < 1:
        return math.nan
    if how == GAP_MEAN:
        return float(part) / gaps / 1000.0
    if how == GAP_SHARE:
        return (part + 0.5) / (gaps + 1.0)
    if gaps < 2 or total == 0:
        return math.nan
    return math.sqrt(max(float(gaps) * float(part) / (float(total) * float(total)) - 1.0, 0.0))


def sum_value(how: int, part: int, whole: int, other: int) -> float:
    """Of two or three sums: a count, a share, a mean, a spread."""
    if how == COUNT:
        return float(part)
    if how == BALANCE:
        whole += part
    if whole == 0:
        return math.nan
    if how in (SHARE, BALANCE):
        return (part + 0.5) / (whole + 1.0)
    if how == REST_SHARE:
        return (whole - part + 0.5) / (whole + 1.0)
    if how == RATIO:
        return float(part) / whole
    if how == MEAN_SECONDS:
        return float(part) / whole / 1000.0
    if how == CONCENTRATION:
        return float(part) / (float(whole) * whole)
    n = float(whole)
    return math.sqrt(max(n * float(part) - float(other) * float(other), 0.0)) / n / 10.0


def emit(
    at: int,
    program: Ints,
    state: Ints,
    base: int,
    pairs: Ints,
    pair: int,
    facts: Ints,
    fact: int,
    out: Any,
    row: int,
) -> None:
    """Write the feature values at `at` to `out[row + column]`, one for each step of the program."""
    for step in range(0, len(program), STRIDE):
        how = program[step]
        a = program[step + 1]
        b = base + program[step + 2]
        c = program[step + 3]
        if how == FACT:
            known = facts[fact + a]
            value = float(known) if known >= 0 else math.nan
        elif how == EARLIER:
            value = float(pairs[pair + a])
        elif how <= SINCE:
            value = time_value(how, at, state[base + a])
        elif how <= BINS:
            value = histogram_value(how, state, base + a, c, state[b])
        elif how <= GAP_SHARE:
            value = gap_value(how, state[base + a], state[b], state[base + c])
        else:
            value = sum_value(how, state[base + a], state[b], state[base + c])
        out[row + program[step + 4]] = value
