"""How fast the feature engines are: tables by Numba, a stream as it stands. Run by hand; no test looks at a clock.

python tests/bench/bench_features.py --calls 1000000 [--json]
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import pyarrow as pa
from callsieve.features.history import History
from callsieve.features.records import (
    ATTESTATIONS,
    NUMBER_CLASSES,
    OUTCOMES,
    RELEASED_BY,
    ROUTES,
    STEPS,
    UNKNOWN,
    KeyedCall,
)
from callsieve.features.table import CATEGORIES, vectors

DAYS, CALLS_PER_NUMBER, DAY = 14, 25, 86_400_000


def drawn(calls: int, seed: int) -> pa.Table:
    """Keyed calls with a heavy tail: the top 1 % of callers make about half of them."""
    rng = np.random.default_rng(seed)
    numbers = max(calls // CALLS_PER_NUMBER, 2)
    weight = rng.pareto(1.2, numbers) + 1
    tokens = pa.array([f"e.{i:032d}" for i in range(numbers)])
    coded = lambda codes, words: pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(words))
    start = np.sort(rng.integers(0, DAYS * DAY, calls)) + 1_700_000_000_000
    outcome = (rng.random(calls) < 0.4).astype(int)
    nothing, zero = pa.nulls(calls, pa.string()), np.zeros(calls, dtype=int)
    return pa.table(
        {
            "start": start,
            "caller": coded(rng.choice(numbers, calls, p=weight / weight.sum()), tokens),
            "callee": coded(rng.integers(0, numbers, calls), tokens),
            "ring": rng.integers(0, 30_000, calls),
            "talk": np.where(outcome == 0, rng.exponential(60_000, calls), 0).astype(np.int64),
            "recorded": pa.nulls(calls, pa.int64()),
            "outcome": coded(outcome, OUTCOMES),
            "released_by": coded(zero, RELEASED_BY),
            "hour": (start // 3_600_000 % 24).astype(np.int8),
            "day": (start // DAY).astype(np.int32),
            "caller_class": coded(zero, NUMBER_CLASSES),
            "callee_class": coded(zero, NUMBER_CLASSES),
            "same_region": pa.nulls(calls, pa.int8()),
            "shared_prefix": zero.astype(np.int8),
            "step": coded(zero + 3, STEPS),
            "presented_differs": zero.astype(np.int8),
            "attestation": coded(zero, ATTESTATIONS),
            "route": coded(zero, ROUTES),
            **dict.fromkeys(("caller_block", "trunk", "operator", "device", "place"), nothing),
        }
    )


def offline(calls: pa.Table, threads: int) -> dict[str, float]:
    """Calls per second of wall clock and per second of processor time, preparation included."""
    wall, cpu = time.perf_counter(), time.process_time()
    vectors(calls, threads=threads)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"calls_per_second": calls.num_rows / wall, "calls_per_cpu_second": calls.num_rows / cpu}


def single(row: dict[str, object]) -> KeyedCall:
    """A row as the stream takes it."""
    codes = {name: words.index(row[name]) for name, words in CATEGORIES.items()}
    return KeyedCall(**(row | codes | {"same_region": UNKNOWN}))  # type: ignore[arg-type]


def online(calls: pa.Table) -> dict[str, float]:
    """Microseconds of `vector` and `observe` together, one call after the other."""
    history, spent = History(), []
    for call in [single(row) for row in calls.to_pylist()]:
        began = time.perf_counter()
        history.vector(call)
        history.observe(call)
        spent.append(1e6 * (time.perf_counter() - began))
    p50, p99 = np.percentile(spent, [50, 99])
    return {"p50_us": float(p50), "p99_us": float(p99), "mean_us": float(np.mean(spent))}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    calls = drawn(options.calls, options.seed)
    vectors(calls.slice(0, 1000))  # compile, or load what was compiled
    found = {f"table_{n}_threads": offline(calls, n) for n in (1, 2)}
    found["stream"] = online(calls.slice(0, min(100_000, options.calls)))
    if options.json:
        print(json.dumps({"calls": options.calls, "seed": options.seed, **found}))
    else:
        for name, figures in found.items():
            print(f"{name:16}", "  ".join(f"{what} {value:,.1f}" for what, value in figures.items()))


if __name__ == "__main__":
    main()
