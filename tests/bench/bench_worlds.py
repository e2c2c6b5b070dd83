"""How a model grows with the worlds that it learns from, and what each family of features is worth.

python -m tests.bench.bench_worlds FOLDER [--counts 1,2,4,8,16] [--families 0] [--labels 8] [--others 4] [--size small]
    [--threads 2]

Learns with their truth from the first 1, 2, 4, ... varied worlds, at 50,000 calls a world; from
`--families` worlds without each family of features; and from the reported labels of the first 8. Judges on 8 worlds of
other seeds, with the thresholds of training. The judging worlds of `callsieve study worlds` are not among them. FOLDER
gets the worlds; those that it has are used again. Prints JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from callsieve.features.catalogue import NAMES
from callsieve.features.files.progress import silent
from callsieve.serving.rules.strata import STRATA, strata_of
from callsieve.training.data.sources import Source, folder_sources
from callsieve.training.judging.detection import calls_to_detection
from callsieve.training.model import pool
from callsieve.training.model.bands import bands_of, caution_of
from callsieve.training.model.certify import FeedScores
from callsieve.training.model.fit import cv_fold_of_calls
from callsieve.training.model.matrix import Matrix, feature_columns
from callsieve.training.model.models import fit_all
from callsieve.training.model.pool import Gathered, gather
from callsieve.training.model.scores import out_of_fold_scores, score_rows
from callsieve.training.model.settings import Settings
from callsieve.training.model.train import weighted_rows
from callsieve.training.studies.simulated import simulate_worlds
from tests.bench.harness import parser_of

LEARN_SEED = 101
# Family -> prefixes of its features.
FAMILIES = {
    "call and called": ("call_", "callee_"),
    "block, trunk and device": ("block_", "trunk_", "device_"),
    "incoming calls and pairs": ("in_", "pair_", "out_mutual", "out_returned"),
    "age of the number": ("number_", "out_active_days", "out_days_since_last"),
    "outcomes and talk": (
        "out_answered", "out_no_answer", "out_busy", "out_rejected", "out_unwanted", "out_invalid", "out_ring",
        "out_one_rings", "out_hung_up", "out_talk", "out_occupancy",
    ),
    "rhythm": ("out_gap", "out_short_gaps", "out_hour", "out_day", "out_night", "out_since", "out_in_air"),
    "volume and spread": (
        "out_calls", "out_last_", "out_surge", "out_callee", "out_new_callees", "out_near", "out_local"
    ),
}  # fmt: skip
DEVELOPMENT = {"default": (201, False), "varied": (211, True)}  # first seed, whether varied


def main() -> None:
    """Prints the figures of each model."""
    defaults = {"counts": "1,2,4,8,16", "families": 0, "labels": 8, "others": 4, "size": "small", "threads": 2}
    options = parser_of(__doc__, "folder", **defaults).parse_args()
    counts = [int(count) for count in options.counts.split(",")]
    labels = min(options.labels, max(counts))
    learn, others = simulated_sources(options.folder, max(counts), options.others, options.size)
    settings = Settings(seed=1, threads=options.threads, learn_from="truth")
    trials = {f"{count} worlds": (settings, count) for count in counts}
    if options.families:
        for family in FAMILIES:
            rest = replace(settings, features=tuple(name for name in NAMES if family_of(name) != family))
            trials[f"{options.families} worlds without {family}"] = rest, options.families
    by_labels = replace(settings, learn_from="labels")
    figures: dict[str, Any] = {
        "worlds": pooled(learn[: max(counts)], others, trials),
        "labels": pooled(learn[:labels], others, {f"{labels} worlds, reported labels": (by_labels, labels)}),
    }
    print(json.dumps(figures), flush=True)


def family_of(name: str) -> str:
    """Returns the family of a feature.

    >>> family_of("out_gap_mean_1h"), family_of("out_days_since_last")
    ('rhythm', 'age of the number')
    """
    lengths = {
        prefix: family for family, prefixes in FAMILIES.items() for prefix in prefixes if name.startswith(prefix)
    }
    return lengths[max(lengths, key=len)]


def simulated_sources(folder: Path, count: int, others: int, size: str) -> tuple[list[Source], list[Source]]:
    """Returns the worlds to learn from and those to judge on; simulates those that the folder lacks."""
    kinds = {"learn": (LEARN_SEED, count, True)}
    kinds |= {f"dev/{name}": (seed, others, varied) for name, (seed, varied) in DEVELOPMENT.items()}
    for name, (seed, worlds, varied) in kinds.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        simulate_worlds(
            folder / name, worlds, size=size, seed=seed, scenario=None, key=None, progress=silent, varied=varied
        )
    sources = folder_sources([folder / "learn"], [folder / name for name in kinds if name != "learn"])
    return (
        [source for source in sources if source.role == "learn"][:count],
        [source for source in sources if source.role == "certify"],
    )


def pooled(
    learn: Sequence[Source], others: Sequence[Source], trials: Mapping[str, tuple[Settings, int]]
) -> dict[str, list[dict[str, float]]]:
    """Returns the figures of each trial on each world to judge on.

    Args:
        trials: settings, and the number of worlds to learn from; the first has all features.
    """
    with patch.object(pool, "POORER_FEEDS", ()):  # only the complete feed is judged here
        gathered = gather([*learn, *others], next(iter(trials.values()))[0], silent)
    figures = {}
    for name, (settings, count) in trials.items():
        figures[name] = of_count(gathered, settings, count, len(learn))
        catch = sum(world["catch"] for world in figures[name]) / len(others)
        print(f"{name}: mean catch {catch:.3f}", file=sys.stderr, flush=True)
    return figures


def of_count(gathered: Gathered, settings: Settings, count: int, first_other: int) -> list[dict[str, float]]:
    """Fits a model on the rows of the first worlds, and judges it on the worlds from `first_other` on."""
    matrix = rows_of(gathered.matrix, gathered.matrix.folder < count)
    matrix, columns = weighted_rows(matrix, settings), feature_columns(settings.features)
    fitted = fit_all(matrix, settings, lambda _: None, gathered.learnt.release)
    calls, X = gathered.pool, gathered.vectors.array()
    fold = cv_fold_of_calls(getattr(matrix, fitted.unit), fitted.row_fold, getattr(calls, fitted.unit))
    inside = calls.folder < count
    choose, every = calls.choose & inside, np.arange(len(X))
    parts = fitted.held_out
    raw = score_rows(fitted.models["model"], X, every, (calls.folder >= first_other) & calls.scored, columns, 2)
    members = [
        score_rows(text, X, every, choose & np.isin(fold, part), columns, 2)
        for text, part in zip(fitted.members["model"], parts, strict=True)
    ]
    raw = out_of_fold_scores(raw, members, parts, fold, choose)
    scores, benign = FeedScores(raw, strata_of(X)), ~calls.judged.nuisance
    band = bands_of(scores, choose & benign, calls.certify & benign, caution_of(by_folder=fitted.by_folder))[0]
    flagged = raw >= np.array([band.threshold_for(word) for word in STRATA])[scores.stratum]
    worlds = range(first_other, int(calls.folder.max()) + 1)
    return [of_world(gathered, flagged, place) for place in worlds]


def of_world(gathered: Gathered, flagged: Any, place: int) -> dict[str, float]:
    """Returns catch, false calls in 10,000 and early detection on one world."""
    calls = gathered.pool
    there = calls.folder == place
    certify, nuisance = there & calls.certify, calls.judged.nuisance
    lives = there & calls.new & ~calls.trained
    detection = calls_to_detection(np.where(flagged[lives], 1.0, 0.0), 0.5, calls.caller[lives], calls.start[lives])
    return {
        "catch": float(flagged[certify & nuisance].mean()),
        "false": 1e4 * float(flagged[certify & ~nuisance].mean()),
        "soon": float(detection["soon_share"] or 0.0),
        "stopped": float(detection["stopped_share"] or 0.0),
    }


def rows_of(matrix: Matrix, rows: Any) -> Matrix:
    """Returns some rows of a training matrix."""
    return Matrix(**{field.name: getattr(matrix, field.name)[rows] for field in fields(Matrix)})


if __name__ == "__main__":
    main()
