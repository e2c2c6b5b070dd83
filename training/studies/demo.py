"""The demonstration: a simulated world goes through the whole pipeline, from calls to a signed bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from callsieve.features.files.progress import Progress
from callsieve.serving.batch.complaint_rows import COMPLAINTS
from callsieve.serving.batch.keyed_rows import checked_frame
from callsieve.serving.scorer.scorer import Scorer
from callsieve.training.adapt.adapting import Adaptation, adapt
from callsieve.training.adapt.base import read_base
from callsieve.training.data.dataset import CAMPAIGNS, FINDINGS, RECYCLED, Dataset, make_dataset
from callsieve.training.judging.run_figures import RecordedRun
from callsieve.training.model.allocators import give_back
from callsieve.training.model.folds import assign_folds
from callsieve.training.model.settings import Settings
from callsieve.training.model.split import FOLDS
from callsieve.training.model.train import write_bundle
from callsieve.training.oversight.log.key_folder import new_key as new_signing_key
from callsieve.training.oversight.log.run_paths import default_store
from callsieve.training.run import record_training
from callsieve.training.world.store import write_world
from callsieve.training.world.world import World

from .simulated import new_key, simulated

SHIPPED, ADAPTED = "the shipped model", "the shipped model, adapted to this world"


def run_demo(folder: Path, *, size: str, seed: int, threads: int, progress: Progress) -> RecordedRun:
    """Writes world, model, certificate, signed bundle, verdicts and run page to one folder, and returns the figures.

    The shipped model, as it is and adapted to the world, stands beside the one trained here, on the same calls.
    """
    dataset = simulated_dataset(folder, size, seed, lambda what, part: progress(what, 0.15 * part))
    give_back()
    settings = Settings(seed=seed, threads=threads)
    adapted = adapted_to_unjudged(dataset, settings, folder / "adapted")
    return record_training(
        dataset,
        settings,
        folder,
        source=f"simulated world '{size}', seed {seed}",
        tracking_uri=default_store(folder),
        made_by="callsieve demo",
        others={SHIPPED: Scorer.load(), ADAPTED: adapted},
        progress=lambda what, part: progress(what, 0.3 + 0.7 * part),
    )


def adapted_to_unjudged(dataset: Dataset, settings: Settings, folder: Path) -> Scorer:
    """Adapts the shipped model to the calls before the judged days, and writes the bundle with a new key.

    Nothing that is known of the callers who judge is used: no complaint about them, and no check.
    """
    folds = assign_folds(dataset, settings)
    judged = (folds.fold == FOLDS.index("certify"))[np.unique(folds.caller, return_index=True)[1]]
    callers = pc.unique(pc.dictionary_decode(dataset.calls["caller"].combine_chunks())).to_numpy(zero_copy_only=False)
    end = pd.Timestamp(folds.plan.certify[0], unit="ms", tz="UTC")

    def known(table: pd.DataFrame) -> pd.DataFrame:
        return table[(table["known_at"] < end) & ~table["number"].isin(callers[judged])]

    earlier = replace(
        dataset,
        calls=dataset.calls.filter(pc.less(dataset.calls["start"], folds.plan.certify[0])),
        complaints=known(dataset.complaints),
        findings=known(dataset.findings),
        truth=None,
    )
    key = new_signing_key()
    trained, _ = adapt(earlier, settings, Adaptation(read_base()))
    write_bundle(trained, folder, key)
    return Scorer.load(folder, trusted=[key.public_key()])


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
