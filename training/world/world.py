"""A whole world: labelled calls with a known truth, from a scenario and a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from . import tables
from .lines import settle
from .lists import trade_lists
from .numbering import Directory
from .outfits import Surroundings, population
from .people import ordinary_calls, settle_people
from .plans import Plan, join
from .reports import findings, reports
from .scenario import Scenario
from .timing import calendar
from .work import trade

if TYPE_CHECKING:
    import pyarrow as pa

Progress = Callable[[float, str], None]
Population = Callable[[int, int, Surroundings], Plan]


@dataclass(frozen=True)
class World:
    """Tables of a world; `calls` is what a system may see, the others are apart from it.

    `facts` names where they come from: seed, size, scenario (SHA-256), start and end (Unix ms), offset (ms).
    """

    calls: pa.Table
    truth: pa.Table
    numbers: pa.Table
    reports: pa.Table
    findings: pa.Table
    facts: dict[str, str]


def _trade(name: str, seed: int, _ordinary: int, world: Surroundings) -> Plan:
    return trade(world.scenario, seed, name, world.society, world.days, world.numbers)


TRADES = ("courier", "takeaway", "organiser")
OUTFITS = (
    "customer_service",
    "alerts",
    "telemarketer",
    "robot",
    "fraud_ring",
    "one_ring",
    "low_and_slow",
)
# Every population beside ordinary people. A new one is an entry at the end: its draws come from a stream of its
# own name, its numbers after those of the others, so that they keep theirs.
POPULATIONS: dict[str, Population] = {
    **{name: partial(_trade, name) for name in TRADES},
    **{name: partial(population, name) for name in OUTFITS},
}


def simulate(scenario: Scenario, seed: int, size: str, progress: Progress | None = None) -> World:
    """Simulate a world. The same scenario, seed and size give the same tables.

    `progress` is told the part that is done, 0 to 1, and what comes next.
    Raises `ValueError` if the scenario has no such size or its parameters contradict each other.
    """
    sizes = scenario.table("sizes")
    if size not in sizes:
        raise ValueError(f"size must be one of {', '.join(sizes)}, got {size!r}")
    tell = progress or (lambda _part, _what: None)
    tell(0.0, "people")
    days = calendar(scenario.table("calendar"), sizes[size]["days"])
    numbers = Directory()
    society = settle_people(scenario, seed, sizes[size]["subscribers"], days, numbers)
    plans = [ordinary_calls(scenario, seed, society, days, numbers)]
    around = Surroundings(scenario, society, days, numbers, trade_lists(scenario, seed, society))
    ordinary = len(plans[0])
    for place, (name, calls_of) in enumerate(POPULATIONS.items()):
        tell(0.4 + 0.2 * place / len(POPULATIONS), name)
        plans.append(calls_of(seed, ordinary, around))
    tell(0.6, "lines")
    planned = join(plans)
    plans.clear()
    plan = settle(planned, numbers, days)
    del planned
    tell(0.75, "reports")
    known = reports(scenario, seed, society, numbers, plan)
    found = findings(scenario, seed, numbers, plan, known, days)
    tell(0.85, "tables")
    strings = numbers.strings()
    world = World(
        calls=tables.calls_table(scenario, seed, plan, numbers, strings, days),
        truth=tables.truth_table(plan, numbers),
        numbers=tables.numbers_table(plan, numbers, strings, days),
        reports=tables.reports_table(known, plan, strings),
        findings=tables.findings_table(found, numbers, strings),
        facts={
            "seed": str(seed),
            "size": size,
            "scenario": scenario.fingerprint,
            "start": str(days.start),
            "end": str(days.end),
            "offset": str(days.offset),
        },
    )
    tell(1.0, "done")
    return world
