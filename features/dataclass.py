"""A fast replacement of `dataclasses` for the modules that a first verdict imports.

`dataclasses` writes and compiles six functions for each class, and imports `inspect` to do so. For all classes together
that takes longer than anything else before a first verdict. This module compiles one function per class, and shares the
others. Type checkers see `dataclasses` itself. Its `fields`, `replace` and `asdict` accept these classes: the standard
fields are built on first access. Only the options that this package uses are supported; a subclass of a frozen class
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

    def field(**options: Any) -> Any:
        """Like `dataclasses.field`."""
        return _Options(options)

    def dataclass(cls: Any = None, *, frozen: bool = False, slots: bool = False, kw_only: bool = False) -> Any:
        """Like `dataclasses.dataclass`."""
        if cls is None:
            return lambda cls: dataclass(cls, frozen=frozen, slots=slots, kw_only=kw_only)
        return _decorated(cls, frozen=frozen, slots=slots, kw_only=kw_only)


class _Options(dict[str, object]):
    """Arguments of `field`."""


class _Field:
    """One field of a class."""

    def __init__(self, name: str, kind: object, options: dict[str, object]) -> None:
        self.name, self.kind, self.options = name, kind, options
        self.init, self.repr, self.compare = (options.get(option, True) for option in ("init", "repr", "compare"))
        self.has_default = "default" in options or "default_factory" in options


class _FromFactory:
    """Placeholder in a signature for a default that a factory makes for each instance."""

    def __repr__(self) -> str:
        return "<factory>"


_FROM_FACTORY = _FromFactory()


class _StandardFields:
    """The attribute `__dataclass_fields__` of a class, built on first access."""

    def __get__(self, _instance: object, owner: Any) -> dict[str, object]:
        import dataclasses

        own = owner.__own_fields__.values()
        specs = [(item.name, item.kind, dataclasses.field(**item.options)) for item in own]
        standard = dataclasses.make_dataclass(owner.__name__, specs)
        fields: dict[str, object] = {item.name: item for item in dataclasses.fields(standard)}
        owner.__dataclass_fields__ = fields
        return fields


def _decorated(cls: type, *, frozen: bool, slots: bool, kw_only: bool) -> type:
    own = {name: _field(cls, name, kind, kw_only=kw_only) for name, kind in cls.__annotations__.items()}
    fields = getattr(cls, "__own_fields__", {}) | own
    values = _values([item.name for item in fields.values() if item.compare])
    members = {
        "__own_fields__": fields,
        "__dataclass_fields__": _StandardFields(),
        "__match_args__": tuple(item.name for item in fields.values() if item.init and not item.options.get("kw_only")),
        "__repr__": _repr([item.name for item in fields.values() if item.repr]),
        "__eq__": lambda self, other: values(self) == values(other) if type(self) is type(other) else NotImplemented,
        "__hash__": (lambda self: hash(values(self))) if frozen else None,
    }
    if frozen:
        members |= {"__setattr__": _refuse, "__delattr__": _refuse}
    if slots:
        cls = _with_slots(cls, members | {"__getstate__": _state, "__setstate__": _set_state}, own)
    else:
        for name, value in members.items():
            if name not in vars(cls) or name == "__hash__":
                setattr(cls, name, value)
    if frozen:
        # An instance has this class while `__init__` runs: `object.__setattr__` for each field takes several times as
        # long as an assignment.
        extra = {"__setattr__": object.__setattr__} | ({"__slots__": tuple(own)} if slots else {})
        cls.__init__ = _init(cls, fields, type(cls)(cls.__name__, cls.__bases__, extra))  # type: ignore[misc]
    else:
        cls.__init__ = _init(cls, fields, None)  # type: ignore[misc]
    return cls


def _field(cls: type, name: str, kind: object, *, kw_only: bool) -> _Field:
    """Returns the field of an annotation; leaves only its default, if any, as an attribute of the class."""
    options = vars(cls).get(name, _Options())
    options = dict(options) if type(options) is _Options else {"default": options}
    if "default" in options:
        setattr(cls, name, options["default"])
    elif name in vars(cls):
        delattr(cls, name)
    return _Field(name, kind, options | ({"kw_only": True} if kw_only else {}))


def _init(cls: type, fields: dict[str, _Field], unfrozen: type | None) -> Callable[..., None]:
    """Compiles `__init__`; for a frozen class, the instance has the class `unfrozen` while its fields are set."""
    closure: dict[str, object] = {
        "_from_factory": _FROM_FACTORY,
        "_set": object.__setattr__,
        "_unfrozen": unfrozen,
        "_frozen": cls,
    }
    positional: list[str] = []
    keyword_only: list[str] = []
    lines = []
    for name, item in fields.items():
        value, default, source = name, "", f"_default_{name}"
        if "default" in item.options:
            closure[source], default = item.options["default"], f"={source}"
        elif item.has_default:
            closure[source], default = item.options["default_factory"], "=_from_factory"
            value = f"{source}() if {name} is _from_factory else {name}"
        if item.init:
            (keyword_only if item.options.get("kw_only") else positional).append(name + default)
        elif item.has_default:
            value = f"{source}()" if "default_factory" in item.options else source
        else:
            continue  # `__post_init__` sets it
        lines.append(f"self.{name} = {value}")
    if unfrozen is not None:
        lines = ['_set(self, "__class__", _unfrozen)', *lines, "self.__class__ = _frozen"]
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    parameters = ", ".join(["self", *positional, *(["*", *keyword_only] if keyword_only else [])])
    body = "\n  ".join(lines or ["pass"])
    text = f"def outer({', '.join(closure)}):\n def __init__({parameters}):\n  {body}\n return __init__"
    namespace: dict[str, Any] = {}
    exec(text, vars(sys.modules[cls.__module__]), namespace)  # noqa: S102 - the text holds names of fields only
    init: Callable[..., None] = namespace["outer"](**closure)
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__annotations__ = {item.name: item.kind for item in fields.values() if item.init} | {"return": None}
    return init


def _values(names: list[str]) -> Callable[[Any], object]:
    return attrgetter(*names) if names else lambda _instance: ()


def _repr(names: list[str]) -> Callable[[Any], str]:
    def repr_of(instance: Any) -> str:
        values = ", ".join([f"{name}={getattr(instance, name)!r}" for name in names])
        return f"{type(instance).__qualname__}({values})"

    return repr_of


def _refuse(_instance: object, name: str, *_value: object) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _with_slots(cls: type, members: dict[str, object], own: dict[str, _Field]) -> type:
    """Makes the class again: slots exist only if a class is made with them."""
    dropped = {*own, "__dict__", "__weakref__", "__hash__"}
    inherited = {name: value for name, value in vars(cls).items() if name not in dropped}
    return type(cls)(cls.__name__, cls.__bases__, members | inherited | {"__slots__": tuple(own)})


def _state(instance: Any) -> list[Any]:
    return [getattr(instance, name, None) for name in instance.__own_fields__]


def _set_state(instance: Any, state: list[Any]) -> None:
    for name, value in zip(instance.__own_fields__, state, strict=True):
        object.__setattr__(instance, name, value)
