"""Sums over a window: which events count, and what each of them adds.

`where` and `adds` are the definition in words, for readers who recompute a feature from raw calls. `code` is the same
for the kernel, in terms of `kernel/windows.py`. A sum without `code` is maintained by hand in `kernel/number_state.py`
or `kernel/group_state.py`. A new sum is a new row here. All texts are part of the catalogue hash.
"""

from __future__ import annotations

from dataclasses import dataclass

from callsieve.features.kernel import windows as w
from callsieve.features.kernel.number_state import (
    DAYS_KEPT,
    FORTNIGHT,
    GAP_BIN_COUNT,
    PAIR_ANSWERED,
    PAIR_DAYS,
    PAIR_DAYS_KEPT,
    PAIR_IN,
    PAIR_OUT,
    PAIR_TALK_MS,
    SHORT_GAP_MS,
    TALK_BIN_COUNT,
)
from callsieve.features.records import NEAR_DISTANCE, OUTCOMES


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum over a window.

    Attributes:
        events: the stream of events that it counts.
        where: which events count, in words.
        adds: what each event adds, in words.
        code: the amount as an expression of the kernel, or "" if the sum is maintained by hand.
        condition: the condition on `code`, as an expression of the kernel.
        wide: whether the sum takes two 32-bit integers; a count of calls or numbers fits into one.
    """

    events: str
    where: str
    adds: str
    code: str = ""
    condition: str = ""
    wide: bool = False


WEEK_DAYS = w.WEEK // w.DAY_MS
SHORT_TALK, LONG_TALK = 10_000, 30_000  # ms
ANSWERED = "outcome == 0"
# The outcome of a blocked call shows what the operator did, not how the caller behaves.
NOT_BLOCKED = f"outcome != {OUTCOMES.index('blocked')}"


MISSED = "{}, {} or {}".format(*OUTCOMES[w.FIRST_MISSED : w.LAST_MISSED + 1])


def flag(bit: int) -> str:
    """Returns the expression that reads one bit of the packed facts."""
    return f"facts >> {bit} & 1"


def outcome_sums(events: str, names: tuple[str, ...]) -> dict[str, Sum]:
    """Returns counts of single outcomes."""
    return {name: Sum(events, f"outcome is {name}", "1", "1", f"outcome == {OUTCOMES.index(name)}") for name in names}


NUMBER_SUMS: dict[str, Sum] = {
    "calls": Sum("out_attempts", "all", "1", "1"),
    "callees": Sum("out_attempts", "all", "distinct callee"),
    "returning_callees": Sum("out_attempts", f"callee also called before the window, in the last {WEEK_DAYS} days", "distinct callee"),
    "mutual_callees": Sum("out_attempts", "callee also called the number in the window", "distinct callee"),
    "callee_squares": Sum("out_attempts", "all", "square of calls per callee", wide=True),
    "gaps": Sum("out_attempts", "neighbours both in the window", "milliseconds between them", wide=True),
    "gap_squares": Sum("out_attempts", "neighbours both in the window", "milliseconds squared", wide=True),
    "short_gaps": Sum("out_attempts", f"neighbours both in the window and less than {SHORT_GAP_MS // 1000} s apart", "1"),
    "night_calls": Sum("out_attempts", f"local hour before {w.NIGHT_ENDS} or from {w.NIGHT_BEGINS}", "1", flag(w.NIGHT)),
    "near_calls": Sum("out_attempts", f"callee within {NEAR_DISTANCE} numbers of the last one dialled, or in the same block", "1", flag(w.NEAR)),
    "local_calls": Sum("out_attempts", "caller and callee in the same region", "1", flag(w.LOCAL)),
    "region_known": Sum("out_attempts", "both regions known", "1", flag(w.LOCAL_KNOWN)),
    "ended": Sum("out_outcomes", "not blocked", "1", "1", NOT_BLOCKED),
    **outcome_sums("out_outcomes", ("answered", "no_answer", "busy", "rejected", "unwanted", "invalid_number")),
    "missed": Sum("out_outcomes", f"outcome is {MISSED}", "1", "1", f"{w.FIRST_MISSED} <= outcome <= {w.LAST_MISSED}"),
    "returned": Sum("out_outcomes", f"outcome is {MISSED}, and the callee called the number after its end and within {w.HOUR // 60_000} minutes", "1"),
    "talk": Sum("out_outcomes", "answered", "talk in milliseconds", "talk", ANSWERED, wide=True),
    "talk_tenths": Sum("out_outcomes", "answered", "whole tenths of a second of talk", "(talk // 100)", ANSWERED, wide=True),
    "talk_squares": Sum("out_outcomes", "answered", "whole tenths of a second of talk, squared", "(talk // 100) * (talk // 100)", ANSWERED, wide=True),
    "talk_under_10s": Sum("out_outcomes", f"answered and talk under {SHORT_TALK // 1000} s", "1", f"talk < {SHORT_TALK}", ANSWERED),
    "talk_under_30s": Sum("out_outcomes", f"answered and talk under {LONG_TALK // 1000} s", "1", f"talk < {LONG_TALK}", ANSWERED),
    "ring": Sum("out_outcomes", "not blocked", "ring in milliseconds", "ring", NOT_BLOCKED, wide=True),
    "one_rings": Sum("out_outcomes", f"neither answered nor blocked, released by the caller after at most {w.ONE_RING_MS // 1000} s", "1", flag(w.ONE_RING), NOT_BLOCKED),
    "hung_up": Sum("out_outcomes", "answered and released by the caller", "1", flag(w.HUNG_UP), ANSWERED),
    "release_known": Sum("out_outcomes", "answered and released by caller or callee", "1", flag(w.HUNG_KNOWN), ANSWERED),
    "in_calls": Sum("in_attempts", "all", "1", "1"),
    "in_callers": Sum("in_attempts", "all", "distinct caller"),
    "in_ended": Sum("in_outcomes", "not blocked", "1", "1", NOT_BLOCKED),
    "in_answered": Sum("in_outcomes", "answered", "1", "1", ANSWERED),
    "in_talk": Sum("in_outcomes", "answered", "talk in milliseconds", "talk", ANSWERED, wide=True),
    "in_talk_under_10s": Sum("in_outcomes", f"answered and talk under {SHORT_TALK // 1000} s", "1", f"talk < {SHORT_TALK}", ANSWERED),
}  # fmt: skip

GROUP_SUMS: dict[str, Sum] = {
    "calls": Sum("attempts", "all", "1", "1"),
    "members": Sum("attempts", "all", "distinct caller"),
    "ended": Sum("outcomes", "not blocked", "1", "1", NOT_BLOCKED),
    **outcome_sums("outcomes", ("answered", "invalid_number")),
    "talk_under_10s": Sum("outcomes", f"answered and talk under {SHORT_TALK // 1000} s", "1", f"talk < {SHORT_TALK}", ANSWERED),
    "one_rings": Sum("outcomes", f"neither answered nor blocked, released by the caller after at most {w.ONE_RING_MS // 1000} s", "1", flag(w.ONE_RING), NOT_BLOCKED),
}  # fmt: skip

# State of a number outside the windows: name -> (32-bit integers, meaning).
STATE_REGIONS: dict[str, tuple[int, str]] = {
    "in_air": (1, f"out attempts of the last {w.DAY_MS // w.HOUR} hours whose outcome is not known"),
    "hours": (24, f"out attempts of the last {WEEK_DAYS} days by local hour of day"),
    "hour_logs": (
        2,
        f"sum over the hours of the day of k * log2(k), k the out attempts of the last {WEEK_DAYS} days in it",
    ),
    "days": (8, f"out attempts of the last {WEEK_DAYS} days by local day"),
    "gap_bins": (GAP_BIN_COUNT, f"gaps of the last {WEEK_DAYS} days; bin b begins at 2^b - 1 whole seconds"),
    "talk_bins": (
        TALK_BIN_COUNT,
        f"talk of calls answered in the last {WEEK_DAYS} days; bin b begins at 2^b - 1 whole seconds, and the last one, {TALK_BIN_COUNT - 1}, has no end",
    ),
    "day": (1, "the local day of the call in question"),
    "out_days": (1, f"the last {DAYS_KEPT} local days, today among them, with an out attempt"),
    "in_days": (1, f"the last {DAYS_KEPT} local days, today among them, with an in attempt"),
    "call_ring": (8, f"out attempts by fortnight of {FORTNIGHT} local days since 1970"),
}

# Counters of a pair (number, other number): name -> (offset, meaning).
PAIR_FIELDS: dict[str, tuple[int, str]] = {
    "pair_out_1h": (PAIR_OUT, "attempts of the last hour from the number to the other"),
    "pair_out_7d": (PAIR_OUT + 2, f"attempts of the last {WEEK_DAYS} days from the number to the other"),
    "pair_in_7d": (PAIR_IN + 2, f"attempts of the last {WEEK_DAYS} days from the other to the number"),
    "pair_answered_7d": (PAIR_ANSWERED, f"answered calls of the last {WEEK_DAYS} days from the number to the other"),
}

# Days of a pair, which formulas read through functions: name -> (offset, meaning).
_DAYS_OF_PAIR = (
    f"the last {PAIR_DAYS_KEPT} local days, today among them, with an attempt, and those with a talk of at least "
    f"{PAIR_TALK_MS // 1000} s"
)
PAIR_REGIONS: dict[str, tuple[int, str]] = {
    "pair_out_days": (PAIR_DAYS, f"{_DAYS_OF_PAIR}, of calls from the number to the other"),
    "pair_in_days": (PAIR_IN ^ PAIR_DAYS, f"{_DAYS_OF_PAIR}, of calls from the other to the number"),
}
