"""Simulates a world: labelled calls with a known truth, from a scenario and a seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from callsieve.features.files.progress import Progress, silent
from callsieve.training.world.basis.plans import Plan, join
from callsieve.training.world.basis.scenario import Drawn, Scenario
from callsieve.training.world.basis.timing import calendar
from callsieve.training.world.callers.lines import resolve_lines
from callsieve.training.world.callers.outfits import outfit_calls, trade_lists
from callsieve.training.world.callers.people import create_society
from callsieve.training.world.callers.sim import Sim
from callsieve.training.world.callers.ties import ordinary_calls
from callsieve.training.world.callers.tricks import relay_numbers
from callsieve.training.world.callers.work import trade_calls
from callsieve.training.world.tables.records import (
    TO_ORGANISATIONS,
    draw_records,
    record_streams,
    row_slices,
    to_organisations,
)
from callsieve.training.world.tables.registers import draw_registers
from callsieve.training.world.tables.world_complaints import draw_complaints, draw_findings

from .tables import arrow_tables


@dataclass(frozen=True)
class World:
    """Tables of a world. A system sees `calls` and `registers`; the other tables are the truth about them.

    `facts` names their origin: seed, size, scenario (SHA-256), start and end (Unix ms), offset of local time (ms).
    `drawn` has the draws of a varied world; None for others.

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
    drawn: Drawn | None = None


@dataclass(frozen=True)
class PlannedWorld:
    """A world whose calls are not records yet; `parts` makes the records part by part."""

    sim: Sim
    plan: Plan
    numbers: pa.Table
    complaints: pa.Table
    findings: pa.Table
    registers: dict[str, pa.Table]
    facts: dict[str, str]
    drawn: Drawn | None

    def parts(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Yields tables of calls with tables of their truth, in order of start."""
        rngs, words = record_streams(self.sim), arrow_tables.call_words(self.sim)
        for rows in row_slices(self.plan):
            part = self.plan.take(rows)
            records = draw_records(rngs, self.sim, part)
            calls = arrow_tables.calls_table(self.sim, part, records, rows.start, words)
            yield calls, arrow_tables.truth_table(self.sim.numbers, part, records, rows.start)


def simulate(scenario: Scenario, seed: int, size: str, progress: Progress = silent) -> World:
    """Simulates a world. The same scenario, seed and size give the same tables.

    >>> from callsieve.training.world import load_scenario
    >>> world = simulate(load_scenario(), 1, "tiny")
    >>> world.calls.num_rows == world.truth.num_rows > 10_000
    True
    """
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
        drawn=planned.drawn,
    )
    progress("done", 1.0)
    return world


def plan_world(scenario: Scenario, seed: int, size: str, progress: Progress = silent) -> PlannedWorld:
    """Simulates a world without making tables of its calls, so that large worlds can be written part by part."""
    sizes = scenario.table("sizes")
    if size not in sizes:
        raise ValueError(f"size must be one of {', '.join(sizes)}, got {size!r}")
    progress("people", 0.0)
    sim = Sim(scenario, seed, calendar(scenario.table("calendar"), sizes[size]["days"]))
    sim.society = create_society(sim, sizes[size]["subscribers"])
    planned = _planned(sim, progress)
    progress("lines", 0.7)
    plan = resolve_lines(sim, planned)
    if scenario.drawn and TO_ORGANISATIONS in scenario.drawn.lacks:
        plan.keep(~to_organisations(sim, plan))
    progress("complaints", 0.85)
    complaints = draw_complaints(sim, plan)
    findings = draw_findings(sim, plan, complaints)
    facts = {
        "seed": str(seed),
        "size": size,
        "scenario": scenario.fingerprint,
        "start": str(sim.days.start),
        "end": str(sim.days.end),
        "offset": str(sim.days.offset),
    }
    return PlannedWorld(
        sim=sim,
        plan=plan,
        numbers=arrow_tables.numbers_table(sim, plan),
        complaints=arrow_tables.complaints_table(sim.strings, complaints),
        findings=arrow_tables.findings_table(sim, findings),
        registers=draw_registers(sim, plan),
        facts=facts,
        drawn=scenario.drawn,
    )


def _planned(sim: Sim, progress: Progress) -> Plan:
    plans = [ordinary_calls(sim)]
    sim.relays, sim.lists = relay_numbers(sim), trade_lists(sim)
    trades, ordinary = sim.table("work"), len(plans[0])
    populations = [*trades, *sim.table("outfits")]
    for i, name in enumerate(populations):
        progress(name, 0.45 + 0.25 * i / len(populations))
        plans.append(trade_calls(sim, name) if name in trades else outfit_calls(sim, name, ordinary))
    return join(plans)
