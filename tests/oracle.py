"""What every feature means, said once more: quadratic, obvious, never optimised. Shares no code with the engines.

A call here is a dict with the columns of a keyed call, categories as words, times in milliseconds.
"""

import itertools
import math
from fractions import Fraction

HOUR = 3600 * 1000
WINDOW = {"1h": HOUR, "24h": 24 * HOUR, "7d": 7 * 24 * HOUR}
NAN = math.nan


def unique(calls):
    """One record for each (start, caller, callee). A call told at its start and again at its end is one call."""
    known = {}
    for call in calls:
        identity = (call["start"], call["caller"], call["callee"])
        first = known.get(identity)
        if first is None:
            known[identity] = dict(call)
        elif is_over(call) and not is_over(first):
            known[identity] = dict(call) | {"seen_at_start": True}
    return list(known.values())


def is_over(call):
    return call["ring"] is not None and call["talk"] is not None


def end(call):
    return call["start"] + call["ring"] + call["talk"]


def is_late(call):
    return is_over(call) and call["recorded"] is not None and call["recorded"] > end(call)


def attempt_known(call):
    return call["recorded"] if is_late(call) and "seen_at_start" not in call else call["start"]


def outcome_known(call):
    return call["recorded"] if is_late(call) else end(call)


class View:
    """What was known of one number at one moment."""

    def __init__(self, calls, number, at):
        calls = unique(calls)
        self.at = at
        attempts = [c for c in calls if attempt_known(c) < at]
        outcomes = [c for c in calls if is_over(c) and outcome_known(c) < at]
        self.out = [c for c in attempts if c["caller"] == number]
        self.into = [c for c in attempts if c["callee"] == number]
        self.out_ended = [c for c in outcomes if c["caller"] == number]
        self.in_ended = [c for c in outcomes if c["callee"] == number]

    def within(self, calls, window, when=lambda c: c["start"]):
        return [c for c in calls if self.at - WINDOW[window] <= when(c) < self.at]

    def attempts(self, window):
        return self.within(self.out, window)

    def outcomes(self, window):
        return self.within(self.out_ended, window, end)

    def incoming(self, window):
        return self.within(self.into, window)

    def incoming_outcomes(self, window):
        return self.within(self.in_ended, window, end)

    def answered(self, window):
        return [c for c in self.outcomes(window) if c["outcome"] == "answered"]

    def callees(self, window):
        return {c["callee"] for c in self.attempts(window)}

    def gaps(self, window):
        starts = sorted(c["start"] for c in self.attempts(window))
        return [b - a for a, b in itertools.pairwise(starts)]


def smoothed(part, whole):
    return NAN if whole == 0 else (part + 0.5) / (whole + 1)


def share(calls, what):
    return smoothed(sum(1 for c in calls if what(c)), len(calls))


def mean(values):
    return NAN if not values else float(Fraction(sum(values), len(values)))


def deviation(values):
    m = Fraction(sum(values), len(values))
    return math.sqrt(sum((Fraction(v) - m) ** 2 for v in values) / len(values))


def histogram(values):
    counts = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts


def entropy(values):
    if not values:
        return NAN
    shares = [n / len(values) for n in histogram(values).values()]
    return -sum(p * math.log2(p) for p in shares)


def peak(values):
    return smoothed(max(histogram(values).values(), default=0), len(values))


def concentration(v, w):
    callees = [c["callee"] for c in v.attempts(w)]
    return NAN if not callees else sum(n * n for n in histogram(callees).values()) / len(callees) ** 2


def new_callees(v, w):
    before = {c["callee"] for c in v.attempts("7d") if c["start"] < v.at - WINDOW[w]}
    return smoothed(len(v.callees(w) - before), len(v.callees(w)))


def mutual(v, w):
    back = {c["caller"] for c in v.incoming(w)}
    return smoothed(len(v.callees(w) & back), len(v.callees(w)))


def local(v, w):
    known = [c for c in v.attempts(w) if c["same_region"] is not None]
    return share(known, lambda c: c["same_region"] == 1)


def gap_variation(v, w):
    gaps = v.gaps(w)
    return NAN if len(gaps) < 2 or sum(gaps) == 0 else deviation(gaps) / (sum(gaps) / len(gaps))


