"""Compares the forest with LightGBM on the same model in one run: rows on 1 and 2 threads, one row, and reasons.

python -m tests.bench.speed.bench_forest [--rows 10000] [--features 151] [--seed 0] [--json]

Run by hand; no test looks at a clock. Two shapes: 300 trees of 63 leaves, and 930 of 15. Seconds of wall clock, or of
processor with `--processor` where other work shares the cores: the best of alternating rounds. One row is the median of
many, each timed alone.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable

import lightgbm
import numpy as np

from callsieve.serving.bundle.forest import Forest, read_forest
from tests.bench.harness import best, parser_of, show, times
from tests.support import small_bundle as small

SINGLE, EXPLAINED, TRAINED = 1000, 10, 20_000
SHAPES = ((300, 63), (930, 15))


def draw_rows(rows: int, features: int, seed: int) -> np.ndarray:
    """Draws rows like feature vectors: counts, shares, two categories; a tenth of the values is missing."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(rows, features))
    matrix[:, : features // 3] = np.round(np.exp(1.5 * matrix[:, : features // 3]))
    matrix[rng.random(matrix.shape) < 0.1] = np.nan
    matrix[:, -2], matrix[:, -1] = rng.integers(0, 18, rows), rng.integers(0, 4, rows)
    return matrix


def model(matrix: np.ndarray, trees: int, leaves: int, seed: int) -> str:
    """Trains a LightGBM model that uses every feature, and returns its text."""
    rng = np.random.default_rng(seed + 1)
    filled = np.nan_to_num(matrix)
    y = filled @ rng.normal(size=filled.shape[1]) / 8 + rng.normal(size=len(filled)) > 0.3
    names = [f"f{i}" for i in range(matrix.shape[1])]
    return small.train_text(matrix, y.astype(int), names, names[-2:], trees, num_leaves=leaves, seed=seed)


def measured(text: str, matrix: np.ndarray, clock: Callable[[], float]) -> dict[str, float]:
    """Returns figures of both, their ratios, and the greatest difference of a contribution.

    Raises:
        AssertionError: if a score differs from LightGBM's in any bit.
    """
    began = time.process_time()
    forest: Forest = read_forest(text)
    figures = {"read_ms": 1e3 * (time.process_time() - began)}
    began = time.process_time()
    forest.prepare()
    figures["prepare_ms"] = 1e3 * (time.process_time() - began)
    booster = lightgbm.Booster(model_str=text)
    predict = lambda rows, **options: booster.predict(rows, **{"raw_score": True, "num_threads": 1, **options})
    assert predict(matrix).tobytes() == forest.predict_raw(matrix).tobytes()

    def add(name: str, own: float, theirs: float) -> None:
        figures.update({name: own, f"{name}_lightgbm": theirs, f"{name}_ratio": max(own, theirs) / min(own, theirs)})

    for threads in (1, 2):
        works = (
            lambda n=threads: forest.predict_raw(matrix, threads=n),
            lambda n=threads: predict(matrix, num_threads=n),
        )
        own, theirs = best(clock, *works)
        add(f"rows_per_second_{threads}", len(matrix) / own, len(matrix) / theirs)
    rows = matrix[:SINGLE].tolist()
    assert [forest.predict_one(row) for row in rows] == predict(matrix[:SINGLE]).tolist()
    arrays = [np.array([row]) for row in rows]
    vectors = [array("d", row) for row in rows]
    median = lambda work, rows: 1e6 * float(np.median(times(work, zip(rows, strict=True), clock)))
    add("row_us", median(forest.predict_one, vectors), median(predict, arrays))
    explain = lambda: [forest.contributions(row) for row in vectors[:EXPLAINED]]
    contributions = lambda: [predict(row, pred_contrib=True) for row in arrays[:EXPLAINED]]
    own, theirs = best(clock, explain, contributions)
    add("reasons_us", 1e6 * own / EXPLAINED, 1e6 * theirs / EXPLAINED)
    differences = np.array(explain())[:, 0] - np.array(contributions())[:, 0, :-1]
    return figures | {"reasons_difference": float(np.abs(differences).max())}


def main() -> None:
    """Prints the figures of each shape."""
    options = parser_of(__doc__, rows=10_000, features=151, seed=0, processor=False, json=False).parse_args()
    clock = time.process_time if options.processor else time.perf_counter
    matrix = draw_rows(TRAINED, options.features, options.seed)
    report = {}
    for trees, leaves in SHAPES:
        text = model(matrix, trees, leaves, options.seed)
        report[f"{trees} x {leaves}"] = measured(text, np.ascontiguousarray(matrix[: options.rows]), clock)
    show(report, as_json=options.json)


if __name__ == "__main__":
    main()
