"""What a model would say if bands spoke before a week of calls is known: false flags by day since the records begin.

python tests/bench/bench_cold.py BUNDLE [--size small] [--seed 461] [--days 8] [--threads 2]

The world has gone on for two weeks when the records begin, and nothing of these weeks is known. Prints JSON: for each
day the innocent calls, and those of them that reach the certified band, in all and once bands speak
(`features/online/coverage.py`).
"""

from __future__ import annotations

import argparse
import json
import secrets
from pathlib import Path

import numpy as np

from callsieve.features.keys.tokens import Key
from callsieve.features.offline.table import vectors
from callsieve.features.online.coverage import call_days, covered_rows
from callsieve.serving.batch.score import open_scorer
from callsieve.serving.rules.strata import strata_of
from callsieve.training.model.bands import aligned_scores
from callsieve.training.studies.simulated import simulated

UNKNOWN_DAYS = 14


def main() -> None:
    """Print the figures of each day."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--size", default="small")
    parser.add_argument("--seed", type=int, default=461)
    parser.add_argument("--days", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    scorer = open_scorer(given.bundle, None)
    band = scorer.bundle.thresholds[0]
    world = simulated(given.size, given.seed, None, Key("e1", secrets.token_bytes(32)), lambda *_: None)
    day = world.calls["day"].to_numpy()
    first = day[0] + UNKNOWN_DAYS
    begin, end = np.searchsorted(day, [first, first + given.days])
    calls = world.calls.slice(begin, end - begin)
    benign = ~world.truth["nuisance"].to_numpy()[begin:end]
    known = vectors(calls, threads=given.threads)
    raw = scorer.score_table(known, threads=given.threads).raw
    hit = benign & (aligned_scores(raw, strata_of(known), band) >= band.threshold)
    start = calls["start"].to_numpy()
    speaks = covered_rows(start, call_days(start), scorer.policy.history_days)
    days = [
        {
            "day": place + 1,
            "innocent": int(benign[of_day].sum()),
            "reach_the_band": int(hit[of_day].sum()),
            "flagged": int((hit & speaks)[of_day].sum()),
        }
        for place in range(given.days)
        for of_day in [day[begin:end] == first + place]
    ]
    print(json.dumps({"model": scorer.bundle.model_id, "days": days}))


if __name__ == "__main__":
    main()
