"""How good a training is when its labels are wrong: flipped labels, colluding reporters, no complaints at all.

python -m tests.bench.robustness.bench_stress [--size small] [--seeds 1,2,3] [--scenario FILE] [--label-policy FILE]
    [--threads 0]

Each simulated world is trained on clean labels, then again with each fault. All faults enter before the label policy,
so the policy is tested with them. The truth of a world judges all of its models on the same calls, so differences are
paired. Within a world a difference has a bootstrap interval over callers; over worlds it is a mean with Student's
interval. Prints JSON: the figures of each training, and of each fault over all worlds.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from callsieve.features.arrays import Array
from callsieve.features.complaints import COMPLAINT_NAMES
from callsieve.features.files.progress import silent
from callsieve.features.keys.tokens import Key
from callsieve.training.data.dataset import Dataset
from callsieve.training.data.label_policy import LabelPolicy, read_label_policy
from callsieve.training.data.labels import label_numbers
from callsieve.training.judging.judge import summarise
from callsieve.training.judging.metrics import threshold_at_rate
from callsieve.training.model.bands import TARGETS, aligned_scores
from callsieve.training.model.certify import difference_interval
from callsieve.training.model.settings import Settings
from callsieve.training.model.split import fold_plan
from callsieve.training.model.train import Trained, train
from callsieve.training.studies.demo import of_world
from callsieve.training.studies.simulated import KEY_EPOCH, simulated
from tests.bench.harness import interval, parser_of

Change = Callable[[Dataset, Settings, pd.Timestamp, int], tuple[Dataset, Settings]]

FLIPS, RING = (0.05, 0.10, 0.20), 0.01
CLEAN = "clean"
HOUR = pd.Timedelta(hours=1)
TARGETED = 20  # numbers of either kind that colluding reporters agree on


def with_flips(dataset: Dataset, share: float, cutoff: pd.Timestamp, policy: LabelPolicy, seed: int) -> Dataset:
    """Adds a finding, known at the cutoff, that contradicts the label of this share of labelled numbers.

    A finding weighs more than any complaint, so these flips are at least as hard on a model as flipped labels.

    Raises:
        ValueError: if the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share of flipped labels: expected more than 0, less than 1, got {share}")
    labels = label_numbers(dataset, cutoff, policy).sort_values("number", kind="stable")
    chosen = np.random.default_rng(seed).permutation(len(labels))[: round(share * len(labels))]
    flipped = labels.iloc[np.sort(chosen)]
    findings = dataset.findings
    false = pd.DataFrame({"number": flipped["number"], "nuisance": ~flipped["nuisance"], "known_at": cutoff})
    false = false.astype({"known_at": findings["known_at"].dtype, "number": findings["number"].dtype})
    true = findings[~(findings["number"].isin(false["number"]) & (findings["known_at"] <= cutoff))]
    return replace(dataset, findings=pd.concat([true, false[list(findings.columns)]], ignore_index=True))


def with_collusion(dataset: Dataset, share: float, cutoff: pd.Timestamp, seed: int) -> Dataset:
    """Adds a ring: this share of the reporters complain about innocent numbers and vote for nuisance numbers.

    Each of them names the TARGETED numbers of either kind that called most of the ring. The complaint comes an hour
    after a call of the number, if there was a call. The ring knows the truth and chooses its best targets.

    Raises:
        ValueError: if the data set has no truth or no complaint.
    """
    if dataset.truth is None:
        raise ValueError("collusion: expected a truth: without it the innocent numbers are not known")
    complaints = dataset.complaints
    reporters = np.sort(complaints["reporter"].unique().astype(str))
    if not len(reporters):
        raise ValueError("collusion: expected complaints, got none")
    count = max(1, round(share * len(reporters)))
    ring = np.random.default_rng(seed).permutation(reporters)[:count]
    before = cutoff - 2 * HOUR
    calls = calls_before(dataset, before)
    added = []
    for nuisance, category in ((False, "fraud"), (True, "not_nuisance")):
        of_kind = calls[calls["nuisance"] == nuisance]
        to_ring = of_kind[of_kind["callee"].isin(ring)]
        reach = to_ring.groupby("caller")["callee"].nunique().sort_values(ascending=False, kind="stable")
        busiest = of_kind["caller"].value_counts(sort=True)
        targets = list(dict.fromkeys([*reach.index, *busiest.index]))[:TARGETED]
        last = to_ring.groupby(["caller", "callee"])["start"].max()
        pairs = pd.MultiIndex.from_product([targets, ring], names=["caller", "callee"])
        at = last.reindex(pairs).fillna(before) + HOUR
        rows = pairs.to_frame(index=False).assign(at=at.to_numpy(), category=category)
        added.append(rows.rename(columns={"caller": "number", "callee": "reporter"}))
    false = pd.concat(added, ignore_index=True)
    false["at"] = false["at"].dt.tz_localize("UTC") if false["at"].dt.tz is None else false["at"]
    false["known_at"] = false["at"]
    types = {name: complaints[name].dtype for name in ("at", "known_at", "number", "reporter", "category")}
    return replace(dataset, complaints=pd.concat([complaints, false.astype(types)], ignore_index=True))


