"""Complaints about simulated calls: late and partly wrong, with false accusations and marks of a previous owner.

There are two channels. A complaint to an office is rare; a mark is a tap on the screen after a call.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from callsieve.features.arrays import Bools, Floats, Int64s, Objects
from callsieve.training.world.basis.draws import lognormal, stream
from callsieve.training.world.basis.numbering import Directory
from callsieve.training.world.basis.plans import ANSWERED, NO_ANSWER, Plan
from callsieve.training.world.basis.scenario import Scenario, Spread
from callsieve.training.world.basis.timing import DAY, HOUR, MINUTE, Calendar
from callsieve.training.world.callers.people import Society

from .records import row_slices

NOT_NUISANCE = "not_nuisance"
CHANNELS = ("complaint", "mark")
COMPLAINT, MARK = range(len(CHANNELS))
BENIGN = ("life_services", "other_benign")
"""Groups of callers that are marked by mistake."""


@dataclass(frozen=True)
class Complaints:
    """Complaints of both channels, one array a column, in order of arrival.

    `call` is a row of the resolved plan, or -1 for a complaint without a call; `channel` is an index into CHANNELS.
    """

    call: Int64s
    reporter: Int64s
    number: Int64s
    at: Int64s
    known_at: Int64s
    category: Objects
    mode: Objects  # None if the complaint states no mode
    channel: Int64s


def draw_complaints(
    scenario: Scenario, seed: int, society: Society, numbers: Directory, plan: Plan, days: Calendar
) -> Complaints:
    """Draws all complaints about the numbers of a plan."""
    rng = stream(seed, "reports")
    table = scenario.table("complaints")
    people = np.arange(len(numbers)) < society.subscribers
    zeal = complaint_zeal(rng, table, people, np.isin(np.arange(len(numbers)), society.members("elderly")))
    office = complained_calls(rng, table["office"], zeal, plan)
    marks = complained_calls(rng, table["marks"], zeal, plan)
    benign = _benign_marks(rng, table, numbers, plan, zeal, len(marks))
    about_calls = _about_calls(rng, table, numbers, plan, office, marks, benign)
    false = false_accusations(stream(seed, "accusations"), table, society, numbers, days)
    old = inherited_marks(stream(seed, "inherited"), table, society, numbers, days)
    joined = _joined([about_calls, false, old])
    order = np.lexsort((joined.call, joined.known_at))
    return Complaints(*(getattr(joined, column.name)[order] for column in fields(Complaints)))


def _joined(parts: list[Complaints]) -> Complaints:
    columns = (np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(Complaints))
    return Complaints(*columns)


def _about_calls(
    rng: np.random.Generator,
    table: dict[str, Any],
    numbers: Directory,
    plan: Plan,
    office: Int64s,
    marks: Int64s,
    benign: Int64s,
) -> Complaints:
    """Draws the complaints about calls: nuisance calls on both channels, and benign calls marked by mistake."""
    nuisance = np.concatenate((office, marks))
    call = np.concatenate((nuisance, benign))
    content = _stated_content(rng, table, numbers, plan, nuisance)
    category = np.concatenate((content, _benign_category(rng, table, numbers, plan, benign)))
    stated = _stated_mode(rng, table, numbers, plan, nuisance)
    mode = np.concatenate((stated, np.full(len(benign), None, dtype=object)))
    channel = np.repeat((COMPLAINT, MARK), (len(office), len(marks) + len(benign)))
    denied = (rng.random(len(call)) < table["not_nuisance_share"]) & (channel == MARK)
    category[denied], mode[denied] = NOT_NUISANCE, None
    after = MINUTE * lognormal(rng, Spread(**table["after_minutes"]), len(call))
    at = plan.end[call] + after.astype(np.int64)
    caller, callee = plan.caller[call].astype(np.int64), plan.callee[call].astype(np.int64)
    return Complaints(call, callee, caller, at, at + _delay(rng, table, len(call)), category, mode, channel)


def _delay(rng: np.random.Generator, table: dict[str, Any], count: int) -> Int64s:
    delay = HOUR * lognormal(rng, Spread(**table["arrival_hours"]), count)
    clipped: Int64s = np.clip(delay, MINUTE, 60 * DAY).astype(np.int64)
    return clipped


def complaint_zeal(rng: np.random.Generator, table: dict[str, Any], people: Bools, elderly: Bools) -> Floats:
    """Draws each number's factor on the chance that its owner complains; 0 for numbers of other networks."""
    zeal = np.where(people, np.exp(table["zeal_sigma"] * rng.standard_normal(len(people))), 0.0)
    zeal[elderly] *= table["elderly_factor"]
    return zeal


def complained_calls(rng: np.random.Generator, table: dict[str, Any], zeal: Floats, plan: Plan) -> Int64s:
    """Draws the nuisance calls with a complaint, by outcome, the callee's zeal and the caller's notoriety."""
    notoriety = np.where(rng.random(len(zeal)) < table["notorious_share"], table["notorious_factor"], 1.0)
    notoriety[rng.random(len(zeal)) < table["never_share"]] = 0.0
    calls = []
    for rows in row_slices(plan):
        part = plan.take(rows)
        nuisance = np.flatnonzero(part.campaign >= 0)
        outcome, caller, callee = (column[nuisance] for column in (part.outcome, part.caller, part.callee))
        chance = np.where(outcome == ANSWERED, table["answered_share"], 0.0)
        chance[outcome == NO_ANSWER] = table["missed_share"]
        complained = rng.random(len(nuisance)) < chance * zeal[callee] * notoriety[caller]
        calls.append(rows.start + nuisance[complained])
    return np.concatenate(calls)


