"""Counts the false flags by day if bands did not wait for a week of calls.

python -m tests.bench.bench_cold BUNDLE [--size small] [--seed 461] [--days 8] [--threads 2]

The world starts two weeks before the records, and the model does not know these weeks. Prints JSON with the innocent
calls of each day, and how many reach the certified band: of all calls, and of those whose history is covered
(`features/online/coverage.py`).
"""

from __future__ import annotations

import json

import numpy as np

from callsieve.features.offline.table import vectors
from callsieve.features.online.coverage import call_days, covered_rows
from callsieve.serving.batch.file_scoring import open_scorer
from callsieve.serving.rules.strata import strata_of
from callsieve.training.model.bands import aligned_scores
from tests.bench.harness import parser_of, simulated_world

UNKNOWN_DAYS = 14


def main() -> None:
    """Prints the figures of each day."""
    options = parser_of(__doc__, "bundle", size="small", seed=461, days=8, threads=2).parse_args()
    scorer = open_scorer(options.bundle, None)
    band = scorer.bundle.thresholds[0]
    world = simulated_world(options.size, options.seed)
    day = world.calls["day"].to_numpy()
    first = day[0] + UNKNOWN_DAYS
    begin, end = np.searchsorted(day, [first, first + options.days])
    calls = world.calls.slice(begin, end - begin)
    benign = ~world.truth["nuisance"].to_numpy()[begin:end]
    rows = vectors(calls, threads=options.threads)
    raw = scorer.score_table(rows, threads=options.threads).raw
    hit = benign & (aligned_scores(raw, strata_of(rows), band) >= band.threshold)
    start = calls["start"].to_numpy()
    covered = covered_rows(start, call_days(start), scorer.policy.history_days)
    days = [
        {
            "day": place + 1,
            "innocent": int(benign[of_day].sum()),
            "reach_the_band": int(hit[of_day].sum()),
            "flagged": int((hit & covered)[of_day].sum()),
        }
        for place in range(options.days)
        for of_day in [day[begin:end] == first + place]
    ]
    print(json.dumps({"model": scorer.bundle.model_id, "days": days}))


if __name__ == "__main__":
    main()
