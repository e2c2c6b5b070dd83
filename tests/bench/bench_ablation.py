"""Measures the worth of each group of features: a model is trained without it on the same calls.

python tests/bench/bench_ablation.py [--size small] [--subscribers N] [--seed 1] [--threads 2] [--json]

Prints the catch rate on the certifying fold, whose groups of callers were not in training. It is measured at each
model's own certified threshold, and at equal errors: 1 in 10,000 and 1 in 1,000 of that fold's benign calls. The change
against all features has an interval with callers resampled. Also the calls until half of the new nuisance numbers are
detected. No choice depends on these figures.

Vectors are computed once for all trainings; no models of content and mode are trained.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import parser_of, simulated_world

from callsieve.features.catalogue import NAMES, vector_columns
from callsieve.features.complaints import COMPLAINT_NAMES
from callsieve.training.data.dataset import Dataset
from callsieve.training.judging.judge import summarise
from callsieve.training.model import pool
from callsieve.training.model import train as steps
from callsieve.training.model.certify import difference_interval
from callsieve.training.model.settings import Settings
from callsieve.training.model.train import Trained, train
from callsieve.training.studies.demo import of_world

# Group -> prefixes of feature names; a feature belongs to the first group that matches.
GROUPS = {
    "call itself": ("call_",),
    "callee": ("callee_",),
    "block": ("block_",),
    "trunk": ("trunk_",),
    "device": ("device_",),
    "lifetime": ("number_", "out_active_days", "out_days_since_last"),
    "reciprocity": ("in_", "pair_", "out_mutual", "out_returned"),
    "talk": ("out_talk", "out_occupancy"),
    "outcomes": (
        "out_answered", "out_no_answer", "out_busy", "out_rejected", "out_unwanted", "out_invalid", "out_ring",
        "out_one_rings", "out_hung_up",
    ),
    "timing": ("out_gap", "out_short_gaps", "out_hour", "out_day", "out_night", "out_since", "out_in_air"),
    "diversity": ("out_callee", "out_new_callees", "out_near", "out_local"),
    "volume": ("out_calls", "out_last_", "out_surge"),
}  # fmt: skip
ERRORS = (1e-4, 1e-3)


def group_of(name: str) -> str:
    """Returns the group of a feature.

    >>> group_of("out_gap_mean_1h")
    'timing'
    """
    return next(group for group, begins in GROUPS.items() if name.startswith(begins))


def main() -> None:
    """Prints a line for each group."""
    parser = parser_of(__doc__, size="small", seed=1, threads=2, json=False)
    parser.add_argument("--subscribers", type=int, help="replaces the number of the size")
    options = parser.parse_args()
    dataset = of_world(simulated_world(options.size, options.seed, subscribers=options.subscribers))
    # All models share the vectors; columns are chosen when a model is fitted.
    for make in ("vectors_on", "training_vectors"):
        setattr(pool, make, remembered(getattr(pool, make)))
    steps.class_words = lambda *_: ()

    def trained(features: tuple[str, ...]) -> Trained:
        return train(dataset, Settings(seed=options.seed, threads=options.threads, features=features))

    whole = trained(NAMES)
    lines = [comparison("all", whole, whole)]
    show(lines[-1], as_json=options.json)
    for group in GROUPS:
        lines.append(comparison(f"without {group}", trained(tuple(n for n in NAMES if group_of(n) != group)), whole))
        show(lines[-1], as_json=options.json)
    lines.append(comparison("with reports", trained(NAMES + COMPLAINT_NAMES), whole))
    show(lines[-1], as_json=options.json)
    if options.json:
        print(json.dumps({"size": options.size, "seed": options.seed, "calls": dataset.calls.num_rows, "lines": lines}))


def remembered(make: Callable[..., Any]) -> Callable[..., Any]:
    """Caches the results of `make` by vector columns: the chosen calls do not depend on the features."""
    results: dict[tuple[str, ...], Any] = {}

    def once(dataset: Dataset, features: tuple[str, ...], *rest: Any) -> Any:
        columns = vector_columns(features)
        if columns not in results:
            results[columns] = make(dataset, features, *rest)
        return results[columns]

    return once


def comparison(name: str, model: Trained, whole: Trained) -> dict[str, Any]:
    """Returns the figures of a model, with the change against the model of all features."""
    head = summarise(model)["headline"]
    rows = model.pool.certify
    return {
        "name": name,
        "features": len(model.settings.features),
        "certified_catch": head["catch"]["call"]["rate"],
        "false_calls": head["false_calls"],
        "at_equal_error": {f"{error:g}": change_at_error(model, whole, rows, error) for error in ERRORS},
        "median_calls": head["detection"]["median"],
    }


def change_at_error(model: Trained, whole: Trained, rows: np.ndarray, error: float) -> dict[str, float]:
    """Returns the catch rate of a model at a benign error, and the change against the model of all features."""
    nuisance = model.pool.judged.nuisance[rows]
    hits, before = (above(trained.raw[rows], nuisance, error)[nuisance] for trained in (model, whole))
    low, high = difference_interval(hits, before, model.pool.caller[rows][nuisance], seed=model.settings.seed)
    return {"catch": float(hits.mean()), "change": float(hits.mean() - before.mean()), "low": low, "high": high}


def above(raw: np.ndarray, nuisance: np.ndarray, error: float) -> np.ndarray:
    """Returns which calls are above the score that a share `error` of the benign calls exceeds."""
    benign = np.sort(raw[~nuisance])[::-1]
    return raw > benign[int(error * len(benign))]


def show(line: dict[str, Any], *, as_json: bool) -> None:
    """Prints a line as soon as it is known."""
    equal = "".join(
        f"  at {error} {of['catch']:6.1%} {of['change']:+6.1%} [{of['low']:+.1%}, {of['high']:+.1%}]"
        for error, of in line["at_equal_error"].items()
    )
    print(
        f"{line['name']:22}{line['features']:4}  certified {line['certified_catch']:6.1%} ({line['false_calls']} false)"
        f"{equal}  median {line['median_calls']} calls",
        file=sys.stderr if as_json else sys.stdout,
        flush=True,
    )


if __name__ == "__main__":
    main()
