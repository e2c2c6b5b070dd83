"""Declarations of all features: measure, parts, windows, unit, English and Chinese text, source.

A new feature is a new row here. `source` names the evidence for a feature: TRAI (Indian regulator, 2025), BUPT
(CN108833720B), TY (Toyoda and Sasase 2015), Airtel, Truecaller, Hiya, First Orion, PhoneBlock, OpenSIPS
`fraud_detection`, the plan of 13 Chinese ministries of 2018, or the AUC of the column alone on the Sichuan data set.
"""

from __future__ import annotations

from callsieve.features.kernel.number_state import (
    DAYS_KEPT,
    FORTNIGHT,
    PAIR_DAYS_KEPT,
    PAIR_TALK_MS,
    SHORT_GAP_MS,
    TALK_BIN_COUNT,
)
from callsieve.features.kernel.windows import DAY_MS, HOUR, NIGHT_BEGINS, NIGHT_ENDS
from callsieve.features.records import NEAR_DISTANCE

from .feature import CALL_FACTS, Feature
from .sums import LONG_TALK, SHORT_TALK, WEEK_DAYS

H, D, W = range(3)
ALL = (H, D, W)
WINDOW_EN = ("hour", f"{DAY_MS // HOUR} hours", f"{WEEK_DAYS} days")
WINDOW_ZH = ("1小时", f"{DAY_MS // HOUR}小时", f"{WEEK_DAYS}天")
LONGEST_MEDIAN = (1 << TALK_BIN_COUNT - 1) - 1  # where the last bin begins, in seconds
# Role, English, Chinese. Group features also cover callers without any history of their own.
GROUPS = (
    ("block", "the caller's number block", "同号段"),
    ("trunk", "the same trunk", "同中继"),
    ("device", "the caller's device", "同设备"),
)


def windowed(
    subject: str,
    measure: str,
    how: str,
    parts: str,
    windows: tuple[int, ...],
    unit: str,
    en: str,
    zh: str,
    source: str,
    role: str = "caller",
) -> list[Feature]:
    """Declares one measure over several windows, one feature a window.

    Args:
        subject, measure: the beginning of the name.
        how: aggregate, a key of `feature.FORMULAS`.
        parts: the sums that the formula calls part, whole and other, as far as it uses them, separated by spaces.
        windows: indices into `WINDOWS`.
        en, zh: texts with `{}` for the window.
        source: the evidence for the feature.
        role: whose history is read, one of `feature.ROLES`.
    """
    return [
        Feature(
            role,
            subject,
            measure,
            how,
            window,
            unit,
            en.format(WINDOW_EN[window]),
            zh.format(WINDOW_ZH[window]),
            source,
            tuple(parts.split()),
        )
        for window in windows
    ]


def single(
    subject: str, measure: str, how: str, parts: str, unit: str, en: str, zh: str, source: str, role: str = "caller"
) -> list[Feature]:
    """Declares a feature without a window; the arguments are explained in `windowed`."""
    return [Feature(role, subject, measure, how, None, unit, en, zh, source, tuple(parts.split()))]


def fact(name: str, unit: str, en: str, zh: str, source: str) -> list[Feature]:
    """Declares a feature that is a fact of the call itself."""
    return [Feature("caller", "call", name, "fact", None, unit, en, zh, source, (name,), CALL_FACTS[name])]


def callee(
    measure: str, how: str, parts: str, windows: tuple[int, ...], unit: str, en: str, zh: str, source: str
) -> list[Feature]:
    """Declares features of the history of the called number."""
    return windowed("callee", measure, how, parts, windows, unit, en, zh, source, "callee")


def neighbours(
    measure: str, how: str, parts: str, windows: tuple[int, ...], unit: str, en: str, zh: str, source: str
) -> list[list[Feature]]:
    """Declares a measure of the other numbers in the same block, on the same trunk and on the same device."""
    return [
        windowed(role, measure, how, parts, windows, unit, f"{en} ({whose})", f"{whose_zh}{zh}", source, role)
        for role, whose, whose_zh in GROUPS
    ]


