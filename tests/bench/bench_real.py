"""Scores real call records with a bundle: four Sichuan subscribers, two of them frauds, and benign callers.

python -m tests.bench.bench_real BUNDLE ../shared/data [--threads 2]

Four subscribers are too few for a rate. The others, students of the Copenhagen Networks Study and callers of the MIT
Reality Mining Study, are all benign. Where a source does not give the class of a caller's number, a model abstains;
these calls are counted. Prints JSON.
"""

from __future__ import annotations

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
from callsieve.serving.batch.file_scoring import open_scorer, score_calls
from callsieve.serving.rules.policy import ACTIONS
from callsieve.serving.scorer.scorer import Scorer
from tests.bench.harness import parser_of

SUBSCRIBERS = "sichuan_raw_calls_4_subscribers.csv"
BENIGN = {"copenhagen": "copenhagen_calls.csv", "reality": "reality_calls.csv"}
KEY = Key.generate("e1")


def main() -> None:
    """Prints the figures of each source."""
    options = parser_of(__doc__, "bundle", "data", threads=2).parse_args()
    print(json.dumps(of_bundle(options.bundle, options.data, options.threads)))


def of_bundle(bundle: Path, data: Path, threads: int) -> dict[str, Any]:
    """Returns the figures of a bundle for each source."""
    scorer = open_scorer(bundle, None)
    calls, labelled, abstaining = judged(scorer, data / SUBSCRIBERS, "sichuan", threads)
    figures: dict[str, Any] = {
        "model": scorer.bundle.model_id,
        "subscribers": [
            of_caller(calls, labelled, token) | {"sample": sample}
            for sample, token in subscribers(data / SUBSCRIBERS).items()
        ],
        "sichuan": summed(labelled, abstaining),
    }
    for name, file in BENIGN.items():
        _, labelled, abstaining = judged(scorer, data / file, name, threads)
        figures[name] = summed(labelled, abstaining)
    return figures


def judged(scorer: Scorer, path: Path, source: str, threads: int) -> tuple[pa.Table, Any, list[str | None]]:
    """Returns the keyed calls in order of start, which of them are labelled or blocked, and the number class of those
    for which all bands abstain; the feed of all calls if the bundle has no bands for it."""
    layout = read_layout(source)
    intake = Intake(KEY, zone=layout.hours_zone, numbers="codes")
    calls = intake.table(read_calls(path, layout).table.sort_by("start"))
    scores, rows = score_calls(scorer, calls, threads=threads)
    on_feed = scorer.abstaining_strata(rows, scores.feed) if scorer.bands(scores.feed) else [scores.feed] * len(rows)
    return calls, scores.action > ACTIONS.index("pass"), on_feed


def subscribers(path: Path) -> dict[str, str]:
    """Returns the token of each subscriber by the name of the sample."""
    rows = pa.csv.read_csv(path).select(["sample", "phone_no_m"]).to_pylist()
    return {row["sample"]: KEY.token("number", row["phone_no_m"]) for row in rows}


def of_caller(calls: pa.Table, labelled: Any, token: str) -> dict[str, int | None]:
    """Returns the calls that a subscriber made, how many are labelled, and the place of the first."""
    mine = labelled[calls["caller"].to_numpy() == token]
    return {"calls": len(mine), "labelled": int(mine.sum()), "first": int(np.argmax(mine)) + 1 if mine.any() else None}


def summed(labelled: Any, abstaining: list[str | None]) -> dict[str, Any]:
    """Returns the totals of a source."""
    return {
        "calls": len(labelled),
        "labelled": int(labelled.sum()),
        "no_threshold": dict(Counter(kind for kind in abstaining if kind)),
    }


if __name__ == "__main__":
    main()