def _benign_marks(
    rng: np.random.Generator,
    table: dict[str, Any],
    numbers: Directory,
    plan: Plan,
    zeal: Floats,
    nuisance_marks: int,
) -> Int64s:
    """Draws benign calls that are marked, so that each group of callers gets its share of all marks."""
    answered = np.flatnonzero((plan.outcome == ANSWERED) & (plan.campaign < 0))
    shares = {group: table[f"{group}_share"] for group in BENIGN}
    marks = nuisance_marks / max(1 - sum(shares.values()), 1e-9)
    calls = []
    for group, share in shares.items():
        weight = np.array([table[group].get(name, 0.0) for name in numbers.slices])[numbers["slice"]]
        rows = answered[weight[plan.caller[answered]] > 0]
        cumulative = np.cumsum(weight[plan.caller[rows]] * zeal[plan.callee[rows]])
        wanted = round(marks * share) if len(rows) else 0
        drawn = np.searchsorted(cumulative, rng.random(wanted) * cumulative[-1:], side="right")
        calls.append(np.unique(rows[drawn]))
    return np.concatenate(calls)


def _stated_content(
    rng: np.random.Generator, table: dict[str, Any], numbers: Directory, plan: Plan, calls: Int64s
) -> Objects:
    """Draws the content that complaints about nuisance calls state; a share of them states a wrong content."""
    contents = _contents(numbers)
    true = np.array([item.content for item in numbers.campaigns] or [""], dtype=object)[plan.campaign[calls]]
    wrong = rng.random(len(calls)) < table["wrong_content_share"]
    return np.where(wrong, rng.choice(contents, len(calls)), true).astype(object)


def _stated_mode(
    rng: np.random.Generator, table: dict[str, Any], numbers: Directory, plan: Plan, calls: Int64s
) -> Objects:
    """Draws the mode that each complaint states (a person or a recording, as 12321 asks), or None."""
    modes = np.array([item.mode for item in numbers.campaigns] or [""], dtype=object)
    true = modes[plan.campaign[calls]]
    wrong = rng.random(len(calls)) < table["wrong_mode_share"]
    stated = np.where(wrong, rng.choice(modes, len(calls)), true).astype(object)
    stated[rng.random(len(calls)) < table["no_mode_share"]] = None
    return stated


def _benign_category(
    rng: np.random.Generator, table: dict[str, Any], numbers: Directory, plan: Plan, calls: Int64s
) -> Objects:
    """Draws the category of marks on benign calls: the caller's trade, or a nuisance content."""
    trade = np.array(numbers.slices, dtype=object)[numbers["slice"][plan.caller[calls]]]
    correct = rng.random(len(calls)) < table["own_name_share"]
    return np.where(correct, trade, rng.choice(_contents(numbers), len(calls))).astype(object)


def _contents(numbers: Directory) -> Objects:
    return np.array(sorted({item.content for item in numbers.campaigns}) or ["fraud"], dtype=object)


def false_accusations(
    rng: np.random.Generator, table: dict[str, Any], society: Society, numbers: Directory, days: Calendar
) -> Complaints:
    """Draws mass false marks: accomplices mark an agreed number within hours, without any call."""
    attack, code = table["malicious"], numbers.slice(table["malicious"]["slice"])
    innocent = np.flatnonzero((numbers["slice"] == code) & (numbers["died"] >= days.end))
    victims = rng.choice(innocent, min(attack["victims"], len(innocent)), replace=False) if len(innocent) else innocent
    count = attack["accomplices"]
    begin = days.start + (rng.random(len(victims)) * (days.end - days.start - DAY)).astype(np.int64)
    at = np.repeat(begin, count) + (rng.random(len(victims) * count) * attack["hours"] * HOUR).astype(np.int64)
    reporter = rng.integers(0, society.subscribers, len(at))
    known_at = at + _delay(rng, table, len(at))
    return _marks_without_calls(rng, table, numbers, reporter, np.repeat(victims, count), at, known_at)


def inherited_marks(
    rng: np.random.Generator, table: dict[str, Any], society: Society, numbers: Directory, days: Calendar
) -> Complaints:
    """Draws marks from before the simulated period on numbers that have a new owner since."""
    members = society.members("recycled")
    number = np.repeat(members, rng.poisson(table["inherited"]["per_number"], len(members)))
    at = days.start - (DAY * rng.uniform(1.0, table["inherited"]["days"], len(number))).astype(np.int64)
    known_at = np.minimum(at + _delay(rng, table, len(number)), days.start - 1)
    reporter = rng.integers(0, society.subscribers, len(at))
    return _marks_without_calls(rng, table, numbers, reporter, number, at, known_at)


def _marks_without_calls(
    rng: np.random.Generator,
    table: dict[str, Any],
    numbers: Directory,
    reporter: Int64s,
    number: Int64s,
    at: Int64s,
    known_at: Int64s,
) -> Complaints:
    count = len(at)
    category = rng.choice(_contents(numbers), count).astype(object)
    mode = np.full(count, "human", dtype=object)
    mode[rng.random(count) < table["no_mode_share"]] = None
    return Complaints(np.full(count, -1), reporter, number, at, known_at, category, mode, np.full(count, MARK))
