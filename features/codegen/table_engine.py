"""The kernel of tables: compiled C where it was built, else interpreted Python with the same values."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

from callsieve.features.catalogue.feature import Feature
from callsieve.features.kernel import table_pass

from . import assemble, compiled_library
from .compiled_library import SHARED_FUNCTIONS, TABLE_FUNCTIONS, Library, table_declarations
from .feature_program import CHOICES, KINDS, Kind, choice_of

Functions = dict[str, Callable[..., None]]


def shared_functions() -> Functions:
    """Returns the functions that all kinds of history share, by name; each works on NumPy arrays."""
    return _shared_functions(compiled_library.library())


def table_engine(kind: Kind, features: tuple[Feature, ...]) -> SimpleNamespace:
    """Returns constants and functions that write the features of a kind of history.

    Args:
        features: as `feature_program.computed_features` returns them.
    """
    return _table_engine(compiled_library.library(), kind.name, choice_of(features))


@cache
def _shared_functions(library: Library | None) -> Functions:
    if library is None:
        return {name: _on_views(getattr(table_pass, name)) for name in SHARED_FUNCTIONS}
    return {name: library.table_function(name, name) for name in SHARED_FUNCTIONS}


@cache
def _table_engine(library: Library | None, kind: str, choice: str) -> SimpleNamespace:
    if library is None:
        functions = vars(assemble.kernel(next(own for own in KINDS if own.name == kind), CHOICES[choice]))
        own = {name: _on_views(functions[name]) for name in TABLE_FUNCTIONS}
    else:
        own = {name: library.table_function(f"{choice}_{kind}_{name}", name) for name in TABLE_FUNCTIONS}
    return SimpleNamespace(**table_declarations()[choice, kind][0], **own)


def _on_views(function: Callable[..., object]) -> Callable[..., None]:
    """Returns a function that passes arrays as memoryviews: their elements are integers of Python."""

    def run(*arguments: Any) -> None:
        function(*map(_as_view, arguments))

    return run


def _as_view(argument: Any) -> Any:
    if isinstance(argument, tuple):  # scratch
        return tuple(map(_as_view, argument))
    return argument if isinstance(argument, int) else memoryview(argument)
