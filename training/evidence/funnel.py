"""Counts the calls of a training by the evidence about their callers, and what is missing for a certificate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from callsieve.features.arrays import Array

from .judging_labels import GROUNDS, JudgingLabels

# Ground of innocence, and what a funnel calls it.
INNOCENT = {"check": "innocent by check", "list": "innocent by list", "complaints": "innocent by votes"}
INNOCENT |= {"called first": "innocent, called first", "silence": "innocent, many calls and hardly a complaint"}


class Covered(TypedDict):
    """Callers and calls of one kind of evidence."""

    callers: int
    calls: int


class TooFew(TypedDict):
    """Too few innocent calls to judge: those there are, those needed for a certificate, and what gives the rest.

    days: more days of records; None if these would not help. checks: callers without evidence to check; None if all of
    them together would not be enough.
    """

    calls: int
    needed: int
    days: int | None
    checks: int | None


def funnel(labels: JudgingLabels, caller: Array, in_days: Array, judging: Array) -> dict[str, Covered]:
    """Returns callers and calls of a folder from all to those that judge; {} if its truth is known.

    Args:
        caller: code of each call's caller, shape (calls,).
        in_days: whether the call is in the days that judge; bool. judging: whether its group judges, too.
    """
    if labels.source == "truth":
        return {}
    kinds = {"all": np.ones(len(caller), dtype=bool), "in the days that judge": in_days}
    kinds["in groups that judge"] = judging
    kinds["known nuisance"] = judging & labels.known & labels.nuisance
    for ground, name in INNOCENT.items():
        kinds[name] = judging & ~labels.nuisance & (labels.ground == GROUNDS.index(ground))
    kinds["unknown"] = judging & ~labels.known
    return {name: {"callers": len(np.unique(caller[rows])), "calls": int(rows.sum())} for name, rows in kinds.items()}


def joined_funnel(folders: Sequence[dict[str, Covered]]) -> dict[str, Covered]:
    """Returns the sums over folders; {} if the truth of one is known."""
    if not all(folders):
        return {}
    return {
        name: {
            "callers": sum(folder[name]["callers"] for folder in folders),
            "calls": sum(folder[name]["calls"] for folder in folders),
        }
        for name in folders[0]
    }


def fewest_calls(target: float, confidence: float) -> int:
    """Returns the fewest calls, none of them flagged, that show a rate of at most `target`.

    >>> fewest_calls(1e-4, 0.95), fewest_calls(1e-3, 0.95)
    (29956, 2995)
    """
    return math.ceil(math.log(1 - confidence) / math.log1p(-target))


def too_few(covered: dict[str, Covered], needed: int, days: float) -> TooFew | None:
    """Returns what is missing for a certificate; None if there are enough innocent calls, or the truth is known.

    Innocent calls must also be as many as the calls of unknown callers: `JudgingLabels.representative`.

    Args:
        days: days of records that gave these calls.

    >>> counts = {name: Covered(callers=10, calls=300) for name in INNOCENT.values()}
    >>> too_few(counts | {"unknown": Covered(callers=60, calls=90_000)}, 29_956, 31)
    {'calls': 1500, 'needed': 45750, 'days': None, 'checks': 30}
    """
    if not covered:
        return None
    unknown, calls = covered["unknown"], sum(covered[name]["calls"] for name in INNOCENT.values())
    half = math.ceil((calls + unknown["calls"]) / 2)
    if calls >= max(needed, half):
        return None
    helps, needed = calls >= half, max(needed, half)
    # A check makes the calls of one more caller known, if the answer is "innocent".
    checks = math.ceil((needed - calls) * unknown["callers"] / unknown["calls"]) if unknown["calls"] else math.inf
    return {
        "calls": calls,
        "needed": needed,
        "days": math.ceil(days * (needed - calls) / calls) if calls and helps else None,
        "checks": int(checks) if checks <= unknown["callers"] else None,
    }
