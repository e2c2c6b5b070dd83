"""Counts verdicts by action, caller, band and rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from callsieve.features.intake.text_columns import factorize
from callsieve.serving.rules.policy import ACTIONS
from callsieve.serving.rules.rule_bits import BITS
from callsieve.serving.scorer.verdict import Scores


def verdict_counts(scores: Scores, calls: pa.Table) -> dict[str, dict[str, int]]:
    """Counts the verdicts on a table of calls.

    Returns:
        `actions`: calls by action. `callers`: callers by their strongest action. `bands`: calls by the action of the
        model's bands alone. `rules`: calls by the rule that they meet; a call may meet several.
    """
    caller, callers = factorize(calls["caller"])
    strongest = np.zeros(callers, dtype=np.int8)
    np.maximum.at(strongest, caller, scores.action)
    by_rule = {name: int(np.count_nonzero(scores.rule_bits & bit)) for name, bit in BITS.items()}
    return {
        "actions": by_action(Counter(scores.action.tolist())),
        "callers": by_action(Counter(strongest.tolist())),
        "bands": by_action(Counter(scores.band_action.tolist())),
        "rules": {name: count for name, count in by_rule.items() if count},
    }


def by_action(counts: Mapping[int, int]) -> dict[str, int]:
    """Replaces action codes by their names; an action without a call counts 0."""
    return {action: counts.get(code, 0) for code, action in enumerate(ACTIONS)}
