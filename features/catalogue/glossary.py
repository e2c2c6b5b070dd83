"""Terms of the features, with the numbers and words that the kernel uses."""

from __future__ import annotations

from callsieve.features.kernel import windows as w
from callsieve.features.kernel.number_state import DAYS_KEPT, FORTNIGHT
from callsieve.features.records import NEAR_DISTANCE, STEPS

from .declarations import LONGEST_MEDIAN, WINDOW_EN
from .feature import CALL_FACTS
from .sums import MISSED, WEEK_DAYS

_WINDOWS = ", ".join(f"{name} ({text})" for name, text in zip(w.WINDOW_NAMES, WINDOW_EN, strict=True))
_SAME, _NEAR, _BLOCK, _OTHER = STEPS
_DAY_HOURS = w.DAY_MS // w.HOUR

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
    f"An attempt that becomes known {WEEK_DAYS} days or more after its start counts nowhere.",
    "repeat": "Records with the same start, caller and callee are one call, in any order. The attempt is "
    "that of the record "
    "that makes it known first, and the outcome likewise.",
    "under way": f"An attempt of the last {_DAY_HOURS} hours whose outcome is not known.",
    "missed": f"An outcome that is {MISSED}.",
    "night": f"Local hours before {w.NIGHT_ENDS} or from {w.NIGHT_BEGINS}.",
    "one ring": "A call that was not answered and that the caller released after at most "
    f"{w.ONE_RING_MS // 1000} s from its start.",
    "local day": "Hours and days are those of the time zone of the intake. Features of days look at whole "
    "local days, today "
    f"among them: the last {DAYS_KEPT}, or for decayed sums this fortnight and the three before. Fortnights "
    f"of {FORTNIGHT} "
    "days are counted from the first day of the Unix time.",
    "step": f"The distance of the callee from the one of the caller's latest call that started and was "
    f"known before `at`. "
    f"{_SAME}: the same number. {_NEAR}: at most {NEAR_DISTANCE} numbers away, in numbers of the same form. "
    f"{_BLOCK}: in the "
    f"same block. {_OTHER}: anything else. Unknown for the first call, for a withheld caller and for "
    f"numbers without digits.",
    "feed": "The content of the records of a system: complete, or without unanswered calls, calls to callers, "
    "trunks and devices, or ring times. Features of missing content mislead, so a threshold holds on its feed alone.",
    "block": "All numbers that differ in the last four digits alone; fewer digits for short service codes.",
    "withheld caller": "Callers that show no number have one token. So their features are those of all of "
    "them together.",
    "no trunk, no device": "The features of a missing block, trunk or device are unknown. If only the "
    "record of the end has "
    "one, the call counts there from the time when its outcome is known.",
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
