"""Builds the table of verdicts that `callsieve score --out` writes."""

from __future__ import annotations

import pyarrow as pa

from callsieve.features.keys.callee_keys import CalleeCipher
from callsieve.serving.rules.policy import ACTIONS
from callsieve.serving.scorer.verdict import Scores

from .output_keys import with_callee_keys
from .table_rules import rule_column

IDENTITY = ("start", "caller", "callee")


def verdict_table(scores: Scores, calls: pa.Table, callees: CalleeCipher) -> pa.Table:
    """Returns one row a call: start, caller, callee (under its own key), score, action, names of the rules it meets."""
    action = pa.DictionaryArray.from_arrays(pa.array(scores.action), pa.array(ACTIONS))
    identity = with_callee_keys(calls.select(IDENTITY), callees)
    return pa.table(
        {
            **dict(zip(IDENTITY, identity.columns, strict=True)),
            "score": pa.array(scores.score, from_pandas=True),
            "action": action,
            "rules": rule_column(scores.rule_bits),
        }
    )
