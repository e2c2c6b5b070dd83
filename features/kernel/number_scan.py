"""Counts the numbers in a text that are in the form LightGBM writes. A part of the kernel, see `windows.py`."""

from __future__ import annotations

from typing import Any

# Forms: integers of at most 10 digits, and decimal numbers whose form keeps them below 1e6, 1e125 or 1e1000.
WHOLE, BELOW_1E6, BELOW_1E125, BELOW_1E1000 = range(4)
BEFORE = (10, 6, 25, 25)  # most digits before the point, by form
AFTER = 25  # most digits after the point
UP = (0, 0, 2, 3)  # most digits of an exponent after "e+", by form
DOWN = 3  # most digits of an exponent after "e-"
SPACE, PLUS, MINUS, POINT, ZERO, NINE, POWER = (ord(sign) for sign in " +-.09e")


def count_numbers(text: Any, form: int) -> int:
    """Returns how many numbers of a form the bytes contain; 0 if they contain anything else.

    Each number must be followed by one space. The last byte must be a space too, so no read goes past the end: only the
    last step of the loop moves on from a space.
    """
    end = len(text)
    if end == 0 or text[end - 1] != SPACE:
        return 0
    at = 0
    count = 0
    while at < end:
        first = at + int(text[at] == MINUS)
        is_negative = first - at
        at = after_digits(text, first)
        digits = at - first
        if digits == 0 or digits > BEFORE[form] or (digits > 1 and text[first] == ZERO):
            return 0
        if form == WHOLE:
            if is_negative and text[first] == ZERO:
                return 0
        else:
            if text[at] == POINT:
                first = at + 1
                at = after_digits(text, first)
                if at == first or at - first > AFTER:
                    return 0
            if text[at] == POWER:
                sign = text[at + 1]
                first = at + 2
                if sign != PLUS and sign != MINUS:  # noqa: PLR1714 - the subset has no `in`
                    return 0
                at = after_digits(text, first)
                if at == first or at - first > (DOWN if sign == MINUS else UP[form]):
                    return 0
        if text[at] != SPACE:
            return 0
        at += 1
        count += 1
    return count


def after_digits(text: Any, at: int) -> int:
    """Returns the first index from `at` on that is not a digit."""
    while ZERO <= text[at] <= NINE:
        at += 1
    return at
