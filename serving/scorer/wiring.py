"""Whether a history and a scorer fit together, in one line that says what to do."""

from __future__ import annotations

from collections.abc import Sequence

MAKE_HISTORY = "make it as History(scorer.history_features)"


def misfit(history: object, features: Sequence[str], lacking: Sequence[str]) -> str:
    """Returns why a history does not fit a scorer; "" if it does.

    Args:
        features: names that the history must give, in order.
        lacking: own columns that the model needs and the scorer has no table of.
    """
    names = getattr(history, "features", None)
    if names == features:
        own = ", ".join(lacking)
        return f"columns: the model has own columns: {own}; load it with Scorer.load(columns=...)" if own else ""
    if names is None:
        return f"history: expected a History, got {kind(history)}; {MAKE_HISTORY}"
    if sorted(names) == sorted(features):
        return f"history: its features are in another order than the model's; {MAKE_HISTORY}"
    return f"history: it was made for other features; {MAKE_HISTORY}"


def kind(value: object) -> str:
    """Returns the name of a value's type, which shows nothing of the value."""
    return type(value).__name__
