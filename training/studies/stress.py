"""What a training is worth if what it learns from is wrong: flipped labels, colluding reporters, no reports at all.

Each world is trained on clean, then again with each fault; the same calls judge all of its models, so that differences
are of pairs. A difference within a world has callers drawn anew; over worlds it is a mean with Student's interval.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import t

from callsieve.features.complaints import COMPLAINT_NAMES
from callsieve.features.files.progress import silent
from callsieve.features.keys.tokens import Key
from callsieve.training.data.noise import with_collusion, with_flips, without_complaints
from callsieve.training.judging.figures import Mean
from callsieve.training.judging.judge import summarise
from callsieve.training.judging.metrics import threshold_at_rate
from callsieve.training.model.bands import TARGETS, aligned_scores
from callsieve.training.model.call_choice import fold_rows
from callsieve.training.model.certify import difference_interval
from callsieve.training.model.split import fold_plan
from callsieve.training.model.train import Trained, train

from .demo import of_world
from .figures import CatchChange, FaultFigures, FaultOutcome, FaultTraining, StressFigures
from .simulated import KEY_EPOCH, simulated

if TYPE_CHECKING:
    import numpy.typing as npt

    from callsieve.features.files.progress import Progress
    from callsieve.training.data.dataset import Dataset
    from callsieve.training.log.looks import Ledger
    from callsieve.training.model.train import Settings

    Array = npt.NDArray[Any]
    Change = Callable[["Dataset", "Settings", pd.Timestamp, int], tuple["Dataset", "Settings"]]

FLIPS, RING = (0.05, 0.10, 0.20), 0.01
CLEAN = "clean"
CONFIDENCE = 0.95


def _flipped(share: float) -> Change:
    return lambda told, settings, cutoff, seed: (
        with_flips(told, share, cutoff, settings.label_policy, seed), settings
    )  # fmt: skip


FAULTS: Mapping[str, Change] = {
    CLEAN: lambda told, settings, _cutoff, _seed: (told, settings),
    **{f"{share:.0%} of labels flipped": _flipped(share) for share in FLIPS},
    f"{RING:.0%} of reporters collude": lambda told, settings, cutoff, seed: (
        with_collusion(told, RING, cutoff, seed), settings
    ),
    "no reports": lambda told, settings, _cutoff, _seed: (without_complaints(told), settings),
    "features of reports too": lambda told, settings, _cutoff, _seed: (
        told,
        replace(settings, features=(*settings.features, *(n for n in COMPLAINT_NAMES if n not in settings.features))),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Flags:
    """What a model did to the judged nuisance calls of its world, and whose calls they were.

    `hit`: flagged at its own certified threshold. `equal`: flagged at the threshold that flags 1 in 10,000 of the
    judged innocent calls, whatever the training chose: that says how well calls are ordered where it matters.
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
    """Train on each world clean and with each fault.

    Args:
        worlds: seed and dataset of each, made when it is needed: one is in memory at a time.
        ledger: gets the gates, and a touch before each training.
        count: how many worlds there are.
        faults: names of FAULTS; "clean" comes first.
    Returns: `worlds`, the figures of each training of each; `faults`, over worlds. JSON-able.
    Raises:
        ValueError: if a world has no truth.
    """
    tell = progress or silent
    ledger.begin()
    told: list[FaultTraining] = []
    for place, (seed, dataset) in enumerate(worlds):
        if dataset.truth is None:
            raise ValueError("stress: expected a truth to judge by: labels that are wrong cannot judge")
        clean: Flags | None = None
        for nth, name in enumerate(faults):
            tell(f"world {seed}: {name}", (place + nth / len(faults)) / count)
            figures, flags = one_training(dataset, replace(settings, seed=seed), name, seed, ledger)
            clean = clean or flags
            told.append(
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
    return {"trainings": told, "faults": [over_worlds(told, name) for name in faults]}


def worlds(size: str, seeds: Iterable[int], scenario: Path | None) -> Iterator[tuple[int, Dataset]]:
    """Seed and dataset of a simulated world for each seed, one after the other.

    Which labels are flipped is drawn from numbers in the order of their tokens, so the key goes by the seed: it hides
    nobody, for nobody is there.
    """
    for seed in seeds:
        key = Key(KEY_EPOCH, hashlib.sha256(f"stress {seed}".encode()).digest())
        yield seed, of_world(simulated(size, seed, scenario, key, silent))


def one_training(
    dataset: Dataset, settings: Settings, name: str, seed: int, ledger: Ledger
) -> tuple[FaultOutcome, Flags]:
    """The figures of a training with one fault, and what it flagged."""
    folds = fold_plan(dataset.calls, settings.label_delay_days)
    cutoff = pd.Timestamp(folds.label_cutoff, unit="ms", tz="UTC")
    ledger.touch(dataset.fingerprint, folds.certify, "stress")
    trained = train(*FAULTS[name](dataset, settings, cutoff, seed))
    figures = summarise(trained)
    head = figures["headline"]
    return {
        "certified": head["certified"], "false_calls": head["false_calls"], "benign_calls": head["benign_calls"],
        "bound": head["bound"], "catch": head["catch"]["call"], "median": head["detection"]["median"],
        "auc": figures["ranking"]["auc"], "learnt": figures["rows"]["train"],
    }, flags_of(trained)  # fmt: skip


def flags_of(t: Trained) -> Flags:
    """The judged nuisance calls of the certifying fold."""
    target, band = TARGETS[0][1], t.card.thresholds[0]
    judged = fold_rows("certify", t.plan.certify, t.fold, t.start) & t.judged.known
    rows, benign = judged & t.judged.nuisance, judged & ~t.judged.nuisance
    held = aligned_scores(t.raw, t.stratum, band)
    return Flags(held[rows] >= band.threshold, t.raw[rows] >= threshold_at_rate(t.raw[benign], target), t.caller[rows])


def change(faulty: Array, clean: Array, caller: Array, seed: int) -> CatchChange:
    """Catch rate with a fault less that without it, on the same calls, callers drawn anew."""
    if not len(clean):
        return {"value": None, "low": None, "high": None}
    low, high = difference_interval(faulty, clean, caller, seed=seed)
    return {"value": float((faulty.astype(float) - clean).mean()), "low": low, "high": high}


def over_worlds(told: Sequence[FaultTraining], name: str) -> FaultFigures:
    """One fault over all worlds."""
    mine = [one for one in told if one["fault"] == name]
    return {
        "fault": name,
        "worlds": len(mine),
        "certified": sum(one["certified"] for one in mine),
        "false_calls": sum(one["false_calls"] for one in mine),
        "benign_calls": sum(one["benign_calls"] for one in mine),
        "catch": interval([one["catch"]["rate"] for one in mine]),
        "change": interval([one["change"]["value"] for one in mine]),
        "catch_at_target": interval([one["catch_at_target"] for one in mine]),
        "change_at_target": interval([one["change_at_target"]["value"] for one in mine]),
        "auc": interval([one["auc"] for one in mine]),
    }


def interval(values: Sequence[float | None]) -> Mean:
    """Mean and Student's interval of the values that are known; of one there is no interval.

    >>> {name: round(value, 3) for name, value in interval([1.0, None, 2.0, 3.0]).items()}
    {'mean': 2.0, 'low': -0.484, 'high': 4.484}
    """
    known = np.array([value for value in values if value is not None], dtype=float)
    if len(known) < 2:
        return {"mean": float(known[0]) if len(known) else None, "low": None, "high": None}
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known)))
    return {"mean": float(known.mean()), "low": float(known.mean()) - half, "high": float(known.mean()) + half}
