"""Classes of fields as `dataclasses` makes them, made in a tenth of the time: for what a first verdict imports.

`dataclasses` writes and compiles six functions for each class, and imports `inspect` to do so: for all classes together
that takes longer than anything else before a first verdict. Here one function is compiled, and the others are shared.
Type checkers see `dataclasses` itself, and its `fields`, `replace` and `asdict` know these classes: what they ask for
is made when they ask. Only what this package uses of `dataclasses` is there; what inherits from a frozen class
must be decorated, too.
"""

from __future__ import annotations

import sys
from operator import attrgetter
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass", "field"]

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass, field
else:

    def field(**told: Any) -> Any:
        """As `dataclasses.field`."""
        return _Told(told)

    def dataclass(cls: Any = None, *, frozen: bool = False, slots: bool = False, kw_only: bool = False) -> Any:
        """As `dataclasses.dataclass`."""
        if cls is None:
            return lambda cls: dataclass(cls, frozen=frozen, slots=slots, kw_only=kw_only)
        return _made(cls, frozen=frozen, slots=slots, kw_only=kw_only)


class _Told(dict[str, Any]):
    """What `field` was told."""


class _Field:
    """One field of a class."""

    def __init__(self, name: str, kind: object, told: dict[str, Any]) -> None:
        self.name, self.kind, self.told = name, kind, told
        self.init, self.repr, self.compare = (told.get(what, True) for what in ("init", "repr", "compare"))
        self.given = "default" in told or "default_factory" in told


class _MadeAnew:
    """Stands for a default that is made for each."""

    def __repr__(self) -> str:
        return "<factory>"


_MADE_ANEW = _MadeAnew()


class _StandardFields:
    """`__dataclass_fields__` of a class, made when something asks for them."""

    def __get__(self, _instance: object, owner: Any) -> dict[str, Any]:
        import dataclasses

        told = [(each.name, each.kind, dataclasses.field(**each.told)) for each in owner.__own_fields__.values()]
        standard = dataclasses.make_dataclass(owner.__name__, told)
        found: dict[str, Any] = {each.name: each for each in dataclasses.fields(standard)}
        owner.__dataclass_fields__ = found
        return found


def _made(cls: type, *, frozen: bool, slots: bool, kw_only: bool) -> type:
    own = {name: _field(cls, name, kind, kw_only=kw_only) for name, kind in cls.__annotations__.items()}
    fields = getattr(cls, "__own_fields__", {}) | own
    values = _values([each.name for each in fields.values() if each.compare])
    written = {
        "__own_fields__": fields,
        "__dataclass_fields__": _StandardFields(),
        "__match_args__": tuple(each.name for each in fields.values() if each.init and not each.told.get("kw_only")),
        "__repr__": _repr([each.name for each in fields.values() if each.repr]),
        "__eq__": lambda one, other: values(one) == values(other) if type(one) is type(other) else NotImplemented,
        "__hash__": (lambda one: hash(values(one))) if frozen else None,
    }
    if frozen:
        written |= {"__setattr__": _refuse, "__delattr__": _refuse}
    if slots:
        cls = _with_slots(cls, written | {"__getstate__": _state, "__setstate__": _set_state}, own)
    else:
        for name, value in written.items():
            if name not in vars(cls) or name == "__hash__":
                setattr(cls, name, value)
    if frozen:
        # Of this class an instance is while it is made: past `__setattr__` each field would take several times as long.
        opened = {"__setattr__": object.__setattr__} | ({"__slots__": tuple(own)} if slots else {})
        cls.__init__ = _init(cls, fields, type(cls)(cls.__name__, cls.__bases__, opened))  # type: ignore[misc]
    else:
        cls.__init__ = _init(cls, fields, None)  # type: ignore[misc]
    return cls


def _field(cls: type, name: str, kind: object, *, kw_only: bool) -> _Field:
    """Of an annotation; the class keeps the default alone, as an attribute."""
    told = vars(cls).get(name, _Told())
    told = dict(told) if type(told) is _Told else {"default": told}
    if "default" in told:
        setattr(cls, name, told["default"])
    elif name in vars(cls):
        delattr(cls, name)
    return _Field(name, kind, told | ({"kw_only": True} if kw_only else {}))


def _init(cls: type, fields: dict[str, _Field], opened: type | None) -> Callable[..., None]:
    """`__init__`, which sets each field, of a frozen class while the instance is of an open one."""
    around: dict[str, Any] = {"_made_anew": _MADE_ANEW, "_set": object.__setattr__, "_opened": opened, "_frozen": cls}
    places: list[str] = []
    named: list[str] = []
    lines = []
    for name, each in fields.items():
        value, default, given = name, "", f"_given_{name}"
        if "default" in each.told:
            around[given], default = each.told["default"], f"={given}"
        elif each.given:
            around[given], default = each.told["default_factory"], "=_made_anew"
            value = f"{given}() if {name} is _made_anew else {name}"
        if each.init:
            (named if each.told.get("kw_only") else places).append(name + default)
        elif each.given:
            value = f"{given}()" if "default_factory" in each.told else given
        else:
            continue  # `__post_init__` sets it
        lines.append(f"self.{name} = {value}")
    if opened is not None:
        lines = ['_set(self, "__class__", _opened)', *lines, "self.__class__ = _frozen"]
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    head, body = ", ".join(["self", *places, *(["*", *named] if named else [])]), "\n  ".join(lines or ["pass"])
    text = f"def around({', '.join(around)}):\n def __init__({head}):\n  {body}\n return __init__"
    found: dict[str, Any] = {}
    exec(text, vars(sys.modules[cls.__module__]), found)  # noqa: S102 - names of fields
    made: Callable[..., None] = found["around"](**around)
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    made.__annotations__ = {each.name: each.kind for each in fields.values() if each.init} | {"return": None}
    return made


def _values(names: list[str]) -> Callable[[Any], object]:
    return attrgetter(*names) if names else lambda _one: ()


def _repr(names: list[str]) -> Callable[[Any], str]:
    def told(one: Any) -> str:
        return f"{type(one).__qualname__}({', '.join([f'{name}={getattr(one, name)!r}' for name in names])})"

    return told


def _refuse(_one: object, name: str, *_value: object) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _with_slots(cls: type, written: dict[str, Any], own: dict[str, _Field]) -> type:
    """The class once more: slots are made with a class or never."""
    gone = {*own, "__dict__", "__weakref__", "__hash__"}
    kept = {name: value for name, value in vars(cls).items() if name not in gone}
    return type(cls)(cls.__name__, cls.__bases__, written | kept | {"__slots__": tuple(own)})


def _state(one: Any) -> list[Any]:
    return [getattr(one, name, None) for name in one.__own_fields__]


def _set_state(one: Any, state: list[Any]) -> None:
    for name, value in zip(one.__own_fields__, state, strict=True):
        object.__setattr__(one, name, value)
