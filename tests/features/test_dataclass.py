"""Classes of `features.dataclass` behave like those of `dataclasses`, for the options that the package uses."""

import copy
import dataclasses
import inspect
import os
import pickle
import subprocess
import sys

import pytest

from callsieve.features import Call
from callsieve.features import dataclass as own

TEXT = """
@made(frozen=True, slots=True)
class Plain:
    "A class with defaults."
    a: int
    b: str = "b"
    c: list[int] = field(default_factory=list)

    @property
    def twice(self):
        return 2 * self.a

@made(frozen=True, slots=True)
class One:
    a: object

@made(slots=True)
class Open:
    a: int = 0
    rows: dict[str, int] = field(default_factory=dict)

@made(frozen=True)
class Loose:
    a: int

@made
class Spoken:
    a: int

    def __repr__(self):
        return f"a is {self.a}"

    def __eq__(self, other):
        return type(self) is type(other) and self.a % 10 == other.a % 10

@made(frozen=True, slots=True)
class Worked:
    a: int
    hidden: str = field(repr=False, compare=False, default="x")
    sum: int = field(init=False)
    place: int = field(init=False, repr=False, compare=False, default=7)
    cache: dict[str, int] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "sum", self.a + 1)

@made(frozen=True, slots=True, kw_only=True)
class Base:
    a: int
    b: tuple[int, ...] = ()

@made(frozen=True, slots=True, kw_only=True)
class Wider(Base):
    c: str
"""
INSTANCES = [
    ("Plain", (1,), {}),
    ("Plain", (1, "x", [2]), {}),
    ("Plain", (2,), {"c": [3]}),
    ("One", (None,), {}),
    ("One", (3,), {}),
    ("Open", (), {}),
    ("Open", (1, {"t": 2}), {}),
    ("Loose", (1,), {}),
    ("Spoken", (1,), {}),
    ("Worked", (1,), {}),
    ("Worked", (1, "y"), {}),
    ("Base", (), {"a": 1}),
    ("Wider", (), {"a": 1, "c": "x"}),
    ("Wider", (), {"a": 1, "b": (2,), "c": "x"}),
]


def classes(made, field):
    """The classes of TEXT, in the module of this test, where pickle finds them."""
    space = {"made": made, "field": field, "__name__": __name__}
    exec(compile("from __future__ import annotations\n" + TEXT, "<text>", "exec"), space)  # noqa: S102
    return {name: value for name, value in space.items() if isinstance(value, type) and name[0].isupper()}


OURS, THEIRS = classes(own.dataclass, own.field), classes(dataclasses.dataclass, dataclasses.field)


def state(instance):
    return {item.name: getattr(instance, item.name) for item in dataclasses.fields(instance)}


@pytest.mark.parametrize(("name", "args", "named"), INSTANCES)
def test_instances_behave_like_those_of_dataclasses(name, args, named):
    ours, theirs = OURS[name](*args, **named), THEIRS[name](*args, **named)
    assert repr(ours) == repr(theirs)
    assert state(ours) == state(theirs)
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
    assert dataclasses.astuple(ours) == dataclasses.astuple(theirs)
    assert repr(dataclasses.replace(ours, a=9)) == repr(dataclasses.replace(theirs, a=9))
    assert copy.deepcopy(ours) == ours == OURS[name](*args, **named)
    assert ours != dataclasses.replace(ours, a=9)
    assert ours != theirs
    assert hasattr(ours, "__dict__") == hasattr(theirs, "__dict__")
    try:
        hash(theirs)
    except TypeError:
        with pytest.raises(TypeError):
            hash(ours)
    else:
        assert hash(ours) == hash(OURS[name](*args, **named))


@pytest.mark.parametrize("name", OURS)
def test_classes_have_the_attributes_of_dataclasses(name):
    ours, theirs = OURS[name], THEIRS[name]
    assert dataclasses.is_dataclass(ours)
    assert str(inspect.signature(ours)) == str(inspect.signature(theirs))
    assert ours.__match_args__ == theirs.__match_args__
    assert vars(ours).get("__slots__") == vars(theirs).get("__slots__")
    assert (ours.__module__, ours.__qualname__) == (theirs.__module__, theirs.__qualname__)
    attributes = "name", "init", "repr", "compare", "kw_only", "default", "default_factory", "type"
    both = [
        [[getattr(item, name) for name in attributes] for item in dataclasses.fields(cls)] for cls in (ours, theirs)
    ]
    assert both[0] == both[1]


@pytest.mark.parametrize("name", ["Plain", "Loose", "Worked", "Wider"])
def test_frozen_instances_cannot_be_changed(name):
    instance = OURS[name](**({"a": 1, "c": "x"} if name == "Wider" else {"a": 1}))
    for change in (
        lambda: setattr(instance, "a", 2),
        lambda: delattr(instance, "a"),
        lambda: setattr(instance, "new", 2),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            change()
    assert instance.a == 1


def test_factory_defaults_are_not_shared():
    first, second = OURS["Open"](), OURS["Open"]()
    first.rows["t"] = first.a = 1
    assert (second.rows, second.a) == ({}, 0)


def test_wrong_arguments_are_refused():
    for args, named in (((), {}), ((1, "b", [], 4), {}), ((1,), {"d": 1})):
        with pytest.raises(TypeError):
            OURS["Plain"](*args, **named)
    with pytest.raises(TypeError):
        OURS["Worked"](1, sum=2)
    with pytest.raises(TypeError):
        OURS["Wider"](1, (), "x")


def test_instances_can_be_pickled_and_matched():
    call = Call(1772500000.0, "13800138000", "13900139000", 5.0)
    assert pickle.loads(pickle.dumps(call)) == call  # noqa: S301
    match call:
        case Call(start, caller):
            assert (start, caller) == (call.start, call.caller)


def test_a_first_verdict_imports_neither_dataclasses_nor_numpy():
    """Each of them takes longer to import than most other modules that a first verdict needs."""
    code = "import sys; from callsieve.features import History, Intake; from callsieve.serving import Scorer; History()"
    code += "; print([name for name in ('dataclasses', 'inspect', 'numpy', 'lightgbm') if name in sys.modules])"
    # Coverage must not measure the other process: it imports `dataclasses` itself.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
