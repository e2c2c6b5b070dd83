"""Numbers in a model text, read by the forms that LightGBM writes and no wider.

A number that nothing depends on yet is not converted: that its form cannot overflow, or exceed a bound, is enough.
"""

from __future__ import annotations

import math
import re

# What follows a repeat never begins as the repeat does: possessive ones read the same numbers in half the time.
INTEGER = r"(?:0|-?+[1-9][0-9]{0,9}+)"
_DECIMAL = r"-?+(?:0|[1-9][0-9]{0,24}+)(?:\.[0-9]{1,25}+)?+"
REAL = rf"{_DECIMAL}(?:e[-+][0-9]{{1,3}}+)?+"
_BELOW_1E125 = rf"{_DECIMAL}(?:e(?:-[0-9]{{1,3}}+|\+[0-9]{{1,2}}+))?+"
_BELOW_1E6 = r"-?+(?:0|[1-9][0-9]{0,5}+)(?:\.[0-9]{1,25}+)?+(?:e-[0-9]{1,3}+)?+"
_INTEGERS = re.compile(f"{INTEGER}(?: {INTEGER})*+")
_REALS = re.compile(f"{REAL}(?: {REAL})*+")
_REALS_BELOW_1E125 = re.compile(f"{_BELOW_1E125}(?: {_BELOW_1E125})*+")
_REALS_BELOW_1E6 = re.compile(f"{_BELOW_1E6}(?: {_BELOW_1E6})*+")
# Most whole numbers, as LightGBM writes them: looking one up is reading and checking it at once.
_SMALL = {str(number): number for number in range(-256, 1024)}


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


def large_numbers(text: str, count: int, what: str) -> list[int]:
    """So many whole numbers, most of them large."""
    if text.count(" ") != count - 1 or not _INTEGERS.fullmatch(text):
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
    if text.count(" ") == count - 1 and _REALS_BELOW_1E6.fullmatch(text):
        return
    if max(map(abs, reals(text, count, "leaf_value"))) > most:
        raise ValueError(f"leaf_value must lie in -{most:g}..{most:g}")


def check_reals(text: str, count: int, what: str) -> None:
    """As `reals`, of numbers that are not needed now: a form that cannot overflow need not be converted."""
    if text.count(" ") != count - 1 or not _REALS_BELOW_1E125.fullmatch(text):
        reals(text, count, what)


def reals(text: str, count: int, what: str) -> list[float]:
    """So many finite numbers."""
    if text.count(" ") != count - 1 or not _REALS.fullmatch(text):
        raise ValueError(f"{what} must hold {count} finite number(s)")
    values = floats(text)
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{what} must be finite")
    return values


def floats(text: str) -> list[float]:
    """The numbers of a text that has passed."""
    return list(map(float, text.split(" ")))
