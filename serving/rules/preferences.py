"""What called people do not want, held against what a call is likely about: a threshold of their own per category.

A caller that is registered for a business is judged by that (`rules.py`, against_preference). Most nuisance is
registered for nothing; there the model of contents says what a call that reached a band is likely about, and counts
only where it gives one class at least the share that the policy asks for. It is a guess: it warns and never blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from .registers import ANY, BETWEEN, Registers

PREFERENCE_RULE = "against_predicted_preference"


def rejected_categories(registers: Registers | None, callee: str, at: int, categories: Iterable[str]) -> dict[str, int]:
    """The categories that a called person rejects at a moment, each with the place of the row that says so."""
    if registers is None or "preferences" not in registers.tables:
        return {}
    accepts, found = registers.columns["preferences"]["accepts"], {}
    for category in categories:
        keys = (callee + BETWEEN + category, callee + BETWEEN + ANY)
        place = registers.in_effect("preferences", at, *keys)
        if place >= 0 and not accepts[place]:
            found[category] = place
    return found


def confident_class(raw: Sequence[float], classes: Sequence[str], share: float) -> str | None:
    """The class of a model's raw scores whose share (softmax) is at least so large, if there is one.

    >>> surely([3.0, 0.0, 0.0], ("loans", "fraud", "other"), 0.9), surely([1.0, 0.0], ("loans", "fraud"), 0.9)
    ('loans', None)
    """
    most = max(raw)
    total = sum(math.exp(value - most) for value in raw)
    return classes[list(raw).index(most)] if share * total <= 1.0 else None
