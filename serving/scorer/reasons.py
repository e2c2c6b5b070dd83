"""Reasons of a score: the strongest contributions as plain sentences, in English and Chinese.

The contributions of all features (`bundle/forest.py`) and the base value add up to the raw score. A reason names one
contribution and the value of its feature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from callsieve.features.catalogue import BY_NAME
from callsieve.features.catalogue.feature import Feature

if TYPE_CHECKING:
    from callsieve.features.arrays import Floats

_MAX_REASONS = 4
_FULL_WIDTH = str.maketrans(",()", "，（）")  # the catalogue, whose hash a model has, is written with half-width marks


@dataclass(frozen=True, slots=True)
class Reason:
    """The contribution of one feature to a raw score (log-odds), with the feature's value and a sentence.

    `en` and `zh` are the sentence in English and Chinese. `value` is NaN if it is unknown.

    >>> from callsieve.serving.scorer.reasons import strongest_reasons
    >>> (reason,) = strongest_reasons(["out_calls_count_1h", "call_hour"], [87.0, 10.0], [1.5, -0.25])
    >>> reason.contribution, reason.en
    (1.5, 'calls made in the last hour: 87')
    """

    feature: str
    value: float
    contribution: float
    en: str
    zh: str


def strongest_reasons(
    names: Sequence[str], values: Sequence[float], contributions: Sequence[float]
) -> tuple[Reason, ...]:
    """Returns at most four features that raised the score, strongest first.

    Args:
        contributions: the contribution of each feature, in log-odds.
    """
    order = sorted(range(len(names)), key=contributions.__getitem__, reverse=True)
    return tuple(_reason(names[i], values[i], contributions[i]) for i in order[:_MAX_REASONS] if contributions[i] > 0)


def english_reasons(names: Sequence[str], rows: Floats, contributions: Floats) -> list[list[str]]:
    """Returns the English sentences of `strongest_reasons` for each row of a table.

    Args:
        rows, contributions: the values of the features and their contributions, shape (n, F).
    """
    import numpy as np

    every, left, order = np.arange(len(rows)), contributions.copy(), []
    for _ in range(min(_MAX_REASONS, len(names))):  # faster than sorting; equal contributions stay in order
        order.append(left.argmax(axis=1))
        left[every, order[-1]] = -np.inf
    strongest = np.stack(order, axis=1)
    raised = np.take_along_axis(contributions, strongest, axis=1) > 0
    values = np.take_along_axis(rows, strongest, axis=1)
    return [
        [_english(names[i], value) for i, value, is_raised in zip(*row, strict=True) if is_raised]
        for row in zip(strongest.tolist(), values.tolist(), raised.tolist(), strict=True)
    ]


def _english(name: str, value: float) -> str:
    feature = BY_NAME.get(name)
    return f"{name}: {value:g}" if feature is None else f"{feature.en}: {_format_value(feature, value)[0]}"


def _reason(name: str, value: float, contribution: float) -> Reason:
    feature, en = BY_NAME.get(name), _english(name, value)
    if feature is None:
        return Reason(name, value, contribution, en, en)
    return Reason(name, value, contribution, en, f"{in_chinese(feature)}：{_format_value(feature, value)[1]}")


def in_chinese(feature: Feature) -> str:
    """Returns the meaning of a feature in Chinese, with full-width punctuation."""
    return feature.zh.translate(_FULL_WIDTH)


def _format_value(feature: Feature, value: float) -> tuple[str, str]:
    """Formats a value for people, in English and Chinese.

    >>> _format_value(BY_NAME["out_answered_share_24h"], 0.25)
    ('25%', '25%')
    """
    if math.isnan(value):
        return "not known", "未知"
    if feature.levels:
        level = feature.levels[int(value)].replace("_", " ") if 0 <= value < len(feature.levels) else f"{value:g}"
        return level, level
    if feature.unit == "yes/no":
        return ("yes", "是") if value else ("no", "否")
    if feature.unit == "share":
        return f"{value:,.0%}", f"{value:,.0%}"
    if feature.unit == "seconds":
        return _format_duration(value)
    # 12,345 reads better than 1.235e+04. The commas also keep a long count from looking like a telephone number.
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text, text


def _format_duration(seconds: float) -> tuple[str, str]:
    for size, en, zh in ((86_400, "days", "天"), (3_600, "hours", "小时"), (60, "minutes", "分钟")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {en}", f"{seconds / size:,.1f}{zh}"
    return f"{seconds:,.1f} seconds", f"{seconds:,.1f}秒"
