"""Call records as a switch writes them: late, duplicated, with missing fields.

Each of these faults has its own random stream, drawn in order of the calls. So the result does not depend on the number
of calls that are written at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from callsieve.features.arrays import Bools, Int8s, Int64s
from callsieve.features.records import ATTESTATIONS
from callsieve.training.world.basis.draws import lognormal
from callsieve.training.world.basis.numbering import attestations
from callsieve.training.world.basis.plans import Plan
from callsieve.training.world.basis.scenario import Spread
from callsieve.training.world.basis.timing import MINUTE, SECOND
from callsieve.training.world.callers.sim import Sim

PART_ROWS = 2_000_000
"""Calls that are written at once, so that memory is bounded."""
TO_ORGANISATIONS = "calls to organisations"  # a kind of call that `variation.toml` lets the records of some worlds lack
OPTIONAL = ("place", "device", "ring", "released_by")
FAILED = ATTESTATIONS.index("failed")
SIGNED = [ATTESTATIONS.index(level) for level in ("A", "B", "C")]
Streams = dict[str, np.random.Generator]


@dataclass(frozen=True)
class Records:
    """Records of a part of the calls, in order: `row` within the part, a duplicate directly after its original."""

    row: Int64s
    duplicate: Bools
    recorded: Int64s  # Unix ms; 0: known at the end of the call
    attestation: Int8s
    missing: dict[str, Bools]


def to_organisations(sim: Sim, plan: Plan) -> Bools:
    """Returns whether each callee is a number of a firm, an office, a platform or a nuisance outfit."""
    allocated = sim.numbers["slice"][plan.callee] != 0
    organisation: Bools = allocated & (plan.callee >= sim.society.people)
    return organisation


def row_slices(plan: Plan) -> list[slice]:
    """Returns slices of PART_ROWS consecutive rows of a plan, at least one slice."""
    return [slice(first, first + PART_ROWS) for first in range(0, max(len(plan), 1), PART_ROWS)]


def record_streams(sim: Sim) -> Streams:
    """Returns the random generators of a world's records; they are used part after part."""
    return {name: sim.stream(f"records {name}") for name in ("late", "delay", "twice", "forged", "refused", *OPTIONAL)}


def draw_records(rng: Streams, sim: Sim, plan: Plan) -> Records:
    """Draws the records of the next part of a resolved plan."""
    table = sim.table("records")
    late = np.flatnonzero(rng["late"].random(len(plan)) < table["late_share"])
    delay = MINUTE * lognormal(rng["delay"], Spread(**table["late_minutes"]), len(late))
    recorded = np.zeros(len(plan), dtype=np.int64)
    recorded[late] = plan.end[late] + np.maximum(delay, SECOND).astype(np.int64)
    twice = rng["twice"].random(len(plan)) < table["duplicate_share"]
    missing = {
        name: rng[name].random(len(plan), dtype=np.float32) < table[f"{name}_missing_share"] for name in OPTIONAL
    }
    row = np.repeat(np.arange(len(plan)), 1 + twice)
    duplicate = np.concatenate(([False], row[1:] == row[:-1])) if len(row) else np.zeros(0, dtype=bool)
    return Records(
        row,
        duplicate,
        recorded[row],
        _attested(rng, sim, plan)[row],
        {name: rows[row] for name, rows in missing.items()},
    )


def _attested(rng: Streams, sim: Sim, plan: Plan) -> Int8s:
    spoofed = plan.via >= 0
    share = sim.table("records")["authentication_failed_share"]
    refused = rng["refused"].random(len(plan), dtype=np.float32) < share
    level: Int8s = sim.numbers["attestation"][plan.caller]
    level = np.where(refused & np.isin(level, SIGNED), FAILED, level).astype(np.int8)
    weights = sim.table("numbering")["attestation"]["forged"]
    level[spoofed] = attestations(rng["forged"], weights, int(spoofed.sum()))
    return level
