"""What a live call costs, with so many numbers and calls in memory.

python tests/bench/bench_live.py [--numbers 20000] [--calls 400000] [--measured 20000] [--interpreted] [--seed 0]
    [--json]

Calls of seven days are asked about and taken in, so that none has left the widest window and all clocks have moved on;
then the following ones are timed, one at a time: `vector` when the call rings, `observe` for its
record. Garbage collection stays on. Run by hand, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from bench_calls import drawn
from bench_run import memory
from callsieve.features.catalogue import FEATURES
from callsieve.features.history import History
from callsieve.features.keyed import keyed_calls
from callsieve.features.records import KeyedCall

DAYS = 7
PERCENTILES = {"p50_us": 50, "p90_us": 90, "p99_us": 99, "p999_us": 99.9, "max_us": 100}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--numbers", type=int, default=20_000)
    parser.add_argument("--calls", type=int, default=400_000, help="in memory before the clock starts")
    parser.add_argument("--measured", type=int, default=20_000, help="calls that are timed")
    parser.add_argument("--interpreted", action="store_true", help="the kernel as Python instead of C")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    calls = drawn(options.calls + options.measured, options.seed, options.numbers, DAYS)
    room = {"calls": options.calls + options.measured, "numbers": 2 * options.numbers}
    history = History(**room, compiled=not options.interpreted)
    filled = fill(history, calls.slice(0, options.calls))
    timed = list(keyed_calls(calls.slice(options.calls)))
    told = {"seed": options.seed, "features": len(FEATURES), "python": sys.version.split()[0], **filled}
    gc.freeze()  # as the service does once it has begun
    told |= costs(history, timed) | {"compiled": history.compiled, "evicted": history.evicted}
    print(json.dumps(told, indent=1) if options.json else as_text(told))


def fill(history: History, calls: Any) -> dict[str, float]:
    """Take in `calls`, and tell what that took: seconds, and memory for each number and for each call that is kept."""
    next(keyed_calls(calls))  # what reading a row needs is loaded before the memory is read
    gc.collect()
    before, began = memory("VmRSS"), time.perf_counter()
    for call in keyed_calls(calls):
        history.vector(call)
        history.observe(call)
    seconds = time.perf_counter() - began
    gc.collect()
    used = memory("VmRSS") - before
    return {
        "numbers": history.numbers,
        "calls": history.calls,
        "fill_calls_per_second": calls.num_rows / seconds,
        "memory_mib": used,
        "bytes_per_number": used * 2**20 / history.numbers,
        "bytes_per_call": used * 2**20 / history.calls,
    }


def costs(history: History, calls: Iterable[KeyedCall]) -> dict[str, dict[str, float]]:
    """Microseconds of wall clock of `vector`, of `observe`, and of both for one call."""
    clock, spent = time.perf_counter_ns, []
    for call in calls:
        began = clock()
        history.vector(call)
        between = clock()
        history.observe(call)
        spent.append((between - began, clock() - between))
    vector, observe = np.array(spent, dtype=float).T / 1000
    columns = {"vector": vector, "observe": observe, "both": vector + observe}
    return {name: summary(column) for name, column in columns.items()}


def summary(column: np.ndarray) -> dict[str, float]:
    return {name: float(np.percentile(column, q)) for name, q in PERCENTILES.items()} | {
        "mean_us": float(column.mean())
    }


def as_text(told: dict[str, Any]) -> str:
    lines = []
    for name, value in told.items():
        figures = value.items() if isinstance(value, dict) else [("", value)]
        words = (f"{what} {figure:,.1f}" if isinstance(figure, float) else str(figure) for what, figure in figures)
        lines.append(f"{name:22}" + "  ".join(words))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
