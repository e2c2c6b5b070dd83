"""Preferences of called people against the predicted content of a call: one content threshold for every category.

A caller that is registered for a business is judged by that business (rule `against_preference`). Most nuisance
callers are registered for nothing. For them the content model predicts what a call that reached a band is about. The
prediction counts only if one class has at least the probability `content_share` of the policy. It can label a call,
but never block it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from .registers import ANY, BETWEEN, Registers

PREFERENCE_RULE = "against_predicted_preference"


def rejected_categories(registers: Registers | None, callee: str, at: int, categories: Iterable[str]) -> dict[str, int]:
    """Returns the categories that a called person rejects, each with the index of the preference's row.

    `at`: Unix ms.
    """
    if registers is None or "preferences" not in registers.tables:
        return {}
    accepts, rejected = registers.columns["preferences"]["accepts"], {}
    for category in categories:
        row = registers.in_effect("preferences", at, callee + BETWEEN + category, callee + BETWEEN + ANY).row
        if row is not None and not accepts[row]:
            rejected[category] = row
    return rejected


def confident_class(raw: Sequence[float], classes: Sequence[str], share: float) -> str | None:
    """Returns the class with the highest raw score if its probability (softmax) is at least `share`, else None.

    >>> confident_class([3.0, 0.0, 0.0], ("loans", "fraud", "other"), 0.9)
    'loans'
    >>> confident_class([1.0, 0.0], ("loans", "fraud"), 0.9) is None
    True
    """
    highest = max(raw)
    total = sum(math.exp(value - highest) for value in raw)
    return classes[list(raw).index(highest)] if share * total <= 1.0 else None
