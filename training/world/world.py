"""A whole world: labelled calls with a known truth, from a scenario and a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from callsieve.features.files.progress import silent
from callsieve.training.world.basis.numbering import Directory
from callsieve.training.world.basis.plans import Plan, join
from callsieve.training.world.basis.scenario import Scenario
from callsieve.training.world.basis.timing import Calendar, calendar
from callsieve.training.world.callers.lines import settle
from callsieve.training.world.callers.lists import trade_lists
from callsieve.training.world.callers.outfits import Surroundings, population
from callsieve.training.world.callers.people import Society, settle_people
from callsieve.training.world.callers.relay import relay_numbers
from callsieve.training.world.callers.ties import ordinary_calls
from callsieve.training.world.callers.work import trade
from callsieve.training.world.tables.complaints import reports
from callsieve.training.world.tables.findings import findings
from callsieve.training.world.tables.records import parts, streams, written
from callsieve.training.world.tables.registers import registers

from .tables import arrow_tables

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress

Population = Callable[[int, int, Surroundings], Plan]


@dataclass(frozen=True)
class World:
    """Tables of a world; `calls` is what a system may see, and the registers; the others are apart from it.

    `facts` names where they come from: seed, size, scenario (SHA-256), start and end (Unix ms), offset (ms).

    >>> from pathlib import Path
    >>> from callsieve.training.world import read_world
    >>> world = read_world(Path("world"))  # of `callsieve simulate --size tiny --out world`
    >>> world.facts["size"], world.calls.num_rows == world.truth.num_rows
    ('tiny', True)
    """

    calls: pa.Table
    truth: pa.Table
    numbers: pa.Table
    complaints: pa.Table
    findings: pa.Table
    registers: dict[str, pa.Table]
    facts: dict[str, str]


@dataclass(frozen=True)
class Settled:
    """A world before its calls are written down, which happens part by part."""

    scenario: Scenario
    seed: int
    plan: Plan
    directory: Directory
    strings: pa.Array
    days: Calendar
    numbers: pa.Table
    complaints: pa.Table
    findings: pa.Table
    registers: dict[str, pa.Table]
    facts: dict[str, str]

    def parts(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Calls and their truth, in order of start."""
        drawn, words = streams(self.seed), arrow_tables.call_words(self.directory, self.strings)
        for rows in parts(self.plan):
            some = self.plan.take(rows)
            records = written(self.scenario, drawn, some, self.directory)
            calls = arrow_tables.calls_table(some, records, rows.start, self.directory, words, self.days)
            yield calls, arrow_tables.truth_table(some, records, rows.start, self.directory)


def _populations(scenario: Scenario) -> dict[str, Population]:
    """Every population beside ordinary people. Its draws come from a stream of its own name."""
    return {
        **{name: partial(_trade, name) for name in scenario.table("work")},
        **{name: partial(population, name) for name in scenario.table("outfits")},
    }


def _trade(name: str, seed: int, _ordinary: int, world: Surroundings) -> Plan:
    return trade(world.scenario, seed, name, world.society, world.days, world.numbers, world.relays)


def simulate(scenario: Scenario, seed: int, size: str, progress: Progress | None = None) -> World:
    """Simulate a world. The same scenario, seed and size give the same tables.

    `progress` is told what comes next, and the part that is done, 0 to 1.
    Raises `ValueError` if the scenario has no such size or its parameters contradict each other.

    >>> from callsieve.training.world import load_scenario
    >>> world = simulate(load_scenario(), 1, "tiny")
    >>> world.calls.num_rows == world.truth.num_rows > 10_000
    True
    """
    tell = progress or silent
    settled = settled_world(scenario, seed, size, lambda what, part: tell(what, 0.85 * part))
    tell("tables", 0.85)
    calls, truth = zip(*settled.parts(), strict=True)
    world = World(
        calls=pa.concat_tables(calls),
        truth=pa.concat_tables(truth),
        numbers=settled.numbers,
        complaints=settled.complaints,
        findings=settled.findings,
        registers=settled.registers,
        facts=settled.facts,
    )
    tell("done", 1.0)
    return world


def settled_world(scenario: Scenario, seed: int, size: str, progress: Progress | None = None) -> Settled:
    """The same world, its calls not yet tables: for worlds that are written part by part."""
    sizes = scenario.table("sizes")
    if size not in sizes:
        raise ValueError(f"size must be one of {', '.join(sizes)}, got {size!r}")
    tell = progress or silent
    tell("people", 0.0)
    days = calendar(scenario.table("calendar"), sizes[size]["days"])
    numbers = Directory()
    society = settle_people(scenario, seed, sizes[size]["subscribers"], days, numbers)
    planned = _planned(scenario, seed, society, numbers, days, tell)
    tell("lines", 0.7)
    plan = settle(scenario, seed, planned, numbers, days)
    tell("reports", 0.85)
    known = reports(scenario, seed, society, numbers, plan, days)
    found = findings(scenario, seed, numbers, plan, known, days)
    strings = numbers.strings()
    facts = {
        "seed": str(seed),
        "size": size,
        "scenario": scenario.fingerprint,
        "start": str(days.start),
        "end": str(days.end),
        "offset": str(days.offset),
    }
    return Settled(
        scenario, seed, plan, numbers, strings, days,
        numbers=arrow_tables.numbers_table(plan, numbers, strings, days),
        complaints=arrow_tables.reports_table(known, strings),
        findings=arrow_tables.findings_table(found, numbers, strings),
        registers=registers(scenario, seed, society, numbers, plan, strings, days),
        facts=facts,
    )  # fmt: skip


def _planned(
    scenario: Scenario, seed: int, society: Society, numbers: Directory, days: Calendar, progress: Progress
) -> Plan:
    """What everybody would do: ordinary people first, then each population."""
    plans = [ordinary_calls(scenario, seed, society, days, numbers)]
    relays = relay_numbers(scenario, seed, society.subscribers, numbers)
    around = Surroundings(scenario, society, days, numbers, trade_lists(scenario, seed, society), relays)
    populations, ordinary = _populations(scenario), len(plans[0])
    for place, (name, calls_of) in enumerate(populations.items()):
        progress(name, 0.45 + 0.25 * place / len(populations))
        plans.append(calls_of(seed, ordinary, around))
    return join(plans)
