"""Files of TOML, read strictly: all that a person may write amiss in one is told in one line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

DEEPEST = 20  # tables and lists within each other; more would end whoever walks through them


def read_toml(file: Path | Traversable, name: str | Path | None = None) -> dict[str, Any]:
    """The tables of a file. `name`: what messages call it, if not by its path.

    Raises:
        ValueError: in one line, if it is no TOML.
        OSError: if it cannot be read.
    """
    return toml_of(file.read_bytes(), str(name or file))


def toml_of(data: bytes, name: str) -> dict[str, Any]:
    """The same of a file's bytes.

    >>> toml_of(b"version = '1'", "policy.toml")
    {'version': '1'}
    """
    import tomllib  # a host that reads no file needs none

    try:
        told = tomllib.loads(data.decode())
        _check_depth(told, DEEPEST)
    except RecursionError:
        raise ValueError(f"{name}: expected a TOML file, not one nested so deep") from None
    except ValueError as error:  # of UTF-8 and of huge numbers, too
        raise ValueError(f"{name}: expected a TOML file, {error}") from None
    return told


def _check_depth(value: Any, left: int) -> None:
    if left == 0:
        raise RecursionError
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_depth(item, left - 1)
