"""Complaints about simulated calls, and findings: numbers whose class (nuisance or not) a check establishes.

Complaints are late and partly wrong, with false accusations and marks of a previous owner. There are two channels. A
complaint to an office is rare; a mark is a tap on the screen after a call.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from callsieve.features.arrays import Bools, Floats, Int32s, Int64s, Objects
from callsieve.training.world.basis.draws import lognormal
from callsieve.training.world.basis.numbering import Directory
from callsieve.training.world.basis.plans import ANSWERED, NO_ANSWER, Plan
from callsieve.training.world.basis.scenario import Spread, Table
from callsieve.training.world.basis.timing import DAY, HOUR, MINUTE, Calendar
from callsieve.training.world.callers.sim import Sim

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


@dataclass(frozen=True)
class Findings:
    """Checked numbers (ids) and the time at which each result is known, in order of time."""

    number: Int64s
    known_at: Int64s


def draw_complaints(sim: Sim, plan: Plan) -> Complaints:
    """Draws all complaints about the numbers of a plan."""
    rng, table, numbers, society = sim.stream("reports"), sim.table("complaints"), sim.numbers, sim.society
    people = np.arange(len(numbers)) < society.subscribers
    zeal = complaint_zeal(rng, table, people, np.isin(np.arange(len(numbers)), society.members("elderly")))
    office = complained_calls(rng, table["office"], zeal, plan)
    marks = complained_calls(rng, table["marks"], zeal, plan)
    benign = _benign_marks(rng, sim, plan, zeal, len(marks))
    parts = [
        _about_calls(rng, sim, plan, np.concatenate((office, marks)), benign, len(office)),
        _false_accusations(sim.stream("accusations"), sim),
        _inherited_marks(sim.stream("inherited"), sim),
    ]
    columns = {
        column.name: np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(Complaints)
    }
    order = np.lexsort((columns["call"], columns["known_at"]))
    return Complaints(**{name: values[order] for name, values in columns.items()})


def _about_calls(
    rng: np.random.Generator, sim: Sim, plan: Plan, nuisance: Int64s, benign: Int64s, to_office: int
) -> Complaints:
    """Draws the complaints about calls: nuisance calls on both channels, and benign calls marked by mistake."""
    table, call = sim.table("complaints"), np.concatenate((nuisance, benign))
    content = _stated_content(rng, table, sim.numbers, plan.campaign[nuisance])
    category = np.concatenate((content, _benign_category(rng, table, sim.numbers, plan.caller[benign])))
    stated = _stated_mode(rng, table, sim.numbers, plan.campaign[nuisance])
    mode = np.concatenate((stated, np.full(len(benign), None, dtype=object)))
    channel = np.repeat((COMPLAINT, MARK), (to_office, len(call) - to_office))
    denied = (rng.random(len(call)) < table["not_nuisance_share"]) & (channel == MARK)
    category[denied], mode[denied] = NOT_NUISANCE, None
    after = MINUTE * lognormal(rng, Spread(**table["after_minutes"]), len(call))
    at = plan.end[call] + after.astype(np.int64)
    caller, callee = plan.caller[call].astype(np.int64), plan.callee[call].astype(np.int64)
    return Complaints(call, callee, caller, at, at + _delay(rng, table, len(call)), category, mode, channel)


def _delay(rng: np.random.Generator, table: Table, count: int) -> Int64s:
    delay = HOUR * lognormal(rng, Spread(**table["arrival_hours"]), count)
    clipped: Int64s = np.clip(delay, MINUTE, 60 * DAY).astype(np.int64)
    return clipped


def complaint_zeal(rng: np.random.Generator, table: Table, people: Bools, elderly: Bools) -> Floats:
    """Draws each number's factor on the chance that its owner complains; 0 for numbers of other networks."""
    zeal = np.where(people, np.exp(table["zeal_sigma"] * rng.standard_normal(len(people))), 0.0)
    zeal[elderly] *= table["elderly_factor"]
    return zeal


def complained_calls(rng: np.random.Generator, table: Table, zeal: Floats, plan: Plan) -> Int64s:
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


def _benign_marks(rng: np.random.Generator, sim: Sim, plan: Plan, zeal: Floats, nuisance_marks: int) -> Int64s:
    """Draws benign calls that are marked, so that each group of callers gets its share of all marks."""
    table, numbers = sim.table("complaints"), sim.numbers
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


def _stated_content(rng: np.random.Generator, table: Table, numbers: Directory, campaign: Int32s) -> Objects:
    true = np.array([item.content for item in numbers.campaigns] or [""], dtype=object)[campaign]
    wrong = rng.random(len(campaign)) < table["wrong_content_share"]
    return np.where(wrong, rng.choice(_contents(numbers), len(campaign)), true).astype(object)


