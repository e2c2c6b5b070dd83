"""JSON in one canonical byte form, and strict readers that each check one value and name its field.

Every reader raises `ValueError` with a one-line message, and no other exception, for any input bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

MAX_INTEGER = 2**53
MAX_TEXT = 4096
MAX_NESTING = 12


def encode(value: Mapping[str, Any]) -> bytes:
    """Encodes a JSON object in its canonical form: sorted keys, one space of indent, UTF-8, a final line feed.

    Raises: ValueError: if a value has no JSON form.

    >>> encode({"b": 1, "a": [0.5]})
    b'{\\n "a": [\\n  0.5\\n ],\\n "b": 1\\n}\\n'
    """
    import msgspec  # takes time to import

    try:
        # Python encodes without an indent in C, and msgspec adds it: together ten times as fast as with an indent.
        text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
        return msgspec.json.format(text.encode(), indent=1) + b"\n"
    except (TypeError, RecursionError) as error:
        raise ValueError(f"cannot be written as JSON: {error}") from None


def decode(data: bytes) -> Any:
    """Decodes UTF-8 JSON; raises ValueError for a repeated key, NaN, infinity or too deep nesting."""
    try:
        return json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
    except RecursionError:
        raise ValueError("must not be nested so deeply") from None


def finite(value: Any) -> Any:
    """Returns a plain value with None in place of NaN and infinities, which JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def as_fields(value: Any, where: str, names: Sequence[str]) -> dict[str, Any]:
    """Returns the value if it is an object with exactly the keys `names`."""
    items = as_mapping(value, where)
    if items.keys() != set(names):
        odd = sorted(items.keys() ^ set(names))
        raise ValueError(f"{where} must have the keys {', '.join(names)}; missing or unknown: {short(odd)}")
    return items


def as_mapping(value: Any, where: str) -> dict[str, Any]:
    """Returns the value if it is an object whose keys are printable texts."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object, got {short(value)}")
    for key in value:
        as_text(key, where)
    return value


def as_list(value: Any, where: str, low: int, high: int) -> list[Any]:
    """Returns the value if it is a list of `low` to `high` items."""
    if not isinstance(value, list) or not low <= len(value) <= high:
        size = str(low) if low == high else f"{low} to {high}"
        raise ValueError(f"{where} must be a list of {size}, got {short(value)}")
    return value


def as_text(value: Any, where: str) -> str:
    """Returns the value if it is a printable text of 1 to MAX_TEXT characters."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or not value.isprintable():
        raise ValueError(f"{where} must be a printable text of 1 to {MAX_TEXT} characters, got {short(value)}")
    return value


def as_integer(value: Any, where: str, low: int = 0, high: int = MAX_INTEGER) -> int:
    """Returns the value if it is an integer from `low` to `high`."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{where} must be a whole number in {low}..{high}, got {short(value)}")
    return value


def as_number(value: Any, where: str, low: float = -math.inf, high: float = math.inf) -> float:
    """Returns the value as a float if it is a number from `low` to `high`."""
    if type(value) not in (int, float) or not low <= value <= high:
        raise ValueError(f"{where} must be a number in {low}..{high}, got {short(value)}")
    return float(value)


def check_any(value: Any, where: str, nesting: int = MAX_NESTING) -> None:
    """Checks that a JSON value of any form is nested at most `nesting` levels and has only exact integers."""
    if nesting == 0:
        raise ValueError(f"{where} must not be nested more than {MAX_NESTING} deep")
    if isinstance(value, int):
        as_integer(int(value), where, -MAX_INTEGER)
    elif isinstance(value, dict | list):
        for item in as_mapping(value, where).values() if isinstance(value, dict) else value:
            check_any(item, where, nesting - 1)


def short(value: Any) -> str:
    """Returns a value as a message shows it, in at most 60 characters."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    items = dict(pairs)
    if len(items) != len(pairs):
        raise ValueError("must not repeat a key")
    return items


def _constant(name: str) -> float:
    raise ValueError(f"numbers must be finite, got {name}")


def _float(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"numbers must be finite, got {digits[:40]}")
    return value
