"""Why a call got its score: exact additive contributions as plain sentences, English and Chinese.

Contributions (`shapley.py`) and the base value add up to the raw score; each reason names one of them with the value
behind it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from callsieve.features.catalogue import ALL_FEATURES
from callsieve.features.catalogue.feature import Feature
from callsieve.features.complaints import ComplaintFeature
from callsieve.features.dataclass import dataclass

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Reason:
    """One feature's part in a raw score (log-odds), with its value and what to tell a person.

    >>> from callsieve.serving.scorer.reasons import reasons
    >>> (reason,) = reasons(["out_calls_count_1h", "call_hour"], [87.0, 10.0], [1.5, -0.25])
    >>> reason.contribution, reason.en
    (1.5, 'calls made in the last hour: 87')
    """

    feature: str
    value: float
    contribution: float
    en: str
    zh: str


def reasons(names: Sequence[str], values: Sequence[float], contributions: Sequence[float]) -> tuple[Reason, ...]:
    """The features that raised the score most, strongest first."""
    order = sorted(range(len(names)), key=contributions.__getitem__, reverse=True)
    return tuple(_reason(names[i], values[i], contributions[i]) for i in order[:_SHOWN] if contributions[i] > 0)


def _reason(name: str, value: float, contribution: float) -> Reason:
    feature = ALL_FEATURES.get(name)
    if feature is None:
        text = f"{name}: {value:g}"
        return Reason(name, value, contribution, text, text)
    en, zh = _shown(feature, value)
    return Reason(name, value, contribution, f"{feature.en}: {en}", f"{feature.zh}:{zh}")


def _shown(feature: Feature | ComplaintFeature, value: float) -> tuple[str, str]:
    """A value as people write it.

    >>> _shown(DEFINED["out_answered_share_24h"], 0.25)
    ('25%', '25%')
    """
    if math.isnan(value):
        return "not known", "未知"
    if feature.levels:
        word = feature.levels[int(value)].replace("_", " ") if 0 <= value < len(feature.levels) else f"{value:g}"
        return word, word
    if feature.unit == "yes/no":
        return ("yes", "是") if value else ("no", "否")
    if feature.unit == "share":
        return f"{value:,.0%}", f"{value:,.0%}"
    if feature.unit == "seconds":
        return _duration(value)
    # Nobody reads 1.235e+04 calls; the commas also keep a long count from looking like a telephone number.
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text, text


def _duration(seconds: float) -> tuple[str, str]:
    for size, en, zh in ((86_400, "days", "天"), (3_600, "hours", "小时"), (60, "minutes", "分钟")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {en}", f"{seconds / size:,.1f}{zh}"
    return f"{seconds:,.1f} seconds", f"{seconds:,.1f}秒"
