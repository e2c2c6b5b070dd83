"""Rules and policy for a table of calls: one int64 a call, in which each bit stands for a rule that the call meets.

The conditions and the policy are those of a single call (`rules.py`, `policy.py`), applied to arrays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from callsieve.features.arrays import Array
from callsieve.serving.bundle.metadata import Band

from .policy import ACTIONS, Policy, certified_action, final_action
from .register_lookup import Terms
from .rule_input import VECTOR_COLUMNS, RuleInput
from .rules import RULES
from .strata import STRATA

BITS = {rule.name: 1 << i for i, rule in enumerate(RULES)}


def rule_columns(vectors: Array) -> dict[int, Array]:
    """Returns the columns that rules read, by their index in the catalogue.

    `vectors`: float64 of shape (n, F), in the order of the catalogue; further columns are ignored.
    """
    return {column: vectors[:, column] for _, column in VECTOR_COLUMNS}


def matching_bits(calls: RuleInput, terms: Terms) -> Array:
    """Returns the rules that each of n calls meets: int64 of shape (n,), one bit a rule in the order of RULES.

    `calls`: facts of the calls, arrays of shape (n,); those of the vectors are needed.
    """
    bits = np.zeros(len(calls.attestation), dtype=np.int64)
    for rule in RULES:
        bits |= np.where(np.broadcast_to(rule.when(calls, terms), bits.shape), BITS[rule.name], 0)
    return bits


def rule_names(bits: int) -> tuple[str, ...]:
    """Returns the names of the rules whose bits are set."""
    return tuple(name for name, bit in BITS.items() if bits & bit)


def table_band_actions(policy: Policy, bands: Sequence[Band], raw: Array, stratum: Array) -> Array:
    """Returns the strongest action of the bands that each call reaches: int8 of shape (n,), indexes of ACTIONS.

    `raw`: raw scores in log-odds, shape (n,); NaN reaches no band. `stratum`: indexes of STRATA, shape (n,).
    """
    action = np.zeros(len(raw), dtype=np.int8)
    for band in bands:
        reached = raw >= band.threshold
        for code in np.unique(stratum[reached]):
            name = STRATA[code]
            allowed = certified_action(policy.of_band(band.name), band, name)
            rows = (raw >= band.threshold_for(name)) & (stratum == code)
            action[rows] = np.maximum(action[rows], ACTIONS.index(allowed))
    return action


def table_actions(policy: Policy, by_band: Array, bits: Array) -> Array:
    """Returns the final action of each call: int8 of shape (n,), indexes of ACTIONS.

    `by_band`: the action that the bands alone lead to, as indexes of ACTIONS, shape (n,). `bits`: result of
    `matching_bits`, shape (n,).
    """
    pairs, pair_of = np.unique(bits * len(ACTIONS) + by_band, return_inverse=True)
    final = []
    for pair in pairs.tolist():
        row, action = divmod(pair, len(ACTIONS))
        final.append(ACTIONS.index(final_action(policy, ACTIONS[action], rule_names(row))))
    return np.array(final, dtype=np.int8)[pair_of]
