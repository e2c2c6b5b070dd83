"""The score level of a network: how high those of its calls score that look like nuisance.

A model ranks the calls of another network well, but its scores are less extreme there, so a fixed threshold lies too
high. Thresholds that are chosen on many networks are therefore distances from the level of a network. No label is
needed: the level is the median of the raw scores above ABOVE, among a sample of all calls.

With few calls above ABOVE their median says little, and innocent calls decide it. Then the strictest threshold applies,
that of the network with the highest level. The level of a network that is unlike those learnt from lies outside their
range. No band applies there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

# In trials on 16 varied worlds and 3 networks of another simulator, with thresholds from the worlds alone, a fixed
# threshold caught 75 % on worlds left out and 34 to 46 % on the networks; the distance from this level 74 % and 73 to
# 85 %. Quantiles of all scores caught as much, but follow the share of nuisance calls; levels of callers who are called
# by many flagged thousands in 10,000 where few callers are called.
ABOVE = 2.0
# With 15 % of the nuisance callers of a world, 0.8 % of its calls score above ABOVE. Without this limit up to 41 in
# 10,000 innocent calls were flagged there, with it 0.7.
LEAST_SHARE = 0.015
FEWEST_CALLS = 2_000
# On four networks of another simulator the level lay up to 1.7 below the lowest of the worlds learnt from.
TOLERANCE = 2.0


class Shift(NamedTuple):
    """The difference that a network's level makes to raw scores.

    Attributes:
        amount: is subtracted from raw scores; never positive.
        unlike: whether the level lies outside the range learnt from, so that no band applies.
        detail: the figures behind it, in words; "" if the level is in the range, or the bundle has none.
    """

    amount: float = 0.0
    unlike: bool = False
    detail: str = ""


NO_SHIFT = Shift()


def shift_by(level: float | None, lowest: float, highest: float) -> Shift:
    """Returns the shift of a network by its level; the strictest threshold applies without one.

    >>> [shift_by(level, 5.0, 8.0).amount for level in (6.5, 9.0, None)]
    [-1.5, 0.0, 0.0]
    >>> shift_by(2.9, 5.0, 8.0)
    Shift(amount=0.0, unlike=True, detail='score level 2.9, learnt from 5.0 to 8.0')
    """
    if level is None:
        return Shift(detail="score level not known yet: the strictest threshold applies")
    if level < lowest - TOLERANCE:
        return Shift(unlike=True, detail=f"score level {level:.1f}, learnt from {lowest:.1f} to {highest:.1f}")
    return Shift(min(level, highest) - highest)


def level_of(raw: Iterable[float]) -> float | None:
    """Returns the level of a network by raw scores of some of its calls, NaN without a score; None if they are too few.

    >>> level_of([-5.0] * 1960 + [3.0] * 30 + [6.0] * 10), level_of([3.0] * 10)
    (3.0, None)
    """
    known = [score for score in raw if not math.isnan(score)]
    high = sorted(score for score in known if score > ABOVE)
    if len(known) < FEWEST_CALLS or len(high) < LEAST_SHARE * len(known):
        return None
    return high[len(high) // 2]
