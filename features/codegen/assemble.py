"""Assembles the kernel for a kind of history and a choice of features.

The files of the kernel are plain Python. Their functions are copied into one namespace with the constants and the
functions of the generated program, so that each function calls the versions made for it. `c_source.py` translates the
same parts to C, which the package contains (`compiled_library.py`). Interpreted, they serve for reading and for tests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

from callsieve.features.catalogue import FEATURES
from callsieve.features.catalogue.feature import Feature
from callsieve.features.kernel import formulas, group_state, heap, number_state, table_pass, windows
from callsieve.features.stream import (
    call_index,
    call_records,
    call_store,
    compact_numbers,
    group_lists,
    hash_chains,
    key_store,
    number_lists,
    routes,
    stream_pass,
    time_order,
    token_table,
)

from . import feature_program
from .feature_program import LIVE_KINDS, Kind

# Modules of the stream kernel, and the functions of numbers and groups that its driver calls.
DRIVER = (windows, heap, hash_chains, call_store, time_order, routes, call_index, call_records, stream_pass)
STORE_MODULES = (hash_chains, table_pass, call_store, token_table, key_store)
STREAM_MODULES = {
    "number": (windows, number_state, formulas, time_order, *STORE_MODULES, compact_numbers, number_lists),
    "group": (windows, group_state, formulas, *STORE_MODULES, group_lists),
}
STORE_FUNCTIONS = ("find_pair", "allocate_pair", "release_pair")
CALLED_BY_DRIVER = {
    "number": (
        *STORE_FUNCTIONS,
        "apply_event",
        "expire_event",
        "remove_outcome",
        "emit_values",
        "copy_member",
        "calls_in",
        "fill_pair_record",
        "prefetch_key",
        "prefetch_state",
        "add_view",
        "release_view",
        "prefetch_sums",
        "refresh",
    ),
    "group": (*STORE_FUNCTIONS, "use_key", "release_key", "count_event", "emit_values", "pair_offset"),
}


def kernel(kind: Kind, features: tuple[Feature, ...]) -> SimpleNamespace:
    """Returns functions and constants of the interpreted kernel for a kind of history and these features."""
    return SimpleNamespace(**_namespace(modules_of(kind.module), *declarations(kind, features)))


def declarations(kind: Kind, features: tuple[Feature, ...]) -> tuple[dict[str, int], str]:
    """Returns the constants of a kind's kernel, and the source of its generated functions."""
    if feature_program.is_whole(kind, features):
        constants = feature_program.layout(kind, FEATURES)
    else:
        columns = {feature.name: column for column, feature in enumerate(features)}
        constants = feature_program.layout(kind, features, columns)
    return constants, feature_program.source(kind)


def modules_of(kind: ModuleType) -> tuple[ModuleType, ...]:
    """Returns the modules of a kind's table kernel, in order; later ones override earlier ones."""
    return (windows, kind, formulas, heap, table_pass)


def stream_kernel() -> SimpleNamespace:
    """Returns the interpreted driver of a stream of the whole catalogue.

    Its field `of` has the functions of numbers and of groups.
    """
    of = {}
    for name, (constants, source) in stream_declarations().items():
        of[name] = SimpleNamespace(**_namespace(STREAM_MODULES[name], constants, source))
    supplied: dict[str, object] = dict(columns(FEATURES))
    for name, functions in CALLED_BY_DRIVER.items():
        supplied |= {f"{name}_{function}": getattr(of[name], function) for function in functions}
    return SimpleNamespace(of=of, **_namespace(DRIVER, supplied, ""))


@cache
def stream_declarations() -> dict[str, tuple[dict[str, int], str]]:
    """Returns `declarations` of numbers and of groups for the whole catalogue: all kinds of groups are alike."""
    of_number, *of_groups = (declarations(kind, FEATURES) for kind in LIVE_KINDS)
    if any(of_group != of_groups[0] for of_group in of_groups):
        raise ValueError(
            "catalogue: blocks, trunks and devices must have the same features, as one stream kernel serves all three"
        )
    return {"number": of_number, "group": of_groups[0]}


def columns(features: tuple[Feature, ...]) -> dict[str, int]:
    """Returns the width of a vector and the first column of each role."""
    first = {f"{feature.role.upper()}_COLUMN": i for i, feature in reversed(list(enumerate(features)))}
    return {"WIDTH": len(features)} | first


def _namespace(modules: tuple[ModuleType, ...], supplied: Mapping[str, object], source: str) -> dict[str, object]:
    namespace: dict[str, object] = {"__name__": __name__, "nan": math.nan}
    for part in modules:
        namespace |= {name: value for name, value in vars(part).items() if _is_member(name, value, part)}
    namespace |= supplied
    exec(compile(source, "<generated>", "exec"), namespace)  # noqa: S102 - our own text, from the catalogue
    for name, value in namespace.items():
        if isinstance(value, FunctionType) and name not in supplied:
            namespace[name] = FunctionType(value.__code__, namespace, name)
    return {name: value for name, value in namespace.items() if not name.startswith("__")}


def _is_member(name: str, value: Any, module: ModuleType) -> bool:
    if isinstance(value, FunctionType):
        return value.__module__ == module.__name__
    return not name.startswith("__")
