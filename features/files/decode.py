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

    cases.toml: limits.mobile.per_number: expected a whole number >= 1, got 0

A rule about several keys belongs in `__post_init__`, as a `ValueError`; call `super().__post_init__()` there.

Importing msgspec takes about a tenth of the time of `import callsieve.serving`. So modules which that imports do not
import this one, but import the reader of a file in the function that reads it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec.inspect import (
    DictType,
    FloatType,
    IntType,
    Metadata,
    NoneType,
    StructType,
    TupleType,
    UnionType,
    type_info,
)

from .strict_json import MAX_TEXT, decode, short
from .toml_file import read_toml

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

T = TypeVar("T")
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "date": "a day such as 2026-11-28",
    "null": "null",
}
_STEP = re.compile(r"\.([\w-]+)|\[(\d+|\.\.\.)\]")


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
    """Reads a TOML file as a value of the type `kind`.

    Args:
        name: of the file in messages; its path by default.
    Raises: ValueError: in one line with file, key and expectation. OSError: if it cannot be read.
    """
    return as_kind(read_toml(file, name), kind, str(name or file))


def json_as(kind: type[T], data: bytes, where: str) -> T:
    """Reads UTF-8 JSON as a value of the type `kind`. Refuses repeated keys, NaN and infinity, too.

    Args:
        where: name of the value in messages.
    Raises: ValueError: in one line with key and expectation.
    """
    try:
        value = decode(data)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from None
    return as_kind(value, kind, where)


def as_kind(value: Any, kind: type[T], where: str) -> T:
    """Returns a plain value, as TOML and JSON have it, as a value of the type `kind`.

    Args:
        where: name of the value in messages.
    Raises: ValueError: in one line with key and expectation.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        fault = str(error)
    what, _, at = fault.rpartition(" - at ") if fault.endswith("`") and " - at `" in fault else (fault, "", "")
    path = _path(value, kind, at, fault)
    key = "".join(f"[{step}]" if isinstance(step, int) else f".{_word(step)}" for step in path).removeprefix(".")
    expected, item = _type_at(kind, path), _item(value, path)
    if at.startswith("`key`"):
        expected, item = expected.key_type, _failing_key(value, path, kind, fault)
    raise ValueError(": ".join(text for text in (where, key, _in_words(what, expected, item)) if text))


def _word(value: object) -> str:
    """Returns a value as it is written in a list of words or in a path; quoted if it is a text of another form."""
    return str(value) if re.fullmatch(r"[\w-]+", str(value)) else short(value)


def check_texts(value: object, where: str) -> None:
    """Raises ValueError unless texts are printable: a text, or the keys and direct items of a list or a table."""
    if isinstance(value, str) and not (0 < len(value) <= MAX_TEXT and value.isprintable()):
        raise ValueError(f"{where}: expected a printable text of 1 to {MAX_TEXT} characters, got {short(value)}")
    items = (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for item in items:
        if isinstance(item, str):
            check_texts(item, where)


def _path(value: Any, kind: Any, at: str, fault: str) -> list[str | int]:
    """Returns the keys and indices that lead to a fault."""
    path: list[str | int] = []
    for name, index in _STEP.findall(at.rpartition("`$")[2]):
        if index == "...":
            path.append(_failing_key(value, path, kind, fault))
        else:
            path.append(int(index) if index else name)
    return path


def _failing_key(value: Any, path: list[str | int], kind: Any, fault: str) -> Any:
    """Returns the key, of the table at a path, that a fault is about: it fails alike when it is alone.

    A message of msgspec does not name a key of a table with free keys.
    """
    table = _item(value, path)
    return next(key for key in table if _fault(_replaced(value, path, {key: table[key]}), kind) == fault)


def _item(value: Any, path: list[str | int]) -> Any:
    for step in path:
        value = value[step]
    return value


def _replaced(value: Any, path: list[str | int], item: Any) -> Any:
    """Returns a copy of a value with another item at a path."""
    if not path:
        return item
    copy = value.copy()
    copy[path[0]] = _replaced(value[path[0]], path[1:], item)
    return copy


def _fault(value: Any, kind: Any) -> str:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def _type_at(kind: Any, path: list[str | int]) -> Any:
    """Returns the type at a path, as `msgspec.inspect` describes it."""
    info: Any = type_info(kind)
    for step in (*path, None):
        while isinstance(info, Metadata):
            info = info.type
        if isinstance(info, UnionType):
            info = next(item for item in info.types if not isinstance(item, NoneType))
        if step is None:
            break
        if isinstance(info, StructType):
            info = next(field.type for field in info.fields if field.encode_name == step)
        elif isinstance(info, TupleType):
            info = info.item_types[int(step)]
        else:
            info = info.value_type if isinstance(info, DictType) else info.item_type
    return info


def _in_words(what: str, expected: Any, value: Any) -> str:
    """Returns a message of msgspec in the words of this project.

    Args:
        expected, value: the type and the value that the message is about.
    """
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL):
        return f"unknown key {short(match[1])}, expected {', '.join(expected.cls.__struct_encode_fields__)}"
    if match := re.fullmatch(r"Object missing required field `(.*)`", what):
        return f"expected the key {match[1]}"
    if what.startswith("Invalid enum value"):
        return f"expected one of {', '.join(map(_word, expected.values))}, got {short(value)}"
    if what == "Invalid RFC3339 encoded date":
        what = "Expected `date`"
    if not what.startswith("Expected"):
        return what[0].lower() + what[1:]  # of a `__post_init__`, or of a number out of range
    words, limits = re.sub(r", got .*", "", what.removeprefix("Expected ")), ""
    if isinstance(expected, IntType | FloatType):  # both bounds, not only the broken one
        bounds = {">": expected.gt, ">=": expected.ge, "<": expected.lt, "<=": expected.le}
        limits = " and ".join(f"{sign} {bound}" for sign, bound in bounds.items() if bound is not None)
        words = re.sub(r"` [<>].*", "`", words)
    for name, ours in _WORDS.items():
        bounded = f"{ours} {limits}".strip() if name in ("int", "float") else ours
        words = re.sub(rf"`([^`]*)\b{name}\b([^`]*)`", rf"`\1{bounded}\2`", words)
    return f"expected {words.replace('`', '').replace(' | ', ' or ')}, got {short(value)}"
