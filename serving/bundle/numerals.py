"""Reads the numbers of a model text, in the forms that LightGBM writes and no wider ones.

A number that is not used yet is not converted: it is enough that its form cannot overflow or exceed a bound. The
compiled kernel checks forms in a fifth of the time of the regular expressions, which serve without a compiled library.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache

from callsieve.features.kernel.number_scan import BELOW_1E6, BELOW_1E125, BELOW_1E1000, WHOLE

# Possessive repeats take half the time. They match the same numbers: no repeat is followed by its own characters.
INTEGER = r"(?:0|-?+[1-9][0-9]{0,9}+)"
_DECIMAL = r"-?+(?:0|[1-9][0-9]{0,24}+)(?:\.[0-9]{1,25}+)?+"
REAL = rf"{_DECIMAL}(?:e[-+][0-9]{{1,3}}+)?+"
_FORMS = {
    WHOLE: INTEGER,
    BELOW_1E6: r"-?+(?:0|[1-9][0-9]{0,5}+)(?:\.[0-9]{1,25}+)?+(?:e-[0-9]{1,3}+)?+",
    BELOW_1E125: rf"{_DECIMAL}(?:e(?:-[0-9]{{1,3}}+|\+[0-9]{{1,2}}+))?+",
    BELOW_1E1000: REAL,
}
# Most whole numbers of a model. A look-up reads and checks a number in one step.
_SMALL = {str(number): number for number in range(-256, 1024)}


def has_form(text: str, count: int, form: int) -> bool:
    """Returns whether a text is `count` numbers of a form (`kernel/number_scan.py`), separated by one space."""
    from callsieve.features.codegen import compiled_library  # the compiled reader of a model does not need it

    library = compiled_library.library()
    if library is not None:
        return library.count_numbers(text.encode(errors="replace") + b" ", form) == count
    return text.count(" ") == count - 1 and _pattern(form).fullmatch(text) is not None


@cache
def _pattern(form: int) -> re.Pattern[str]:
    number = _FORMS[form]
    return re.compile(f"{number}(?: {number})*+")


def integers(text: str, count: int, low: int, high: int, what: str) -> list[int]:
    """Reads `count` whole numbers from `low` to `high`."""
    return bounded(whole_numbers(text, count, what), low, high, what)


def whole_numbers(text: str, count: int, what: str) -> list[int]:
    """Reads `count` whole numbers, most of them small."""
    words = text.split(" ", count)  # bounded, because the text may be all spaces
    if len(words) != count:
        raise ValueError(f"{what} must have {count} whole number(s)")
    try:
        return list(map(_SMALL.__getitem__, words))
    except KeyError:  # a larger number, or not a number
        return large_numbers(text, count, what)


def numbers_among(allowed: Mapping[str, int], text: str, count: int, what: str, rule: str) -> list[int]:
    """Reads `count` numbers that must be keys of `allowed`; `rule` names the allowed numbers in an error."""
    words = text.split(" ", count)
    try:
        if len(words) == count:
            return list(map(allowed.__getitem__, words))
    except KeyError:
        pass
    large_numbers(text, count, what)  # raises its own error for a text that is not numbers
    raise ValueError(f"{what} must {rule}")


def large_numbers(text: str, count: int, what: str) -> list[int]:
    """Reads `count` whole numbers, most of them large."""
    if not has_form(text, count, WHOLE):
        raise ValueError(f"{what} must have {count} whole number(s)")
    return list(map(int, text.split(" ")))


def bounded(values: list[int], low: int, high: int, what: str) -> list[int]:
    """Returns whole numbers after a check that they lie in `low`..`high`."""
    if min(values) < low or max(values) > high:
        raise ValueError(f"{what} must lie in {low}..{high}, got {min(values)}..{max(values)}")
    return values


def check_thresholds(text: str, count: int) -> None:
    """Checks the thresholds of `count` nodes. LightGBM writes the split "known or missing" as a threshold of inf."""
    if "inf" in text and text.count(" ") == count - 1:  # counted first, because the text may be nearly all spaces
        text = " ".join("0" if word == "inf" else word for word in text.split(" "))
    check_reals(text, count, "threshold")


def check_leaf_values(text: str, count: int, limit: float) -> None:
    """Checks `count` leaf values from -`limit` to `limit`; `limit` must be at least 1e6."""
    if has_form(text, count, BELOW_1E6):
        return
    if max(map(abs, reals(text, count, "leaf_value"))) > limit:
        raise ValueError(f"leaf_value must lie in -{limit:g}..{limit:g}")


def check_reals(text: str, count: int, what: str) -> None:
    """Checks `count` finite numbers without converting them, unless their form could overflow."""
    if not has_form(text, count, BELOW_1E125):
        reals(text, count, what)


def reals(text: str, count: int, what: str) -> list[float]:
    """Reads `count` finite numbers."""
    if not has_form(text, count, BELOW_1E1000):
        raise ValueError(f"{what} must have {count} finite number(s)")
    values = floats(text)
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{what} must be finite")
    return values


def floats(text: str) -> list[float]:
    """Converts a text of numbers that was checked before."""
    return list(map(float, text.split(" ")))
