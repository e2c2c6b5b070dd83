"""Splits a range of numbers into whole blocks of ten thousand and the single numbers at both ends."""

from __future__ import annotations

import datetime

from callsieve.features.intake.numbers import parse, significant

MAX_NUMBERS = 1_000_000  # in one range
_BLOCK = 10_000
_BLOCK_CLASSES = frozenset(("mobile", "resale", "satellite", "fixed", "iot"))
_DAY = datetime.date(2100, 1, 1)  # canonical form and block of a number do not depend on the day


def split_range(first: str | None, last: str) -> tuple[list[str], list[str]] | None:
    """Returns the single numbers of a range, and one number of each block that lies wholly inside it.

    Returns None unless both ends have the same country and length, are in order, and span at most MAX_NUMBERS.

    >>> split_range("13800138000", "13800138002")
    (['+8613800138000', '+8613800138001', '+8613800138002'], [])
    >>> split_range("13800139999", "13800150000")
    (['+8613800139999', '+8613800150000'], ['+8613800140000'])
    """
    first_number, last_number = parse(first, _DAY), parse(last, _DAY)
    (country, first_digits), (last_country, last_digits) = significant(first_number), significant(last_number)
    prefix = first_number.canonical.removesuffix(first_digits)
    if not first_digits or country != last_country or len(first_digits) != len(last_digits):
        return None
    if prefix != last_number.canonical.removesuffix(last_digits):
        return None
    low, high, width = int(first_digits), int(last_digits), len(first_digits)
    if not low <= high < low + MAX_NUMBERS:
        return None

    def canonical(number: int) -> str:
        return f"{prefix}{number:0{width}d}"

    has_blocks = {first_number.kind, last_number.kind} <= _BLOCK_CLASSES
    blocks = range(-(-low // _BLOCK), (high + 1) // _BLOCK) if has_blocks else range(0)
    if not blocks:
        return [canonical(number) for number in range(low, high + 1)], []
    ends = (*range(low, blocks.start * _BLOCK), *range(blocks.stop * _BLOCK, high + 1))
    return [canonical(number) for number in ends], [canonical(block * _BLOCK) for block in blocks]
