"""FEATURES: the only list of features.

A feature says whose history, what is measured, how it is aggregated, and over which window. Names are computed from that, the
engines run the programs written here, and the documents, reasons, audit and bundle check read the same list. Adding a
feature is adding a row to MEASURES; a new kind of sum is a slot in `windows.py` and a line in SUMS below.

Sources name the evidence: TRAI (Indian regulator, 2025), BUPT (CN108833720B), TY (Toyoda and Sasase 2015), Airtel,
Truecaller, Hiya, First Orion, OpenSIPS `fraud_detection`, the 13-ministry plan of 2018, and figures measured on the
Sichuan set (AUC of the column alone).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from . import values as v
from . import windows as w
from .records import ATTESTATIONS, NUMBER_CLASSES, OUTCOMES, ROUTES, STEPS

HOWS = {
    "count": v.COUNT,
    "share": v.SHARE,
    "rest_share": v.REST_SHARE,
    "balance": v.BALANCE,
    "ratio": v.RATIO,
    "mean": v.MEAN_SECONDS,
    "spread": v.SPREAD_SECONDS,
    "concentration": v.CONCENTRATION,
    "peak_share": v.PEAK_SHARE,
    "entropy": v.ENTROPY,
    "bins": v.BINS,
    "age": v.AGE,
    "since": v.SINCE,
    "gap_mean": v.GAP_MEAN,
    "gap_variation": v.GAP_SPREAD,
    "gap_share": v.GAP_SHARE,
    "earlier": v.EARLIER,
    "fact": v.FACT,
}
# How an aggregate is called in a feature's name, where that differs.
LABELS = {
    "rest_share": "share",
    "gap_mean": "mean",
    "gap_variation": "variation",
    "gap_share": "share",
    **dict.fromkeys(("age", "since", "earlier", "fact"), ""),
}
FORMULAS = {
    "count": "part",
    "share": "(part + 1/2) / (whole + 1); unknown if whole = 0",
    "rest_share": "(whole - part + 1/2) / (whole + 1); unknown if whole = 0",
    "balance": "(part + 1/2) / (part + whole + 1); unknown if both are 0",
    "ratio": "part / whole; unknown if whole = 0",
    "mean": "part / whole / 1000 (milliseconds to seconds); unknown if whole = 0",
    "spread": "sqrt(whole * part - other^2) / whole / 10 (population standard deviation, seconds); unknown if whole = 0",
    "concentration": "part / whole^2 (Herfindahl index); unknown if whole = 0",
    "peak_share": "(largest bin + 1/2) / (whole + 1); unknown if whole = 0",
    "entropy": "-sum(p * log2(p)) over the bins, in bits; unknown if whole = 0",
    "bins": "number of bins that are not empty",
    "age": "min(at - first event, 7 days) in seconds; unknown if there is none",
    "since": "at - last event in seconds; unknown if there is none within 7 days",
    "gap_mean": "sum of gaps between neighbouring calls / (calls - 1), seconds; unknown below 2 calls",
    "gap_variation": "standard deviation of the gaps / their mean; unknown below 3 calls",
    "gap_share": "(part + 1/2) / (calls - 1 + 1); unknown below 2 calls",
    "earlier": "count of earlier attempts of this pair",
    "fact": "the fact of the call itself; unknown if it is not known",
}

# What each sum of `windows.py` holds: place, which events, which of them, what is added.
SUMS: dict[str, tuple[int, str, str, str]] = {
    "calls": (w.CALLS, "out_attempts", "all", "1"),
    "callees": (w.CALLEES, "out_attempts", "all", "distinct callee"),
    "returning_callees": (w.RETURNING, "out_attempts", "callee also called in the 7 days before the window began", "distinct callee"),
    "mutual_callees": (w.MUTUAL, "out_attempts", "callee also called the number in the window", "distinct callee"),
    "callee_squares": (w.PAIR_SQ, "out_attempts", "all", "square of calls per callee"),
    "gaps": (w.GAP_SUM, "out_attempts", "neighbours both in the window", "milliseconds between them"),
    "gap_squares": (w.GAP_SQ, "out_attempts", "neighbours both in the window", "milliseconds squared"),
    "short_gaps": (w.GAP_SHORT, "out_attempts", "neighbours both in the window and less than 10 s apart", "1"),
    "night_calls": (w.NIGHT_CALLS, "out_attempts", "local hour before 8 or from 21", "1"),
    "near_calls": (w.NEAR_CALLS, "out_attempts", "callee within 10 numbers or in the same block as the last one dialled", "1"),
    "local_calls": (w.LOCAL_CALLS, "out_attempts", "caller and callee in the same region", "1"),
    "region_known": (w.LOCAL_KNOWN_CALLS, "out_attempts", "both regions known", "1"),
    "ended": (w.ENDED, "out_outcomes", "all", "1"),
    **{o: (w.OUTCOMES + i, "out_outcomes", f"outcome is {o}", "1") for i, o in enumerate(OUTCOMES)},
    "talk": (w.TALK_SUM, "out_outcomes", "answered", "talk in milliseconds"),
    "talk_tenths": (w.TALK_TENTHS, "out_outcomes", "answered", "whole tenths of a second of talk"),
    "talk_squares": (w.TALK_SQ, "out_outcomes", "answered", "whole tenths of a second of talk, squared"),
    "talk_under_10s": (w.TALK_10, "out_outcomes", "answered and talk under 10 s", "1"),
    "talk_under_30s": (w.TALK_30, "out_outcomes", "answered and talk under 30 s", "1"),
    "ring": (w.RING_SUM, "out_outcomes", "all", "ring in milliseconds"),
    "one_rings": (w.ONE_RINGS, "out_outcomes", "not answered, released by the caller after at most 4 s", "1"),
    "hung_up": (w.HUNG_UPS, "out_outcomes", "answered and released by the caller", "1"),
    "release_known": (w.HUNG_KNOWNS, "out_outcomes", "answered and it is known who released", "1"),
    "in_calls": (w.IN_CALLS, "in_attempts", "all", "1"),
    "in_callers": (w.IN_CALLERS, "in_attempts", "all", "distinct caller"),
    "in_ended": (w.IN_ENDED, "in_outcomes", "all", "1"),
    "in_answered": (w.IN_ANSWERED, "in_outcomes", "answered", "1"),
    "in_talk": (w.IN_TALK_SUM, "in_outcomes", "answered", "talk in milliseconds"),
}  # fmt: skip

# Facts of the call itself: name -> levels of a category, or () for a number. The order is that of `facts_of`.
CALL_FACTS: dict[str, tuple[str, ...]] = {
    "caller_class": NUMBER_CLASSES,
    "callee_class": NUMBER_CLASSES,
    "attestation": ATTESTATIONS,
    "route": ROUTES,
    "step": STEPS,
    "hour": (),
    "weekday": (),
    "same_region": (),
    "shared_prefix": (),
    "presented_differs": (),
}

H, D, W = range(3)
WINDOW_EN = ("hour", "24 hours", "7 days")
WINDOW_ZH = ("1小时", "24小时", "7天")


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature: what it is, where it comes from, and the program step that computes it."""

    history: str
    measure: str
    how: str
    window: int | None
    unit: str
    en: str
    zh: str
    source: str
    step: tuple[int, int, int, int]
    levels: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """History, measure, aggregate and window, as far as each says something.

        >>> FEATURES[0].name
        'out_calls_count_1h'
        """
        window = "" if self.window is None else w.WINDOW_NAMES[self.window]
        return "_".join(word for word in (self.history, self.measure, LABELS.get(self.how, self.how), window) if word)

    @property
    def definition(self) -> dict[str, Any]:
        """Enough to recompute the feature from raw calls; plain JSON values."""
        window = None if self.window is None else w.WINDOWS[self.window] // 1000
        parts = {
            role: {"events": SUMS[part][1], "where": SUMS[part][2], "adds": SUMS[part][3]} if part in SUMS else part
            for role, part in zip(("part", "whole", "other"), self.parts, strict=False)
        }
        return {
            "name": self.name,
            "history": self.history,
            "aggregate": self.how,
            "formula": FORMULAS[self.how],
            "window_seconds": window,
            "window_rule": None if window is None else "[at - window, at)",
            **parts,
            "unit": self.unit,
            "levels": list(self.levels),
            "en": self.en,
            "zh": self.zh,
            "source": self.source,
        }


