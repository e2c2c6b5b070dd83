"""Simulates a world: labelled calls with a known truth, from a scenario and a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from callsieve.features.files.progress import Progress, silent
from callsieve.training.world.basis.numbering import Directory
from callsieve.training.world.basis.plans import Plan, join
from callsieve.training.world.basis.scenario import Scenario
from callsieve.training.world.basis.timing import Calendar, calendar
from callsieve.training.world.callers.dialling_lists import trade_lists
from callsieve.training.world.callers.lines import resolve_lines
from callsieve.training.world.callers.outfit import WorldContext
from callsieve.training.world.callers.outfits import outfit_calls
from callsieve.training.world.callers.people import Society, create_society
from callsieve.training.world.callers.relay import relay_numbers
from callsieve.training.world.callers.ties import ordinary_calls
from callsieve.training.world.callers.work import trade_calls
from callsieve.training.world.tables.findings import draw_findings
from callsieve.training.world.tables.records import draw_records, record_streams, row_slices
from callsieve.training.world.tables.registers import draw_registers
from callsieve.training.world.tables.world_complaints import draw_complaints

from .tables import arrow_tables

Population = Callable[[int, int, WorldContext], Plan]
"""Calls of a population, for a seed, the number of ordinary calls and the world."""


@dataclass(frozen=True)
class World:
    """Tables of a world. A system sees `calls` and `registers`; the other tables are the truth about them.

    `facts` names their origin: seed, size, scenario (SHA-256), start and end (Unix ms), offset of local time (ms).

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
class PlannedWorld:
    """A world whose calls are not records yet; `parts` makes the records part by part."""

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
        """Yields tables of calls with tables of their truth, in order of start."""
        rngs, words = record_streams(self.seed), arrow_tables.call_words(self.directory, self.strings)
        for rows in row_slices(self.plan):
            part = self.plan.take(rows)
            records = draw_records(self.scenario, rngs, part, self.directory)
            calls = arrow_tables.calls_table(part, records, rows.start, self.directory, words, self.days)
            yield calls, arrow_tables.truth_table(part, records, rows.start, self.directory)


def _populations(scenario: Scenario) -> dict[str, Population]:
    """Returns every population except ordinary people. Each draws from a random stream of its own name."""
    return {
        **{name: partial(_trade, name) for name in scenario.table("work")},
        **{name: partial(outfit_calls, name) for name in scenario.table("outfits")},
    }


def _trade(name: str, seed: int, _ordinary: int, world: WorldContext) -> Plan:
    return trade_calls(world.scenario, seed, name, world.society, world.days, world.numbers, world.relays)


def simulate(scenario: Scenario, seed: int, size: str, progress: Progress | None = None) -> World:
    """Simulates a world. The same scenario, seed and size give the same tables.

    Raises: ValueError: if the scenario has no such size, or its parameters contradict each other.

    >>> from callsieve.training.world import load_scenario
    >>> world = simulate(load_scenario(), 1, "tiny")
    >>> world.calls.num_rows == world.truth.num_rows > 10_000
    True
    """
    progress = progress or silent
    planned = plan_world(scenario, seed, size, lambda what, part: progress(what, 0.85 * part))
    progress("tables", 0.85)
    calls, truth = zip(*planned.parts(), strict=True)
    world = World(
        calls=pa.concat_tables(calls),
        truth=pa.concat_tables(truth),
        numbers=planned.numbers,
        complaints=planned.complaints,
        findings=planned.findings,
        registers=planned.registers,
        facts=planned.facts,
    )
    progress("done", 1.0)
    return world


def plan_world(scenario: Scenario, seed: int, size: str, progress: Progress | None = None) -> PlannedWorld:
    """Simulates a world without making tables of its calls, so that large worlds can be written part by part.

    Raises: ValueError: if the scenario has no such size, or its parameters contradict each other.
    """
    sizes = scenario.table("sizes")
    if size not in sizes:
        raise ValueError(f"size must be one of {', '.join(sizes)}, got {size!r}")
    progress = progress or silent
    progress("people", 0.0)
    days = calendar(scenario.table("calendar"), sizes[size]["days"])
    numbers = Directory()
    society = create_society(scenario, seed, sizes[size]["subscribers"], days, numbers)
    planned = _planned(scenario, seed, society, numbers, days, progress)
    progress("lines", 0.7)
    plan = resolve_lines(scenario, seed, planned, numbers, days)
    progress("complaints", 0.85)
    complaints = draw_complaints(scenario, seed, society, numbers, plan, days)
    findings = draw_findings(scenario, seed, numbers, plan, complaints, days)
    strings = numbers.strings()
    facts = {
        "seed": str(seed),
        "size": size,
        "scenario": scenario.fingerprint,
        "start": str(days.start),
        "end": str(days.end),
        "offset": str(days.offset),
    }
    return PlannedWorld(
        scenario=scenario,
        seed=seed,
        plan=plan,
        directory=numbers,
        strings=strings,
        days=days,
        numbers=arrow_tables.numbers_table(plan, numbers, strings, days),
        complaints=arrow_tables.complaints_table(complaints, strings),
        findings=arrow_tables.findings_table(findings, numbers, strings),
        registers=draw_registers(scenario, seed, society, numbers, plan, strings, days),
        facts=facts,
    )


def _planned(
    scenario: Scenario, seed: int, society: Society, numbers: Directory, days: Calendar, progress: Progress
) -> Plan:
    """Draws the planned calls of ordinary people first, then of each population."""
    plans = [ordinary_calls(scenario, seed, society, days, numbers)]
    relays = relay_numbers(scenario, seed, society.subscribers, numbers)
    context = WorldContext(scenario, society, days, numbers, trade_lists(scenario, seed, society), relays)
    populations, ordinary = _populations(scenario), len(plans[0])
    for i, (name, calls_of) in enumerate(populations.items()):
        progress(name, 0.45 + 0.25 * i / len(populations))
        plans.append(calls_of(seed, ordinary, context))
    return join(plans)
