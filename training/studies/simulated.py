"""A simulated world with keyed numbers: in memory, or written part by part.

Nothing that trains is imported here: that import alone takes longer than a small world.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from callsieve.features.files.progress import Progress, steps
from callsieve.features.intake.intake import Intake
from callsieve.features.keys.tokens import Key, read_key
from callsieve.training.world.basis.scenario import load_scenario
from callsieve.training.world.store import keyed_world, write_planned_world
from callsieve.training.world.world import World, plan_world, simulate

KEY_EPOCH = "e1"


def simulate_to(
    folder: Path, *, size: str, seed: int, scenario: Path | None, key: Path | None, progress: Progress
) -> dict[str, Any]:
    """Simulates a world and writes its keyed tables; without `key`, writes a new key beside the folder."""
    stages = steps(progress, {"settle": 0.6, "write": 0.4})
    new_path = folder.with_name(f"{folder.name}.key")
    secret = read_key(key) if key else new_key(new_path)
    try:
        world = plan_world(load_scenario(scenario), seed, size, stages["settle"])
        calls = write_planned_world(world, Intake(secret), folder, stages["write"])
    except BaseException:
        if key is None and not any(folder.iterdir()):
            new_path.unlink()  # without a world it would make the same command fail
        raise
    return {
        "calls": calls,
        "numbers": world.numbers.num_rows,
        "complaints": world.complaints.num_rows,
        "findings": world.findings.num_rows,
        **world.facts,
    }


def simulated(size: str, seed: int, scenario: Path | None, key: Key, progress: Progress) -> World:
    """Simulates a world in memory and keys its numbers."""
    world = simulate(load_scenario(scenario), seed, size, progress)
    return keyed_world(world, Intake(key))


def new_key(path: Path) -> Key:
    """Makes a key and writes it, readable by its owner alone."""
    key = Key.generate(KEY_EPOCH)
    key.write(path)
    return key