def calls_before(dataset: Dataset, moment: pd.Timestamp) -> pd.DataFrame:
    """Returns caller, callee and start of calls before a moment, and whether the caller made nuisance calls."""
    assert dataset.truth is not None
    early = pc.less(dataset.calls["start"], int(moment.timestamp() * 1000))
    calls = dataset.calls.select(["caller", "callee", "start"]).filter(early)
    frame = pd.DataFrame({name: calls[name].cast("string").to_pandas() for name in ("caller", "callee")})
    frame["start"] = pd.to_datetime(calls["start"].to_numpy(), unit="ms", utc=True)
    nuisance = dataset.calls["caller"].filter(dataset.truth["nuisance"]).cast("string")
    frame["nuisance"] = frame["caller"].isin(set(pc.unique(nuisance).to_pylist()))
    return frame


def without_complaints(dataset: Dataset) -> Dataset:
    """Returns the data set without any complaint."""
    return replace(dataset, complaints=dataset.complaints.iloc[:0])


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
    worlds: Iterable[tuple[int, Dataset]], settings: Settings, faults: Sequence[str] = tuple(FAULTS)
) -> dict[str, Any]:
    """Trains on each world with clean labels, then with each fault.

    Args:
        worlds: seed and dataset of each world, made when it is needed, so that one is in memory at a time.
        faults: names of FAULTS; "clean" comes first.
    Returns: plain values for JSON: `trainings`, the figures of each training; `faults`, each fault over all worlds.
    Raises:
        ValueError: if a world has no truth.
    """
    trainings: list[dict[str, Any]] = []
    for place, (seed, dataset) in enumerate(worlds):
        if dataset.truth is None:
            raise ValueError("stress: expected a truth to judge by, because wrong labels cannot judge")
        clean: Flags | None = None
        for name in faults:
            print(f"world {seed}: {name}", file=sys.stderr, flush=True)
            figures, flags = one_training(dataset, replace(settings, seed=seed), name, seed)
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


def one_training(dataset: Dataset, settings: Settings, name: str, seed: int) -> tuple[dict[str, Any], Flags]:
    """Returns the figures of a training with one fault, and what it flagged."""
    folds = fold_plan(dataset.calls, settings.label_delay_days)
    cutoff = pd.Timestamp(folds.label_cutoff, unit="ms", tz="UTC")
    trained = train(*FAULTS[name](dataset, settings, cutoff, seed))
    figures = summarise(trained)
    head = figures["headline"]
    summary = {
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


def change(faulty: Array, clean: Array, caller: Array, seed: int) -> dict[str, float | None]:
    """Returns catch with a fault minus catch without it, on the same calls, with a bootstrap interval over callers."""
    if not len(clean):
        return {"value": None, "low": None, "high": None}
    low, high = difference_interval(faulty, clean, caller, seed=seed)
    return {"value": float((faulty.astype(float) - clean).mean()), "low": low, "high": high}


def over_worlds(trainings: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
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


def different_seeds(text: str) -> list[int]:
    """Returns the seeds in a text. Raises ValueError: if they are not different whole numbers."""
    try:
        seeds = [int(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"seeds: expected whole numbers separated by commas, got {text[:40]!r}") from None
    if len(set(seeds)) < len(seeds):  # a repeated world would make the intervals too narrow
        raise ValueError(f"seeds: expected different seeds, got {text[:40]!r}")
    return seeds


def main() -> None:
    """Prints the figures of all worlds as JSON."""
    parser = parser_of(__doc__, size="small", seeds="1,2,3", threads=0)
    parser.add_argument("--scenario", type=Path)
    parser.add_argument("--label-policy", type=Path)
    options = parser.parse_args()
    settings = Settings(threads=options.threads, label_policy=read_label_policy(options.label_policy))
    simulated_worlds = worlds(options.size, different_seeds(options.seeds), options.scenario)
    print(json.dumps(stress(simulated_worlds, settings), allow_nan=False))


if __name__ == "__main__":
    main()
