"""JSON in one canonical byte form, and a strict decoder; `decode.py` reads files by their types with it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

MAX_TEXT = 4096


def encode(value: Mapping[str, Any]) -> bytes:
    """Encodes a JSON object in its canonical form: sorted keys, one space of indent, UTF-8, a final line feed.

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
    """Decodes UTF-8 JSON."""
    try:
        return json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
    except RecursionError:
        raise ValueError("must not be nested so deeply") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"expected JSON, {error}") from None


def finite(value: Any) -> Any:
    """Returns a plain value with None in place of NaN and infinities, which JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


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
