"""What each group of features is worth: the model trained anew without it, on the same calls.

python tests/bench/bench_ablation.py [--size small] [--subscribers N] [--seed 1] [--threads 2] [--json]

Catch rate on the certifying fold, groups of callers unseen in training: at each model's own certified threshold, and at
equal errors (1 in 10,000 and 1 in 1,000 of that fold's benign calls), with the change against all features and its
interval with callers resampled. Calls until half of the new nuisance numbers are found. Nothing is chosen by these.

Vectors are made once for all trainings, and no models of content and mode are grown.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from callsieve.features.catalogue import NAMES, vector_columns
from callsieve.features.complaints import COMPLAINT_NAMES
from callsieve.features.keys.tokens import Key
from callsieve.training.data.dataset import Dataset
from callsieve.training.judging.judge import summarise
from callsieve.training.model import train as steps
from callsieve.training.model.call_choice import fold_rows
from callsieve.training.model.certify import difference_interval
from callsieve.training.model.settings import Settings
from callsieve.training.model.train import Trained, train
from callsieve.training.studies.demo import of_world
from callsieve.training.studies.simulated import simulated

# Group -> how its features' names begin or what they hold; the first group that fits has a feature.
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
    """The group of a feature.

    >>> group_of("out_gap_mean_1h")
    'timing'
    """
    return next(group for group, begins in GROUPS.items() if name.startswith(begins))


def main() -> None:
    """Print a line a group."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small")
    parser.add_argument("--subscribers", type=int, help="another number of them than the size has")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder) / "scenario.toml" if given.subscribers else None
        if scenario:
            scenario.write_text(f"[sizes.{given.size}]\nsubscribers = {given.subscribers}\n", encoding="utf-8")
        world = simulated(given.size, given.seed, scenario, Key("e1", secrets.token_bytes(32)), lambda *_: None)
    dataset = of_world(world)
    # The vectors are the same each time; columns are chosen when a model is fitted.
    for make in ("complete", "answered_only", "learnt_vectors"):
        setattr(steps, make, remembered(getattr(steps, make)))
    steps.class_words = lambda *_: ()

    def trained(features: tuple[str, ...]) -> Trained:
        return train(dataset, Settings(seed=given.seed, threads=given.threads, features=features))

    whole = trained(NAMES)
    lines = [told("all", whole, whole)]
    show(lines[-1], as_json=given.json)
    for group in GROUPS:
        lines.append(told(f"without {group}", trained(tuple(n for n in NAMES if group_of(n) != group)), whole))
        show(lines[-1], as_json=given.json)
    lines.append(told("with reports", trained(NAMES + COMPLAINT_NAMES), whole))
    show(lines[-1], as_json=given.json)
    if given.json:
        print(json.dumps({"size": given.size, "seed": given.seed, "calls": dataset.calls.num_rows, "lines": lines}))


def remembered(make: Callable[..., Any]) -> Callable[..., Any]:
    """The same, made once for each kind of vectors: the calls that are asked for do not depend on the features."""
    made: dict[tuple[str, ...], Any] = {}

    def once(dataset: Dataset, features: tuple[str, ...], *rest: Any) -> Any:
        columns = vector_columns(features)
        if columns not in made:
            made[columns] = make(dataset, features, *rest)
        return made[columns]

    return once


def told(name: str, model: Trained, whole: Trained) -> dict[str, Any]:
    """The figures of a model beside those of the whole one."""
    head = summarise(model)["headline"]
    rows = fold_rows("certify", model.plan.certify, model.fold, model.start) & model.judged.known
    return {
        "name": name,
        "features": len(model.settings.features),
        "certified_catch": head["catch"]["call"]["rate"],
        "false_calls": head["false_calls"],
        "at_equal_error": {f"{error:g}": changed(model, whole, rows, error) for error in ERRORS},
        "median_calls": head["detection"]["median"],
    }


def changed(model: Trained, whole: Trained, rows: np.ndarray, error: float) -> dict[str, float]:
    """What a model catches at a benign error, and how much more that is than what the whole one does."""
    nuisance = model.judged.nuisance[rows]
    hits, before = (above(one.raw[rows], nuisance, error)[nuisance] for one in (model, whole))
    low, high = difference_interval(hits, before, model.caller[rows][nuisance], seed=model.settings.seed)
    return {"catch": float(hits.mean()), "change": float(hits.mean() - before.mean()), "low": low, "high": high}


def above(raw: np.ndarray, nuisance: np.ndarray, error: float) -> np.ndarray:
    """Which calls are above the score that such a part of the benign ones exceeds."""
    benign = np.sort(raw[~nuisance])[::-1]
    return raw > benign[int(error * len(benign))]


def show(line: dict[str, Any], *, as_json: bool) -> None:
    """One line, as soon as it is known."""
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
