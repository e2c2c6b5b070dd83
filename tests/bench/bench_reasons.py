"""Compares the time of the contributions of a row by `shapley.py` with LightGBM's `pred_contrib`, in one run.

python tests/bench/bench_reasons.py [--json]. Run by hand; no test looks at a clock. Processor time of one thread: the
best of several alternating rounds, so that other load on the machine has little effect.
"""

from __future__ import annotations

import json
import os
import time
import tracemalloc

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is loaded

import lightgbm
import numpy as np
from harness import parser_of

from callsieve.serving.bundle.model_text import check_structure
from callsieve.serving.bundle.shapley import Contributions

ROUNDS, ROWS, ORACLE_ROWS = 12, 100, 10


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
    parameters = {"objective": "binary", "num_leaves": leaves, "verbose": -1, "deterministic": True, "seed": seed}
    names = [f"f{i}" for i in range(matrix.shape[1])]
    sets = [matrix.shape[1] - 2, matrix.shape[1] - 1]
    data = lightgbm.Dataset(matrix, y.astype(int), feature_name=names, categorical_feature=sets)
    return lightgbm.train(parameters, data, trees).model_to_string()


def microseconds(call, rows) -> float:
    """Returns the mean processor time of `call` on one row."""
    began = time.process_time()
    for row in rows:
        call(row)
    return 1e6 * (time.process_time() - began) / len(rows)


def measured(text: str, matrix: np.ndarray) -> dict[str, float]:
    """Returns times, their ratio, the greatest difference and the memory."""
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
    actual = np.array([contributions(row) for row in matrix])
    rows = matrix.tolist()
    oracle = lambda row: booster.predict(np.array([row]), pred_contrib=True, num_threads=1)
    both = [(microseconds(contributions, rows), microseconds(oracle, rows[:ORACLE_ROWS])) for _ in range(ROUNDS)]
    own, lightgbms = (min(times) for times in zip(*both, strict=True))
    return {
        "own_us": own,
        "pred_contrib_us": lightgbms,
        "ratio": lightgbms / own,
        "greatest_difference": float(np.abs(actual - expected[:, :-1]).max()),
        "greatest_contribution": float(np.abs(expected[:, :-1]).max()),
        "build_ms_traced": 1e3 * build,
        "memory_mb": memory / 1e6,
    }


def main() -> None:
    """Prints the figures."""
    parser = parser_of(__doc__, trees=300, leaves=63, features=64, seed=0, json=False)
    parser.add_argument("--calls", type=int, default=60_000, help="rows to train on")
    options = parser.parse_args()
    matrix = draw_rows(options.calls, options.features, options.seed)
    figures = measured(model(matrix, options.trees, options.leaves, options.seed), matrix[:ROWS])
    if options.json:
        print(json.dumps(vars(options) | figures))
    else:
        for name, value in figures.items():
            print(f"{name:24} {value:,.4g}")


if __name__ == "__main__":
    main()
