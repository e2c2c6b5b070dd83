"""Definition of a feature: the history that it reads, the measure, the aggregate and the window.

The name of a feature follows from these four. A formula here is both the published definition and the code that runs:
`codegen/feature_program.py` inserts the formulas into the kernel unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from callsieve.features.kernel import windows as w
from callsieve.features.kernel.number_state import FORTNIGHT, PAIR_DAYS_KEPT
from callsieve.features.records import ATTESTATIONS, NUMBER_CLASSES, ROUTES, STEPS

from .sums import GROUP_SUMS, NUMBER_SUMS, PAIR_FIELDS, PAIR_REGIONS, STATE_REGIONS, WEEK_DAYS

# Aggregate -> formula over the feature's parts (part, whole, other). The kernel executes these lines unchanged.
FORMULAS = {
    "count": "float(part)",
    "share": "(part + 0.5) / (whole + 1.0) + (0.0 if whole else nan)",
    "rest_share": "(whole - part + 0.5) / (whole + 1.0) + (0.0 if whole else nan)",
    "rest_count": "float(whole - part)",
    "balance": "(part + 0.5) / (part + whole + 1.0) + (0.0 if part + whole else nan)",
    "mean": "float(part) / float(max(whole, 1)) / 1000.0 + (0.0 if whole else nan)",
    "spread": "spread(part, whole, other)",
    "concentration": "float(part) / (float(max(whole, 1)) * float(max(whole, 1))) + (0.0 if whole else nan)",
    "occupancy": "float(part) / window",
    "peak_share_of_hours": "(peak(state, part, 24) + 0.5) / (whole + 1.0) + (0.0 if whole else nan)",
    "peak_share_of_days": "(peak(state, part, 8) + 0.5) / (whole + 1.0) + (0.0 if whole else nan)",
    "entropy": "entropy(part, whole) if whole else nan",
    "hours_used": "float(used(state, part, 24))",
    "days_used": "float(used(state, part, 8))",
    "gap_mean": "float(part) / float(max(whole - 1, 1)) / 1000.0 + (0.0 if whole > 1 else nan)",
    "gap_variation": "variation(part, whole - 1, other)",
    "gap_share": "(part + 0.5) / float(max(whole, 1)) + (0.0 if whole > 1 else nan)",
    "gap_median": "median(state, part, whole - 1)",
    "median": "median(state, part, whole)",
    "age": "age(at, state, base, calls)",
    "since": "since(at, state, base, calls)",
    "days": "float(day_count(part))",
    "days_either": "float(day_count(part | whole))",
    "days_since_first": "first_day(part | whole)",
    "days_since_last": "last_day(part)",
    "decayed": "decayed(state, part, whole)",
    "surge": "part / (decayed(state, whole, other) + 1.0)",
    "called_first": "called_first(pairs, part, whole, other)",
    "long_talk_days": "long_talk_days(pairs, part, whole, other)",
    "fact": "float(part) if part >= 0 else nan",
}
# Aggregate -> its label in a feature's name, if the label differs from the key.
AGGREGATE_LABELS = {
    "rest_share": "share",
    "rest_count": "count",
    "peak_share_of_hours": "peak_share",
    "peak_share_of_days": "peak_share",
    "hours_used": "used",
    "days_used": "used",
    "gap_mean": "mean",
    "gap_variation": "variation",
    "gap_share": "share",
    "gap_median": "median",
    **dict.fromkeys(("age", "since", "occupancy", "surge", "fact"), ""),
    **dict.fromkeys(("days", "days_either", "days_since_first", "days_since_last"), ""),
    **dict.fromkeys(("called_first", "long_talk_days"), ""),
}
# Functions of formulas, explained. These texts are part of the catalogue hash.
FUNCTION_MEANINGS = {
    "spread": "population standard deviation: sqrt(whole * part - other^2) / whole / 10; unknown if whole = 0",
    "peak": "the fullest bin",
    "entropy": "-sum(p * log2(p)) over the bins, in bits: "
    "log2(n) - sum(k * log2(k)) / n with k calls in a bin, n in all",
    "used": "bins that are not empty",
    "variation": "standard deviation of the gaps / their mean; unknown below 2 gaps",
    "median": "where the bin of the lower median begins, in seconds; unknown of nothing",
    "age": f"seconds from the first attempt, out or in, of the last {WEEK_DAYS} days to this call; "
    "unknown if there is none",
    "since": f"seconds from the last out attempt of the last {WEEK_DAYS} days to this call; unknown if there is none",
    "day_count": "marked days",
    "first_day": "days since the first marked day; unknown if there is none",
    "last_day": "days since the last marked day before today; unknown if there is none",
    "decayed": f"sum of 2^(-days ago / {FORTNIGHT}) over events of this fortnight and the three before",
    "called_first": f"1 if the other called on one of the last {PAIR_DAYS_KEPT - 1} local days, today among them, and "
    f"the number itself did not call the other on that day or on an earlier one of the last {PAIR_DAYS_KEPT}; else 0",
    "long_talk_days": "days with a long talk, in calls of either direction",
}

# Fact of the call itself -> levels of a category, or () for a number.
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
# Whose history a feature reads. A vector lists the features in this order of roles.
ROLES = ("caller", "callee", "block", "trunk", "device")
# Parts that incoming calls change without being sums of incoming events (any call moves the local day).
INCOMING_PARTS = frozenset(
    ("mutual_callees", "returned", "in_days", "out_days", "call_ring", "pair_in_7d", "pair_in_days")
)
SUMS_BY_ROLE = {"caller": NUMBER_SUMS, "callee": NUMBER_SUMS, **dict.fromkeys(("block", "trunk", "device"), GROUP_SUMS)}


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature: its name, its unit and texts, the source of its evidence, and its definition.

    Attributes:
        role: whose history is read, one of `ROLES`.
        subject, measure: the beginning of the name.
        how: aggregate, a key of `FORMULAS`.
        window: index into `windows.WINDOWS`, or None.
        unit, en, zh: unit, and the meaning in English and Chinese.
        source: the evidence for the feature.
        parts: arguments of the formula. Each is a sum over `window`, a sum with its own window ("calls:1h"), a region
            of the state outside the windows, a field of a pair, or a fact of the call.
        levels: the levels of a category, or () for a number.

    >>> from callsieve.features import FEATURES
    >>> share = next(feature for feature in FEATURES if feature.name == "out_answered_share_24h")
    >>> share.role, share.unit, share.definition["formula"]
    ('caller', 'share', '(part + 0.5) / (whole + 1.0) + (0.0 if whole else nan)')
    """

    role: str
    subject: str
    measure: str
    how: str
    window: int | None
    unit: str
    en: str
    zh: str
    source: str
    parts: tuple[str, ...]
    levels: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Subject, measure, aggregate and window, without the empty ones.

        >>> Feature("caller", "out", "calls", "count", 0, "calls", "", "", "", ("calls",)).name
        'out_calls_count_1h'
        """
        window = "" if self.window is None else w.WINDOW_NAMES[self.window]
        return "_".join(
            word for word in (self.subject, self.measure, AGGREGATE_LABELS.get(self.how, self.how), window) if word
        )

    @property
    def sums(self) -> tuple[tuple[str, int] | None, ...]:
        """For each part, the name and window index of its sum; None for a part that is not a sum."""
        return tuple(self._sum(part) for part in self.parts)

    def _sum(self, part: str) -> tuple[str, int] | None:
        name, _, window = part.partition(":")
        if name not in SUMS_BY_ROLE[self.role] or (self.window is None and not window):
            return None
        return name, w.WINDOW_NAMES.index(window) if window else self.window or 0

    @property
    def reads_incoming(self) -> bool:
        """Whether incoming calls of the number can change the value.

        >>> Feature("caller", "out", "calls", "count", 0, "calls", "", "", "", ("calls",)).reads_incoming
        False
        """
        sums, parts = SUMS_BY_ROLE[self.role], {part.partition(":")[0] for part in self.parts}
        changed = INCOMING_PARTS | {name for name, total in sums.items() if total.events.startswith("in_")}
        return self.role == "callee" or self.how == "age" or not parts.isdisjoint(changed)

    @property
    def definition(self) -> dict[str, object]:
        """The definition as plain JSON values, sufficient to recompute the feature from raw calls."""
        roles = ("part", "whole", "other")
        formula = FORMULAS[self.how]
        return {
            "name": self.name,
            "history": self.role,
            "aggregate": self.how,
            "formula": formula,
            "terms": _terms(formula),
            "window_seconds": None if self.window is None else w.WINDOWS[self.window] // 1000,
            "window_rule": None if self.window is None else "[at - window, at)",
            "excluding": "the caller's own calls" if self.role in ("block", "trunk", "device") else None,
            **{role: self._described(part) for role, part in zip(roles, self.parts, strict=False)},
            "unit": self.unit,
            "levels": list(self.levels),
            "en": self.en,
            "zh": self.zh,
            "source": self.source,
        }

    def _described(self, part: str) -> dict[str, object] | str:
        entry = self._sum(part)
        if entry:
            total = SUMS_BY_ROLE[self.role][entry[0]]
            window = w.WINDOWS[entry[1]] // 1000
            return {"events": total.events, "where": total.where, "adds": total.adds, "window_seconds": window}
        return {**STATE_REGIONS, **PAIR_FIELDS, **PAIR_REGIONS}.get(part, (0, part))[1]


@cache
def _terms(formula: str) -> dict[str, str]:
    return {name: meaning for name, meaning in FUNCTION_MEANINGS.items() if name + "(" in formula}
