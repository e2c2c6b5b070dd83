"""What a bundle says of real call records: of four Sichuan subscribers, two of them frauds, and of benign callers.

python tests/bench/bench_real.py BUNDLE ../shared/data [--threads 2]

The four are too few for any rate. Among the others, students of the Copenhagen Networks Study and callers of the MIT
Reality Mining Study, nobody is a nuisance. Where a source does not tell what kind of number a caller has, a model says
nothing, which is counted. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from callsieve.features.intake.intake import Intake
from callsieve.features.keys.tokens import Key
from callsieve.features.reading.call_files import read_calls
from callsieve.features.reading.layouts import read_layout
from callsieve.serving.batch.score import open_scorer, score_calls
from callsieve.serving.rules.policy import ACTIONS
from callsieve.serving.scorer.scorer import Scorer

SUBSCRIBERS = "sichuan_raw_calls_4_subscribers.csv"
BENIGN = {"copenhagen": "copenhagen_calls.csv", "reality": "reality_calls.csv"}
KEY = Key.generate("e1")


def main() -> None:
    """Print what is said of each source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    print(json.dumps(of_bundle(given.bundle, given.data, given.threads)))


def of_bundle(bundle: Path, data: Path, threads: int) -> dict[str, Any]:
    """What a bundle says of each source."""
    scorer = open_scorer(bundle, None)
    calls, labelled, silent = judged(scorer, data / SUBSCRIBERS, "sichuan", threads)
    told: dict[str, Any] = {
        "model": scorer.bundle.model_id,
        "subscribers": [
            of_caller(calls, labelled, token) | {"sample": sample}
            for sample, token in subscribers(data / SUBSCRIBERS).items()
        ],
        "sichuan": summed(labelled, silent),
    }
    for name, file in BENIGN.items():
        _, labelled, silent = judged(scorer, data / file, name, threads)
        told[name] = summed(labelled, silent)
    return told


def judged(scorer: Scorer, path: Path, source: str, threads: int) -> tuple[pa.Table, Any, list[str | None]]:
    """Keyed calls in order of start, which of them are labelled or more, and of what kind those are of which no band
    says anything."""
    found = read_layout(source)
    intake = Intake(KEY, zone=found.hours_zone, numbers="codes")
    calls = intake.table(read_calls(path, found).table.sort_by("start"))
    scores, rows = score_calls(scorer, calls, threads=threads)
    return calls, scores.action > ACTIONS.index("pass"), scorer.abstaining_strata(rows)


def subscribers(path: Path) -> dict[str, str]:
    """The token of each subscriber by the name of his sample."""
    rows = pa.csv.read_csv(path).select(["sample", "phone_no_m"]).to_pylist()
    return {row["sample"]: KEY.token("number", row["phone_no_m"]) for row in rows}


def of_caller(calls: pa.Table, labelled: Any, token: str) -> dict[str, int | None]:
    """Calls that a subscriber made, how many of them are labelled, and which is the first."""
    mine = labelled[calls["caller"].to_numpy() == token]
    return {"calls": len(mine), "labelled": int(mine.sum()), "first": int(np.argmax(mine)) + 1 if mine.any() else None}


def summed(labelled: Any, silent: list[str | None]) -> dict[str, Any]:
    """All calls of a source."""
    return {
        "calls": len(labelled),
        "labelled": int(labelled.sum()),
        "no_threshold": dict(Counter(kind for kind in silent if kind)),
    }


if __name__ == "__main__":
    main()
