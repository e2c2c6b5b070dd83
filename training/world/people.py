"""Ordinary people: who lives here, whom they know, and the calls between them.

People stand in one row. Neighbours in the row know each other (households inside communities), so that a group
is a range of positions and a tie is drawn without a search; workmates are neighbours in a shuffled row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...features.records import ROUTES
from .draws import choose, lognormal, stream
from .numbering import (
    NEVER,
    OPERATORS,
    Directory,
    attestations,
    in_blocks,
    lead,
    mobile_blocks,
    operators,
    scattered,
)
from .plans import NO_ANSWER, Plan, attempt, callbacks, join
from .scenario import Manner, Scenario, Spread, Talk
from .timing import DAY, HOUR, MINUTE, Calendar, Clock, clock

EDGES_AT_ONCE = 400_000
MORE_TIES = 0.6  # power of a person's activity by which the number of ties grows; tuned to the quartiles of peers
PAIR_BALANCE = 1.8  # how unevenly the two of a pair call each other, beside their habits (logit)


@dataclass(frozen=True)
class Tie:
    """One layer of the social graph; see `people.ties` in `default.toml`."""

    group: str
    size: int
    ties: float
    per_day: Spread
    clock: str
    talk: float


@dataclass(frozen=True)
class Kind:
    """A kind of subscriber; see `people.kinds` in `default.toml`."""

    share: float
    least: int
    activity: float
    shift_h: float


@dataclass(frozen=True)
class Society:
    """The subscribers, ids 0..`subscribers`-1, and the outsiders whom they know, ids after them."""

    subscribers: int
    outsiders: int
    kind: NDArray[np.int8]  # position in `kinds`, -1: ordinary
    kinds: tuple[str, ...]
    activity: NDArray[np.float64]
    reach: NDArray[np.float64]  # factor on the chance that this person picks up
    exposure: NDArray[np.float64]  # weight on dialling lists
    outward: NDArray[np.float64]  # habit of calling rather than being called (logit)
    shift: NDArray[np.int64]  # of this person's clock, ms
    blocks: NDArray[np.int64]  # seven-digit blocks in which subscribers have numbers

    def members(self, kind: str) -> NDArray[np.int64]:
        """The ids of subscribers of a kind."""
        return np.flatnonzero(self.kind == self.kinds.index(kind))

    def pick_up(self, callees: NDArray[Any]) -> NDArray[np.float64]:
        """Each callee's factor on the chance of an answer; 1 for numbers that are not people."""
        people = callees < len(self.reach)
        return np.where(people, self.reach[np.where(people, callees, 0)], 1.0)


def settle_people(scenario: Scenario, seed: int, count: int, days: Calendar, numbers: Directory) -> Society:
    """Enter the subscribers and the outsiders into the directory."""
    rng = stream(seed, "people")
    table = scenario.table("people")
    kinds = {name: scenario.read(Kind, f"people.kinds.{name}") for name in table["kinds"]}
    outsiders = int(count * table["outsiders_per_subscriber"])
    everybody = count + outsiders
    kind = _kinds(rng, kinds, count)
    activity = np.exp(table["sociability_sigma"] * rng.standard_normal(everybody))
    activity = np.minimum(activity, table["most_activity"])
    shift = table["chronotype_h"] * rng.standard_normal(everybody)
    for code, each in enumerate(kinds.values()):
        activity[:count][kind == code] *= each.activity
        shift[:count][kind == code] += each.shift_h
    blocks = _subscribers(scenario, rng, days, numbers, kind, tuple(kinds))
    _outsiders(scenario, rng, numbers, outsiders)
    return Society(
        subscribers=count,
        outsiders=outsiders,
        kind=kind,
        kinds=tuple(kinds),
        activity=activity,
        reach=np.clip(np.exp(table["reach_sigma"] * rng.standard_normal(everybody)), 0.2, 1.8),
        exposure=np.exp(table["exposure_sigma"] * rng.standard_normal(count)),
        outward=table["outward_sigma"] * rng.standard_normal(everybody),
        shift=(shift * HOUR).astype(np.int64),
        blocks=blocks,
    )


def _kinds(rng: np.random.Generator, kinds: dict[str, Kind], count: int) -> NDArray[np.int8]:
    """Shares of one shuffled row, so that a kind put last changes nobody but its own members."""
    row = rng.permutation(count)
    kind = np.full(count, -1, dtype=np.int8)
    first = 0
    for code, each in enumerate(kinds.values()):
        members = max(each.least, round(each.share * count))
        kind[row[first : first + members]] = code
        first += members
    if first > count:
        raise ValueError(f"people.kinds need {first} subscribers, the size has {count}")
    return kind


