"""Rules and policy over a table of calls at once: the same conditions, and the same decision, as for a single call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .policy import ACTIONS, Policy, final_action
from .register_lookup import RegisterFacts, Terms
from .rule_input import VECTOR_COLUMNS, rule_input
from .rules import RULES

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

BITS = {rule.name: 1 << i for i, rule in enumerate(RULES)}


def rule_columns(vectors: Array) -> dict[int, Array]:
    """The columns that rules look at, by their places in the catalogue.

    Args:
        vectors: float64 (n, features), as the catalogue orders them; further columns may follow.
    """
    return {place: vectors[:, place] for _, place in VECTOR_COLUMNS}


def rule_bits(
    columns: Mapping[int, Array], registered: RegisterFacts | None, terms: Terms, own_number: Any = np.nan
) -> Array:
    """Which rules each call meets: int64, one bit a rule in the order of RULES.

    Args:
        columns: as from `rule_columns`, of shape (n,).
        registered: arrays of n values.
        own_number: 1 where a call's two numbers are one, of shape (n,) if it is known.
    """
    found, met = (
        rule_input(columns, registered, own_number),
        np.zeros(len(columns[VECTOR_COLUMNS[0][1]]), dtype=np.int64),
    )
    for rule in RULES:
        met |= np.where(np.broadcast_to(rule.when(found, terms), met.shape), BITS[rule.name], 0)
    return met


def rule_names(met: int) -> tuple[str, ...]:
    """The rules of one call's bits."""
    return tuple(name for name, bit in BITS.items() if met & bit)


def table_actions(policy: Policy, banded: Array, met: Array) -> Array:
    """What is done with each call, by `policy.final_action`: places in ACTIONS, int8.

    Args:
        banded: the action by the bands alone, as a place in ACTIONS.
        met: as from `rule_bits`.
    """
    both, which = np.unique(np.column_stack([banded.astype(np.int64), met]), axis=0, return_inverse=True)
    done = [ACTIONS.index(final_action(policy, ACTIONS[action], rule_names(bits))) for action, bits in both.tolist()]
    return np.array(done, dtype=np.int8)[which.reshape(-1)]