def talk_spread(v, w):
    talks = [c["talk"] // 100 for c in v.answered(w)]
    return NAN if not talks else deviation(talks) / 10


def hung_up(v, w):
    known = [c for c in v.answered(w) if c["released_by"] in ("caller", "callee")]
    return share(known, lambda c: c["released_by"] == "caller")


def one_ring(c):
    return c["outcome"] != "answered" and c["released_by"] == "caller" and c["ring"] <= 4000


def age(v):
    starts = [c["start"] for c in v.out + v.into]
    return NAN if not starts else min(v.at - min(starts), WINDOW["7d"]) / 1000


def since_last_call(v):
    starts = [c["start"] for c in v.out if c["start"] >= v.at - WINDOW["7d"]]
    return NAN if not starts else (v.at - max(starts)) / 1000


def in_air(v):
    over = [id(c) for c in v.out_ended]
    return float(sum(1 for c in v.attempts("24h") if id(c) not in over))


def seconds(value):
    return value / 1000


def balance(v, w):
    return smoothed(len(v.incoming(w)), len(v.incoming(w)) + len(v.attempts(w)))


def of_number(v, name, w):
    """The value of a windowed feature by its name without the window."""
    outcome = lambda word: share(v.outcomes(w), lambda c: c["outcome"] == word)
    return {
        "out_calls_count": lambda: float(len(v.attempts(w))),
        "out_callees_count": lambda: float(len(v.callees(w))),
        "out_callees_share": lambda: smoothed(len(v.callees(w)), len(v.attempts(w))),
        "out_new_callees_share": lambda: new_callees(v, w),
        "out_mutual_callees_share": lambda: mutual(v, w),
        "out_callee_concentration": lambda: concentration(v, w),
        "out_last_hour_share": lambda: smoothed(len(v.attempts("1h")), len(v.attempts(w))),
        "out_last_day_share": lambda: smoothed(len(v.attempts("24h")), len(v.attempts(w))),
        "out_hour_peak_share": lambda: peak([c["hour"] for c in v.attempts(w)]),
        "out_day_peak_share": lambda: peak([c["day"] % 8 for c in v.attempts(w)]),
        "out_hour_entropy": lambda: entropy([c["hour"] for c in v.attempts(w)]),
        "out_hour_bins": lambda: float(len({c["hour"] for c in v.attempts(w)})),
        "out_day_bins": lambda: float(len({c["day"] % 8 for c in v.attempts(w)})),
        "out_night_calls_share": lambda: share(v.attempts(w), lambda c: not 8 <= c["hour"] < 21),
        "out_near_calls_share": lambda: share(v.attempts(w), lambda c: c["step"] in ("near", "block")),
        "out_local_calls_share": lambda: local(v, w),
        "out_gap_mean": lambda: seconds(mean(v.gaps(w))),
        "out_gap_variation": lambda: gap_variation(v, w),
        "out_short_gaps_share": lambda: share(v.gaps(w), lambda gap: gap < 10_000),
        "out_answered_share": lambda: outcome("answered"),
        "out_no_answer_share": lambda: outcome("no_answer"),
        "out_busy_share": lambda: outcome("busy"),
        "out_rejected_share": lambda: outcome("rejected"),
        "out_unwanted_count": lambda: float(sum(1 for c in v.outcomes(w) if c["outcome"] == "unwanted")),
        "out_invalid_number_share": lambda: outcome("invalid_number"),
        "out_talk_mean": lambda: seconds(mean([c["talk"] for c in v.answered(w)])),
        "out_talk_spread": lambda: talk_spread(v, w),
        "out_talk_under_10s_share": lambda: share(v.answered(w), lambda c: c["talk"] < 10_000),
        "out_talk_under_30s_share": lambda: share(v.answered(w), lambda c: c["talk"] < 30_000),
        "out_talk_per_callee_mean": lambda: (
            sum(c["talk"] for c in v.answered(w)) / len(v.callees(w)) / 1000 if v.callees(w) else NAN
        ),
        "out_ring_mean": lambda: seconds(mean([c["ring"] for c in v.outcomes(w)])),
        "out_one_rings_share": lambda: share(v.outcomes(w), one_ring),
        "out_hung_up_share": lambda: hung_up(v, w),
        "in_calls_count": lambda: float(len(v.incoming(w))),
        "in_callers_count": lambda: float(len({c["caller"] for c in v.incoming(w)})),
        "in_calls_balance": lambda: balance(v, w),
        "in_answered_share": lambda: share(v.incoming_outcomes(w), lambda c: c["outcome"] == "answered"),
        "in_talk_mean": lambda: seconds(
            mean([c["talk"] for c in v.incoming_outcomes(w) if c["outcome"] == "answered"])
        ),
    }[name]()


def of_call(v, name, call):
    """The value of a feature without a window."""
    if name == "number_age":
        return age(v)
    if name == "out_since_last_call":
        return since_last_call(v)
    if name == "out_in_air_count":
        return in_air(v)
    if name == "call_weekday":
        return float((call["day"] + 3) % 7)
    value = call[name.removeprefix("call_")]
    if value is None:
        return NAN
    return value if isinstance(value, str) else float(value)


def value(calls, call, name):
    """The value of feature `name` for `call`, from all calls known before it starts; a category is its word."""
    v = View(calls, call["caller"], call["start"])
    if name == "pair_calls_before_7d":
        return float(sum(1 for c in v.attempts("7d") if c["callee"] == call["callee"]))
    if name == "pair_calls_back_7d":
        return float(sum(1 for c in v.incoming("7d") if c["caller"] == call["callee"]))
    stem, _, window = name.rpartition("_")
    return of_number(v, stem, window) if window in WINDOW else of_call(v, name, call)
