"""Terms of the features, with the numbers and words that the kernel uses."""

from __future__ import annotations

from callsieve.features.kernel import windows as w
from callsieve.features.kernel.number_state import DAYS_KEPT, FORTNIGHT
from callsieve.features.records import NEAR_DISTANCE, STEPS

from .declarations import LONGEST_MEDIAN, WINDOW_EN
from .feature import CALL_FACTS
from .sums import MISSED, STATE_REGIONS, WEEK_DAYS

_WINDOWS = ", ".join(f"{name} ({text})" for name, text in zip(w.WINDOW_NAMES, WINDOW_EN, strict=True))
_SAME, _NEAR, _BLOCK, _OTHER = STEPS
_DAY_HOURS = w.DAY_MS // w.HOUR
_DAY_BINS = STATE_REGIONS["days"][0]

GLOSSARY: dict[str, str] = {
    "at": "The start of the call in question, Unix milliseconds. A feature uses only what was known before "
    "it: calls and "
    "outcomes that became known at the same millisecond are left out.",
    "attempt": "The start of a call. It is known at the start, or when its record came if that was later.",
    "outcome": "The end of a call, with its result, ring and talk time. It is known at the end, or when its "
    "record came if "
    "that was later. Features of outcomes leave out blocked calls, except for the calls under way.",
    "window": f"The events with `at - window <= time < at`, by their own time. Windows: {_WINDOWS}.",
    "late record": "A record that became known after the end of its call; then neither attempt nor outcome "
    "was known before. "
    f"An attempt or an outcome that becomes known {WEEK_DAYS} days or more after the start of its call counts nowhere.",
    "repeat": "Records with the same start, caller and callee are one call, in any order. The attempt is "
    "that of the record that makes it known first, and the outcome that of the record that makes it known first; "
    "these may be two records. In a table, the vector of each record has the facts of that record, and the block, "
    "trunk and device of the attempt.",
    "tie": "Records of a call that become known at the same millisecond do not depend on their order either. An "
    "attempt without an end counts before one with an end. Then the least counts, by region (unknown, other, same), "
    "then by step (not near, near). For an outcome, the earlier end counts, then the shorter talk, then the release "
    "(network or unknown, callee, caller), then the outcome that is first in the list of outcomes. Of several "
    "blocks, trunks or devices the token that sorts first counts.",
    "under way": f"An attempt of the last {_DAY_HOURS} hours whose outcome is not known.",
    "missed": f"An outcome that is {MISSED}.",
    "night": f"Local hours before {w.NIGHT_ENDS} or from {w.NIGHT_BEGINS}.",
    "one ring": "A call that was not answered and that the caller released after at most "
    f"{w.ONE_RING_MS // 1000} s from its start.",
    "local day": "Hours and days are those of the time zone of the intake. Features of days look at whole "
    "local days, today "
    f"among them: the last {DAYS_KEPT}, or for decayed sums this fortnight and the three before. Fortnights "
    f"of {FORTNIGHT} "
    "days are counted from the first day of the Unix time. A call and its talk belong to the day of its start. The "
    f"last {WEEK_DAYS} days have {_DAY_BINS} bins by local day: where a change of clocks lets them touch one day more, "
    "the first and the last day share a bin.",
    "step": f"The distance of the callee from the one of the caller's latest call that started and was "
    f"known before `at`. "
    f"{_SAME}: the same number. {_NEAR}: at most {NEAR_DISTANCE} numbers away, in numbers of the same form. "
    f"{_BLOCK}: in the "
    f"same block. {_OTHER}: anything else. Of two calls that started at the same millisecond, the one whose callee's "
    f"token sorts last is the latest. Unknown for the first call, for a withheld caller, for numbers without digits, "
    f"and for a late record if the latest call that was known before it started or became known at or after `at`. "
    f"A repeat has the step of the record that came first.",
    "feed": "The content of the records of a system: complete, or without unanswered calls, calls to callers, "
    "trunks and devices, or ring times. Features of missing content mislead, so a threshold holds on its feed alone.",
    "block": "All numbers that differ in the last four digits alone; fewer digits for short service codes.",
    "withheld caller": "Callers that show no number have one token. So their features are those of all of "
    "them together.",
    "no trunk, no device": "The features of a missing block, trunk or device are unknown. If only the "
    "record of the outcome has "
    "one, the call counts there from the time when its outcome is known. That of any other record does not count.",
    "others": "Features of block, trunk and device leave out the caller's own calls.",
    "share": "A share of nothing is unknown. Shares are smoothed by half an event, as the formula shows.",
    "usual": "A lower median, rounded down to a power of two less one. That of talk time is at most "
    f"{LONGEST_MEDIAN} s: longer calls count as such.",
    "unknown": "NaN.",
    **{
        f"codes of call_{name}": ", ".join(f"{code} = {word}" for code, word in enumerate(levels))
        for name, levels in CALL_FACTS.items()
        if levels
    },
}
"""Meaning of each term, in English."""

__doc__ += "\n\n" + "\n".join(f"* **{term}**: {meaning}" for term, meaning in GLOSSARY.items())
