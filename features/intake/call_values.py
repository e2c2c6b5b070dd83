"""Conversion and checks of single values of a call: times, durations, categories, number classes."""

from __future__ import annotations

import math
from numbers import Real

from callsieve.features.records import ATTESTATIONS, CALL_COLUMNS, NUMBER_CLASSES, OUTCOMES, RELEASED_BY, ROUTES

QUARTER = 900_000  # milliseconds
CATEGORIES = {
    "outcome": OUTCOMES,
    "released_by": RELEASED_BY,
    "attestation": ATTESTATIONS,
    "route": ROUTES,
    "caller_class": NUMBER_CLASSES,
    "callee_class": NUMBER_CLASSES,
}
_CODES = {name: {word: code for code, word in enumerate(words)} for name, words in CATEGORIES.items()}
TIMES = ("start", "ring", "talk", "recorded")
UNKNOWN_CLASS = NUMBER_CLASSES.index("unknown")

# Unix seconds between which every time zone has a calendar: the years 2 to 9998.
_EARLIEST, _LATEST = -62_104_060_800.0, 253_370_764_800.0


def milliseconds(name: str, seconds: float) -> int:
    """Converts seconds to whole milliseconds, half rounded up.

    could be a number in the wrong field.
    """
    if not _EARLIEST <= seconds < _LATEST:
        raise ValueError(f"{name} must be a finite number of seconds, of a year from 2 to 9998")
    return math.floor(seconds * 1000 + 0.5)


def duration(name: str, seconds: float) -> int:
    """Converts a duration in seconds to whole milliseconds."""
    if seconds < 0:
        raise ValueError(f"{name} must be 0 seconds or more")
    return milliseconds(name, seconds)


def category(name: str, word: str | None) -> int:
    """Returns the index of a word in its tuple of `records`; None means "unknown"."""
    code = _CODES[name].get("unknown" if word is None else word)
    if code is None:
        raise ValueError(f"{name} must be one of {', '.join(CATEGORIES[name])}")
    return code


def number_class(name: str, read: int, declared: str) -> int:
    """Returns the class of a number: the class of its reading, or the declared class if it has no digits to read."""
    if declared == "unknown":
        return read
    code = category(name, declared)
    return code if read == UNKNOWN_CLASS else read


def type_fault(call: object) -> str:
    """Returns which field of a call has a value of a wrong type, in one line without the value; "" if none has."""
    if not all(hasattr(call, name) for name in CALL_COLUMNS):
        return f"call: expected a Call, got {type(call).__name__}"
    for name in CALL_COLUMNS:
        value = getattr(call, name)
        kind, expected = (Real, "a number of seconds") if name in TIMES else (str, "a text")
        optional = "" if name == "start" else " or None"
        if not isinstance(value, kind) and (value is not None or not optional):
            return f"call: {name} must be {expected}{optional}, got {type(value).__name__}"
    return ""
