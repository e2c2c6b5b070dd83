"""The simulated world, written down, and the demonstration that runs the whole line on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..features.intake import Intake
from ..features.pseudonyms import Key, read_key
from .allocators import give_back
from .console import Tell
from .evidence import CAMPAIGNS, FINDINGS, RECYCLED, REPORTS, Evidence, evidence, frame
from .run import study
from .train import Settings
from .world.scenario import load_scenario
from .world.store import keyed_world, write_settled, write_world
from .world.world import World, settled_world, simulate

EPOCH = "e1"


def simulate_to(
    folder: Path, *, size: str, seed: int, scenario: Path | None, key: Path | None, progress: Tell
) -> dict[str, Any]:
    """Simulate a world and write it keyed; a new key is written beside the folder if none is given."""
    secret = read_key(key) if key else new_key(folder.with_name(f"{folder.name}.key"))
    world = settled_world(load_scenario(scenario), seed, size, lambda part, what: progress(what, 0.6 * part))
    calls = write_settled(world, Intake(secret), folder, lambda part, what: progress(what, 0.6 + 0.4 * part))
    return {
        "calls": calls,
        "numbers": world.numbers.num_rows,
        "reports": world.reports.num_rows,
        "findings": world.findings.num_rows,
        **world.facts,
    }


def run_demo(folder: Path, *, size: str, seed: int, threads: int, progress: Tell) -> dict[str, Any]:
    """World, features, training, certificate, signed bundle, verdicts and report in one folder."""
    told = told_of(folder, size, seed, lambda what, part: progress(what, 0.15 * part))
    give_back()
    settings = Settings(seed=seed, threads=threads)
    return study(
        told, settings, folder, source=f"simulated world '{size}', seed {seed}",
        progress=lambda what, part: progress(what, 0.2 + 0.8 * part),
    )  # fmt: skip


def told_of(folder: Path, size: str, seed: int, progress: Tell) -> Evidence:
    """What a training may see of a new world, which is written to `folder` with its key; the rest of it is let go."""
    world = simulated(size, seed, None, new_key(folder / "number.key"), progress)
    write_world(world, folder / "world")
    return of_world(world)


def simulated(size: str, seed: int, scenario: Path | None, key: Key, progress: Tell) -> World:
    """A keyed world."""
    world = simulate(load_scenario(scenario), seed, size, lambda part, what: progress(what, part))
    return keyed_world(world, Intake(key))


def of_world(world: World) -> Evidence:
    """What a training may see of a world, and its truth to judge by.

    >>> from pathlib import Path
    >>> from callsieve.training.world import read_world
    >>> len(of_world(read_world(Path("world"))).findings) > 0
    True
    """
    return evidence(
        world.calls,
        frame(world.reports, REPORTS, "reports"),
        frame(world.findings, FINDINGS, "findings"),
        world.truth,
        recycled=frame(world.registers["recycled"], RECYCLED, "recycled"),
        campaigns=frame(world.registers["campaigns"], CAMPAIGNS, "campaigns"),
    )


def new_key(path: Path) -> Key:
    """A new key, written for its owner alone."""
    key = Key.generate(EPOCH)
    key.write(path)
    return key
