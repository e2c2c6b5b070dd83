"""Trains the shipped model anew without one of its choices at a time, and judges on other worlds and networks.

python -m tests.bench.robustness.bench_ablation FOLDER --simulator SCRIPT [--seeds 81,82] [--people 3000]
    [--only "6 worlds"] [--worlds 16] [--others 2] [--size small] [--json]

Each variant learns from varied worlds with their truth, as `callsieve study worlds` does but for one thing, and chooses
its thresholds on them. Judged are worlds of other seeds, of which half are varied, and networks of another simulator,
three forms of each seed. No world or network judges the shipped model. FOLDER gets the worlds; those that it has are
used again. A variant takes about ten minutes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from msgspec import structs

from callsieve.features.arrays import Array
from callsieve.features.catalogue import NAMES
from callsieve.features.files.progress import silent
from callsieve.serving.bundle.level import level_of
from callsieve.serving.bundle.metadata import Band, Level
from callsieve.serving.rules.strata import STRATA, strata_of
from callsieve.serving.scorer.network_scores import sampled
from callsieve.training.data.feeds import COMPLETE, vectors_on
from callsieve.training.data.sources import Source, folder_sources
from callsieve.training.evidence import judging_labels
from callsieve.training.model import models, pool
from callsieve.training.model.bands import FeedScores, bands_of, caution_of, chosen_on
from callsieve.training.model.fit import cv_fold_of_calls
from callsieve.training.model.matrix import feature_columns
from callsieve.training.model.models import Fitted, fit_all
from callsieve.training.model.pool import Gathered, gather
from callsieve.training.model.scores import (
    levels_of_folders,
    out_of_fold_scores,
    range_of_levels,
    score_rows,
    shifts_of_folders,
)
from callsieve.training.model.settings import Settings
from callsieve.training.model.train import weighted_rows
from callsieve.training.studies.simulated import simulate_worlds
from callsieve.training.studies.worlds import CALLER_FEATURES, LEARN_SEED, PARAMETERS
from callsieve.training.world.basis import variation
from tests.bench.bench_worlds import DEVELOPMENT, of_world
from tests.bench.harness import parser_of, show
from tests.bench.robustness.bench_adapt import network_of, networks
from tests.bench.robustness.bench_transfer import FIRST_DAY, TARGET

JUDGED_CALLS = 200_000  # of a network of another simulator, at random
DAY = 86_400_000
CALLBACKS = ("calls back to honest numbers", "calls back to nuisance numbers", "calls of customers")


@dataclass(frozen=True, slots=True)
class Variant:
    """A training that differs in one thing from that of the shipped model.

    worlds: how many to learn from; 0 for as many as the shipped model. scenario: name of a shipped scenario. narrow:
    whether callbacks and inbound calls vary by 1.7 alone. fixed: whether thresholds stay as they are on each network.
    announcers: whether surveys and announcements choose thresholds.
    """

    worlds: int = 0
    size: str = ""
    scenario: str = ""
    narrow: bool = False
    features: tuple[str, ...] = CALLER_FEATURES
    fixed: bool = False
    announcers: bool = False
    poorer: bool = False


VARIANTS = {
    "as shipped": Variant(),
    "fixed thresholds": Variant(fixed=True),
    "thresholds by surveys, too": Variant(announcers=True),
    "with features of the single call": Variant(features=NAMES),
    "6 worlds": Variant(worlds=6),
    "32 worlds": Variant(worlds=32),
    "4 towns": Variant(worlds=4, size="town"),
    "callbacks varied by 1.7": Variant(narrow=True),
    "with look-alikes": Variant(scenario="look_alikes"),
    "rows of poorer feeds, too": Variant(poorer=True),
}


@dataclass(frozen=True, slots=True)
class Model:
    """A fitted model with its band and the levels that its thresholds are distances from."""

    fitted: Fitted
    columns: list[int]
    band: Band
    level: Level | None

    def flagged(self, raw: Array, stratum: Array) -> Array:
        """Returns which calls reach the thresholds, by raw scores less the shift of their network."""
        return np.asarray(raw >= np.array([self.band.threshold_for(word) for word in STRATA])[stratum])


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Calls of a network of another simulator that judge: vectors and truth."""

    name: str
    X: Array
    nuisance: Array


def main() -> None:
    """Prints the figures of each variant on each world and network."""
    parser = parser_of(
        __doc__,
        "folder",
        simulator="",
        seeds="81,82",
        people=3000,
        only="",
        worlds=16,
        others=2,
        size="small",
        json=False,
    )
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(VARIANTS)
    with tempfile.TemporaryDirectory() as work:
        seeds = options.seeds.split(",") if options.simulator else ()
        folders = networks(options.simulator, options.people, seeds, Path(work))
        elsewhere = [calls_elsewhere(folder) for folder in folders]
    report = {}
    for name in chosen:
        report[name] = figures_of(VARIANTS[name], options, elsewhere)
        print(name, report[name]["mean"], file=sys.stderr, flush=True)
    show(report, as_json=options.json)


def calls_elsewhere(folder: Path) -> Elsewhere:
    """Returns random calls of a network whose caller's truth is known, after the days that fill the windows."""
    with tempfile.TemporaryDirectory() as work:
        dataset, _, bad = network_of(folder, Path(work))
    start = dataset.calls["start"].to_numpy()
    rows = np.flatnonzero((start >= start.min() + FIRST_DAY * DAY) & (bad >= 0))
    rows = np.sort(np.random.default_rng(1).permutation(rows)[:JUDGED_CALLS])
    return Elsewhere(folder.name, vectors_on(COMPLETE, dataset, NAMES, 0, rows).X, bad[rows] == 1)


