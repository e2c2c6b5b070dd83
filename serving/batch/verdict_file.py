"""Builds the table of verdicts that `callsieve score --out` writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from callsieve.features.keys.callee_keys import CalleeCipher
from callsieve.serving.rules.policy import ACTIONS

from .output_keys import with_callee_keys
from .table_rules import rule_column

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

IDENTITY = ("start", "caller", "callee")


def verdict_table(calls: pa.Table, score: Array, action: Array, rule_bits: Array, callees: CalleeCipher) -> pa.Table:
    """Returns one row a call: start, caller, callee (under its own key), score, action, names of the rules it meets.

    Args:
        calls: columns of IDENTITY, tokens as dictionaries.
        score, action, rule_bits: as in `scorer.verdict.Scores`, shape (calls,).
    """
    identity = with_callee_keys(calls.select(IDENTITY), callees)
    return pa.table(
        {
            **dict(zip(IDENTITY, identity.columns, strict=True)),
            "score": pa.array(score, from_pandas=True),
            "action": pa.DictionaryArray.from_arrays(pa.array(action), pa.array(ACTIONS)),
            "rules": rule_column(rule_bits),
        }
    )
