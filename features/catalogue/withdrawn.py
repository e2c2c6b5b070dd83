"""Definitions of features that are gone. The hash of the catalogue counts them, so that signed bundles keep theirs.

They counted complaints about the caller, or about other numbers of its block, trunk or device.
"""

from __future__ import annotations

_DAYS_28 = 28 * 86_400
_ROWS = (
    ("reported_count_7d", "number", 7 * 86_400, "people",
     "people who complained about the caller, known in the last 7 days", "7天内举报主叫的人数"),
    ("reported_count_28d", "number", _DAYS_28, "people",
     "people who complained about the caller, known in the last 28 days", "28天内举报主叫的人数"),
    ("reported_age", "number", _DAYS_28, "seconds",
     "time since the last complaint about the caller became known", "距主叫上次被举报的时间"),
    ("block_reported_count_28d", "block", _DAYS_28, "people",
     "complaints about other numbers of the caller's block, known in the last 28 days",
     "28天内同号段其他号码被举报次数"),
    ("trunk_reported_count_28d", "trunk", _DAYS_28, "people",
     "complaints about other numbers on the same trunk, known in the last 28 days", "28天内同中继其他号码被举报次数"),
    ("device_reported_count_28d", "device", _DAYS_28, "people",
     "complaints about other numbers of the caller's device, known in the last 28 days",
     "28天内同设备其他号码被举报次数"),
)  # fmt: skip
WITHDRAWN: tuple[dict[str, object], ...] = tuple(
    {
        "name": name,
        "history": "complaints",
        "aggregate": "seconds since the last one; unknown if there is none" if unit == "seconds" else "count",
        "key": key,
        "window_seconds": window,
        "window_rule": "[at - window, at), by the time when the complaint became known",
        "where": "the same person did not complain about the same number in the 28 days before",
        "excluding": None if key == "number" else "complaints about the caller itself",
        "unit": unit,
        "en": en,
        "zh": zh,
        "source": "marks as lists use them: TouchPal, PhoneBlock, 12321; known-at semantics: the design's own",
    }
    for name, key, window, unit, en, zh in _ROWS
)
