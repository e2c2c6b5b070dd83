"""Measures the time of a live call and the memory of a history with many numbers and calls.

python -m tests.bench.speed.bench_live [--numbers 20000] [--calls 400000] [--measured 20000] [--seed 0]
    [--even 2000] [--calls-each 1 4 40] [--json]

Calls of seven days are scored and observed, so that none has left the widest window and all clocks have advanced. Then
the next calls are timed, one at a time: `vector` when the call rings, `observe` for its record. Garbage collection
stays on. Run by hand, on a machine without other load.

Prints the memory of a number. Then --even numbers make --calls-each calls to random others: prints
the bytes of a number with its calls and its block, trunk and device, in use and resident, and those of a further call.
For the memory of a million numbers: --even 1000000 --calls-each 1 4.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from callsieve.features.codegen.memory_layout import used_sizes
from callsieve.features.intake.keyed_table import keyed_calls
from callsieve.features.online.history import History
from callsieve.features.records import KeyedCall
from callsieve.features.stream.call_store import FIELDS, ROUTE_SIZE
from callsieve.features.stream.token_table import TOKEN_WORDS
from tests.bench.harness import memory, parser_of, show

from .drawn_calls import draw_calls, group_columns, tokens

DAYS = 7
AT_ONCE = 1000
# Arrays that a snapshot leaves out, each with an array of the same use and the ratio of their lengths.
TABLES = {
    "index": ("calls", FIELDS),
    "next_call": ("calls", FIELDS),
    "route_heads": ("routes", ROUTE_SIZE),
    "next_route": ("routes", ROUTE_SIZE),
    "heads": ("pair_uses", 1),
    "next_pair": ("pair_uses", 1),
    "named": ("uses", 1),
    "tokens": ("uses", 1 / TOKEN_WORDS),
    "token_heads": ("uses", 1),
    "next_token": ("uses", 1),
}
PERCENTILES = {"p50_us": 50, "p99_us": 99}


def main() -> None:
    """Prints the figures."""
    parser = parser_of(__doc__, numbers=20_000, seed=0, json=False)
    parser.add_argument("--calls", type=int, default=400_000, help="in memory before the clock starts")
    parser.add_argument("--measured", type=int, default=20_000, help="calls that are timed")
    parser.add_argument("--even", type=int, default=2_000, help="numbers that make equally many calls")
    parser.add_argument("--calls-each", type=int, nargs="*", default=(1, 4, 40), help="calls that each of them makes")
    options = parser.parse_args()
    calls = draw_calls(options.calls + options.measured, options.seed, options.numbers, DAYS)
    room = {"calls": options.calls + options.measured, "numbers": 2 * options.numbers}
    history = History(**room)
    used = fill(history, calls.slice(0, options.calls), scored=True)
    timed = list(keyed_calls(calls.slice(options.calls)))
    gc.freeze()  # as the service does after its start
    figures = costs(history, timed) | {"even": memory_by_calls(options.even, options.calls_each, options.seed)}
    show(figures | {"bytes_per_number": used}, as_json=options.json)


def fill(history: History, calls: Any, *, scored: bool) -> float:
    """Observes `calls`; returns the bytes of memory of each number in the history."""
    next(keyed_calls(calls))  # loads the code that reads a row before the memory is measured
    gc.collect()
    before = memory("VmRSS")
    for i, call in enumerate(keyed_calls(calls)):
        if scored:
            history.vector(call)
        elif i % AT_ONCE == 0:
            history.advance(call.start)  # otherwise all events would wait until the end
        history.observe(call)
    gc.collect()
    return (memory("VmRSS") - before) * 2**20 / history.numbers


def bytes_of_arrays(history: History) -> dict[str, int]:
    """Returns the bytes in use of each array of a history."""
    parts: dict[str, int] = {}
    for name, sizes in used_sizes(history._driver.layouts, history._memory).items():
        arrays = history._memory[name]
        parts |= {f"{name}.{array}": size * arrays[array].itemsize for array, (_, size) in sizes.items()}
        left_out = {array: like for array, like in TABLES.items() if array in arrays}
        parts |= {f"{name}.{array}": int(4 * sizes[like][1] / wide) for array, (like, wide) in left_out.items()}
    return parts


def memory_by_calls(numbers: int, calls_each: Iterable[int], seed: int) -> dict[str, dict[str, float]]:
    """Returns the bytes of a number that makes `calls_each` calls, and of a call more than the entry before has."""
    figures: dict[str, dict[str, float]] = {}
    before = (0, 0.0)
    for calls in calls_each:
        history = History(calls=numbers * calls, numbers=numbers)
        resident = fill(history, even_calls(numbers, calls, seed), scored=False)
        used = sum(bytes_of_arrays(history).values()) / numbers
        figures[f"{calls} calls"] = {"bytes": used, "resident_bytes": resident}
        figures[f"{calls} calls"]["bytes_of_a_further_call"] = (used - before[1]) / (calls - before[0])
        before = calls, used
    return figures


def even_calls(numbers: int, calls_each: int, seed: int) -> Any:
    """Returns a keyed table in which each number calls `calls_each` random others."""
    calls, rng = draw_calls(numbers * calls_each, seed, numbers, DAYS), np.random.default_rng(seed)
    caller = rng.permutation(np.repeat(np.arange(numbers), calls_each))
    callee = (caller + rng.integers(1, numbers, len(caller))) % numbers
    names = tokens(rng, numbers)
    columns = {"caller": (names, caller), "callee": (names, callee)}
    columns |= {name: (group, of_number[caller]) for name, (group, of_number) in group_columns(rng, numbers).items()}
    for name, (words, index) in columns.items():
        column = pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), words)
        calls = calls.set_column(calls.column_names.index(name), name, column)
    return calls


def costs(history: History, calls: Iterable[KeyedCall]) -> dict[str, dict[str, float]]:
    """Returns the microseconds of wall clock of `vector` and of `observe` for one call."""
    clock, spent = time.perf_counter_ns, []
    for call in calls:
        began = clock()
        history.vector(call)
        between = clock()
        history.observe(call)
        spent.append((between - began, clock() - between))
    vector, observe = np.array(spent, dtype=float).T / 1000
    return {"vector": summary(vector), "observe": summary(observe)}


def summary(column: np.ndarray) -> dict[str, float]:
    return {name: float(np.percentile(column, q)) for name, q in PERCENTILES.items()}


if __name__ == "__main__":
    main()
