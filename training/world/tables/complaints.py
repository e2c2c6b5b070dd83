"""What users complain about and mark, late and with mistakes; false accusations and marks of a number's last owner.

Two channels: a complaint goes to an office and is rare, a mark is a tap on the screen after a call.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from callsieve.training.world.basis.draws import lognormal, stream
from callsieve.training.world.basis.numbering import Directory
from callsieve.training.world.basis.plans import ANSWERED, NO_ANSWER, Plan
from callsieve.training.world.basis.scenario import Scenario, Spread
from callsieve.training.world.basis.timing import DAY, HOUR, MINUTE, Calendar
from callsieve.training.world.callers.people import Society

from .records import parts

NOT_NUISANCE = "not_nuisance"
CHANNELS = ("complaint", "mark")
COMPLAINT, MARK = range(len(CHANNELS))
BENIGN = ("life_services", "other_benign")  # groups of callers who are marked by mistake


@dataclass(frozen=True)
class Reports:
    """Reports, one array a column, in the order in which they arrive.

    `call` is a row of the settled plan, -1 for a report that no call stands behind; `channel` a position in CHANNELS.
    """

    call: NDArray[np.int64]
    reporter: NDArray[np.int64]
    number: NDArray[np.int64]
    at: NDArray[np.int64]
    known_at: NDArray[np.int64]
    category: NDArray[np.object_]
    mode: NDArray[np.object_]  # None where the reporter could not tell
    channel: NDArray[np.int64]


def reports(scenario: Scenario, seed: int, society: Society, numbers: Directory, plan: Plan, days: Calendar) -> Reports:
    """Everything that is reported about the numbers of a plan."""
    rng = stream(seed, "reports")
    table = scenario.table("complaints")
    people = np.arange(len(numbers)) < society.subscribers
    zeal = zeal_of(rng, table, people, np.isin(np.arange(len(numbers)), society.members("elderly")))
    complaints = reported_calls(rng, table["office"], zeal, plan)
    marks = reported_calls(rng, table["marks"], zeal, plan)
    benign = _innocent(rng, table, numbers, plan, zeal, len(marks))
    told = _about_calls(rng, table, numbers, plan, (complaints, marks, benign))
    false = accusations(stream(seed, "accusations"), table, society, numbers, days)
    old = inherited(stream(seed, "inherited"), table, society, numbers, days)
    every = _joined([told, false, old])
    order = np.lexsort((every.call, every.known_at))
    return Reports(*(getattr(every, each.name)[order] for each in fields(Reports)))


def _joined(some: list[Reports]) -> Reports:
    return Reports(*(np.concatenate([getattr(one, each.name) for one in some]) for each in fields(Reports)))


def _about_calls(
    rng: np.random.Generator,
    table: dict[str, Any],
    numbers: Directory,
    plan: Plan,
    calls: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
) -> Reports:
    complaints, marks, benign = calls
    guilty = np.concatenate((complaints, marks))
    call = np.concatenate((guilty, benign))
    category = np.concatenate((_named(rng, table, numbers, plan, guilty), _mistaken(rng, table, numbers, plan, benign)))
    mode = np.concatenate((_told(rng, table, numbers, plan, guilty), np.full(len(benign), None, dtype=object)))
    channel = np.repeat((COMPLAINT, MARK), (len(complaints), len(marks) + len(benign)))
    denied = (rng.random(len(call)) < table["not_nuisance_share"]) & (channel == MARK)
    category[denied], mode[denied] = NOT_NUISANCE, None
    after = MINUTE * lognormal(rng, Spread(**table["after_minutes"]), len(call))
    at = plan.end[call] + after.astype(np.int64)
    caller, callee = plan.caller[call].astype(np.int64), plan.callee[call].astype(np.int64)
    return Reports(call, callee, caller, at, at + _delay(rng, table, len(call)), category, mode, channel)


def _delay(rng: np.random.Generator, table: dict[str, Any], count: int) -> NDArray[np.int64]:
    delay = HOUR * lognormal(rng, Spread(**table["arrival_hours"]), count)
    clipped: NDArray[np.int64] = np.clip(delay, MINUTE, 60 * DAY).astype(np.int64)
    return clipped


def zeal_of(
    rng: np.random.Generator, table: dict[str, Any], people: NDArray[np.bool_], elderly: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """How readily each number's owner reports; of other networks' numbers nobody knows."""
    zeal = np.where(people, np.exp(table["zeal_sigma"] * rng.standard_normal(len(people))), 0.0)
    zeal[elderly] *= table["elderly_factor"]
    return zeal


def reported_calls(
    rng: np.random.Generator, table: dict[str, Any], zeal: NDArray[np.float64], plan: Plan
) -> NDArray[np.int64]:
    """Nuisance calls that are reported: by their outcome, their callee's zeal and their caller's fame."""
    fame = np.where(rng.random(len(zeal)) < table["notorious_share"], table["notorious_factor"], 1.0)
    fame[rng.random(len(zeal)) < table["never_share"]] = 0.0
    found = []
    for rows in parts(plan):
        some = plan.take(rows)
        nuisance = np.flatnonzero(some.campaign >= 0)
        outcome, caller, callee = (column[nuisance] for column in (some.outcome, some.caller, some.callee))
        chance = np.where(outcome == ANSWERED, table["answered_share"], 0.0)
        chance[outcome == NO_ANSWER] = table["missed_share"]
        reported = rng.random(len(nuisance)) < chance * zeal[callee] * fame[caller]
        found.append(rows.start + nuisance[reported])
    return np.concatenate(found)


def _innocent(
    rng: np.random.Generator,
    table: dict[str, Any],
    numbers: Directory,
    plan: Plan,
    zeal: NDArray[np.float64],
    guilty: int,
) -> NDArray[np.int64]:
    """Benign calls that are marked: so many that each group of callers has its wanted share of all marks."""
    answered = np.flatnonzero((plan.outcome == ANSWERED) & (plan.campaign < 0))
    shares = {group: table[f"{group}_share"] for group in BENIGN}
    marks = guilty / max(1 - sum(shares.values()), 1e-9)
    found = []
    for group, share in shares.items():
        weight = np.array([table[group].get(name, 0.0) for name in numbers.slices])[numbers["slice"]]
        rows = answered[weight[plan.caller[answered]] > 0]
        cumulative = np.cumsum(weight[plan.caller[rows]] * zeal[plan.callee[rows]])
        wanted = round(marks * share) if len(rows) else 0
        drawn = np.searchsorted(cumulative, rng.random(wanted) * cumulative[-1:], side="right")
        found.append(np.unique(rows[drawn]))
    return np.concatenate(found)


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


def accusations(
    rng: np.random.Generator, table: dict[str, Any], society: Society, numbers: Directory, days: Calendar
) -> Reports:
    """Mass false marks: accomplices mark a number that they agreed on, within hours, and nobody was called."""
    told, code = table["malicious"], numbers.slice(table["malicious"]["slice"])
    innocent = np.flatnonzero((numbers["slice"] == code) & (numbers["died"] >= days.end))
    victims = rng.choice(innocent, min(told["victims"], len(innocent)), replace=False) if len(innocent) else innocent
    count = told["accomplices"]
    begin = days.start + (rng.random(len(victims)) * (days.end - days.start - DAY)).astype(np.int64)
    at = np.repeat(begin, count) + (rng.random(len(victims) * count) * told["hours"] * HOUR).astype(np.int64)
    reporter = rng.integers(0, society.subscribers, len(at))
    return _made_up(rng, table, numbers, reporter, np.repeat(victims, count), at, at + _delay(rng, table, len(at)))


def inherited(
    rng: np.random.Generator, table: dict[str, Any], society: Society, numbers: Directory, days: Calendar
) -> Reports:
    """Marks of before the world on numbers that have a new owner since."""
    members = society.members("recycled")
    number = np.repeat(members, rng.poisson(table["inherited"]["per_number"], len(members)))
    at = days.start - (DAY * rng.uniform(1.0, table["inherited"]["days"], len(number))).astype(np.int64)
    known = np.minimum(at + _delay(rng, table, len(number)), days.start - 1)
    return _made_up(rng, table, numbers, rng.integers(0, society.subscribers, len(at)), number, at, known)


def _made_up(
    rng: np.random.Generator,
    table: dict[str, Any],
    numbers: Directory,
    reporter: NDArray[np.int64],
    number: NDArray[np.int64],
    at: NDArray[np.int64],
    known: NDArray[np.int64],
) -> Reports:
    count = len(at)
    category = rng.choice(_contents(numbers), count).astype(object)
    mode = np.full(count, "human", dtype=object)
    mode[rng.random(count) < table["no_mode_share"]] = None
    return Reports(np.full(count, -1), reporter, number, at, known, category, mode, np.full(count, MARK))
