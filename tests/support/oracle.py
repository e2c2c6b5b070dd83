"""Reference implementation of every feature: quadratic, obvious, never optimised. Shares no code with the engines.

A call here is a dict with the columns of a keyed call, categories as words, times in ms.
"""

import itertools
import math
from fractions import Fraction

HOUR = 3600 * 1000
WINDOW = {"1h": HOUR, "24h": 24 * HOUR, "7d": 7 * 24 * HOUR}
DAY = 24 * HOUR
NAN = math.nan
OUTCOME_FIELDS = ("ring", "talk", "recorded", "outcome", "released_by")
MISSED = ("no_answer", "busy", "rejected")


def unique_calls(calls, column=None):
    """Returns one record for each (start, caller, callee), in whatever order its records are given.

    The attempt is that of the record that makes it known first, the outcome that of the record that makes it known
    first. `column` names a group: a call whose attempt has none takes that of the outcome, and counts there from the
    time when its outcome is known.
    """
    by_identity = {}
    for call in calls:
        by_identity.setdefault((call["start"], call["caller"], call["callee"]), []).append(call)
    return [merged(records, column) for records in by_identity.values()]


def merged(records, column):
    attempts = all_first(records, lambda c: (attempt_known(c), is_over(c)))
    attempt = min(attempts, key=attempt_rank)
    call = attempt | {"ring": None, "talk": None, "recorded": None, "attempt_known": attempt_known(attempt)}
    in_time = lambda c: is_over(c) and outcome_known(c) < c["start"] + WINDOW["7d"]
    outcomes = all_first([c for c in records if in_time(c)], lambda c: (outcome_known(c), end(c), c["talk"]))
    if outcomes:
        call |= {name: min(outcomes, key=outcome_rank)[name] for name in OUTCOME_FIELDS}
    if column is not None:
        call[column] = first_token(attempts, column)
        if call[column] is None and first_token(outcomes, column) is not None:
            call |= {column: first_token(outcomes, column), "attempt_known": outcome_known(outcomes[0])}
    return call


def all_first(records, key):
    """Returns all records with the smallest key."""
    return [c for c in records if key(c) == min(map(key, records))]


def first_token(records, column):
    return min((c[column] for c in records if c[column] is not None), default=None)


def attempt_rank(c):
    """Ranks records that make an attempt known at one moment: the least rank counts."""
    region = {None: 0, 0: 1, 1: 2}[c["same_region"]]
    return c["day"], region, c["step"] in ("near", "block"), not 8 <= c["hour"] < 21, c["hour"]


def outcome_rank(c):
    """Ranks records with one end and talk time that make an outcome known at one moment: the least rank counts."""
    outcomes = [
        "answered", "no_answer", "busy", "rejected", "unwanted", "invalid_number", "failed", "blocked", "unknown",
    ]  # fmt: skip
    return {"callee": 1, "caller": 2}.get(c["released_by"], 0), outcomes.index(c["outcome"])


def is_over(call):
    return call["ring"] is not None and call["talk"] is not None


def end(call):
    return call["start"] + call["ring"] + call["talk"]


def is_late(call):
    in_time = end(call) if is_over(call) else call["start"]
    return call["recorded"] is not None and call["recorded"] > in_time


def attempt_known(call):
    return call.get("attempt_known", call["recorded"] if is_late(call) else call["start"])


def outcome_known(call):
    return call["recorded"] if is_late(call) else end(call)


class View:
    """The calls known at one moment, outgoing and incoming by the predicates `goes_out` and `comes_in`."""

    def __init__(self, calls, at, goes_out, comes_in=lambda _: False, column=None):
        calls = unique_calls(calls, column)
        self.at = at
        # An attempt that becomes known a week after its start counts nowhere.
        attempts = [c for c in calls if attempt_known(c) < min(at, c["start"] + WINDOW["7d"])]
        ended = [c for c in calls if is_over(c) and outcome_known(c) < at]
        # The outcome of a blocked call shows nothing about the caller.
        outcomes = [c for c in ended if c["outcome"] != "blocked"]
        self.out_over = [c for c in ended if goes_out(c)]
        self.out = [c for c in attempts if goes_out(c)]
        self.into = [c for c in attempts if comes_in(c)]
        self.out_ended = [c for c in outcomes if goes_out(c)]
        self.in_ended = [c for c in outcomes if comes_in(c)]

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

    def answered_incoming(self, window):
        return [c for c in self.incoming_outcomes(window) if c["outcome"] == "answered"]

    def callees(self, window):
        return {c["callee"] for c in self.attempts(window)}

    def gaps(self, window):
        starts = sorted(c["start"] for c in self.attempts(window))
        return [b - a for a, b in itertools.pairwise(starts)]


def smoothed(part, whole):
    return NAN if whole == 0 else (part + 0.5) / (whole + 1)


def share(calls, predicate):
    return smoothed(sum(1 for c in calls if predicate(c)), len(calls))


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
    with_regions = [c for c in v.attempts(w) if c["same_region"] is not None]
    return share(with_regions, lambda c: c["same_region"] == 1)