def place(part: str, window: int) -> int:
    """Where a sum of a window stands in a number's state."""
    return w.SUMS + window * w.SLOTS + SUMS[part][0]


def over_windows(
    history: str,
    measure: str,
    how: str,
    parts: str,
    windows: tuple[int, ...],
    unit: str,
    en: str,
    zh: str,
    source: str,
) -> list[Feature]:
    """The same measure over several windows. `parts` names the part, the whole and the third sum, as `how` needs."""
    names = tuple(parts.split())
    features = []
    for window in windows:
        places = [place(name, window) for name in names] + [0, 0]
        step = (HOWS[how], places[0], places[1], places[2])
        words = en.format(WINDOW_EN[window]), zh.format(WINDOW_ZH[window])
        features.append(Feature(history, measure, how, window, unit, *words, source, step, (), names))
    return features


def by_hour_or_day(measure: str, how: str, days: bool, unit: str, en: str, zh: str, source: str) -> list[Feature]:
    """A measure of the histogram of outgoing calls over hours of the day or over days, last 7 days."""
    first, bins = (w.DAYS, 8) if days else (w.HOURS, 24)
    parts = ("out attempts by local day" if days else "out attempts by local hour of day", "calls")
    return [
        Feature(
            "out",
            measure,
            how,
            W,
            unit,
            en,
            zh,
            source,
            (HOWS[how], first, place("calls", W), bins),
            (),
            parts,
        )
    ]


