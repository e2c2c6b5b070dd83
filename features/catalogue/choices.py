"""The choices of features whose tables have a compiled program of their own.

A program of few features keeps less state of each key. Any other choice runs the program of the whole catalogue.
"""

from __future__ import annotations

from . import FEATURES, select_features
from .feature import Feature
from .lite import LITE

WINDOWS = ("1h", "24h", "7d")
COMMON = (
    *(f"out_calls_count_{window}" for window in WINDOWS),
    *(f"out_callees_count_{window}" for window in WINDOWS),
    *(f"out_callees_share_{window}" for window in WINDOWS),
    *(f"out_answered_share_{window}" for window in WINDOWS),
    *(f"out_talk_mean_{window}" for window in WINDOWS),
    *(f"out_talk_under_10s_share_{window}" for window in WINDOWS),
    "out_talk_under_30s_share_24h",
    "out_talk_under_30s_share_7d",
    "out_no_answer_share_7d",
)
"""The 21 features that other engines can compute too (`tests/bench/engines`)."""

WHOLE = "whole"
CHOICES: dict[str, tuple[Feature, ...]] = {
    WHOLE: FEATURES,
    "lite": select_features(LITE),
    "common": select_features(COMMON),
}


def choice_of(features: tuple[Feature, ...]) -> str:
    """Returns the name of the choice whose program computes these features, given in catalogue order.

    >>> choice_of(FEATURES), choice_of(select_features(LITE)), choice_of(FEATURES[:2])
    ('whole', 'lite', 'whole')
    """
    return next((name for name, chosen in CHOICES.items() if features == chosen), WHOLE)


def computed_features(features: tuple[Feature, ...]) -> tuple[Feature, ...]:
    """Returns the features that a table computes to get these ones: without a program of their own, all of their roles.

    >>> len(computed_features(select_features(LITE))), len(computed_features(FEATURES[:1])) > 50
    (10, True)
    """
    if choice_of(features) != WHOLE:
        return features
    roles = {feature.role for feature in features}
    return tuple(feature for feature in FEATURES if feature.role in roles)
