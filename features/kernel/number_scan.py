"""Numbers as LightGBM writes them, counted in a text. A part of the kernel: compiled, or as it stands."""

from __future__ import annotations

from typing import Any

# Forms of numbers: whole ones of up to 10 digits; what is below 1e6, 1e125 and 1e1000 by its form.
WHOLE, BELOW_1E6, BELOW_1E125, BELOW_1E1000 = range(4)
BEFORE = (10, 6, 25, 25)  # digits before the point, at most
AFTER = 25  # digits after it
UP = (0, 0, 2, 3)  # digits of an exponent after "e+"
DOWN = 3  # and after "e-"
SPACE, PLUS, MINUS, POINT, ZERO, NINE, POWER = (ord(sign) for sign in " +-.09e")


def count_numbers(text: Any, form: int) -> int:
    """How many numbers of a form there are in bytes, each with one space after it; 0 if there is anything else.

    Nothing is read behind the last byte: that is a space, and no step is made from a space but the last one of a loop.
    """
    end = len(text)
    if end == 0 or text[end - 1] != SPACE:
        return 0
    at = 0
    found = 0
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
        found += 1
    return found


def after_digits(text: Any, at: int) -> int:
    """The first place from `at` on that holds no digit."""
    while ZERO <= text[at] <= NINE:
        at += 1
    return at
