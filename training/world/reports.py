"""What users report and mark, late and with mistakes, and what checks by call-back find out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .draws import lognormal, stream
from .numbering import Directory
from .people import Society
from .plans import ANSWERED, NO_ANSWER, Plan
from .scenario import Scenario, Spread
from .timing import DAY, HOUR, MINUTE, Calendar

NOT_NUISANCE = "not_nuisance"


@dataclass(frozen=True)
class Reports:
    """Reports, one array a column, in the order in which they arrive; `call` is a row of the settled plan."""

    call: NDArray[np.int64]
    at: NDArray[np.int64]
    known_at: NDArray[np.int64]
    category: NDArray[np.object_]
    mode: NDArray[np.object_]  # None where the reporter could not tell


@dataclass(frozen=True)
class Findings:
    """Numbers whose truth was established, in the order in which it became known."""

    number: NDArray[np.int64]
    known_at: NDArray[np.int64]


def reports(scenario: Scenario, seed: int, society: Society, numbers: Directory, plan: Plan) -> Reports:
    """Reports and marks on the calls of a plan."""
    rng = stream(seed, "reports")
    table = scenario.table("reports")
    chance = _willingness(rng, table, society, numbers, plan)
    guilty = np.flatnonzero(rng.random(len(plan)) < np.where(plan.campaign >= 0, chance, 0.0))
    benign = _innocent(rng, table, numbers, plan, len(guilty))
    call = np.concatenate((guilty, benign))
    category = np.concatenate((_named(rng, table, numbers, plan, guilty), _mistaken(rng, table, numbers, plan, benign)))
    denied = rng.random(len(call)) < table["not_nuisance_share"]
    category[denied] = NOT_NUISANCE
    mode = np.concatenate((_told(rng, table, numbers, plan, guilty), np.full(len(benign), None, dtype=object)))
    mode[denied] = None
    after = MINUTE * lognormal(rng, Spread(**table["after_minutes"]), len(call))
    delay = HOUR * lognormal(rng, Spread(**table["arrival_hours"]), len(call))
    at = plan.end[call] + after.astype(np.int64)
    known = at + np.clip(delay, MINUTE, 60 * DAY).astype(np.int64)
    order = np.lexsort((call, known))
    return Reports(call[order], at[order], known[order], category[order], mode[order])


def _willingness(
    rng: np.random.Generator, table: dict[str, Any], society: Society, numbers: Directory, plan: Plan
) -> NDArray[np.float64]:
    """Chance that each call is reported: by its outcome, its callee's zeal, its caller's luck."""
    by_outcome = np.zeros(len(plan))
    by_outcome[plan.outcome == ANSWERED] = table["answered_share"]
    by_outcome[plan.outcome == NO_ANSWER] = table["missed_share"]
    zeal = np.zeros(len(numbers))
    people = np.exp(table["zeal_sigma"] * rng.standard_normal(society.subscribers))
    people[society.members("elderly")] *= table["elderly_factor"]
    zeal[: society.subscribers] = people
    lucky = rng.random(len(numbers)) < table["never_share"]
    chance: NDArray[np.float64] = by_outcome * zeal[plan.callee] * ~lucky[plan.caller]
    return chance


def _innocent(
    rng: np.random.Generator, table: dict[str, Any], numbers: Directory, plan: Plan, guilty: int
) -> NDArray[np.int64]:
    """Benign calls that are marked: so many that they are the wanted share of all marks."""
    weight = np.array([table["benign_weights"].get(name, 0.0) for name in numbers.slices])
    by_call = weight[numbers["slice"][plan.caller]] * ((plan.outcome == ANSWERED) & (plan.campaign < 0))
    by_call *= numbers["ours"][plan.callee]
    cumulative = np.cumsum(by_call)
    wanted = round(guilty * table["benign_share"] / max(1 - table["benign_share"], 1e-9))
    if not len(cumulative) or cumulative[-1] <= 0:
        return np.empty(0, dtype=np.int64)
    drawn = np.searchsorted(cumulative, rng.random(wanted) * cumulative[-1], side="right")
    return np.unique(drawn)


def _named(
    rng: np.random.Generator, table: dict[str, Any], numbers: Directory, plan: Plan, calls: NDArray[np.int64]
) -> NDArray[np.object_]:
    """The content that a report of a nuisance call names, sometimes another one than the true."""
    contents = _contents(numbers)
    true = np.array([each.content for each in numbers.campaigns] or [""], dtype=object)[plan.campaign[calls]]
    wrong = rng.random(len(calls)) < table["wrong_content_share"]
    return np.where(wrong, rng.choice(contents, len(calls)), true).astype(object)


def _told(
    rng: np.random.Generator, table: dict[str, Any], numbers: Directory, plan: Plan, calls: NDArray[np.int64]
) -> NDArray[np.object_]:
    """The mode that a report names: a person or a recording, as 12321 asks; often it is left open."""
    modes = np.array([each.mode for each in numbers.campaigns] or [""], dtype=object)
    true = modes[plan.campaign[calls]]
    wrong = rng.random(len(calls)) < table["wrong_mode_share"]
    told = np.where(wrong, rng.choice(modes, len(calls)), true).astype(object)
    told[rng.random(len(calls)) < table["no_mode_share"]] = None
    return told


def _mistaken(
    rng: np.random.Generator, table: dict[str, Any], numbers: Directory, plan: Plan, calls: NDArray[np.int64]
) -> NDArray[np.object_]:
    """What a mark on a benign call says: its trade, or some nuisance content."""
    trade = np.array(numbers.slices, dtype=object)[numbers["slice"][plan.caller[calls]]]
    named = rng.random(len(calls)) < table["own_name_share"]
    return np.where(named, trade, rng.choice(_contents(numbers), len(calls))).astype(object)


def _contents(numbers: Directory) -> NDArray[np.object_]:
    return np.array(sorted({each.content for each in numbers.campaigns}) or ["fraud"], dtype=object)


def findings(scenario: Scenario, seed: int, numbers: Directory, plan: Plan, known: Reports, days: Calendar) -> Findings:
    """A random sample of the callers, some of the reported and of the busy ones, each checked some days later."""
    rng = stream(seed, "findings")
    table = scenario.table("findings")
    calling = np.bincount(plan.caller, minlength=len(numbers)) > 0
    luck = rng.random(len(numbers))
    born = np.maximum(numbers["born"], days.start)
    length = np.minimum(numbers["died"], days.end) - born
    asked = born + (rng.random(len(numbers)) * np.maximum(length, 0)).astype(np.int64)
    reported, first = np.unique(plan.caller[known.call], return_index=True)
    checked = rng.random(len(reported)) < table["reported_share"]
    asked[reported[checked]] = known.known_at[first[checked]]
    chosen = calling & (luck < table["audit_share"])
    chosen[reported[checked]] = True
    for busy, since in _busy(plan, days, table["busy_calls"]).items():
        if luck[busy] < table["busy_share"] and not chosen[busy]:
            asked[busy] = since
            chosen[busy] = True
    number = np.flatnonzero(chosen)
    delay = DAY * lognormal(rng, Spread(**table["delay_days"]), len(number))
    moment = asked[number] + delay.astype(np.int64)
    order = np.lexsort((number, moment))
    return Findings(number[order], moment[order])


def _busy(plan: Plan, days: Calendar, most: int) -> dict[int, int]:
    """Callers with at least `most` calls in a day, and the end of the first such day."""
    day = (plan.start - days.start) // DAY
    keys, counts = np.unique(plan.caller * np.int64(1 << 16) + day, return_counts=True)
    busy = keys[counts >= most]
    callers, first = np.unique(busy >> 16, return_index=True)
    ends = days.start + ((busy[first] & 0xFFFF) + 1) * DAY
    return dict(zip(callers.tolist(), ends.tolist(), strict=True))
