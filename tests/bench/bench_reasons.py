"""What reasons cost: contributions of one row by `serving.shapley` beside LightGBM's `pred_contrib`, in one run.

python tests/bench/bench_reasons.py [--json]. Run by hand; no test looks at a clock. Processor time of one thread, the
best of several rounds that take turns, so that a busy machine shows least.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import tracemalloc

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is loaded

import lightgbm
import numpy as np

from callsieve.serving.bundle.model_text import check_structure
from callsieve.serving.bundle.shapley import Contributions

ROUNDS, ROWS, ORACLE_ROWS = 12, 100, 10


def drawn(rows: int, features: int, seed: int) -> np.ndarray:
    """Rows like feature vectors: counts, shares, two categories; a tenth of the values is missing."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(rows, features))
    matrix[:, : features // 3] = np.round(np.exp(1.5 * matrix[:, : features // 3]))
    matrix[rng.random(matrix.shape) < 0.1] = np.nan
    matrix[:, -2], matrix[:, -1] = rng.integers(0, 18, rows), rng.integers(0, 4, rows)
    return matrix


def model(matrix: np.ndarray, trees: int, leaves: int, seed: int) -> str:
    """A LightGBM text that needs every feature."""
    rng = np.random.default_rng(seed + 1)
    known = np.nan_to_num(matrix)
    y = known @ rng.normal(size=known.shape[1]) / 8 + rng.normal(size=len(known)) > 0.3
    parameters = {"objective": "binary", "num_leaves": leaves, "verbose": -1, "deterministic": True, "seed": seed}
    names = [f"f{i}" for i in range(matrix.shape[1])]
    sets = [matrix.shape[1] - 2, matrix.shape[1] - 1]
    data = lightgbm.Dataset(matrix, y.astype(int), feature_name=names, categorical_feature=sets)
    return lightgbm.train(parameters, data, trees).model_to_string()


def microseconds(call, rows) -> float:
    """Processor time of a call, each on one row."""
    began = time.process_time()
    for row in rows:
        call(row)
    return 1e6 * (time.process_time() - began) / len(rows)


def measured(text: str, matrix: np.ndarray) -> dict[str, float]:
    """Times, their ratio, the greatest difference and the memory."""
    trees = check_structure(text, [f"f{i}" for i in range(matrix.shape[1])])
    booster = lightgbm.Booster(model_str=text)
    tracemalloc.start()
    began = time.process_time()
    contributions = Contributions(trees, matrix.shape[1])
    build = time.process_time() - began
    contributions(matrix[0])
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    expected = booster.predict(matrix, pred_contrib=True, num_threads=1)
    found = np.array([contributions(row) for row in matrix])
    rows = matrix.tolist()
    oracle = lambda row: booster.predict(np.array([row]), pred_contrib=True, num_threads=1)
    both = [(microseconds(contributions, rows), microseconds(oracle, rows[:ORACLE_ROWS])) for _ in range(ROUNDS)]
    own, lightgbms = (min(times) for times in zip(*both, strict=True))
    return {
        "own_us": own,
        "pred_contrib_us": lightgbms,
        "ratio": lightgbms / own,
        "greatest_difference": float(np.abs(found - expected[:, :-1]).max()),
        "greatest_contribution": float(np.abs(expected[:, :-1]).max()),
        "build_ms_traced": 1e3 * build,
        "memory_mb": memory / 1e6,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trees", type=int, default=300)
    parser.add_argument("--leaves", type=int, default=63)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--calls", type=int, default=60_000, help="rows to train on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    matrix = drawn(options.calls, options.features, options.seed)
    figures = measured(model(matrix, options.trees, options.leaves, options.seed), matrix[:ROWS])
    if options.json:
        print(json.dumps(vars(options) | figures))
    else:
        for name, value in figures.items():
            print(f"{name:24} {value:,.4g}")


if __name__ == "__main__":
    main()
