"""Counts by number: nuisance numbers that are flagged by their 50th call, where 1 in 10,000 innocent numbers is.

python -m tests.bench.bench_numbers BUNDLE [--size small] [--seeds 231,232,233,234] [--threads 2]

Simulates a world a seed and scores all of its calls. A number is flagged if a call of it reaches a threshold. Two are
counted: that of the bundle, and the one that flags 1 in 10,000 of the world's innocent numbers (in hindsight, as
published figures by number are). Nuisance numbers count if they began in the records and made 50 calls or more. Prints
JSON.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from callsieve.features.files.dates import DAY
from callsieve.serving.batch.file_scoring import open_scorer, score_calls
from callsieve.serving.rules.strata import STRATA, strata_of
from callsieve.training.model.folds import nth_call
from tests.bench.harness import parser_of, simulated_world

CALLS, RATE, HISTORY_DAYS = 50, 1e-4, 7


def main() -> None:
    """Prints the figures of each world."""
    options = parser_of(__doc__, "bundle", size="small", seeds="231,232,233,234", threads=2).parse_args()
    scorer = open_scorer(options.bundle, None)
    worlds = [of_world(scorer, options.size, int(seed), options.threads) for seed in options.seeds.split(",")]
    print(json.dumps({"model": scorer.bundle.model_id, "worlds": worlds}))


def of_world(scorer: Any, size: str, seed: int, threads: int) -> dict[str, int]:
    """Returns the counts of numbers of a world."""
    world = simulated_world(size, seed)
    scores, rows = score_calls(scorer, world.calls, threads=threads)
    band = scorer.bundle.thresholds[0]
    above = scores.raw - np.array([band.threshold_for(word) for word in STRATA])[strata_of(rows)]
    start, nuisance = world.calls["start"].to_numpy(), world.truth["nuisance"].to_numpy(zero_copy_only=False)
    caller = np.unique(world.calls["caller"].cast("string").to_numpy(zero_copy_only=False), return_inverse=True)[1]
    covered = start >= start.min() + HISTORY_DAYS * DAY
    first, made = np.full(caller.max() + 1, start.max()), np.bincount(caller)
    np.minimum.at(first, caller, start)
    bad = np.bincount(caller, nuisance) > 0
    highest, early = (
        highest_of(caller, above, covered & rows) for rows in (np.array(True), nth_call(caller, start) <= CALLS)
    )
    innocent = highest[~bad & (highest > -np.inf)]
    lived = bad & (made >= CALLS) & (first >= start.min() + HISTORY_DAYS * DAY)
    in_hindsight = np.sort(innocent)[-int(RATE * len(innocent)) - 1]
    return {
        "innocent": len(innocent),
        "innocent_flagged": int((innocent >= 0).sum()),
        "nuisance": int(lived.sum()),
        "flagged": int((early[lived] >= 0).sum()),
        "flagged_in_hindsight": int((early[lived] > in_hindsight).sum()),
    }


def highest_of(caller: Any, above: Any, rows: Any) -> Any:
    """Returns the highest value of each caller among some calls; minus infinity without one."""
    highest = np.full(caller.max() + 1, -np.inf)
    np.maximum.at(highest, caller[rows], above[rows])
    return highest


if __name__ == "__main__":
    main()