MEASURES: list[list[Feature]] = [
    windowed("out", "calls", "count", "calls", ALL, "calls", "calls made in the last {}", "过去{}拨出的电话数", "TRAI, Truecaller, OpenSIPS"),
    windowed("out", "callees", "count", "callees", ALL, "numbers", "different numbers called in the last {}", "过去{}拨打的不同号码数", "TY; Sichuan .66"),
    windowed("out", "callees", "share", "callees calls", ALL, "share", "different numbers per call in the last {}", "过去{}不同号码占通话的比例", "Sichuan .84"),
    windowed("out", "new_callees", "rest_share", "returning_callees callees", (H, D), "share", f"share of numbers called in the last {{}} that were not called before in the last {WEEK_DAYS} days", f"过去{{}}所拨号码中在最近{WEEK_DAYS}天内此前未拨过的比例", "BUPT"),
    windowed("out", "mutual_callees", "share", "mutual_callees callees", ALL, "share", "share of numbers called in the last {} that also called this number", "过去{}所拨号码中有回拨或来电的比例", "TY, BUPT friend-call share"),
    windowed("out", "callee", "concentration", "callee_squares calls", (D, W), "index", "how far the calls of the last {} go to the same few numbers (1 = one number)", "过去{}通话集中于少数号码的程度(1=同一号码)", "the plan (call-bombing); Sichuan .81"),
    windowed("out", "last_hour", "share", "calls:1h calls", (D,), "share", "share of the last 24 hours' calls made in the last hour", "过去1小时通话占24小时的比例", "Airtel velocity"),
    windowed("out", "last_day", "share", "calls:24h calls", (W,), "share", "share of the last 7 days' calls made in the last 24 hours", "过去24小时通话占7天的比例", "Sichuan busiest-day share .80"),
    single("out", "calls", "decayed", "call_ring day", "calls", f"calls made lately, half as much for each {FORTNIGHT} days ago", f"近期拨出的电话数(每{FORTNIGHT}天减半)", "PhoneBlock two-week half-life"),
    single("out", "surge", "surge", "calls:24h call_ring day", "ratio", "calls of the last 24 hours against calls made lately", "过去24小时通话与近期通话之比", "Airtel velocity; dormancy then burst"),
    windowed("out", "hour", "peak_share_of_hours", "hours calls", (W,), "share", "share of the week's calls in the busiest hour of the day", "一周内最忙时段的通话占比", "Sichuan .70"),
    windowed("out", "day", "peak_share_of_days", "days calls", (W,), "share", "share of the week's calls on the busiest day", "一周内最忙一天的通话占比", "Sichuan .80"),
    windowed("out", "hour", "entropy", "hour_logs calls", (W,), "bits", "spread of the week's calls over the hours of the day", "一周通话在各时段的分散程度", "Sichuan .77"),
    windowed("out", "hours", "hours_used", "hours", (W,), "hours", "different hours of the day with calls in the last 7 days", "过去7天有通话的不同时段数", "Sichuan .77"),
    windowed("out", "days", "days_used", "days", (W,), "days", "days with calls in the last 7 days", "过去7天有通话的天数", "Sichuan"),
    windowed("out", "night_calls", "share", "night_calls calls", (D, W), "share", f"share of calls between {NIGHT_BEGINS}:00 and {NIGHT_ENDS:02}:00 in the last {{}}", f"过去{{}}{NIGHT_BEGINS}点至次日{NIGHT_ENDS}点通话的比例", "insurance telesales hours"),
    windowed("out", "near_calls", "share", "near_calls calls", (H, D), "share", f"share of calls in the last {{}} within {NEAR_DISTANCE} numbers of the number dialled before, or in the same block", f"过去{{}}拨打与上一所拨号码相差不超过{NEAR_DISTANCE}或同号段号码的比例", "OpenSIPS sequential calls"),
    windowed("out", "local_calls", "share", "local_calls region_known", (W,), "share", "share of calls in the last {} within the same region", "过去{}同地区通话的比例", "Airtel geographic spread"),
    windowed("out", "gap", "gap_mean", "gaps calls", (H, D), "seconds", "mean time between calls in the last {}", "过去{}两次拨打的平均间隔", "OpenSIPS"),
    windowed("out", "gap", "gap_variation", "gap_squares calls gaps", ALL, "ratio", "irregularity of the time between calls in the last {}", "过去{}拨打间隔的不规则程度", "robots dial regularly"),
    windowed("out", "gap", "gap_median", "gap_bins calls", (W,), "seconds", "usual time between calls in the last {}, rounded down to a power of two less one", "过去{}两次拨打间隔的中位数(向下取整到2的幂减1)", "pacing against the evasion playbook"),
    windowed("out", "short_gaps", "gap_share", "short_gaps calls", (H, D), "share", f"share of calls in the last {{}} dialled within {SHORT_GAP_MS // 1000} seconds of the one before", f"过去{{}}与上一次拨打间隔不足{SHORT_GAP_MS // 1000}秒的比例", "OpenSIPS"),
    single("out", "since_last_call", "since", "", "seconds", "time since the last call made", "距上一次拨出的时间", "dormancy then burst"),
    single("out", "in_air", "count", "in_air", "calls", "calls under way at this moment", "此刻进行中的呼叫数", "OpenSIPS concurrent calls"),
    windowed("out", "answered", "share", "answered ended", ALL, "share", "share of calls answered in the last {}", "过去{}的接通率", "Truecaller pick-up rate; Hiya 9%"),
    windowed("out", "no_answer", "share", "no_answer ended", (D, W), "share", "share of calls not answered in the last {}", "过去{}无人接听的比例", "outcome mix"),
    windowed("out", "busy", "share", "busy ended", (W,), "share", "share of calls that met a busy line in the last {}", "过去{}遇忙的比例", "outcome mix"),
    windowed("out", "rejected", "share", "rejected ended", (D, W), "share", "share of calls rejected in the last {}", "过去{}被拒接的比例", "OpenSIPS; outcome mix"),
    windowed("out", "unwanted", "count", "unwanted", (W,), "calls", "calls that the called person marked unwanted in the last {}", "过去{}被叫方标为不想接的次数", "RFC 8197"),
    windowed("out", "invalid_number", "share", "invalid_number ended", (D, W), "share", "share of calls to numbers that do not exist in the last {}", "过去{}拨到空号的比例", "BUPT dead-number ratio"),
    windowed("out", "returned", "share", "returned missed", (D, W), "share", "share of missed calls in the last {} that were called back within an hour", "过去{}未接来电在1小时内被回拨的比例", "the plan (响一声): call-backs part real misses from one-ring calls"),
    windowed("out", "talk", "mean", "talk answered", ALL, "seconds", "mean talk time of answered calls in the last {}", "过去{}接通电话的平均通话时长", "TRAI, Hiya 11 s"),
    windowed("out", "talk", "median", "talk_bins answered", (W,), "seconds", f"usual talk time in the last {{}}, rounded down to a power of two less one, at most {LONGEST_MEDIAN} s", f"过去{{}}通话时长的中位数(向下取整到2的幂减1,最大{LONGEST_MEDIAN}秒)", "TRAI, Hiya 11 s; a mean is moved by one long call"),
    windowed("out", "talk", "spread", "talk_squares answered talk_tenths", (D, W), "seconds", "spread of talk time in the last {}", "过去{}通话时长的离散程度", "recordings talk alike"),
    windowed("out", "talk_under_10s", "share", "talk_under_10s answered", ALL, "share", f"share of answered calls under {SHORT_TALK // 1000} seconds in the last {{}}", f"过去{{}}接通后不足{SHORT_TALK // 1000}秒的比例", "Airtel, TRAI"),
    windowed("out", "talk_under_30s", "share", "talk_under_30s answered", (D, W), "share", f"share of answered calls under {LONG_TALK // 1000} seconds in the last {{}}", f"过去{{}}接通后不足{LONG_TALK // 1000}秒的比例", "Airtel, TRAI"),
    windowed("out", "talk_per_callee", "mean", "talk callees", (W,), "seconds", "talk time per number called in the last {}", "过去{}平均每个号码的通话时长", "Sichuan .79"),
    windowed("out", "occupancy", "occupancy", "talk", (H, D), "share", "share of the last {} spent talking on calls made", "过去{}主叫通话所占时间的比例", "occupancy of an agent"),
    windowed("out", "ring", "mean", "ring ended", (D, W), "seconds", "mean ring time in the last {}", "过去{}的平均振铃时长", "one-ring calls"),
    windowed("out", "one_rings", "share", "one_rings ended", (D, W), "share", "share of calls dropped by the caller after one ring in the last {}", "过去{}响一声即挂断的比例", "the plan (响一声)"),
    windowed("out", "hung_up", "share", "hung_up release_known", (W,), "share", "share of calls that the caller ended, of the answered calls that caller or callee ended in the last {}", "过去{}由主叫或被叫挂断的接通电话中由主叫挂断的比例", "caller-released share"),
    windowed("in", "calls", "count", "in_calls", ALL, "calls", "calls received in the last {}", "过去{}接到的来电数", "TRAI"),
    windowed("in", "callers", "count", "in_callers", (D, W), "numbers", "different numbers that called in the last {}", "过去{}来电的不同号码数", "TY"),
    windowed("in", "calls", "balance", "in_calls calls", (D, W), "share", "share of incoming among all calls of the last {}", "过去{}来电占全部通话的比例", "TRAI; Sichuan .79"),
    windowed("in", "answered", "share", "in_answered in_ended", (W,), "share", "share of incoming calls answered in the last {}", "过去{}来电的接听率", "SIM pools never answer"),
    windowed("in", "talk", "mean", "in_talk in_answered", (W,), "seconds", "mean talk time of incoming calls in the last {}", "过去{}来电的平均通话时长", "call-backs"),
    single("number", "age", "age", "", "seconds", f"time since the number's first call of the last {WEEK_DAYS} days, made or received", f"号码最近{WEEK_DAYS}天内首次通话至今的时间", "Airtel time on network; life of 6.6 days"),
    single("number", "days_known", "days_since_first", "out_days in_days", "days", f"days since the number's first call of the last {DAYS_KEPT} days, made or received", f"号码最近{DAYS_KEPT}天内首次通话至今的天数", "Airtel time on network; life of 6.6 days"),
    single("number", "active_days", "days_either", "out_days in_days", "days", f"days of the last {DAYS_KEPT} with calls, made or received", f"最近{DAYS_KEPT}天内有通话的天数", "Sichuan active days"),
    single("out", "active_days", "days", "out_days", "days", f"days of the last {DAYS_KEPT} with calls made", f"最近{DAYS_KEPT}天内有拨出的天数", "Sichuan active days"),
    single("out", "days_since_last", "days_since_last", "out_days", "days", "days since the last day before today on which a call was made", "今日之前最近一次拨出距今的天数", "dormancy then burst"),
    windowed("pair", "calls_before", "count", "pair_out_1h", (H,), "calls", "calls to this same number in the last {}", "过去{}拨打同一号码的次数", "redialling; the plan (呼死你)"),
    windowed("pair", "calls_before", "count", "pair_out_7d", (W,), "calls", "calls to this same number in the last {}", "过去{}拨打同一号码的次数", "calls per callee, Sichuan .87"),
    windowed("pair", "calls_back", "count", "pair_in_7d", (W,), "calls", "calls that this callee made to the caller in the last {}", "过去{}被叫拨打主叫的次数", "relation between the two"),
    windowed("pair", "answered", "count", "pair_answered_7d", (W,), "calls", "calls of the caller that this callee answered in the last {}", "过去{}被叫接听主叫的次数", "relation between the two"),
    single("pair", "called_first", "called_first", "pair_out_days pair_in_days day", "yes/no", f"the called number called the caller in the last {PAIR_DAYS_KEPT - 1} days, before any day on which the caller called it", f"过去{PAIR_DAYS_KEPT - 1}天内被叫拨打过主叫,且早于主叫拨打被叫的任何一天", "relation between the two; a returned missed call does not count"),
    single("pair", "long_talk_days", "long_talk_days", "pair_out_days pair_in_days day", "days", f"days of the last {PAIR_DAYS_KEPT} on which the two numbers talked for {PAIR_TALK_MS // 1000} s or longer", f"过去{PAIR_DAYS_KEPT}天内双方通话达{PAIR_TALK_MS // 1000}秒的天数", "relation between the two"),
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
    callee("calls", "count", "in_calls", ALL, "calls", "calls that the called number received in the last {}", "被叫过去{}接到的来电数", "the plan (呼死你)"),
    callee("callers", "count", "in_callers", ALL, "numbers", "different numbers that called the called number in the last {}", "被叫过去{}的不同来电号码数", "the plan (呼死你: one callee, many callers)"),
    callee("strangers", "rest_count", "mutual_callees in_callers", (W,), "numbers", "numbers that called the called number in the last {} and that it did not call", "被叫过去{}来电中未曾回拨或拨打的号码数", "list reuse: stranger calls of victims (Lu 2019)"),
    callee("answered", "share", "in_answered in_ended", (W,), "share", "share of its calls that the called number answered in the last {}", "被叫过去{}的接听率", "list reuse"),
    callee("talk_under_10s", "share", "in_talk_under_10s in_answered", (W,), "share", f"share of the called number's answered calls under {SHORT_TALK // 1000} seconds in the last {{}}", f"被叫过去{{}}接听后不足{SHORT_TALK // 1000}秒的比例", "list reuse"),
    *neighbours("calls", "count", "calls", ALL, "calls", "calls that other numbers made in the last {}", "其他号码过去{}拨出的电话数", "PhoneBlock range votes; bursts from neighbouring numbers"),
    *neighbours("members", "count", "members", ALL, "numbers", "other numbers that made calls in the last {}", "过去{}有拨出的其他号码数", "number rotation; SIM pools (Airtel devices)"),
    *neighbours("answered", "share", "answered ended", (D, W), "share", "share of other numbers' calls answered in the last {}", "其他号码过去{}的接通率", "TransNexus prior of a trunk; who connects answers for it"),
    *neighbours("invalid_number", "share", "invalid_number ended", (D, W), "share", "share of other numbers' calls to numbers that do not exist in the last {}", "其他号码过去{}拨到空号的比例", "BUPT dead-number ratio; who connects answers for it"),
    *neighbours("talk_under_10s", "share", "talk_under_10s answered", (D, W), "share", f"share of other numbers' answered calls under {SHORT_TALK // 1000} seconds in the last {{}}", f"其他号码过去{{}}接通后不足{SHORT_TALK // 1000}秒的比例", "TRAI; TransNexus prior of a trunk"),
    *neighbours("one_rings", "share", "one_rings ended", (D, W), "share", "share of other numbers' calls dropped after one ring in the last {}", "其他号码过去{}响一声即挂断的比例", "the plan (响一声)"),
]  # fmt: skip