def _subscribers(
    scenario: Scenario,
    rng: np.random.Generator,
    days: Calendar,
    numbers: Directory,
    kind: NDArray[np.int8],
    kinds: tuple[str, ...],
) -> NDArray[np.int64]:
    table, count = scenario.table("numbering"), len(kind)
    blocks = mobile_blocks(rng, max(8, count // table["subscribers_per_block"]))
    born, died = _lives(rng, scenario, days, kind == kinds.index("new_number"))
    digits, leads, operator = _personal(rng, scenario, "subscriber_pool", count, blocks)
    codes = np.array([numbers.slice(name) for name in ("ordinary", *kinds)])
    cells = numbers.new("cell", max(4, count // table["cell_people"]))
    numbers.add(
        digits,
        lead=leads,
        slice=codes[kind + 1],
        ours=True,
        born=born,
        died=died,
        operator=operator,
        device=numbers.new("device", count),
        home=cells[np.arange(count) * len(cells) // count],
        work=cells[rng.integers(0, len(cells), count)],
        attestation=attestations(rng, table["attestation"]["own_network"], count),
    )
    return blocks


def _lives(
    rng: np.random.Generator, scenario: Scenario, days: Calendar, new: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    length = days.end - days.start
    born = np.where(new, days.start + (rng.uniform(0.05, 0.9, len(new)) * length).astype(np.int64), 0)
    leaves = (rng.random(len(new)) < scenario.table("people")["leave_share"]) & ~new
    died = np.where(leaves, days.start + (rng.uniform(0.1, 1.0, len(new)) * length).astype(np.int64), NEVER)
    return born, died


def _outsiders(scenario: Scenario, rng: np.random.Generator, numbers: Directory, count: int) -> None:
    table = scenario.table("numbering")
    blocks = mobile_blocks(rng, max(8, count // table["outsiders_per_block"]))
    digits, leads, operator = _personal(rng, scenario, "outsider_pool", count, blocks)
    foreign = leads == lead("foreign")
    attested = np.where(
        foreign,
        attestations(rng, table["attestation"]["foreign"], count),
        attestations(rng, table["attestation"]["other_network"], count),
    )
    route = np.where(foreign, ROUTES.index("international"), ROUTES.index("domestic"))
    # A shop's or an office's fixed number has several lines.
    lines = np.where(leads == lead("fixed"), 6, 1)
    numbers.add(
        digits,
        lead=leads,
        slice=numbers.slice("elsewhere"),
        lines=lines,
        operator=operator,
        attestation=attested,
        route=route,
    )


def _personal(
    rng: np.random.Generator, scenario: Scenario, pool: str, count: int, blocks: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.int8]]:
    """Digits, way of writing and operator of people's numbers."""
    table = scenario.table("numbering")
    names = list(table[pool])
    kind = choose(rng, table[pool], count)
    digits = in_blocks(rng, blocks, count)
    leads = np.zeros(count, dtype=np.int8)
    for code, name in enumerate(names):
        rows = np.flatnonzero(kind == code)
        leads[rows] = lead(name)
        if name == "resale":
            resale = mobile_blocks(rng, max(4, len(rows) // 8), "resale")
            digits[rows] = in_blocks(rng, resale, len(rows))
        elif name != "mobile":
            digits[rows] = scattered(rng, name, len(rows), table["area_code"])
    operator = operators(digits)
    operator[leads == lead("foreign")] = OPERATORS.index("foreign")
    return digits, leads, operator


def ordinary_calls(scenario: Scenario, seed: int, society: Society, days: Calendar, numbers: Directory) -> Plan:
    """All calls between people who know each other, follow-ups and returned calls included."""
    rng = stream(seed, "ties")
    table = scenario.table("people")
    manner = scenario.read(Manner, "people.manner")
    back = replace(manner, answer_share=table["callback_answer_share"])
    share, delay = table["callback_share"], Spread(**table["callback_minutes"])
    plans = []
    for name in table["ties"]:
        tie = scenario.read(Tie, f"people.ties.{name}")
        spoken = replace(manner, talk=_longer(manner.talk, tie.talk))
        for edges in _edges(rng, tie, society):
            start, caller, callee = _moments(rng, scenario, tie, edges, society, days, numbers)
            start, caller, callee = _followed(rng, scenario, start, caller, callee)
            plan = attempt(rng, start, caller, callee, spoken, answer=society.pick_up(callee))
            plans += [plan, callbacks(rng, plan, days, replace(back, talk=spoken.talk), share, delay)]
    return join(plans)


def _longer(talk: Talk, factor: float) -> Talk:
    return replace(talk, median=talk.median * factor)


def _edges(
    rng: np.random.Generator, tie: Tie, society: Society
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of a layer, a part of the people at a time so that memory stays bounded."""
    count = society.subscribers
    rows = max(1, int(EDGES_AT_ONCE / max(tie.ties, 0.1)))
    # Workmates: neighbours in a row shuffled once for the layer.
    row = rng.permutation(count) if tie.group == "mixed" else np.arange(count)
    for first in range(0, count, rows):
        people = np.arange(first, min(first + rows, count))
        wish = tie.ties * society.activity[row[people]] ** MORE_TIES
        one = np.repeat(people, rng.poisson(wish))
        other = _partners(rng, tie, one, society)
        if tie.group == "outside":
            yield one, other
            continue
        # Whoever knows few people is known by few.
        known = rng.random(len(other)) < society.activity[row[other]] ** MORE_TIES
        one, other = one[known], other[known]
        low, high = np.minimum(one, other), np.maximum(one, other)
        pairs = np.unique((low * count + high)[low != high])
        yield row[pairs // count], row[pairs % count]


def _partners(rng: np.random.Generator, tie: Tie, one: NDArray[np.int64], society: Society) -> NDArray[np.int64]:
    if tie.group == "outside":
        return society.subscribers + rng.integers(0, society.outsiders, len(one))
    if tie.group == "anyone":
        return rng.integers(0, society.subscribers, len(one))
    if tie.group not in {"near", "mixed"}:
        raise ValueError(f"people.ties: group must be near, mixed, anyone or outside, got {tie.group!r}")
    first = one // tie.size * tie.size
    size = np.minimum(tie.size, society.subscribers - first)
    return first + (rng.random(len(one)) * size).astype(np.int64)


def _moments(
    rng: np.random.Generator,
    scenario: Scenario,
    tie: Tie,
    edges: tuple[NDArray[np.int64], NDArray[np.int64]],
    society: Society,
    days: Calendar,
    numbers: Directory,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Start, caller and callee of each pair's first calls."""
    one, other = edges
    low = np.maximum(np.maximum(numbers["born"][one], numbers["born"][other]), days.start)
    high = np.minimum(np.minimum(numbers["died"][one], numbers["died"][other]), days.end)
    # An outsider's own activity is spent on people whom this network does not see.
    partner = np.where(other < society.subscribers, society.activity[other], society.activity[one])
    rate = lognormal(rng, tie.per_day, len(one)) * np.sqrt(society.activity[one] * partner)
    calls = rng.poisson(np.minimum(rate, 12.0) * np.maximum(high - low, 0) / DAY)
    pair = np.repeat(np.arange(len(one)), calls)
    habit = society.outward[one] - society.outward[other] + PAIR_BALANCE * rng.standard_normal(len(one))
    outward = (1 / (1 + np.exp(-habit)))[pair] > rng.random(len(pair))
    caller = np.where(outward, one[pair], other[pair])
    callee = np.where(outward, other[pair], one[pair])
    ticking: Clock = clock(days, scenario.table(f"clocks.{tie.clock}"))
    drawn = ticking.draw(rng, low[pair], high[pair]) + society.shift[one[pair]]
    return np.clip(drawn, low[pair], high[pair] - 1), caller, callee


def _followed(
    rng: np.random.Generator,
    scenario: Scenario,
    start: NDArray[np.int64],
    caller: NDArray[np.int64],
    callee: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The calls, and those that they bring about: a geometric number, in either direction."""
    table = scenario.table("people")
    delay = Spread(**table["follow_up_minutes"])
    parts = [(start, caller, callee)]
    while len(start) > 0 and len(parts) < 6:
        rows = np.flatnonzero(rng.random(len(start)) < table["follow_up_share"])
        turned = rng.random(len(rows)) < table["follow_up_turned_share"]
        later = start[rows] + (2 * MINUTE + MINUTE * lognormal(rng, delay, len(rows))).astype(np.int64)
        one, other = caller[rows], callee[rows]
        start, caller, callee = later, np.where(turned, other, one), np.where(turned, one, other)
        parts.append((start, caller, callee))
    return (
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]),
        np.concatenate([part[2] for part in parts]),
    )


def returned_to_strangers(
    scenario: Scenario,
    rng: np.random.Generator,
    society: Society,
    plan: Plan,
    days: Calendar,
    share: float,
    answer: float,
) -> Plan:
    """Missed calls of strangers that subscribers return, with a chance of `share`.

    `answer` is the chance that the stranger picks up.
    """
    manner = replace(scenario.read(Manner, "people.manner"), answer_share=answer)
    ours = plan.take((plan.callee < society.subscribers) & (plan.outcome == NO_ANSWER))
    delay = Spread(**scenario.table("people")["callback_minutes"])
    return callbacks(rng, ours, days, manner, share, delay)
