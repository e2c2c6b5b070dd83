"""A simulated world with keyed numbers: in memory, or written part by part.

Nothing that trains is imported here: that import alone takes longer than a small world.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from callsieve.features.files.progress import Progress, steps
from callsieve.features.intake.intake import Intake
from callsieve.features.keys.tokens import Key, read_key
from callsieve.training.world.basis.scenario import Scenario, load_scenario
from callsieve.training.world.basis.variation import vary
from callsieve.training.world.store import FACTS, keyed_world, read_facts, write_planned_world
from callsieve.training.world.world import World, plan_world, simulate

KEY_EPOCH = "e1"
Facts = dict[str, str | int]
"""The row counts of a world, and the facts that its folder states."""
COUNTED = ("calls", "numbers", "complaints", "findings")


def simulate_to(
    folder: Path,
    *,
    size: str,
    seed: int,
    scenario: Path | None,
    key: Path | None,
    progress: Progress,
    varied: bool = False,
) -> Facts:
    """Simulates a world and writes its keyed tables; without `key`, writes a new key beside the folder."""
    new_path = folder.with_name(f"{folder.name}.key")
    secret = read_key(key) if key else new_key(new_path)
    try:
        return _write(folder, _scenario(scenario, seed, varied), size, seed, secret, progress)
    except BaseException:
        if key is None and not any(folder.iterdir()):
            new_path.unlink()  # without a world it would make the same command fail
        raise


def simulate_worlds(
    folder: Path,
    count: int,
    *,
    size: str,
    seed: int,
    scenario: Path | None,
    key: Path | None,
    progress: Progress,
    varied: bool,
) -> list[Facts]:
    """Simulates worlds with the seeds `seed`, `seed + 1`, ... in the folders `world-SEED`, one at a time in memory.

    The worlds of a call have one key. Worlds that an earlier call completed stay, with the key of that call.

    Returns: folder, row counts and facts of each world.
    """
    folder.mkdir(parents=True, exist_ok=True)
    new_path = folder.with_name(f"{folder.name}.key")
    secret = read_key(key or new_path) if key or new_path.exists() else new_key(new_path)
    seeds = range(seed, seed + count)
    parts = steps(progress, {str(own): 1.0 for own in seeds})
    worlds = []
    for own in seeds:
        own_folder, drawn = folder / f"world-{own}", _scenario(scenario, own, varied)
        if not (own_folder / FACTS).exists():
            own_folder.mkdir(exist_ok=True)
            for partial in own_folder.glob(".*"):
                partial.unlink()  # of a process that was killed
            _write(own_folder, drawn, size, own, secret, parts[str(own)])
        facts = _facts(own_folder)
        expected = {"seed": str(own), "size": size, "scenario": drawn.fingerprint}
        if other := [name for name, value in expected.items() if facts[name] != value]:
            raise ValueError(f"{own_folder}: expected a world of the same {other[0]}; choose another --out")
        worlds.append({"folder": str(own_folder), **facts})
    return worlds


def _facts(folder: Path) -> Facts:
    counts = {name: pq.read_metadata(folder / f"{name}.parquet").num_rows for name in COUNTED}
    return {**counts, **read_facts(folder)[0]}


def _scenario(path: Path | None, seed: int, varied: bool) -> Scenario:
    scenario = load_scenario(path)
    return vary(scenario, seed) if varied else scenario


def _write(folder: Path, scenario: Scenario, size: str, seed: int, key: Key, progress: Progress) -> Facts:
    stages = steps(progress, {"settle": 0.6, "write": 0.4})
    world = plan_world(scenario, seed, size, stages["settle"])
    write_planned_world(world, Intake(key), folder, stages["write"])
    return _facts(folder)


def simulated(size: str, seed: int, scenario: Path | None, key: Key, progress: Progress) -> World:
    """Simulates a world in memory and keys its numbers."""
    world = simulate(load_scenario(scenario), seed, size, progress)
    return keyed_world(world, Intake(key))


def new_key(path: Path) -> Key:
    """Makes a key and writes it, readable by its owner alone."""
    key = Key.generate(KEY_EPOCH)
    key.write(path)
    return key
