"""How good a training is when its labels are wrong: flipped labels, colluding reporters, no complaints at all.

Each world is trained on clean labels, then again with each fault. The same calls judge all models of a world, so
differences are paired. Within a world a difference has a bootstrap interval over callers; over worlds it is a mean with
Student's interval.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import t

from callsieve.features.arrays import Array
from callsieve.features.complaints import COMPLAINT_NAMES
from callsieve.features.files.progress import silent
from callsieve.features.keys.tokens import Key
from callsieve.training.data.noise import with_collusion, with_flips, without_complaints
from callsieve.training.judging.figures import Mean
from callsieve.training.judging.judge import summarise
from callsieve.training.judging.metrics import threshold_at_rate
from callsieve.training.model.bands import TARGETS, aligned_scores
from callsieve.training.model.certify import difference_interval
from callsieve.training.model.split import fold_plan
from callsieve.training.model.train import Trained, train

from .demo import of_world
from .simulated import KEY_EPOCH, simulated
from .study_figures import CatchChange, FaultFigures, FaultOutcome, FaultTraining, StressFigures

if TYPE_CHECKING:
    from callsieve.features.files.progress import Progress
    from callsieve.training.data.dataset import Dataset
    from callsieve.training.model.settings import Settings
    from callsieve.training.oversight.log.looks import Ledger

    Change = Callable[["Dataset", "Settings", pd.Timestamp, int], tuple["Dataset", "Settings"]]

FLIPS, RING = (0.05, 0.10, 0.20), 0.01
CLEAN = "clean"
CONFIDENCE = 0.95


def _flipped(share: float) -> Change:
    return lambda dataset, settings, cutoff, seed: (
        with_flips(dataset, share, cutoff, settings.label_policy, seed), settings
    )  # fmt: skip


FAULTS: Mapping[str, Change] = {
    CLEAN: lambda dataset, settings, _cutoff, _seed: (dataset, settings),
    **{f"{share:.0%} of labels flipped": _flipped(share) for share in FLIPS},
    f"{RING:.0%} of reporters collude": lambda dataset, settings, cutoff, seed: (
        with_collusion(dataset, RING, cutoff, seed), settings
    ),
    "no reports": lambda dataset, settings, _cutoff, _seed: (without_complaints(dataset), settings),
    "features of reports too": lambda dataset, settings, _cutoff, _seed: (
        dataset,
        replace(settings, features=tuple(dict.fromkeys((*settings.features, *COMPLAINT_NAMES)))),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Flags:
    """Which judged nuisance calls of its world a model flags, and their callers.

    `hit`: flagged at the certified threshold of the training. `equal`: flagged at the threshold that flags 1 in 10,000
    judged innocent calls, independent of the training's threshold: a measure of how well the model ranks calls.
    """

    hit: Array
    equal: Array
    caller: Array


def stress(
    worlds: Iterable[tuple[int, Dataset]],
    settings: Settings,
    ledger: Ledger,
    *,
    count: int,
    faults: Sequence[str] = tuple(FAULTS),
    progress: Progress | None = None,
) -> StressFigures:
    """Trains on each world with clean labels, then with each fault.

    Args:
        worlds: seed and dataset of each world, made when it is needed, so that one is in memory at a time.
        ledger: records the gates, and a look at the test data before each training.
        count: number of worlds.
        faults: names of FAULTS; "clean" comes first.
    Returns: plain values for JSON: `trainings`, the figures of each training; `faults`, each fault over all worlds.
    Raises:
        ValueError: if a world has no truth.
    """
    report_progress = progress or silent
    ledger.begin()
    trainings: list[FaultTraining] = []
    for place, (seed, dataset) in enumerate(worlds):
        if dataset.truth is None:
            raise ValueError("stress: expected a truth to judge by, because wrong labels cannot judge")
        clean: Flags | None = None
        for nth, name in enumerate(faults):
            report_progress(f"world {seed}: {name}", (place + nth / len(faults)) / count)
            figures, flags = one_training(dataset, replace(settings, seed=seed), name, seed, ledger)
            clean = clean or flags
            trainings.append(
                {
                    "world": place,
                    "seed": seed,
                    "fault": name,
                    **figures,
                    "catch_at_target": float(flags.equal.mean()) if len(flags.equal) else None,
                    "change": change(flags.hit, clean.hit, clean.caller, seed),
                    "change_at_target": change(flags.equal, clean.equal, clean.caller, seed),
                }
            )
    return {"trainings": trainings, "faults": [over_worlds(trainings, name) for name in faults]}


def worlds(size: str, seeds: Iterable[int], scenario: Path | None) -> Iterator[tuple[int, Dataset]]:
    """Yields seed and dataset of a simulated world for each seed, one after the other.

    Which labels are flipped depends on the order of tokens, so the key is derived from the seed. It protects no person,
    because the numbers are invented.
    """
    for seed in seeds:
        key = Key(KEY_EPOCH, hashlib.sha256(f"stress {seed}".encode()).digest())
        yield seed, of_world(simulated(size, seed, scenario, key, silent))


def one_training(
    dataset: Dataset, settings: Settings, name: str, seed: int, ledger: Ledger
) -> tuple[FaultOutcome, Flags]:
    """Returns the figures of a training with one fault, and what it flagged."""
    folds = fold_plan(dataset.calls, settings.label_delay_days)
    cutoff = pd.Timestamp(folds.label_cutoff, unit="ms", tz="UTC")
    ledger.touch(dataset.fingerprint, folds.certify, "stress", dataset.folder)
    trained = train(*FAULTS[name](dataset, settings, cutoff, seed))
    figures = summarise(trained)
    head = figures["headline"]
    summary: FaultOutcome = {
        "certified": head["certified"],
        "false_calls": head["false_calls"],
        "benign_calls": head["benign_calls"],
        "bound": head["bound"],
        "catch": head["catch"]["call"],
        "median": head["detection"]["median"],
        "auc": figures["ranking"]["auc"],
        "learnt": figures["rows"]["train"],
    }
    return summary, flags_of(trained)


def flags_of(trained: Trained) -> Flags:
    """Returns the flags of the judged nuisance calls of the certifying fold."""
    target, band = TARGETS[0][1], trained.card.thresholds[0]
    pool = trained.pool
    rows, benign = pool.certify & pool.judged.nuisance, pool.certify & ~pool.judged.nuisance
    aligned = aligned_scores(trained.raw, trained.stratum, band)
    return Flags(
        aligned[rows] >= band.threshold,
        trained.raw[rows] >= threshold_at_rate(trained.raw[benign], target),
        pool.caller[rows],
    )


def change(faulty: Array, clean: Array, caller: Array, seed: int) -> CatchChange:
    """Returns catch with a fault minus catch without it, on the same calls, with a bootstrap interval over callers."""
    if not len(clean):
        return {"value": None, "low": None, "high": None}
    low, high = difference_interval(faulty, clean, caller, seed=seed)
    return {"value": float((faulty.astype(float) - clean).mean()), "low": low, "high": high}


def over_worlds(trainings: Sequence[FaultTraining], name: str) -> FaultFigures:
    """Returns the figures of one fault over all worlds."""
    mine = [training for training in trainings if training["fault"] == name]
    return {
        "fault": name,
        "worlds": len(mine),
        "certified": sum(training["certified"] for training in mine),
        "false_calls": sum(training["false_calls"] for training in mine),
        "benign_calls": sum(training["benign_calls"] for training in mine),
        "catch": interval([training["catch"]["rate"] for training in mine]),
        "change": interval([training["change"]["value"] for training in mine]),
        "catch_at_target": interval([training["catch_at_target"] for training in mine]),
        "change_at_target": interval([training["change_at_target"]["value"] for training in mine]),
        "auc": interval([training["auc"] for training in mine]),
    }


def interval(values: Sequence[float | None]) -> Mean:
    """Returns mean and Student's 95 % interval of the values that are not None; one value has no interval.

    >>> {name: round(value, 3) for name, value in interval([1.0, None, 2.0, 3.0]).items()}
    {'mean': 2.0, 'low': -0.484, 'high': 4.484}
    """
    numbers = np.array([value for value in values if value is not None], dtype=float)
    if len(numbers) < 2:
        return {"mean": float(numbers[0]) if len(numbers) else None, "low": None, "high": None}
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(numbers) - 1) * numbers.std(ddof=1) / np.sqrt(len(numbers)))
    return {"mean": float(numbers.mean()), "low": float(numbers.mean()) - half, "high": float(numbers.mean()) + half}
