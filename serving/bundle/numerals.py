"""Numbers in a model text, read by the forms that LightGBM writes and no wider.

A number that nothing depends on yet is not converted: that its form cannot overflow, or exceed a bound, is enough.
The kernel as C says the same of a form as the regular expressions, in a fifth of the time; they serve where it is not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache

from callsieve.features.codegen import compiled_library
from callsieve.features.kernel.number_scan import BELOW_1E6, BELOW_1E125, BELOW_1E1000, WHOLE

# What follows a repeat never begins as the repeat does: possessive ones read the same numbers in half the time.
INTEGER = r"(?:0|-?+[1-9][0-9]{0,9}+)"
_DECIMAL = r"-?+(?:0|[1-9][0-9]{0,24}+)(?:\.[0-9]{1,25}+)?+"
REAL = rf"{_DECIMAL}(?:e[-+][0-9]{{1,3}}+)?+"
_FORMS = {
    WHOLE: INTEGER,
    BELOW_1E6: r"-?+(?:0|[1-9][0-9]{0,5}+)(?:\.[0-9]{1,25}+)?+(?:e-[0-9]{1,3}+)?+",
    BELOW_1E125: rf"{_DECIMAL}(?:e(?:-[0-9]{{1,3}}+|\+[0-9]{{1,2}}+))?+",
    BELOW_1E1000: REAL,
}
# Most whole numbers, as LightGBM writes them: looking one up is reading and checking it at once.
_SMALL = {str(number): number for number in range(-256, 1024)}


def holds(text: str, count: int, form: int) -> bool:
    """Whether a text is so many numbers of a form (`digits.py`), with one space between two."""
    library = compiled_library.library()
    if library is not None:
        return library.count_numbers(text.encode(errors="replace") + b" ", form) == count
    return text.count(" ") == count - 1 and _pattern(form).fullmatch(text) is not None


@cache
def _pattern(form: int) -> re.Pattern[str]:
    number = _FORMS[form]
    return re.compile(f"{number}(?: {number})*+")


def integers(text: str, count: int, low: int, high: int, what: str) -> list[int]:
    """So many whole numbers within bounds."""
    return bounded(whole_numbers(text, count, what), low, high, what)


def whole_numbers(text: str, count: int, what: str) -> list[int]:
    """So many whole numbers, most of them small."""
    words = text.split(" ", count)  # no more than that: it may be all spaces
    if len(words) != count:
        raise ValueError(f"{what} must hold {count} whole number(s)")
    try:
        return list(map(_SMALL.__getitem__, words))
    except KeyError:  # some are larger, or none at all
        return large_numbers(text, count, what)


def some_of(known: Mapping[str, int], text: str, count: int, what: str, rule: str) -> list[int]:
    """So many of the known numbers, by what they are written as; `rule` says which ones these are."""
    words = text.split(" ", count)
    try:
        if len(words) == count:
            return list(map(known.__getitem__, words))
    except KeyError:
        pass
    large_numbers(text, count, what)  # so that what is no number is told as such
    raise ValueError(f"{what} must {rule}")


def large_numbers(text: str, count: int, what: str) -> list[int]:
    """So many whole numbers, most of them large."""
    if not holds(text, count, WHOLE):
        raise ValueError(f"{what} must hold {count} whole number(s)")
    return list(map(int, text.split(" ")))


def bounded(values: list[int], low: int, high: int, what: str) -> list[int]:
    """Whole numbers that must lie within bounds."""
    if min(values) < low or max(values) > high:
        raise ValueError(f"{what} must lie in {low}..{high}, got {min(values)}..{max(values)}")
    return values


def check_thresholds(text: str, count: int) -> None:
    """Thresholds of nodes. LightGBM writes "known or missing?" as a split at inf."""
    if "inf" in text and text.count(" ") == count - 1:  # it may be nearly all spaces
        text = " ".join("0" if word == "inf" else word for word in text.split(" "))
    check_reals(text, count, "threshold")


def check_leaf_values(text: str, count: int, most: float) -> None:
    """Values of leaves, from -`most` to `most`, which is 1e6 or more."""
    if holds(text, count, BELOW_1E6):
        return
    if max(map(abs, reals(text, count, "leaf_value"))) > most:
        raise ValueError(f"leaf_value must lie in -{most:g}..{most:g}")


def check_reals(text: str, count: int, what: str) -> None:
    """As `reals`, of numbers that are not needed now: a form that cannot overflow need not be converted."""
    if not holds(text, count, BELOW_1E125):
        reals(text, count, what)


def reals(text: str, count: int, what: str) -> list[float]:
    """So many finite numbers."""
    if not holds(text, count, BELOW_1E1000):
        raise ValueError(f"{what} must hold {count} finite number(s)")
    values = floats(text)
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{what} must be finite")
    return values


def floats(text: str) -> list[float]:
    """The numbers of a text that has passed."""
    return list(map(float, text.split(" ")))