def _stated_mode(rng: np.random.Generator, table: Table, numbers: Directory, campaign: Int32s) -> Objects:
    modes = np.array([item.mode for item in numbers.campaigns] or [""], dtype=object)
    wrong = rng.random(len(campaign)) < table["wrong_mode_share"]
    stated = np.where(wrong, rng.choice(modes, len(campaign)), modes[campaign]).astype(object)
    stated[rng.random(len(campaign)) < table["no_mode_share"]] = None
    return stated


def _benign_category(rng: np.random.Generator, table: Table, numbers: Directory, caller: Int32s) -> Objects:
    trade = np.array(numbers.slices, dtype=object)[numbers["slice"][caller]]
    correct = rng.random(len(caller)) < table["own_name_share"]
    return np.where(correct, trade, rng.choice(_contents(numbers), len(caller))).astype(object)


def _contents(numbers: Directory) -> Objects:
    return np.array(sorted({item.content for item in numbers.campaigns}) or ["fraud"], dtype=object)


def _false_accusations(rng: np.random.Generator, sim: Sim) -> Complaints:
    table, numbers, days = sim.table("complaints"), sim.numbers, sim.days
    attack, code = table["malicious"], numbers.slice(table["malicious"]["slice"])
    innocent = np.flatnonzero((numbers["slice"] == code) & (numbers["died"] >= days.end))
    victims = rng.choice(innocent, min(attack["victims"], len(innocent)), replace=False) if len(innocent) else innocent
    count = attack["accomplices"]
    begin = days.start + (rng.random(len(victims)) * (days.end - days.start - DAY)).astype(np.int64)
    at = np.repeat(begin, count) + (rng.random(len(victims) * count) * attack["hours"] * HOUR).astype(np.int64)
    reporter = rng.integers(0, sim.society.subscribers, len(at))
    known_at = at + _delay(rng, table, len(at))
    return _marks_without_calls(rng, sim, reporter, np.repeat(victims, count), at, known_at)


def _inherited_marks(rng: np.random.Generator, sim: Sim) -> Complaints:
    table, start, members = sim.table("complaints"), sim.days.start, sim.society.members("recycled")
    number = np.repeat(members, rng.poisson(table["inherited"]["per_number"], len(members)))
    at = start - (DAY * rng.uniform(1.0, table["inherited"]["days"], len(number))).astype(np.int64)
    known_at = np.minimum(at + _delay(rng, table, len(number)), start - 1)
    reporter = rng.integers(0, sim.society.subscribers, len(at))
    return _marks_without_calls(rng, sim, reporter, number, at, known_at)


def _marks_without_calls(
    rng: np.random.Generator, sim: Sim, reporter: Int64s, number: Int64s, at: Int64s, known_at: Int64s
) -> Complaints:
    count = len(at)
    category = rng.choice(_contents(sim.numbers), count).astype(object)
    mode = np.full(count, "human", dtype=object)
    mode[rng.random(count) < sim.table("complaints")["no_mode_share"]] = None
    return Complaints(np.full(count, -1), reporter, number, at, known_at, category, mode, np.full(count, MARK))


def draw_findings(sim: Sim, plan: Plan, complaints: Complaints) -> Findings:
    """Draws the checked numbers: a random sample of all callers, some with complaints, and some busy ones."""
    rng, table, numbers, days = sim.stream("findings"), sim.table("findings"), sim.numbers, sim.days
    calling = np.bincount(plan.caller, minlength=len(numbers)) > 0
    luck = rng.random(len(numbers))
    born = np.maximum(numbers["born"], days.start)
    length = np.minimum(numbers["died"], days.end) - born
    requested = born + (rng.random(len(numbers)) * np.maximum(length, 0)).astype(np.int64)
    # A check from before the simulated period concerned the number's previous owner.
    recent = np.flatnonzero(complaints.known_at >= days.start)
    complained, first = np.unique(complaints.number[recent], return_index=True)
    checked = rng.random(len(complained)) < table["reported_share"]
    requested[complained[checked]] = complaints.known_at[recent[first[checked]]]
    chosen = calling & (luck < table["audit_share"])
    chosen[complained[checked]] = True
    for busy, since in _busy(plan, days, table["busy_calls"]).items():
        if luck[busy] < table["busy_share"] and not chosen[busy]:
            requested[busy] = since
            chosen[busy] = True
    number = np.flatnonzero(chosen)
    delay = DAY * lognormal(rng, Spread(**table["delay_days"]), len(number))
    known_at = requested[number] + delay.astype(np.int64)
    order = np.lexsort((number, known_at))
    return Findings(number[order], known_at[order])


def _busy(plan: Plan, days: Calendar, least: int) -> dict[int, int]:
    many = np.bincount(plan.caller) >= least
    rows = np.flatnonzero(many[plan.caller])
    day = (plan.start[rows] - days.start) // DAY
    keys, counts = np.unique(plan.caller[rows] * np.int64(1 << 16) + day, return_counts=True)
    busy = keys[counts >= least]
    callers, first = np.unique(busy >> 16, return_index=True)
    ends = days.start + ((busy[first] & 0xFFFF) + 1) * DAY
    return dict(zip(callers.tolist(), ends.tolist(), strict=True))