def figures_of(variant: Variant, options: Any, elsewhere: Sequence[Elsewhere]) -> dict[str, Any]:
    """Trains a variant, and returns innocent calls flagged in 10,000 and the catch on each world and network."""
    size, count = variant.size or options.size, variant.worlds or options.worlds
    sources = sources_of(options.folder, variant, size, count, options.others)
    settings = Settings(
        seed=1, learn_from="truth", features=variant.features, parameters=PARAMETERS, poorer_feeds=variant.poorer
    )
    with patch.object(pool, "POORER_FEEDS", ()), patch.object(models, "CLASS_MODELS", ()):
        gathered = gather(sources, settings, silent)
        model, raw = fit_model(gathered, settings, variant)
    stratum, result = strata_of(gathered.vectors.array()), {}
    raw -= shifts_of_folders(model.level, raw, gathered.pool)[gathered.pool.folder]
    flagged = model.flagged(raw, stratum)
    for place in range(count, len(sources)):
        own = of_world(gathered, flagged, place)
        result[sources[place].name] = {"flagged_in_10000": own["false"], "caught": own["catch"], "soon": own["soon"]}
    for network in elsewhere:
        result[network.name] = on_network(model, network)
    kinds = {"worlds": [source.name for source in sources[count:]], "networks": [own.name for own in elsewhere]}
    means = {
        kind: {name: float(np.mean([result[own][name] for own in names])) for name in ("flagged_in_10000", "caught")}
        for kind, names in kinds.items()
        if names
    }
    return {"mean": means, **result}


def sources_of(folder: Path, variant: Variant, size: str, count: int, others: int) -> list[Source]:
    """Returns the worlds of a variant to learn from, and those to judge on; simulates those that the folder lacks."""
    learn = folder / "-".join(filter(None, ("learn", size, variant.scenario, "narrow" if variant.narrow else "")))
    kinds = [(learn, LEARN_SEED, count, True, size, variant.scenario)]
    kinds += [(folder / name, seed, others, varied, "small", "") for name, (seed, varied) in DEVELOPMENT.items()]
    ranges = variation.shipped_variation()
    narrowed = structs.replace(ranges, range=tuple(narrow(row) for row in ranges.range))
    for path, seed, worlds, varied, of_size, scenario in kinds:
        where = resources.files(variation.__package__) / f"{scenario}.toml" if scenario else None
        drawn_from = narrowed if variant.narrow and path == learn else ranges
        with patch.object(variation, "shipped_variation", lambda drawn_from=drawn_from: drawn_from):
            variation.range_of.cache_clear()
            simulate_worlds(
                path,
                worlds,
                size=of_size,
                seed=seed,
                scenario=None if where is None else Path(str(where)),
                key=None,
                progress=silent,
                varied=varied,
            )
    variation.range_of.cache_clear()
    read = folder_sources([path for path, *_ in kinds[:1]], [path for path, *_ in kinds[1:]])
    own = [source for source in read if source.role == "learn"][:count]
    return own + [source for source in read if source.role == "certify"]


def narrow(row: variation.Range) -> variation.Range:
    """Returns a range of callbacks or inbound calls that varies by 1.7 alone, or another range as it is."""
    if row.title not in CALLBACKS:
        return row
    return structs.replace(row, worldwide=variation.UNVARIED, factor=(0.6, 1.7))


def fit_model(gathered: Gathered, settings: Settings, variant: Variant) -> tuple[Model, Array]:
    """Fits a model and chooses its band; returns raw scores, out-of-fold where thresholds are chosen."""
    calls, X, columns = gathered.pool, gathered.vectors.array(), feature_columns(settings.features)
    matrix = weighted_rows(gathered.matrix, settings)
    fitted = fit_all(matrix, settings, lambda _: None, gathered.learnt.release)
    fold = cv_fold_of_calls(getattr(matrix, fitted.unit), fitted.row_fold, getattr(calls, fitted.unit))
    every = np.arange(len(X))
    raw = score_rows(fitted.models["model"], X, every, calls.certify | calls.new, columns, settings.threads)
    members = [
        score_rows(text, X, every, calls.choose & np.isin(fold, part), columns, settings.threads)
        for text, part in zip(fitted.members["model"], fitted.held_out, strict=True)
    ]
    raw = out_of_fold_scores(raw, members, fitted.held_out, fold, calls.choose)
    level = None if variant.fixed else range_of_levels(levels_of_folders(raw, calls), calls)
    shifted = raw - shifts_of_folders(level, raw, calls)[calls.folder]
    with patch.object(judging_labels, "ANNOUNCERS", () if variant.announcers else judging_labels.ANNOUNCERS):
        chosen = chosen_on(calls)
    band = bands_of(FeedScores(shifted, strata_of(X)), chosen, np.zeros(len(X), bool), caution_of(by_folder=True))[0]
    return Model(fitted, columns, band, level), raw


def on_network(model: Model, network: Elsewhere) -> dict[str, float]:
    """Returns the figures of a model on a network of another simulator; it flags nothing on one unlike its own."""
    every = np.ones(len(network.X), dtype=bool)
    raw = score_rows(model.fitted.models["model"], network.X, np.arange(len(every)), every, model.columns, 0)
    bad = network.nuisance
    edge = np.sort(raw[~bad])[::-1][int(TARGET * (~bad).sum())]
    shift = None if model.level is None else model.level.shift(level_of(sampled(raw).tolist()))
    amount = 0.0 if shift is None else shift.amount
    flagged = model.flagged(raw - amount, strata_of(network.X)) & (shift is None or not shift.unlike)
    return {
        "flagged_in_10000": float(flagged[~bad].mean() * 1e4),
        "caught": float(flagged[bad].mean()),
        "caught_in_hindsight": float((raw[bad] > edge).mean()),
        "shift": amount,
    }


if __name__ == "__main__":
    main()
