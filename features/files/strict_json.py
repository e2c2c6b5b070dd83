"""JSON with one byte form, read strictly: each reader checks one value and names the field it stands in.

Every reader raises `ValueError` in one line; nothing else gets through, whatever the bytes are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

MAX_WHOLE = 2**53
MAX_TEXT = 4096
MAX_NESTING = 12


def encode(value: Mapping[str, Any]) -> bytes:
    """The one byte form of a JSON object: sorted keys, one space of indent, UTF-8, a line end.

    >>> encode({"b": 1, "a": [0.5]})
    b'{\\n "a": [\\n  0.5\\n ],\\n "b": 1\\n}\\n'
    """
    try:
        text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"cannot be written as JSON: {error}") from None
    return (text + "\n").encode()


def decode(data: bytes) -> Any:
    """Read UTF-8 JSON without repeated keys, NaN, infinities or endless nesting."""
    try:
        return json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
    except RecursionError:
        raise ValueError("must not be nested so deep") from None


def finite(value: Any) -> Any:
    """A plain value, the same with null for what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def as_fields(value: Any, where: str, names: Sequence[str]) -> dict[str, Any]:
    """An object with exactly these keys."""
    items = as_mapping(value, where)
    if items.keys() != set(names):
        odd = sorted(items.keys() ^ set(names))
        raise ValueError(f"{where} must have the keys {', '.join(names)}; missing or unknown: {_short(odd)}")
    return items


def as_mapping(value: Any, where: str) -> dict[str, Any]:
    """An object."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object, got {_short(value)}")
    for key in value:
        as_text(key, where)
    return value


def as_list(value: Any, where: str, low: int, high: int) -> list[Any]:
    """A list of `low` to `high` items."""
    if not isinstance(value, list) or not low <= len(value) <= high:
        many = str(low) if low == high else f"{low} to {high}"
        raise ValueError(f"{where} must be a list of {many}, got {_short(value)}")
    return value


def as_text(value: Any, where: str) -> str:
    """A printable text."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or not value.isprintable():
        raise ValueError(f"{where} must be a printable text of 1 to {MAX_TEXT} characters, got {_short(value)}")
    return value


def as_whole(value: Any, where: str, low: int = 0, high: int = MAX_WHOLE) -> int:
    """A whole number from `low` to `high`."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{where} must be a whole number in {low}..{high}, got {_short(value)}")
    return value


def as_number(value: Any, where: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A number from `low` to `high`."""
    if type(value) not in (int, float) or not low <= value <= high:
        raise ValueError(f"{where} must be a number in {low}..{high}, got {_short(value)}")
    return float(value)


def as_free(value: Any, where: str, nesting: int = MAX_NESTING) -> None:
    """Any JSON value of bounded nesting and exact whole numbers."""
    if nesting == 0:
        raise ValueError(f"{where} must not be nested more than {MAX_NESTING} deep")
    if isinstance(value, int):
        as_whole(int(value), where, -MAX_WHOLE)
    elif isinstance(value, dict | list):
        for item in as_mapping(value, where).values() if isinstance(value, dict) else value:
            as_free(item, where, nesting - 1)


def _short(value: Any) -> str:
    shown = repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a huge number"
    return shown if len(shown) <= 60 else shown[:57] + "..."


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