def single(
    history: str, measure: str, how: str, at: int, unit: str, en: str, zh: str, source: str, part: str
) -> list[Feature]:
    """A feature without a window."""
    return [Feature(history, measure, how, None, unit, en, zh, source, (HOWS[how], at, 0, 0), (), (part,))]


def across(measure: str, narrow: int, wide: int, en: str, zh: str, source: str) -> list[Feature]:
    """How much of a wide window's calls fall into a narrow one."""
    step = (v.SHARE, place("calls", narrow), place("calls", wide), 0)
    return [Feature("out", measure, "share", wide, "share", en, zh, source, step, (), ("calls", "calls"))]


def fact(name: str, unit: str, en: str, zh: str, source: str) -> list[Feature]:
    """A fact of the call itself."""
    step = (v.FACT, list(CALL_FACTS).index(name), 0, 0)
    return [Feature("call", name, "fact", None, unit, en, zh, source, step, CALL_FACTS[name], (name,))]


ALL = (H, D, W)
MEASURES: list[list[Feature]] = [
    over_windows("out", "calls", "count", "calls", ALL, "calls", "calls made in the last {}", "过去{}拨出的电话数", "TRAI, Truecaller, OpenSIPS"),
    over_windows("out", "callees", "count", "callees", ALL, "numbers", "different numbers called in the last {}", "过去{}拨打的不同号码数", "TY; Sichuan .66"),
    over_windows("out", "callees", "share", "callees calls", ALL, "share", "different numbers per call in the last {}", "过去{}不同号码占通话的比例", "Sichuan .84"),
    over_windows("out", "new_callees", "rest_share", "returning_callees callees", (H, D), "share", "share of numbers called in the last {} that were not called in the week before", "过去{}所拨号码中此前一周未拨过的比例", "BUPT"),
    over_windows("out", "mutual_callees", "share", "mutual_callees callees", ALL, "share", "share of numbers called in the last {} that also called this number", "过去{}所拨号码中有回拨或来电的比例", "TY, BUPT friend-call share"),
    over_windows("out", "callee", "concentration", "callee_squares calls", (D, W), "index", "how far the calls of the last {} go to the same few numbers (1 = one number)", "过去{}通话集中于少数号码的程度(1=同一号码)", "the plan (call-bombing); Sichuan .81"),
    across("last_hour", H, D, "share of the last 24 hours' calls made in the last hour", "过去1小时通话占24小时的比例", "Airtel velocity"),
    across("last_day", D, W, "share of the last 7 days' calls made in the last 24 hours", "过去24小时通话占7天的比例", "Sichuan busiest-day share .80"),
    by_hour_or_day("hour", "peak_share", False, "share", "share of the week's calls in the busiest hour of the day", "一周内最忙时段的通话占比", "Sichuan .70"),
    by_hour_or_day("day", "peak_share", True, "share", "share of the week's calls on the busiest day", "一周内最忙一天的通话占比", "Sichuan .80"),
    by_hour_or_day("hour", "entropy", False, "bits", "spread of the week's calls over the hours of the day", "一周通话在各时段的分散程度", "Sichuan .77"),
    by_hour_or_day("hour", "bins", False, "hours", "different hours of the day with calls in the last 7 days", "过去7天有通话的不同时段数", "Sichuan .77"),
    by_hour_or_day("day", "bins", True, "days", "days with calls in the last 7 days", "过去7天有通话的天数", "Sichuan"),
    over_windows("out", "night_calls", "share", "night_calls calls", (D, W), "share", "share of calls between 21:00 and 08:00 in the last {}", "过去{}21点至次日8点通话的比例", "insurance telesales hours"),
    over_windows("out", "near_calls", "share", "near_calls calls", (H, D), "share", "share of calls in the last {} to a neighbour of the number dialled before", "过去{}拨打相邻号码的比例", "OpenSIPS sequential calls"),
    over_windows("out", "local_calls", "share", "local_calls region_known", (W,), "share", "share of calls in the last {} within the same region", "过去{}同地区通话的比例", "Airtel geographic spread"),
    over_windows("out", "gap", "gap_mean", "gaps calls", (H, D), "seconds", "mean time between calls in the last {}", "过去{}两次拨打的平均间隔", "OpenSIPS"),
    over_windows("out", "gap", "gap_variation", "gap_squares calls gaps", ALL, "ratio", "irregularity of the time between calls in the last {}", "过去{}拨打间隔的不规则程度", "robots dial regularly"),
    over_windows("out", "short_gaps", "gap_share", "short_gaps calls", (H, D), "share", "share of calls in the last {} dialled within 10 seconds of the one before", "过去{}与上一次拨打间隔不足10秒的比例", "OpenSIPS"),
    single("out", "since_last_call", "since", w.LAST_CALL, "seconds", "time since the last call made", "距上一次拨出的时间", "dormancy then burst", "start of the last outgoing attempt known"),
    single("out", "in_air", "count", w.IN_AIR, "calls", "calls under way at this moment", "此刻进行中的呼叫数", "OpenSIPS concurrent calls", "outgoing attempts of the last 24 hours whose outcome is not known"),
    over_windows("out", "answered", "share", "answered ended", ALL, "share", "share of calls answered in the last {}", "过去{}的接通率", "Truecaller pick-up rate; Hiya 9%"),
    over_windows("out", "no_answer", "share", "no_answer ended", (D, W), "share", "share of calls not answered in the last {}", "过去{}无人接听的比例", "outcome mix"),
    over_windows("out", "busy", "share", "busy ended", (W,), "share", "share of calls that met a busy line in the last {}", "过去{}遇忙的比例", "outcome mix"),
    over_windows("out", "rejected", "share", "rejected ended", (D, W), "share", "share of calls rejected in the last {}", "过去{}被拒接的比例", "OpenSIPS; outcome mix"),
    over_windows("out", "unwanted", "count", "unwanted", (W,), "calls", "calls that the called person marked unwanted in the last {}", "过去{}被叫方标为不想接的次数", "RFC 8197"),
    over_windows("out", "invalid_number", "share", "invalid_number ended", (D, W), "share", "share of calls to numbers that do not exist in the last {}", "过去{}拨到空号的比例", "BUPT dead-number ratio"),
    over_windows("out", "talk", "mean", "talk answered", ALL, "seconds", "mean talk time of answered calls in the last {}", "过去{}接通电话的平均通话时长", "TRAI, Hiya 11 s"),
    over_windows("out", "talk", "spread", "talk_squares answered talk_tenths", (D, W), "seconds", "spread of talk time in the last {}", "过去{}通话时长的离散程度", "recordings talk alike"),
    over_windows("out", "talk_under_10s", "share", "talk_under_10s answered", (D, W), "share", "share of answered calls under 10 seconds in the last {}", "过去{}接通后不足10秒的比例", "Airtel, TRAI"),
    over_windows("out", "talk_under_30s", "share", "talk_under_30s answered", (D, W), "share", "share of answered calls under 30 seconds in the last {}", "过去{}接通后不足30秒的比例", "Airtel, TRAI"),
    over_windows("out", "talk_per_callee", "mean", "talk callees", (W,), "seconds", "talk time per number called in the last {}", "过去{}平均每个号码的通话时长", "Sichuan .79"),
    over_windows("out", "ring", "mean", "ring ended", (D, W), "seconds", "mean ring time in the last {}", "过去{}的平均振铃时长", "one-ring calls"),
    over_windows("out", "one_rings", "share", "one_rings ended", (D, W), "share", "share of calls dropped by the caller after one ring in the last {}", "过去{}响一声即挂断的比例", "the plan (响一声)"),
    over_windows("out", "hung_up", "share", "hung_up release_known", (W,), "share", "share of answered calls that the caller ended in the last {}", "过去{}由主叫先挂断的比例", "caller-released share"),
    over_windows("in", "calls", "count", "in_calls", ALL, "calls", "calls received in the last {}", "过去{}接到的来电数", "TRAI"),
    over_windows("in", "callers", "count", "in_callers", (D, W), "numbers", "different numbers that called in the last {}", "过去{}来电的不同号码数", "TY"),
    over_windows("in", "calls", "balance", "in_calls calls", (D, W), "share", "share of incoming among all calls of the last {}", "过去{}来电占全部通话的比例", "TRAI; Sichuan .79"),
    over_windows("in", "answered", "share", "in_answered in_ended", (W,), "share", "share of incoming calls answered in the last {}", "过去{}来电的接听率", "SIM pools never answer"),
    over_windows("in", "talk", "mean", "in_talk in_answered", (W,), "seconds", "mean talk time of incoming calls in the last {}", "过去{}来电的平均通话时长", "call-backs"),
    single("number", "age", "age", w.FIRST_SEEN, "seconds", "time since the number was first seen (7 days at most)", "号码首次出现至今的时间(最多7天)", "Airtel time on network; life of 6.6 days", "start of the number's first attempt, in or out"),
    [
        Feature("pair", "calls_before", "earlier", W, "calls", "calls to this same number in the last 7 days", "过去7天拨打同一号码的次数", "calls per callee, Sichuan .87", (v.EARLIER, 2, 0, 0), (), ("caller to callee",)),
        Feature("pair", "calls_back", "earlier", W, "calls", "calls that this callee made to the caller in the last 7 days", "过去7天被叫拨打主叫的次数", "relation between the two", (v.EARLIER, 5, 0, 0), (), ("callee to caller",)),
    ],
    fact("caller_class", "class", "kind of the calling number", "主叫号码类别", "the plan; First Orion"),
    fact("callee_class", "class", "kind of the called number", "被叫号码类别", "number plan"),
    fact("attestation", "class", "result of caller authentication", "主叫鉴权结果", "TransNexus: a category, never an order"),
    fact("route", "class", "where the call came in", "来话路由", "the plan (+86 from abroad)"),
    fact("step", "class", "distance to the number dialled before", "与上一次所拨号码的距离", "OpenSIPS sequential calls"),
    fact("hour", "hour", "hour of the day", "呼叫时刻", "peaks at 8-11 and 14-17"),
    fact("weekday", "day", "day of the week (0 = Monday)", "星期(0为周一)", "Sunday is low"),
    fact("same_region", "yes/no", "caller and callee in the same region", "主被叫同地区", "First Orion neighbour match"),
    fact("shared_prefix", "digits", "leading digits that caller and callee share", "主被叫号码前缀相同位数", "First Orion neighbour match"),
    fact("presented_differs", "yes/no", "the shown number is not the network's number", "显示号码与网络号码不一致", "the plan (改号)"),
]  # fmt: skip

FEATURES: tuple[Feature, ...] = tuple(feature for group in MEASURES for feature in group)
NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)


@cache
def program() -> tuple[int, ...]:
    """The steps that compute every feature, in order: `values.STRIDE` integers each."""
    steps: list[int] = []
    for column, feature in enumerate(FEATURES):
        steps += [*feature.step, column]
    return tuple(steps)


@cache
def catalogue_hash() -> str:
    """SHA-256 over all definitions: two engines with the same hash compute the same features."""
    text = json.dumps([feature.definition for feature in FEATURES], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