def gap_variation(v, w):
    gaps = v.gaps(w)
    return NAN if len(gaps) < 2 or sum(gaps) == 0 else deviation(gaps) / (sum(gaps) / len(gaps))


def talk_spread(v, w):
    talks = [c["talk"] // 100 for c in v.answered(w)]
    return NAN if not talks else deviation(talks) / 10


def hung_up(v, w):
    with_release = [c for c in v.answered(w) if c["released_by"] in ("caller", "callee")]
    return share(with_release, lambda c: c["released_by"] == "caller")


def one_ring(c):
    return c["outcome"] != "answered" and c["released_by"] == "caller" and c["ring"] <= 4000


def age(v):
    starts = [c["start"] for c in v.attempts("7d") + v.incoming("7d")]
    return NAN if not starts else (v.at - min(starts)) / 1000


def since_last_call(v):
    starts = [c["start"] for c in v.attempts("7d")]
    return NAN if not starts else (v.at - max(starts)) / 1000


def days_ago(calls, today):
    """Returns for each local day with calls, of the last 28, how many days ago it was."""
    return {today - c["day"] for c in calls if today - c["day"] < 28}


def decayed(v, today):
    """Returns the sum of calls that count half for every 14 days of age, since the third fortnight before this one."""
    oldest = 14 * (today // 14 - 3)
    return sum(2 ** (-(today - c["day"]) / 14) for c in v.out if c["day"] >= oldest)


def rounded_down(value):
    """Returns milliseconds as seconds, rounded down to a power of two less one."""
    return float(2 ** math.floor(math.log2(value // 1000 + 1)) - 1)


def median(values, top=math.inf):
    """Returns the lower median, rounded down, at most `top`."""
    return NAN if not values else min(rounded_down(sorted(values)[(len(values) - 1) // 2]), top)


def returned(v, w):
    missed = [c for c in v.outcomes(w) if c["outcome"] in MISSED]
    back = lambda c: any(b["caller"] == c["callee"] and end(c) < b["start"] <= end(c) + HOUR for b in v.incoming("7d"))
    return share(missed, back)


def in_air(v):
    ended = [id(c) for c in v.out_over]
    return float(sum(1 for c in v.attempts("24h") if id(c) not in ended))


def seconds(value):
    return value / 1000


def balance(v, w):
    return smoothed(len(v.incoming(w)), len(v.incoming(w)) + len(v.attempts(w)))


def of_number(v, name, w):
    """Returns a windowed feature of the caller; `name` is without the window."""
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
        "out_hours_used": lambda: float(len({c["hour"] for c in v.attempts(w)})),
        "out_days_used": lambda: float(len({c["day"] % 8 for c in v.attempts(w)})),
        "out_night_calls_share": lambda: share(v.attempts(w), lambda c: not 8 <= c["hour"] < 21),
        "out_near_calls_share": lambda: share(v.attempts(w), lambda c: c["step"] in ("near", "block")),
        "out_local_calls_share": lambda: local(v, w),
        "out_gap_mean": lambda: seconds(mean(v.gaps(w))),
        "out_gap_variation": lambda: gap_variation(v, w),
        "out_gap_median": lambda: median(v.gaps(w)),
        "out_short_gaps_share": lambda: share(v.gaps(w), lambda gap: gap < 10_000),
        "out_answered_share": lambda: outcome("answered"),
        "out_no_answer_share": lambda: outcome("no_answer"),
        "out_busy_share": lambda: outcome("busy"),
        "out_rejected_share": lambda: outcome("rejected"),
        "out_unwanted_count": lambda: float(sum(1 for c in v.outcomes(w) if c["outcome"] == "unwanted")),
        "out_invalid_number_share": lambda: outcome("invalid_number"),
        "out_returned_share": lambda: returned(v, w),
        "out_talk_mean": lambda: seconds(mean([c["talk"] for c in v.answered(w)])),
        "out_talk_median": lambda: median([c["talk"] for c in v.answered(w)], top=2047.0),
        "out_talk_spread": lambda: talk_spread(v, w),
        "out_talk_under_10s_share": lambda: share(v.answered(w), lambda c: c["talk"] < 10_000),
        "out_talk_under_30s_share": lambda: share(v.answered(w), lambda c: c["talk"] < 30_000),
        "out_talk_per_callee_mean": lambda: (
            sum(c["talk"] for c in v.answered(w)) / len(v.callees(w)) / 1000 if v.callees(w) else NAN
        ),
        "out_occupancy": lambda: sum(c["talk"] for c in v.answered(w)) / WINDOW[w],
        "out_ring_mean": lambda: seconds(mean([c["ring"] for c in v.outcomes(w)])),
        "out_one_rings_share": lambda: share(v.outcomes(w), one_ring),
        "out_hung_up_share": lambda: hung_up(v, w),
        "in_calls_count": lambda: float(len(v.incoming(w))),
        "in_callers_count": lambda: float(len({c["caller"] for c in v.incoming(w)})),
        "in_calls_balance": lambda: balance(v, w),
        "in_answered_share": lambda: share(v.incoming_outcomes(w), lambda c: c["outcome"] == "answered"),
        "in_talk_mean": lambda: seconds(mean([c["talk"] for c in v.answered_incoming(w)])),
    }[name]()


def of_pair(v, name, w, callee):
    """Returns a feature of the pair of caller and callee."""
    return {
        "pair_calls_before_count": lambda: float(sum(1 for c in v.attempts(w) if c["callee"] == callee)),
        "pair_calls_back_count": lambda: float(sum(1 for c in v.incoming(w) if c["caller"] == callee)),
        "pair_answered_count": lambda: float(sum(1 for c in v.answered(w) if c["callee"] == callee)),
    }[name]()


def of_relation(v, name, callee, today):
    """Returns a feature of the pair of caller and callee without a window, from the last 6 local days."""
    recent = lambda calls, days: {c["day"] for c in calls if 0 <= today - c["day"] < days}
    made = recent([c for c in v.out if c["callee"] == callee], 6)
    received = recent([c for c in v.into if c["caller"] == callee], 5)
    over = [c for c in v.out_ended if c["callee"] == callee] + [c for c in v.in_ended if c["caller"] == callee]
    talked = [c for c in over if c["outcome"] == "answered" and c["talk"] >= 60_000]
    return {
        "pair_called_first": lambda: float(bool(received) and (not made or min(received) < min(made))),
        "pair_long_talk_days": lambda: float(len(recent(talked, 6))),
    }[name]()


def of_callee(v, name, w):
    """Returns a feature of the called number."""
    callers = {c["caller"] for c in v.incoming(w)}
    return {
        "callee_calls_count": lambda: float(len(v.incoming(w))),
        "callee_callers_count": lambda: float(len(callers)),
        "callee_strangers_count": lambda: float(len(callers - v.callees(w))),
        "callee_answered_share": lambda: share(v.incoming_outcomes(w), lambda c: c["outcome"] == "answered"),
        "callee_talk_under_10s_share": lambda: share(v.answered_incoming(w), lambda c: c["talk"] < 10_000),
    }[name]()


def of_group(v, name, w):
    """Returns a feature of the other numbers of a group."""
    return {
        "calls_count": lambda: float(len(v.attempts(w))),
        "members_count": lambda: float(len({c["caller"] for c in v.attempts(w)})),
        "answered_share": lambda: share(v.outcomes(w), lambda c: c["outcome"] == "answered"),
        "invalid_number_share": lambda: share(v.outcomes(w), lambda c: c["outcome"] == "invalid_number"),
        "talk_under_10s_share": lambda: share(v.answered(w), lambda c: c["talk"] < 10_000),
        "one_rings_share": lambda: share(v.outcomes(w), one_ring),
    }[name]()


def of_call(v, name, call):
    """Returns a feature without a window."""
    today = call["day"]
    out, known_facts = days_ago(v.out, today), days_ago(v.out + v.into, today)
    own = {
        "number_age": lambda: age(v),
        "number_days_known": lambda: float(max(known_facts)) if known_facts else NAN,
        "number_active_days": lambda: float(len(known_facts)),
        "out_active_days": lambda: float(len(out)),
        "out_days_since_last": lambda: float(min(out - {0})) if out - {0} else NAN,
        "out_calls_decayed": lambda: decayed(v, today),
        "out_surge": lambda: len(v.attempts("24h")) / (decayed(v, today) + 1),
        "out_since_last_call": lambda: since_last_call(v),
        "out_in_air_count": lambda: in_air(v),
        "call_weekday": lambda: float((call["day"] + 3) % 7),
    }
    if name in own:
        return own[name]()
    value = call[name.removeprefix("call_")]
    if value is None:
        return NAN
    return value if isinstance(value, str) else float(value)


GROUP_COLUMN = {"block": "caller_block", "trunk": "trunk", "device": "device"}


def views_before(calls, call):
    """Returns what is known before `call` starts, by the role of the number or group."""
    views = {role: number_view(calls, call, call[role]) for role in ("caller", "callee")}
    groups = {role: column for role, column in GROUP_COLUMN.items() if call[column] is not None}
    return views | {role: group_view(calls, call, column) for role, column in groups.items()}


def number_view(calls, call, number):
    return View(calls, call["start"], lambda c: c["caller"] == number, lambda c: c["callee"] == number)


def group_view(calls, call, column):
    others = lambda c: c[column] == call[column] and c["caller"] != call["caller"]
    return View(calls, call["start"], others, column=column)


def value(views, call, name):
    """Returns feature `name` of `call` from `views_before`; a category is a word."""
    stem, _, window = name.rpartition("_")
    role, _, rest = stem.partition("_")
    if role in GROUP_COLUMN:
        return of_group(views[role], rest, window) if role in views else NAN
    if role == "callee":
        return of_callee(views["callee"], stem, window)
    v = views["caller"]
    if role == "pair":
        if window not in WINDOW:
            return of_relation(v, name, call["callee"], call["day"])
        return of_pair(v, stem, window, call["callee"])
    return of_number(v, stem, window) if window in WINDOW else of_call(v, name, call)
