"""A range of numbers as whole blocks and what is left over at its ends."""

from __future__ import annotations

import datetime

from callsieve.features.intake.numbers import parse, significant

MOST = 1_000_000  # numbers of one range
_BLOCK = 10_000
_IN_BLOCKS = frozenset(("mobile", "resale", "satellite", "fixed", "iot"))
_ON = datetime.date(2100, 1, 1)  # a canonical form and a block do not depend on the day


def split_range(first: str | None, last: str) -> tuple[list[str], list[str]] | None:
    """The numbers that are told one by one, and one number of each block that the range covers whole.

    None if the two are not of one country and length, in order, with at most MOST numbers between them.

    >>> covered("13800138000", "13800138002")
    (['+8613800138000', '+8613800138001', '+8613800138002'], [])
    >>> covered("13800139999", "13800150000")
    (['+8613800139999', '+8613800150000'], ['+8613800140000'])
    """
    one, other = parse(first, _ON), parse(last, _ON)
    (country, begin), (of, end) = significant(one), significant(other)
    lead = one.canonical.removesuffix(begin)
    if not begin or country != of or len(begin) != len(end) or lead != other.canonical.removesuffix(end):
        return None
    low, high, width = int(begin), int(end), len(begin)
    if not low <= high < low + MOST:
        return None

    def written(number: int) -> str:
        return f"{lead}{number:0{width}d}"

    in_blocks = {one.kind, other.kind} <= _IN_BLOCKS
    whole = range(-(-low // _BLOCK), (high + 1) // _BLOCK) if in_blocks else range(0)
    if not whole:
        return [written(number) for number in range(low, high + 1)], []
    ends = (*range(low, whole.start * _BLOCK), *range(whole.stop * _BLOCK, high + 1))
    return [written(number) for number in ends], [written(block * _BLOCK) for block in whole]
