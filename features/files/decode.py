"""Typed reading of TOML, JSON and plain values: one type declares the keys, their kinds and their bounds.

Declare a `Record` for each table or object, and read the file as the outermost one. A mistake becomes a `ValueError` of
one line with the file, the key, the expected value and the actual one, such as the last line here:

    class Limits(Record, frozen=True):
        per_number: Annotated[int, Meta(ge=1)]
        links: tuple[Literal["block", "trunk"], ...] = ()

    class Rules(Record, frozen=True):
        version: str
        limits: dict[str, Limits]

    toml_as(Rules, Path("cases.toml"))

    cases.toml: limits[...].per_number: expected `int` >= 1

The text after the key is that of msgspec. `[...]` is a key of a table with free keys.
A rule about several keys belongs in `__post_init__`, as a `ValueError`; call `super().__post_init__()` there.

Importing msgspec takes about a tenth of the time of `import callsieve.serving`. So modules which that imports do not
import this one, but import the reader of a file in the function that reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from .strict_json import MAX_TEXT, decode, short
from .toml_file import read_toml

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

T = TypeVar("T")
MAX_FAULT = 300  # characters of a message


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of types for tables: unknown keys are refused, and every text is printable and has 1 to MAX_TEXT characters.

    The rule for texts applies to fields that are texts, lists of texts, or tables of texts, and to the keys of tables.
    A field may have the default "".
    """

    def __post_init__(self) -> None:
        defaults = dict(zip(self.__struct_fields__[::-1], self.__struct_defaults__[::-1], strict=False))
        for name in self.__struct_fields__:
            if (value := getattr(self, name)) != defaults.get(name):
                check_texts(value, name)


def toml_as(kind: type[T], file: Path | Traversable, name: str | Path | None = None) -> T:
    """Reads a TOML file as a value of the type `kind`. `name` stands for the file in messages, by default its path."""
    return as_kind(read_toml(file, name), kind, str(name or file))


def json_as(kind: type[T], data: bytes, where: str) -> T:
    """Reads UTF-8 JSON as a value of the type `kind`. Refuses repeated keys, NaN and infinity, too."""
    try:
        value = decode(data)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from None
    return as_kind(value, kind, where)


def as_kind(value: Any, kind: type[T], where: str) -> T:
    """Returns a plain value, as TOML and JSON have it, as a value of the type `kind`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        fault = str(error)
    what, _, at = fault.rpartition(" - at ") if fault.endswith("`") and " - at `" in fault else (fault, "", "")
    what = what[0].lower() + what[1:]  # an unknown key is in it as it is in the file
    what = what if what.isprintable() and len(what) <= MAX_FAULT else short(what)
    raise ValueError(": ".join(text for text in (where, at.rpartition("`$")[2].strip(".`"), what) if text))


def check_texts(value: object, where: str) -> None:
    """Raises ValueError unless texts are printable: a text, or the keys and direct items of a list or a table."""
    if isinstance(value, str) and not (0 < len(value) <= MAX_TEXT and value.isprintable()):
        raise ValueError(f"{where}: expected a printable text of 1 to {MAX_TEXT} characters, got {short(value)}")
    items = (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for item in items:
        if isinstance(item, str):
            check_texts(item, where)
