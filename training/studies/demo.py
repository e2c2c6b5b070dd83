"""The demonstration: a simulated world goes through the whole pipeline, from calls to a signed bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from callsieve.features.files.progress import Progress, steps
from callsieve.features.online.feeds import feed_of_table
from callsieve.serving.batch.keyed_rows import checked_frame
from callsieve.serving.bundle.shipped import SHIPPED_BUNDLE
from callsieve.serving.scorer.scorer import Scorer
from callsieve.training.adapt.adapting import Adaptation, Adapted, adapt_network, of_base
from callsieve.training.adapt.answers import Answers, read_sheets, with_answers
from callsieve.training.adapt.base import read_base
from callsieve.training.adapt.network import score_network
from callsieve.training.data.dataset import CAMPAIGNS, COMPLAINTS, FINDINGS, RECYCLED, Dataset, make_dataset
from callsieve.training.data.sources import sources_of
from callsieve.training.judging.evaluate import EvaluationFigures, evaluate
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

ADAPTED = "the shipped model, adapted to this world"
ADAPTED_ON = 300_000  # random calls, so that the demonstration stays short
NUISANCE_FROM = 0.1  # share of nuisance among its calls from which a check calls a number nuisance; of a relay few are


def run_demo(
    folder: Path,
    *,
    size: str,
    seed: int,
    threads: int,
    full: bool,
    first: Callable[[EvaluationFigures], None],
    progress: Progress,
) -> RecordedRun:
    """Writes world, model, certificate, signed bundle, verdicts and run page to one folder, and returns the figures.

    The shipped model stands beside the one trained here, on the same calls.
    """
    part = steps(progress, {"world": 1, "shipped": 2, "train": 7})
    dataset = simulated_dataset(folder, size, seed, part["world"])
    give_back()
    today = datetime.now(UTC).date().isoformat()  # the days of the world are past, and an expired bundle shows nothing
    settings = Settings(seed=seed, threads=threads, valid_from=today)
    others = {}
    if full:
        part["shipped"]("adapt", 0.0)
        others[ADAPTED] = adapted_bundle(dataset, settings, folder / "adapted")
    else:
        world, judge = folder / "world", part["shipped"]
        first(evaluate(SHIPPED_BUNDLE, world, trust=None, threads=threads, progress=judge, ledger=None))
    give_back()
    return record_training(
        dataset,
        settings,
        folder,
        source=f"simulated world '{size}', seed {seed}",
        tracking_uri=default_store(folder),
        made_by="callsieve demo",
        others=others,
        progress=part["train"],
    )


def adapted_bundle(dataset: Dataset, settings: Settings, folder: Path) -> Scorer:
    """Adapts the shipped model to the days before the judged ones, and writes the bundle with a new key.

    The truth answers the checks that the adaptation draws, and those that it asks again. Callers that judge stay
    unanswered, and complaints about them are left out.
    """
    folds = assign_folds(dataset, settings)
    first_call = np.unique(folds.caller, return_index=True)[1]
    judged = (folds.fold == FOLDS.index("certify"))[first_call]
    token = pc.unique(pc.dictionary_decode(dataset.calls["caller"].combine_chunks())).to_numpy(zero_copy_only=False)
    checked = folds.start < folds.plan.certify[0]  # a check knows nothing of the days that judge
    calls, bad = (
        np.bincount(folds.caller[rows], minlength=len(token)) for rows in (checked, checked & folds.judged.nuisance)
    )
    verdict = pd.Series(bad >= NUISANCE_FROM * np.maximum(calls, 1), token)[~judged]
    end = pd.Timestamp(folds.plan.certify[0], unit="ms", tz="UTC")
    complaints = dataset.complaints
    earlier = replace(
        dataset,
        calls=dataset.calls.filter(pc.less(dataset.calls["start"], folds.plan.certify[0])),
        complaints=complaints[(complaints["known_at"] < end) & ~complaints["number"].isin(token[judged])],
        findings=dataset.findings.iloc[:0],
        truth=None,
    )
    base, answers = read_base(), read_sheets([])
    settings = of_base(settings, base)
    network = score_network(earlier, settings, base, feed_of_table(earlier.calls), ADAPTED_ON)
    source = sources_of(earlier)[0]
    for _ in range(3):  # whom to check, whom to check again, and the model
        network = network.with_evidence(with_answers(earlier, answers), settings)
        trained, adapted = adapt_network(network, source, settings, Adaptation(base, answers))
        answers = answered(answers, adapted, verdict, end)
    key = new_signing_key()
    write_bundle(trained, folder, key)
    return Scorer.load(folder, trusted=[key.public_key()])


def answered(answers: Answers, adapted: Adapted, verdict: pd.Series[bool], at: pd.Timestamp) -> Answers:
    """Returns the answers with those of the callers that an adaptation wants checked."""
    number = adapted.callers.token
    drawn = pd.DataFrame({"number": number[adapted.drawn.caller], "probability": adapted.drawn.probability})
    checked = verdict.reindex(number[np.concatenate([adapted.drawn.caller, adapted.again])]).dropna().astype(bool)
    findings = pd.DataFrame({"number": checked.index, "nuisance": checked.to_numpy(), "known_at": at})
    return Answers(
        pd.concat([answers.asked, drawn], ignore_index=True),
        pd.concat([answers.findings, findings.astype(answers.findings.dtypes)], ignore_index=True),
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
