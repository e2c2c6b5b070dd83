"""The demonstration: a simulated world goes through the whole pipeline, from calls to a signed bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from callsieve.features.files.progress import Progress
from callsieve.serving.batch.complaint_rows import COMPLAINTS
from callsieve.serving.batch.keyed_rows import checked_frame
from callsieve.serving.scorer.scorer import Scorer
from callsieve.training.data.dataset import CAMPAIGNS, FINDINGS, RECYCLED, Dataset, make_dataset
from callsieve.training.judging.run_figures import RecordedRun
from callsieve.training.model.allocators import give_back
from callsieve.training.model.settings import Settings
from callsieve.training.oversight.log.run_paths import default_store
from callsieve.training.run import record_training
from callsieve.training.world.store import write_world
from callsieve.training.world.world import World

from .simulated import new_key, simulated

SHIPPED = "the shipped model"


def run_demo(folder: Path, *, size: str, seed: int, threads: int, progress: Progress) -> RecordedRun:
    """Writes world, model, certificate, signed bundle, verdicts and run page to one folder, and returns the figures.

    The shipped model stands beside the one trained here, on the same calls.
    """
    dataset = simulated_dataset(folder, size, seed, lambda what, part: progress(what, 0.15 * part))
    give_back()
    settings = Settings(seed=seed, threads=threads)
    return record_training(
        dataset,
        settings,
        folder,
        source=f"simulated world '{size}', seed {seed}",
        tracking_uri=default_store(folder),
        made_by="callsieve demo",
        other=(SHIPPED, Scorer.load()),
        progress=lambda what, part: progress(what, 0.2 + 0.8 * part),
    )


def simulated_dataset(folder: Path, size: str, seed: int, progress: Progress) -> Dataset:
    """Simulates a world, writes it to `folder` with its key, and returns the data set for a training."""
    world = simulated(size, seed, None, new_key(folder / "number.key"), progress)
    write_world(world, folder / "world")
    return of_world(world)


def of_world(world: World) -> Dataset:
    """Returns the data set of a world for a training, with the truth for judging.

    >>> from pathlib import Path
    >>> from callsieve.training.world import read_world
    >>> len(of_world(read_world(Path("world"))).findings) > 0
    True
    """
    dataset = make_dataset(
        world.calls,
        checked_frame(world.complaints, COMPLAINTS, "complaints"),
        checked_frame(world.findings, FINDINGS, "findings"),
        world.truth,
        recycled=checked_frame(world.registers["recycled"], RECYCLED, "recycled"),
        campaigns=checked_frame(world.registers["campaigns"], CAMPAIGNS, "campaigns"),
    )
    return replace(dataset, purpose="training")
