"""Strict reading of TOML files: every mistake in one becomes an error message of one line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

MAX_DEPTH = 20
"""Levels of nested tables and lists; deeper ones could exhaust the stack of code that walks through them."""


def read_toml(file: Path | Traversable, name: str | Path | None = None) -> dict[str, Any]:
    """Reads the tables of a TOML file. `name` stands for the file in messages, by default its path."""
    return parse_toml(file.read_bytes(), str(name or file))


def parse_toml(data: bytes, name: str) -> dict[str, Any]:
    """Parses the bytes of a TOML file; `name` is its name in messages.

    >>> parse_toml(b"version = '1'", "policy.toml")
    {'version': '1'}
    """
    import tomllib  # only when a file is read: it costs start time

    try:
        tables = tomllib.loads(data.decode())
        _check_depth(tables, MAX_DEPTH)
    except RecursionError:
        raise ValueError(f"{name}: expected a TOML file, nested at most {MAX_DEPTH} levels deep") from None
    except ValueError as error:  # also invalid UTF-8 and huge integers
        raise ValueError(f"{name}: expected a TOML file, {error}") from None
    return tables


def _check_depth(value: Any, levels: int) -> None:
    if levels == 0:
        raise RecursionError
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_depth(item, levels - 1)
